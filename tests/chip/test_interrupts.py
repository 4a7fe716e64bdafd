"""What the start's sweep works with: names in an ELF file, the instants it presses keys at."""

import struct
from pathlib import Path

from tests.chip.interrupts import Window, symbols
from tests.chip.start_sweep import _instants


def elf(names: dict[str, int]) -> bytes:
    """As much of an ELF file as `symbols` reads: a symbol table and its strings."""
    strings, table = b"\0", struct.pack("<IIIBBH", 0, 0, 0, 0, 0, 0)
    for name, value in names.items():
        table += struct.pack("<IIIBBH", len(strings), value, 4, 0, 0, 1)
        strings += name.encode() + b"\0"
    head = bytearray(52)
    sections = 52 + len(table) + len(strings)
    struct.pack_into("<I", head, 32, sections)
    struct.pack_into("<HH", head, 46, 40, 3)
    null = bytes(40)
    symtab = struct.pack("<IIIIIIIIII", 0, 2, 0, 0, 52, len(table), 2, 0, 4, 16)
    strtab = struct.pack("<IIIIIIIIII", 0, 3, 0, 0, 52 + len(table), len(strings), 0, 0, 1, 0)
    return bytes(head) + table + strings + null + symtab + strtab


def test_symbols_have_their_names_and_values(tmp_path: Path) -> None:
    path = tmp_path / "firmware.elf"
    path.write_bytes(elf({"mp_interrupt_char": 0x200012B0, "mp_sched_keyboard_interrupt": 0x1001B49D}))
    found = symbols(path)
    assert found["mp_interrupt_char"] == 0x200012B0 and found["mp_sched_keyboard_interrupt"] == 0x1001B49D


def test_keys_are_pressed_close_together_around_the_window_and_everywhere_else() -> None:
    seen = Window(46.7e6, 46.9e6, 0.2e6)
    instants = list(_instants(seen, 2400e6))
    assert instants == sorted(instants) and instants[-1] > 2375e6
    gaps = [(a, b - a) for a, b in zip(instants, instants[1:], strict=False)]
    assert all(gap <= 20e6 + 1 for _, gap in gaps)
    fine = [gap for at, gap in gaps if 41.7e6 <= at < 66.9e6]
    assert len(fine) == 252 and all(abs(gap - 1e5) < 1 for gap in fine)


def test_a_start_without_a_window_is_swept_in_coarse_steps() -> None:
    instants = list(_instants(Window(0, 0, 0), 2400e6))
    assert all(abs(b - a - 20e6) < 1 for a, b in zip(instants, instants[1:], strict=False))
