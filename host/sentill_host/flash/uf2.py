"""UF2, the file format of the RP2's boot drive: blocks of 512 bytes, each saying where its 256 bytes of payload go.

Source: Microsoft's UF2 specification; family ids from its uf2families.json; addresses from the RP2040 and RP2350 data
sheets. The chip ignores blocks it does not like without a word, so everything is checked before the first is sent.
"""

import struct
from dataclasses import dataclass

from sentill_host.errors import UsageError

BLOCK_BYTES = 512
PAYLOAD_BYTES = 256
_MAGIC_START, _MAGIC_START_2, _MAGIC_END = 0x0A324655, 0x9E5D5157, 0x0AB16F30
_HEAD = struct.Struct("<8I")
_NOT_FLASH, _CONTAINER, _HAS_FAMILY = 0x0001, 0x1000, 0x2000
_MOST_BYTES = 64 << 20

ABSOLUTE = 0xE48BFF57
FAMILIES = {
    "rp2040": {0xE48BFF56},
    "rp2350": {0xE48BFF59, 0xE48BFF5A, ABSOLUTE},  # ARM, RISC-V, absolute addresses
}
FAMILY_NAMES = {
    0xE48BFF56: "RP2040",
    0xE48BFF59: "RP2350 (ARM)",
    0xE48BFF5A: "RP2350 (RISC-V)",
    ABSOLUTE: "RP2 with absolute addresses",
}
FLASH_START = 0x10000000
_FLASH_BYTES = {"rp2040": 16 << 20, "rp2350": 32 << 20}
# The one block that picotool puts in front for the RP2350's erratum E10; it lies outside the firmware on purpose.
_E10_ADDRESS = 0x10FFFF00


@dataclass(frozen=True)
class Layout:
    """What a checked file writes: from `start` to `end` (exclusive), in `blocks` blocks for `families`."""

    families: frozenset[int]
    start: int
    end: int
    blocks: int


def check(data: bytes, chip: str, name: str = "the file") -> Layout:
    """Check that every block of `data` is whole and meant for the flash of `chip` ("rp2040", "rp2350").

    Raises UsageError naming the first thing wrong: not UF2, cut short, another chip's, blocks missing, addresses
    outside the flash or twice.
    """
    hint = "download the file anew, and take the one for this board"
    if not data or len(data) % BLOCK_BYTES or len(data) > _MOST_BYTES:
        raise UsageError(f"{name} is no whole UF2 file: {len(data)} bytes", hint)
    seen: dict[int, set[int]] = {}
    totals: dict[int, int] = {}
    addresses: set[int] = set()
    for number in range(len(data) // BLOCK_BYTES):
        at = number * BLOCK_BYTES
        start, start_2, flags, address, size, index, total, family = _HEAD.unpack_from(data, at)
        (end,) = struct.unpack_from("<I", data, at + BLOCK_BYTES - 4)
        if (start, start_2, end) != (_MAGIC_START, _MAGIC_START_2, _MAGIC_END):
            raise UsageError(f"{name}: block {number} is no UF2 block", hint)
        if flags & (_NOT_FLASH | _CONTAINER):
            continue
        if not flags & _HAS_FAMILY or family not in FAMILIES[chip]:
            whose = FAMILY_NAMES.get(family, f"family {family:#010x}") if flags & _HAS_FAMILY else "no stated chip"
            raise UsageError(f"{name} is for {whose}, this board has an {chip.upper()}", hint)
        if family == ABSOLUTE and address == _E10_ADDRESS and chip == "rp2350":
            continue
        if size != PAYLOAD_BYTES or address % PAYLOAD_BYTES:
            raise UsageError(f"{name}: block {number} writes {size} bytes at {address:#x}, not a page", hint)
        if not FLASH_START <= address <= FLASH_START + _FLASH_BYTES[chip] - size:
            raise UsageError(f"{name}: block {number} writes outside the flash, at {address:#x}", hint)
        if address in addresses or index in seen.setdefault(family, set()):
            raise UsageError(f"{name}: block {number} comes twice", hint)
        if totals.setdefault(family, total) != total or index >= total:
            raise UsageError(f"{name}: block {number} is numbered {index} of {total}", hint)
        addresses.add(address)
        seen[family].add(index)
    missing = sum(totals[family] - len(seen[family]) for family in totals)
    if missing or not addresses:
        raise UsageError(f"{name} lacks {missing or 'all'} of its blocks", hint)
    return Layout(frozenset(totals), min(addresses), max(addresses) + PAYLOAD_BYTES, len(addresses))
