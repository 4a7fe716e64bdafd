"""The tree kernels for ARM chips, against golden answers, the reference, and their twins in bytecode."""

import json
import random
from array import array
from collections.abc import Iterator
from pathlib import Path

import pytest

from sentill.risk import tree_plain
from sentill.risk.model import Model
from sentill_host.models import model_file, quantize
from tests.thumb import Kernels

VECTORS = Path(__file__).resolve().parents[1] / "vectors"

pytest.importorskip("rp2040py", reason="no Cortex-M0+ in software: pip install 'sentill[dev]'")


@pytest.fixture(scope="module")
def chip() -> Kernels:
    return Kernels("risk.tree_thumb", "risk.tree_blame_thumb")


def forest_of(file: bytes) -> bytes:
    return model_file.sections_of(file)[model_file.FOREST]


@pytest.mark.parametrize("name", ["wide", "short", "even", "votes", "split"])
def test_golden_answers(chip: Kernels, name: str) -> None:
    answers = json.loads((VECTORS / "tree_answers.json").read_text())
    forest = forest_of((VECTORS / f"tree_{name}.stm").read_bytes())
    for row, (outputs, *_) in zip(answers["rows"], answers[name], strict=True):
        assert chip.score(forest, array("h", row)) == outputs[-1], row


def random_forests(dice: random.Random, layout: int, vote: bool, n: int) -> Iterator[quantize.Forest]:
    low, high = (0, 2) if vote else (-128, 127) if layout == model_file.SHORT else (-32_768, 32_767)

    def tree(depth: int) -> model_file.Tree:
        if depth == 0 or dice.random() < 0.1:
            return dice.choice([low, high, dice.randint(low, high)])
        threshold = dice.choice([-32_768, -1, 0, 1, 32_767, dice.randint(-32_768, 32_767)])
        return dice.randrange(4), threshold, tree(depth - 1), tree(depth - 1)

    for _ in range(n):
        trees = [tree(5) for _ in range(dice.randint(1, 9))]
        yield quantize.Forest(trees, vote=vote, outputs=3 if vote else 1)


def random_row(dice: random.Random) -> array:
    return array("h", [dice.choice([-32_768, 32_767, 0, dice.randint(-32_768, 32_767)]) for _ in range(4)])


@pytest.mark.parametrize("vote", [False, True])
@pytest.mark.parametrize("layout", [model_file.WIDE, model_file.SHORT])
def test_random_forests(chip: Kernels, layout: int, vote: bool) -> None:
    dice = random.Random(layout * 2 + vote)
    for forest in random_forests(dice, layout, vote, 25):
        count = len(forest.trees)
        places = [0] * count if vote else [dice.randrange(3) for _ in range(count)]
        for outputs, at in ((forest.outputs, [0] * count), (3, places)):
            section = model_file.encode_forest(forest.trees, at, outputs, vote, layout, 4)
            words = array("H", bytes(6) + section)  # the forest does not begin with its file
            typical = random_row(dice)
            base = array("i", [0] * count)
            tree_plain.leaves(words, typical, 3, base)
            w = array("i", [0] * 4 + [value + 32768 for value in typical] + [0] * 4 + [*base] * 2 + [0, 0])
            for _ in range(5):
                row = random_row(dice)
                if outputs == forest.outputs:
                    assert chip.score(section, row) == forest.evaluate(row)[-1], (row, forest.trees)
                leaf, want = array("i", [7] * count), array("i", [0] * count)
                chip.leaves(words, row, 3, leaf)
                tree_plain.leaves(words, row, 3, want)
                assert leaf == want, row
                out, sums = array("i", [9] * outputs), array("i", [0] * outputs)
                chip.outputs(words, leaf, 3, out)
                tree_plain.outputs(words, leaf, 3, sums)
                assert out == sums, row
                other = w[:]
                for kernels, weights in ((chip, w), (tree_plain, other)):
                    weights[12 + count : 12 + 2 * count] = leaf
                    kernels.blame(words, row, 3, weights)
                assert w[:4] == other[:4], (row, typical)


def test_random_rules(chip: Kernels) -> None:
    dice = random.Random(5)
    hits = 0
    for forest in random_forests(dice, model_file.WIDE, True, 60):
        section = model_file.encode_forest(forest.trees, [0] * len(forest.trees), 4, True, model_file.WIDE, 4)
        words = array("H", bytes(4) + section)
        for _ in range(5):
            row = random_row(dice)
            got = chip.first(words, row, 2)
            assert got == tree_plain.first(words, row, 2), row
            hits += got >= 0
    assert 0 < hits < 300, hits


def test_thelargest_reason_first(chip: Kernels) -> None:
    dice = random.Random(6)
    for _ in range(40):
        n = dice.randint(1, 12)
        w = array("i", [dice.choice([-5, 0, 3, 9, 1 << 29, -(1 << 30), dice.randint(-99, 99)]) for _ in range(n + 2)])
        other = w[:]
        named = tree_plain.taker(other, n)
        for _ in range(n + 1):
            assert chip.largest(w, n) == named()
            assert w == other


def test_the_shipped_models_are_explained_alike(chip: Kernels) -> None:
    dice = random.Random(7)
    for path in sorted((Path(__file__).resolve().parents[2] / "device" / "models").glob("*.stm")):
        model = Model.from_bytes(path.read_bytes())
        w = array("i", model._w)
        for _ in range(30):
            row = array("h", [dice.choice([0, 1, 5, 32_767, dice.randint(0, 30_000)]) for _ in range(model.n_inputs)])
            assert chip.score(bytes(memoryview(model.words)[model.forest :]), row) == model.score(row)
            model.explain(row)
            if model.typical is None:
                chip.leaves(model.words, row, model.forest, w)
            else:
                leaf = array("i", [0] * model.n_trees)
                chip.leaves(model.words, row, model.forest, leaf)
                at = 3 * model.n_features + model.n_trees
                w[at : at + model.n_trees] = leaf
                chip.blame(model.words, row, model.forest, w)
            assert w[: len(model.reasons)] == model._w[: len(model.reasons)], (path.name, row)
