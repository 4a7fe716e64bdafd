"""MicroPython's heap seen from outside: what is in use, and in how large pieces the rest is.

The garbage collector's state is found by its shape in RAM, so any firmware will do and no symbols are needed.
"""

from dataclasses import dataclass

import numpy as np

from tests.chip.chip import Chip

_RAM, _RAM_END = 0x20000000, 0x20042000
_BLOCK = 16
_PER_BYTE = 4


@dataclass(frozen=True)
class Look:
    """Bytes in use, garbage not yet collected included; free; of the largest free piece."""

    used: int
    free: int
    largest: int


class Heap:
    """The heap of a chip whose MicroPython has started."""

    def __init__(self, chip: Chip):
        self._chip = chip
        self._at: tuple[int, int] | None = None

    def found(self) -> bool:
        """Whether MicroPython has set it up."""
        if self._at is None:
            self._at = _table(bytes(self._chip.mcu.sram))
        return self._at is not None

    def look(self) -> Look:
        """As it is now; all zero before MicroPython has started."""
        if not self.found():
            return Look(0, 0, 0)
        assert self._at
        at, size = self._at
        table = np.frombuffer(bytes(self._chip.mcu.sram[at : at + size]), np.uint8)
        free = ((table[:, None] >> np.array([0, 2, 4, 6], np.uint8)) & 3).ravel() == 0
        edges = np.flatnonzero(np.diff(np.concatenate(([0], free.astype(np.int8), [0]))))
        runs = edges[1::2] - edges[::2]
        count = int(free.sum())
        return Look((len(free) - count) * _BLOCK, count * _BLOCK, int(runs.max(initial=0)) * _BLOCK)


def _table(ram: bytes) -> tuple[int, int] | None:
    """Offset in RAM and length of the allocation table: two bits per block of 16 bytes.

    In the collector's state follow each other: start of the table, its length, perhaps the start of the table of
    finalisers, start and end of the pool, which is 64 times as long as the table and lies behind it.
    """
    words = np.frombuffer(ram, np.uint32).astype(np.int64)
    for skip in (2, 3):
        start, length = words[:-4], words[1:-3]
        pool, end = words[skip : len(words) - 4 + skip], words[skip + 1 : len(words) - 3 + skip]
        fits = (
            (start >= _RAM) & (start < pool) & (pool < end) & (end <= _RAM_END)
            & (length > 1024) & (end - pool == length * _PER_BYTE * _BLOCK) & (start + length <= pool)
        )  # fmt: skip
        found = np.flatnonzero(fits)
        if len(found):
            i = int(found[0])
            return int(words[i]) - _RAM, int(words[i + 1])
    return None
