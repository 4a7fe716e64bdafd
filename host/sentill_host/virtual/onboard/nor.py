"""The virtual board's flash: a block device over the image file that counts its wear and can lose power at any write.

Geometry as on the RP2040: blocks of 4096 bytes, erased to 0xff, programmed in pages of 256 bytes. It takes as long as
the page says, no time at all where that says nothing.
"""

import time

import bridge
import page

BLOCK = 4096
PAGE = 256
_ERASED = b"\xff" * 512
_PIECE = 128
_there = memoryview(bytearray(_PIECE))


class Flash:
    """Block device with the extended interface littlefs wants: `blocks` blocks of the image from block `first`."""

    def __init__(self, first: int, blocks: int) -> None:
        self._file = open(page.FD_FLASH, "r+b")
        self._first = first
        self._blocks = blocks
        self._erase_us = bridge.u32(page.ERASE_US)
        self._program_us = bridge.u32(page.PROGRAM_US)

    def readblocks(self, block: int, buffer, offset: int = 0) -> None:
        """Fill `buffer` from `offset` bytes into `block`."""
        self._file.seek((self._first + block) * BLOCK + offset)
        self._file.readinto(buffer)

    def writeblocks(self, block: int, buffer, offset=None) -> None:
        """Program `buffer` at `offset` into `block`; without an offset the block is erased first."""
        if offset is None:
            self.ioctl(6, block)
            offset = 0
        length = len(buffer)
        if not bridge.u32(page.CUT_LEFT):
            self._write(block, offset, buffer, _torn(length))
            bridge.perish("cut")
        self._write(block, offset, buffer, length)
        _take((offset % PAGE + length + PAGE - 1) // PAGE * self._program_us)
        bridge.add_u32(page.PROGRAMS, 1)
        bridge.add_u32(page.PROGRAMMED, length)
        _spend()

    def ioctl(self, operation: int, argument: int) -> int:
        """4: number of blocks, 5: block size, 6: erase block `argument`; others do nothing."""
        if operation == 4:
            return self._blocks
        if operation == 5:
            return BLOCK
        if operation == 6:
            cut = not bridge.u32(page.CUT_LEFT)
            left = _torn(BLOCK) if cut else BLOCK
            self._file.seek((self._first + argument) * BLOCK)
            while left > 0:
                left -= self._file.write(_ERASED if left >= 512 else _ERASED[:left])
            if cut:
                bridge.perish("cut")
            _take(self._erase_us)
            bridge.add_u32(page.ERASES, 1)
            _wear(self._first + argument)
            _spend()
        return 0

    def _write(self, block: int, offset: int, buffer, length: int) -> None:
        self._file.seek((self._first + block) * BLOCK + offset)
        self._file.write(memoryview(buffer)[:length])


class Raw(Flash):
    """The same as on the chip, where programming only clears bits: 0xff leaves what is there. A file system that erases
    before it programs cannot tell, and is faster without."""

    def _write(self, block: int, offset: int, buffer, length: int) -> None:
        # In pieces: a chip needs no heap for it, and a node may not have a large piece to spare.
        view = memoryview(buffer)
        for at in range(0, length, _PIECE):
            there = _there[: min(_PIECE, length - at)]
            self.readblocks(block, there, offset + at)
            both = int.from_bytes(there, "little") & int.from_bytes(view[at : at + len(there)], "little")
            super()._write(block, offset + at, both.to_bytes(len(there), "little"), len(there))


def _take(us: int) -> None:
    # As long as a chip waits for its flash, with its interrupts off. (time.sleep_ms would let a Ctrl-C in.)
    if us:
        bridge.set_u32(page.FLASH_BUSY, us)
        time.sleep_us(us)
        bridge.set_u32(page.FLASH_BUSY, 0)


def _wear(block: int) -> None:
    at = page.WEAR + 2 * block
    if block < page.WEAR_BLOCKS and bridge.u16(at) < 0xFFFF:
        bridge.set_u16(at, bridge.u16(at) + 1)


def _spend() -> None:
    if bridge.u32(page.CUT_LEFT) != page.CUT_OFF:
        bridge.add_u32(page.CUT_LEFT, -1)


def _torn(length: int) -> int:
    """How much of a write of `length` bytes happens as the power fails."""
    torn = bridge.u32(page.CUT_TORN)
    if torn == 0:
        return 0
    if torn == 1:
        return length // 2
    return (bridge.u32(page.CUT_SEED) * 1103515245 + 12345 >> 8) % (length + 1)
