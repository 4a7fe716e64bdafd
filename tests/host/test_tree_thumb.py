"""The score kernel for ARM chips: the code that mpy-cross makes of it, run by a Cortex-M0+ in software."""

import json
import random
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sentill_host import modelfile, quantize
from sentill_host.bundle import compile_file
from tests.interpreters import DEVICE

VECTORS = Path(__file__).resolve().parents[1] / "vectors"
SOURCE = DEVICE / "sentill" / "tree_thumb.py"
RAM = 0x2000_0000
CODE, X, FOREST = 0x100, 0x1000, 0x2000
BACK = RAM + 0x80  # where the kernel returns to

pytest.importorskip("rp2040py", reason="no Cortex-M0+ in software: pip install 'sentill[dev]'")


class Chip:
    """Runs the kernel; every byte beside forest and inputs is 0xAA, so that a read outside would be seen."""

    def __init__(self) -> None:
        from rp2040py.simulator import Simulator

        self.mcu: Any = Simulator().rp2040
        code = compile_file("sentill/tree_thumb.py", SOURCE.read_bytes(), "armv6m")
        start, end = code.index(b"\xf2\xb5"), code.index(b"\xf2\xbd")  # push {r1, r4-r7, lr} .. pop {r1, r4-r7, pc}
        self.mcu.sram[CODE : CODE + end + 2 - start] = code[start : end + 2]

    def score(self, forest: bytes, row: list[int]) -> int:
        """What the kernel returns."""
        core, ram = self.mcu.core, self.mcu.sram
        ram[X : X + 0x8000] = b"\xaa" * 0x8000
        ram[X : X + 2 * len(row)] = struct.pack(f"<{len(row)}h", *row)
        ram[FOREST : FOREST + len(forest)] = forest
        kept = [7 * i + 1 for i in range(4)]
        core.registers[0], core.registers[1] = RAM + FOREST, RAM + X
        for i, value in enumerate(kept):
            core.registers[4 + i] = value
        core.registers[13], core.registers[14] = RAM + 0x3F000, BACK | 1
        core.pc = RAM + CODE
        for _ in range(200_000):
            core.execute_instruction()
            if core.pc == BACK:
                break
        assert core.pc == BACK, "it does not return"
        assert [core.registers[4 + i] for i in range(4)] == kept and core.registers[13] == RAM + 0x3F000
        return int.from_bytes(core.registers[0].to_bytes(4, "little"), "little", signed=True)


@pytest.fixture(scope="module")
def chip() -> Iterator[Chip]:
    yield Chip()


def forest_of(file: bytes) -> bytes:
    return modelfile.sections_of(file)[modelfile.FOREST]


@pytest.mark.parametrize("name", ["wide", "short", "even", "votes", "split"])
def test_golden_answers(chip: Chip, name: str) -> None:
    answers = json.loads((VECTORS / "tree_answers.json").read_text())
    forest = forest_of((VECTORS / f"tree_{name}.stm").read_bytes())
    for row, (outputs, *_) in zip(answers["rows"], answers[name], strict=True):
        assert chip.score(forest, row) == outputs[-1], row


@pytest.mark.parametrize("vote", [False, True])
@pytest.mark.parametrize("layout", [modelfile.WIDE, modelfile.SHORT])
def test_random_forests(chip: Chip, layout: int, vote: bool) -> None:
    dice = random.Random(layout * 2 + vote)
    low, high = (0, 2) if vote else (-128, 127) if layout == modelfile.SHORT else (-32_768, 32_767)

    def tree(depth: int) -> modelfile.Tree:
        if depth == 0 or dice.random() < 0.1:
            return dice.choice([low, high, dice.randint(low, high)])
        threshold = dice.choice([-32_768, -1, 0, 1, 32_767, dice.randint(-32_768, 32_767)])
        return dice.randrange(4), threshold, tree(depth - 1), tree(depth - 1)

    for _ in range(40):
        trees = [tree(5) for _ in range(dice.randint(1, 9))]
        forest = quantize.Forest(trees, vote=vote, outputs=3 if vote else 1)
        section = modelfile.encode_forest(trees, [0] * len(trees), forest.outputs, vote, layout, 4)
        for _ in range(10):
            row = [dice.choice([-32_768, 32_767, 0, dice.randint(-32_768, 32_767)]) for _ in range(4)]
            assert chip.score(section, row) == forest.evaluate(row)[-1], (row, trees)
