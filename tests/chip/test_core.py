"""The fast path against the emulator's own core: one instruction on the same state has the same effect and cost."""

import random
from typing import Any

import pytest

pytest.importorskip("rp2040py", reason="no emulated RP2040: pip install 'sentill[chip]'")

from rp2040py.rp2040 import RP2040
from rp2040py.utils.logging import ConsoleLogger, LogLevel

from tests.chip import core
from tests.chip.chip import BUILD, CLOCK_HZ

RAM = 0x20000000
CODE = RAM + 0x1000
DATA = RAM + 0x2000
SIZE = 0x400
# First half-words by kind: fixed bits, and the mask of those that are drawn.
OPS = {
    "shift": (0x0000, 0x1FFF), "add, subtract": (0x1800, 0x07FF), "immediate": (0x2000, 0x1FFF),
    "low registers": (0x4000, 0x03FF), "high registers": (0x4400, 0x03FF), "load literal": (0x4800, 0x07FF),
    "two registers": (0x5000, 0x0FFF), "word": (0x6000, 0x0FFF), "byte": (0x7000, 0x0FFF), "half": (0x8000, 0x0FFF),
    "stack": (0x9000, 0x0FFF), "address": (0xA000, 0x0FFF), "adjust": (0xB000, 0x00FF), "extend": (0xB200, 0x00FF),
    "push": (0xB400, 0x01FF), "reverse": (0xBA00, 0x003F), "many": (0xC000, 0x0FFF), "branch if": (0xD000, 0x0DFF),
    "branch": (0xE000, 0x07FF), "mask": (0xB662, 0x0010),
}  # fmt: skip


@pytest.fixture(scope="module")
def native() -> Any:
    library = core.library(BUILD)
    if library is None:
        pytest.skip("no C compiler")
    return library


def chip() -> Any:
    made = RP2040()
    made.logger = ConsoleLogger(LogLevel.ERROR)
    made.core.vtor = 0
    return made


def prepare(made: Any, registers: list[int], flags: list[int], memory: bytes, code: list[int]) -> None:
    made.sram[DATA - RAM : DATA - RAM + SIZE] = memory
    for i, half in enumerate(code):
        made.write_uint16(CODE + 2 * i, half)
    for i in range(15):
        made.core.registers[i] = registers[i]
    made.core.pc = CODE
    made.core.n, made.core.z, made.core.c, made.core.v = flags
    made.core.pm = False


def state(made: Any) -> tuple[Any, ...]:
    cpu = made.core
    flags = tuple(int(flag) for flag in (cpu.n, cpu.z, cpu.c, cpu.v, cpu.pm))
    return [cpu.registers[i] for i in range(16)], flags, bytes(made.sram[DATA - RAM : DATA - RAM + SIZE])


def word(rng: random.Random) -> int:
    # Mostly where memory is, and values at the edges of arithmetic.
    kind = rng.random()
    if kind < 0.5:
        return DATA + rng.randrange(SIZE // 4, SIZE // 2) & ~3
    if kind < 0.7:
        return rng.randrange(64) * 4
    if kind < 0.85:
        return rng.choice((0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 31, 32, 33, 255, 256))
    return rng.getrandbits(32)


def differs(op: int, registers: list[int]) -> bool:
    """Where the emulator is wrong: the carry after a shift by a register of 0 or of more than 32, flags of SBCS and
    ADCS where the second operand overflows by the carry, and STMIA that stores its own base, which it does not write
    back."""
    if op & 0xFC00 == 0x4000:
        second = registers[op >> 3 & 7]
        kind = op >> 6 & 15
        return (
            kind in (2, 3, 4, 7) and not 0 < second & 0xFF <= 32 or kind in (5, 6) and second in (2**31 - 1, 2**32 - 1)
        )
    return op & 0xF800 == 0xC000 and op >> (op >> 8 & 7) & 1 == 1


def test_one_instruction(native: Any) -> None:
    ours, theirs = chip(), chip()
    run, _ = core.runner(ours, native)
    rng = random.Random(20)
    done = dict.fromkeys(OPS, 0)
    for _ in range(12_000):
        kind = rng.choice(list(OPS))
        fixed, drawn = OPS[kind]
        op = fixed | rng.getrandbits(16) & drawn
        registers = [word(rng) for _ in range(13)] + [DATA + SIZE // 2, CODE + 0x101]
        if differs(op, registers) or op & 0xFF00 == 0x4700:
            continue  # BX and BLX are tried below
        flags = [rng.getrandbits(1) for _ in range(4)]
        memory = rng.randbytes(SIZE)
        code = [op, 0xBF00]
        prepare(ours, registers, flags, memory, code)
        cycles = run(1)
        if not cycles:
            continue  # left to the emulator
        prepare(theirs, registers, flags, memory, code)
        expected = theirs.core.execute_instruction()
        assert (cycles, state(ours)) == (expected, state(theirs)), f"{kind}: {op:04x} {registers} {flags}"
        done[kind] += 1
    assert min(done.values()) > 50, done


@pytest.mark.parametrize(
    ("code", "registers"),
    [
        ([0xF000, 0xF810], {}),  # BL forwards
        ([0xF7FF, 0xFFF0], {}),  # BL backwards
        ([0x4708], {1: CODE + 0x21}),  # BX
        ([0x4788], {1: CODE + 0x21}),  # BLX
        ([0xBDF0], {13: DATA + 64}),  # POP with the program counter
        ([0xBC0F], {13: DATA + 64}),  # POP
        ([0xF3BF, 0x8F5F], {}),  # DMB
        ([0xF3EF, 0x8310], {}),  # MRS r3, PRIMASK
        ([0xF382, 0x8810], {2: 1}),  # MSR PRIMASK, r2
    ],
)
def test_wide_and_jumps(native: Any, code: list[int], registers: dict[int, int]) -> None:
    ours, theirs = chip(), chip()
    run, _ = core.runner(ours, native)
    values = [registers.get(i, 100 + i) for i in range(15)]
    memory = (CODE + 0x41).to_bytes(4, "little") * (SIZE // 4)
    for made in (ours, theirs):
        prepare(made, values, [0, 1, 0, 1], memory, code)
    assert run(1) == theirs.core.execute_instruction()
    assert state(ours) == state(theirs)


def test_timer_counts_on(native: Any) -> None:
    # LDR r1, [r0] of the timer's low word, after 1,000 NOPs.
    made = chip()
    run, _ = core.runner(made, native)
    made.clock.tick(1_000_000.0)
    prepare(made, [0x40054028] + [0] * 12 + [DATA, 0], [0] * 4, bytes(SIZE), [0xBF00] * 1000 + [0x6801])
    assert run(1001) == 1004
    assert made.core.registers[1] == 1000 + 1000 * 1_000_000 // CLOCK_HZ


def test_spin_locks_are_the_emulators_too(native: Any) -> None:
    from tests.chip.faults import SIO

    made = chip()
    made.sio = SIO(made)
    run, made.sio.native = core.runner(made, native)
    prepare(made, [0xD0000148] + [0] * 12 + [DATA, 0], [0] * 4, bytes(SIZE), [0x6801, 0x6802, 0x6003])
    assert run(1) == 1 and made.core.registers[1] == 1 << 18
    assert made.sio.read_uint32(0x148) == 0, "taken for the emulator, too"
    assert run(1) == 1 and made.core.registers[2] == 0
    assert run(1) == 1 and made.sio.spin_lock == 0
