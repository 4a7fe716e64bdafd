"""The journal's store on a raw flash partition: a ring of blocks of 64-byte slots.

Slot 0 of a block holds the FILE_HEAD, the sequence of its first record (u32) and the CRC-32 of both; it is programmed
together with the first records. A block with a damaged head holds nothing. A record starts at a slot and takes as many
as it needs, all in one block. A slot whose length is 0 was left by a power cut, overwritten and skipped. A block is
made void, by zeros over its head, before it is erased, so that an erase that was cut short cannot leave half a block
that looks whole.

What is appended at once is one program, unless no block holds it. Where flash is programmed by pages of 256 bytes that
is what saves it: four records share a page.
"""

from array import array
from struct import pack, unpack_from

from .compat import borrow, const, crc32
from .errors import StorageError
from .journal import FILE_HEAD, GENERATION, HEAD, TAG, file_head

_SLOT = const(64)
_BATCH = const(512)
_HEAD = const(42)  # of a block


class RawStore:
    """Journal store on `region` (a flash.Region of three blocks or more): about 63 records per block but one."""

    def __init__(self, region):
        if region.count < 3:
            raise StorageError("journal", "the journal needs three flash blocks")
        self.first = 0
        self.next = 0
        self.erases = 0
        self._region = region
        self._device = b""
        self._tag = b""  # of the last record
        self._generation = 0
        self._start = 0
        self._block = -1  # the one being written, -1 before the first
        self._end = 0  # offset of its first free slot
        self._firsts = array(
            "i", [-1] * region.count
        )  # sequence of the first record of each block, -1 when it holds none
        self._slot = bytearray(_SLOT)
        self._buf = bytearray(_BATCH)  # made once: a heap in use may have no such piece

    def open(self, device) -> None:
        """Find the records of `device` (8 bytes); unreadable slots behind the last record are made void."""
        borrow("journal_raw_read").open_store(self, device)

    def append(self, records, sequence: int) -> None:
        """Put whole records, the first of them numbered `sequence`, on flash. Raises OSError."""
        at = 0
        while sequence < self.next and at < len(records):  # kept by an attempt that failed later
            at += records[at] | records[at + 1] << 8
            sequence += 1
        if at == len(records):
            return
        size = self._region.block_size
        block = self._block
        end = self._end
        buf = self._buf
        n = 0  # bytes of it that are programmed at once
        # A batch that a fresh block holds whole is not torn in two: half a page costs more than a few empty slots.
        needs = _needs(records, at)
        if block < 0 or sequence != self.next or size - end < needs <= size - _SLOT:
            block, end, n = self._fresh(sequence)
        while at < len(records):
            length = records[at] | records[at + 1] << 8
            needs = slots(length)
            if end + n + needs > size:
                self._program(block, end, n)
                block, end, n = self._fresh(sequence)
            elif n + needs > len(buf):
                self._program(block, end, n)
                end += n
                n = 0
            buf[n : n + length] = records[at : at + length]
            for i in range(n + length, n + needs):
                buf[i] = 255
            n += needs
            at += length
            sequence += 1
        self._program(block, end, n)

    def records(self, sequence: int):
        """The records from `sequence` on, oldest first, as a generator."""
        return borrow("journal_raw_read").records(self, sequence)

    def head(self) -> bytes:
        """The FILE_HEAD that makes a journal file of all records held."""
        return borrow("journal_raw_read").head(self)

    def tag_before(self, sequence: int) -> bytes:
        """Tag of the record before `sequence`, empty when that is not held."""
        return borrow("journal_raw_read").tag_before(self, sequence)

    def drop(self, sequence: int) -> None:
        """Make the records from `sequence` on void."""
        borrow("journal_raw_read").drop(self, sequence)

    def tidy(self) -> bool:
        """Nothing to do here."""
        return False

    def _program(self, block, offset, n):
        if not n:
            return
        chunk = memoryview(self._buf)[:n]
        # Until it has worked: what a program that failed left behind is not written again.
        self._end = self._region.block_size
        self._region.program(block * self._region.block_size + offset, chunk)
        self._block = block
        self._end = offset + len(chunk)
        if not offset:
            self._firsts[block] = unpack_from("<I", chunk, FILE_HEAD)[0]
            self._find_first()
            offset = _SLOT
        at = len(chunk) - self._end + offset
        while at < len(chunk):
            size = chunk[at] | chunk[at + 1] << 8
            self._note(chunk[at : at + size])
            at += slots(size)

    def _note(self, record):
        self._tag = bytes(record[-TAG:])
        self.next = unpack_from("<I", record, 3)[0] + 1
        if record[2] == GENERATION:
            self._generation = unpack_from("<H", record, HEAD)[0]
            self._start = self.next - 1

    def _fresh(self, sequence):
        # (block, 0, bytes in the buffer): the next block of the ring, erased, from the record `sequence` on.
        region = self._region
        block = (self._block + 1) % region.count
        if not region.is_blank(block):
            region.program(block * region.block_size, bytes(_HEAD))
            region.erase(block)
            self.erases += 1
        self._firsts[block] = -1
        self._find_first()
        head = file_head(self._device, self._generation, self._start, self._tag) + pack("<I", sequence)
        self._buf[:_SLOT] = head + pack("<I", crc32(head)) + b"\xff" * (_SLOT - _HEAD)
        return block, 0, _SLOT

    def _find_first(self):
        held = [first for first in self._firsts if first >= 0]
        self.first = min(held) if held else self.next


def _needs(records, at):
    # Bytes of the slots that the records from `at` on take.
    total = 0
    while at < len(records):
        size = records[at] | records[at + 1] << 8
        total += slots(size)
        at += size
    return total


def slots(size: int) -> int:
    """Bytes of the slots that a record of `size` bytes takes."""
    return (size + _SLOT - 1) // _SLOT * _SLOT
