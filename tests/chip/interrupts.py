"""Ctrl-C as the firmware sees it: when it listens, and what a key does to a board that starts.

A key comes in one of two ways. Over USB: the computer writes it, and the chip reads it when its USB is up. Over a wire:
what a UART's interrupt does with a key that comes in at an instant, as on boards with a serial chip beside them, which
stock firmware of this board has not; it is called in the firmware at hand, whose .elf must lie beside it.
"""

import os
import struct
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.chip.chip import Chip

CTRL_C = 3
_RAM = 0x20000000
_PROBES = (0x2B4D6F11, 0x1357BD25, 0x0ACE1B47)
_LOOK_NS = 10_000
_LATER_NS = 100_000
_EARLY_NS = 100_000_000  # from then on it is looked at less often
_NOWHERE = 0x1000_0000  # the beginning of flash, where nothing returns to
_BROKEN = 255
_CALL_INSTRUCTIONS = 10_000
_SYMBOL = struct.Struct("<IIIBBH")
_SECTION = struct.Struct("<IIIIIIIIII")
_SYMTAB = 2


def symbols(elf: Path) -> dict[str, int]:
    """Names and addresses of a 32-bit ELF file."""
    data = elf.read_bytes()
    at, size, count = (struct.unpack_from("<I", data, 32)[0], *struct.unpack_from("<HH", data, 46))
    sections = [_SECTION.unpack_from(data, at + i * size) for i in range(count)]
    found = {}
    for section in sections:
        if section[1] == _SYMTAB:
            names = sections[section[6]][4]
            for offset in range(section[4], section[4] + section[5], _SYMBOL.size):
                name, value, *_ = _SYMBOL.unpack_from(data, offset)
                end = data.index(b"\0", names + name)
                found[data[names + name : end].decode()] = value
    return found


def listening_at(chip: Chip) -> int:
    """Where in RAM the firmware keeps the character that interrupts, found at the raw prompt of `chip`."""
    places: set[int] = set()
    for number, probe in enumerate(_PROBES):
        chip.marks.clear()
        chip.usb.write(
            b"import micropython,machine,time\nmicropython.kbd_intr(%d)\nmachine.mem32[0x4F000000]=1\n"
            b"time.sleep_ms(20)\n\x04" % probe
        )
        chip.run_until(lambda: bool(chip.marks), 5.0, "mark")
        ram = bytes(chip.mcu.sram)
        word = struct.pack("<I", probe)
        here = {i for i in range(0, len(ram) - 3, 4) if ram[i : i + 4] == word}
        places = here if not number else places & here
        chip.run(0.1)
    if len(places) != 1:
        raise RuntimeError(f"the firmware's interrupt character was not found: {sorted(places)}")
    return places.pop()


@dataclass(frozen=True)
class Window:
    """Nanoseconds after power-on between which the firmware first and last listened, and how long it did in all."""

    first_ns: float
    last_ns: float
    open_ns: float


def window(chip: Chip, at: int, until: Callable[[], bool], most_s: float) -> Window:
    """Watch `chip` from now on until `until()`: when Ctrl-C is listened to. Looks each 10 us of the first 100 ms, then
    each 100 us."""
    live: list[float] = []

    def look() -> None:
        if struct.unpack_from("<i", chip.mcu.sram, at)[0] == CTRL_C:
            live.append(chip.ns)
        alarm.schedule(_LOOK_NS if chip.ns < _EARLY_NS else _LATER_NS)

    alarm = chip.alarm(look)
    alarm.schedule(_LOOK_NS)
    chip.run_until(until, most_s, "end of the start")
    alarm.cancel()
    if not live:
        return Window(0.0, 0.0, 0.0)
    open_ns = sum(_LOOK_NS if ns < _EARLY_NS else _LATER_NS for ns in live)
    return Window(live[0], live[-1] + _LOOK_NS, float(open_ns))


def call(chip: Chip, address: int) -> None:
    """Have the chip call the C function at `address`, without arguments, and go on as if nothing had been: what an
    interrupt does. Its time does not pass meanwhile."""
    core = chip.mcu.core
    registers = [int(core.registers[number]) for number in range(16)]
    flags = core.n, core.z, core.c, core.v, core.pm, core.waiting
    core.registers[14] = _NOWHERE | 1
    core.pc = address & ~1
    for _ in range(_CALL_INSTRUCTIONS):
        core.execute_instruction()
        if core.pc & ~1 == _NOWHERE:
            break
    else:
        raise RuntimeError("the firmware's function does not return")
    for number, value in enumerate(registers):
        core.registers[number] = value
    core.n, core.z, core.c, core.v, core.pm, _ = flags  # what was called may have been waited for


class Apart:
    """`work()` in a copy of this process with the chip as it is now; `result()` is what it returned, 0..254."""

    def __init__(self, work: Callable[[], int]):
        sys.stdout.flush()
        sys.stderr.flush()
        self._pid = os.fork()
        if not self._pid:
            result = _BROKEN
            try:
                result = work()
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(result)

    def result(self) -> int:
        """Wait for its end. Raises RuntimeError when `work` did."""
        result = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        if result == _BROKEN:
            raise RuntimeError("a copy of the chip failed, see above")
        return result
