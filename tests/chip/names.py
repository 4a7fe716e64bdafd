"""The names that stock firmware knows: of its modules, their classes and functions, and of objects in common use.

    python -m tests.chip.names RPI_PICO.uf2     # writes firmware_names.json and .txt anew

What replaces the names of our own package must leave these alone. It takes them from the second file, which has all
names that lie in the firmware's flash, whatever they stand for.
"""

import argparse
import json
import struct
from pathlib import Path
from typing import Any

from sentill_host.bundle import shorten_names
from tests.chip.chip import Chip, Firmware

KEPT = Path(__file__).with_name("firmware_names.json")
NAMES = Path(shorten_names.__file__).with_name("firmware_names.txt")
_FLASH = 0x10000000

# Run piece by piece in the raw REPL; each prints lines of JSON, [path, [names]].
_HEAD = """
import gc, json, sys
seen = set()
def tell(path, thing, depth):
    names = sorted(dir(thing))
    print(json.dumps([path, names]))
    if depth:
        for name in names:
            if name.startswith("__"):
                continue
            inner = getattr(thing, name, None)
            if isinstance(inner, type) and id(inner) not in seen:
                seen.add(id(inner))
                tell(path + "." + name, inner, depth - 1)
"""
_MODULE = """
gc.collect()
try:
    import {name} as _module
    tell({name!r}, _module, 2)
except Exception as error:
    print(json.dumps([{name!r} + ": " + repr(error), []]))
"""
# An object each, by the words that make it.
_OBJECTS = (
    "1", "1.5", "''", "b''", "bytearray(1)", "memoryview(b'')", "[]", "()", "{}", "set()", "frozenset()",
    "None", "True", "range(1)", "(lambda: 0)", "(i for i in ())", "iter(())", "property()", "object()", "Exception()",
    "OSError(1)", "StopIteration()", "type", "super", "staticmethod", "classmethod", "KeyboardInterrupt()",
    "sys.implementation", "sys.stdin", "sys.stdin.buffer", "sys.stdout", "sys.stdout.buffer",
    "__import__('array').array('h')", "__import__('collections').deque((), 1)",
    "__import__('collections').OrderedDict()", "__import__('collections').namedtuple('N', 'a')(1)",
    "__import__('hashlib').sha256()", "__import__('io').StringIO()", "__import__('io').BytesIO()",
    "__import__('io').IOBase()", "__import__('deflate').DeflateIO(__import__('io').BytesIO())",
    "__import__('select').poll()", "__import__('re').compile('a')", "__import__('re').match('a', 'a')",
    "__import__('random')", "open('/names', 'wb')", "open('/names')", "__import__('os').statvfs('/')",
    "__import__('os').ilistdir('/')", "__import__('machine').Pin(2)", "__import__('machine').UART(1)",
    "__import__('machine').ADC(26)", "__import__('machine').I2C(0)", "__import__('machine').SoftI2C(4, 5)",
    "__import__('machine').SPI(0)", "__import__('machine').PWM(__import__('machine').Pin(3))",
    "__import__('machine').Timer(-1)", "__import__('machine').RTC()", "__import__('machine').WDT",
    "__import__('machine').mem32", "__import__('machine').Signal(__import__('machine').Pin(2))",
    "__import__('rp2').Flash()", "__import__('rp2').DMA()", "__import__('rp2').StateMachine(0)",
    "__import__('rp2').PIO(0)", "__import__('vfs').VfsLfs2", "__import__('asyncio').Event()",
    "__import__('asyncio').Lock()", "__import__('asyncio').get_event_loop()", "__import__('asyncio').ThreadSafeFlag()",
    "__import__('asyncio.core').core._io_queue", "__import__('asyncio.core').core.Task",
    "__import__('micropython').const", "__import__('time').localtime()", "__import__('struct').unpack('<H', b'ab')",
)  # fmt: skip
_OBJECT = """
try:
    tell({words!r}, {words}, 0)
except Exception as error:
    print(json.dumps([{words!r} + ": " + repr(error), []]))
"""
# Importing them again would do what a boot does.
_LEFT_OUT = ("__main__", "_boot", "_boot_fat")


def dump(firmware: Firmware) -> dict[str, Any]:
    """`firmware` (its version, build and SHA-256), and `names` by module, class or words that make an object.

    All sorted, so that a second dump of the same firmware is equal. Raises RuntimeError for what cannot be made.
    """
    chip = Chip(firmware)
    chip.enter_repl()
    about = chip.exec("import sys; print(sys.version); print(sys.implementation._build)").split("\n")
    listed = chip.exec("help('modules')").replace("Plus any modules on the filesystem", "").split()
    modules = sorted({name.replace("/", ".") for name in listed} - set(_LEFT_OUT))
    chip.exec(_HEAD)
    names: dict[str, list[str]] = {}
    pieces = [_MODULE.format(name=name) for name in modules] + [_OBJECT.format(words=words) for words in _OBJECTS]
    for piece in pieces:
        for line in chip.exec(piece).splitlines():
            path, found = json.loads(line)
            if not found:
                raise RuntimeError(path)
            names[path] = found
    return {
        "firmware": {"version": about[0].partition("; ")[2], "build": about[1], "sha256": firmware.sha256},
        "names": dict(sorted(names.items())),
    }


def in_flash(firmware: Firmware) -> list[str]:
    """The names in the pools that lie in flash, those that can be one in a source; see qstr_pool_t in py/qstr.h.

    A pool is the one before it, the number of names in all before it (with a mark in the highest bit), how many it may
    take, how many it has, where their hashes and lengths are, then where each name is. The first has none before it.
    """
    chip = Chip(firmware)
    flash = bytes(chip.mcu.flash[: chip.geometry.start])
    found: list[str] = []
    before, at = 0, 0
    while (at := _pool(flash, before, len(found))) >= 0:
        number = struct.unpack_from("<I", flash, at + 12)[0]
        for place in struct.unpack_from(f"<{number}I", flash, at + 24):
            found.append(flash[place - _FLASH : flash.index(b"\0", place - _FLASH)].decode())
        before = at + _FLASH
    if not {"__dir__", "sleep_ms", "readinto"} <= set(found):
        raise RuntimeError("the names of this firmware are not where they were")
    return sorted({name for name in found if name.isidentifier()})


def _pool(flash: bytes, before: int, known: int) -> int:
    """Where the pool behind the one at `before` is, with so many names before it; -1 when there is none."""
    for at in range(0, len(flash) - 24, 4):
        earlier, total, most, number, hashes, lengths = struct.unpack_from("<6I", flash, at)
        if earlier == before and total & 0x7FFFFFFF == known and most == 10 and 50 < number < 2000:
            if all(_FLASH < place < _FLASH + len(flash) for place in (hashes, lengths)):
                return at
    return -1


def main() -> None:
    """See the head of the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("firmware", type=Path)
    image = Firmware(parser.parse_args().firmware)
    NAMES.write_text("\n".join(in_flash(image)) + "\n")
    made = dump(image)
    lines = [f" {json.dumps(path)}: {json.dumps(names)}" for path, names in made["names"].items()]
    firmware = json.dumps(made["firmware"])
    KEPT.write_text(f'{{"firmware": {firmware}, "names": {{\n' + ",\n".join(lines) + "\n}}\n")


if __name__ == "__main__":
    main()
