"""The journal's store on a raw flash partition: a ring of blocks of 64-byte slots.

Slot 0 of a block holds the FILE_HEAD, the sequence of its first record (u32) and the CRC-32 of both; it is programmed
together with the first records. A block with a damaged head holds nothing. A record starts at a slot and takes as many
as it needs, all in one block. A slot whose length is 0 was left by a power cut, overwritten and skipped. A block is
made void, by zeros over its head, before it is erased, so that an erase that was cut short cannot leave half a block
that looks whole.

What is appended at once is one program, unless no block holds it. Where flash is programmed by pages of 256 bytes that
is what saves it: four records share a page.
"""

from struct import pack, unpack_from

from .compat import const, crc32
from .errors import StorageError
from .journal import FILE_HEAD, GENERATION, HEAD, MAX, TAG, file_head, first_tag

_SLOT = const(64)
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
        self._firsts = [-1] * region.count  # sequence of the first record of each block, -1 when it holds none
        self._slot = bytearray(_SLOT)

    def open(self, device) -> None:
        """Find the records of `device` (8 bytes); unreadable slots behind the last record are made void."""
        self._device = bytes(device)
        self._block = -1
        for block in range(self._region.count):
            head = self._block_head(block)
            self._firsts[block] = unpack_from("<I", head, FILE_HEAD)[0] if head else -1
            if head and (self._block < 0 or self._firsts[block] > self._firsts[self._block]):
                self._block = block
        self.next = self._end = self._generation = self._start = 0
        self._tag = first_tag(self._device)
        if self._block >= 0:
            head = self._block_head(self._block)
            self._generation, self._start = unpack_from("<HI", head, 12)
            self._tag = head[FILE_HEAD - TAG : FILE_HEAD]
            self.next = self._firsts[self._block]
            self._end = _SLOT
            for offset, record in self._walk(self._block):
                self._note(record)
                self._end = offset + _slots(len(record))
            self._void(self._end)
        self._find_first()

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
        chunk = bytearray()  # what is programmed at once
        # A batch that a fresh block holds whole is not torn in two: half a page costs more than a few empty slots.
        needs = _needs(records, at)
        if block < 0 or sequence != self.next or size - end < needs <= size - _SLOT:
            block, end, chunk = self._fresh(sequence)
        while at < len(records):
            length = records[at] | records[at + 1] << 8
            if end + len(chunk) + _slots(length) > size:
                self._program(block, end, chunk)
                block, end, chunk = self._fresh(sequence)
            chunk.extend(records[at : at + length])
            chunk.extend(b"\xff" * (_slots(length) - length))
            at += length
            sequence += 1
        self._program(block, end, chunk)

    def records(self, sequence: int):
        """Yield the records from `sequence` on, oldest first."""
        for record in self._scan(sequence):
            if unpack_from("<I", record, 3)[0] >= sequence:
                yield record

    def _scan(self, sequence):
        # Records from the beginning of the last block that starts at or before `sequence`.
        order = sorted([(first, block) for block, first in enumerate(self._firsts) if first >= self.first])
        for i, (_, block) in enumerate(order):
            if i + 1 == len(order) or order[i + 1][0] > sequence:
                for _, record in self._walk(block):
                    yield record

    def head(self) -> bytes:
        """The FILE_HEAD that makes a journal file of all records held."""
        if self.first in self._firsts and self.first < self.next:
            return bytes(self._block_head(self._firsts.index(self.first))[:FILE_HEAD])
        return file_head(self._device, 0, 0, first_tag(self._device))

    def tag_before(self, sequence: int) -> bytes:
        """Tag of the record before `sequence`, empty when that is not held."""
        if sequence == self.first:
            return self.head()[-TAG:]
        tag = b""
        scan = self._scan(sequence - 1)
        for record in scan:
            if unpack_from("<I", record, 3)[0] >= sequence:
                break
            tag = bytes(record[-TAG:])
        scan.close()
        return tag

    def drop(self, sequence: int) -> None:
        """Make the records from `sequence` on void."""
        while self._block >= 0 and self.next > sequence:
            if self._firsts[self._block] >= sequence:
                self._region.program(self._block * self._region.block_size, bytes(_HEAD))
            else:
                for offset, record in self._walk(self._block):
                    if unpack_from("<I", record, 3)[0] >= sequence:
                        self._void(offset)
                        break
            self.open(self._device)

    def tidy(self) -> bool:
        """Nothing to do here."""
        return False

    def _walk(self, block):
        # (offset, record) of the records of a block, up to the first slot that holds none.
        region = self._region
        slot = self._slot
        base = block * region.block_size
        follow = self._firsts[block]
        # A program that failed may have left records that a later block holds as well.
        later = [first for first in self._firsts if first > follow]
        end = min(later) if later else -1
        offset = _SLOT
        while offset < region.block_size and follow != end:
            region.read(base + offset, slot)
            size = slot[0] | slot[1] << 8
            if not size:
                offset += _SLOT
                continue
            if not HEAD + TAG <= size <= MAX or offset + _slots(size) > region.block_size:
                return
            if unpack_from("<I", slot, 3)[0] != follow:
                return
            record = bytearray(size)
            region.read(base + offset, record)
            yield offset, record
            follow += 1
            offset += _slots(size)

    def _program(self, block, offset, chunk):
        if not chunk:
            return
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
            self._note(memoryview(chunk)[at : at + size])
            at += _slots(size)

    def _note(self, record):
        self._tag = bytes(record[-TAG:])
        self.next = unpack_from("<I", record, 3)[0] + 1
        if record[2] == GENERATION:
            self._generation = unpack_from("<H", record, HEAD)[0]
            self._start = self.next - 1

    def _block_head(self, block):
        head = bytearray(_HEAD)
        self._region.read(block * self._region.block_size, head)
        crc = unpack_from("<I", head, _HEAD - 4)[0]
        return head if crc == crc32(memoryview(head)[: _HEAD - 4]) and head[4:12] == self._device else None

    def _fresh(self, sequence):
        # (block, 0, what its first slot holds): the next block of the ring, erased, from the record `sequence` on.
        region = self._region
        block = (self._block + 1) % region.count
        if not region.is_blank(block):
            region.program(block * region.block_size, bytes(_HEAD))
            region.erase(block)
            self.erases += 1
        self._firsts[block] = -1
        self._find_first()
        head = file_head(self._device, self._generation, self._start, self._tag) + pack("<I", sequence)
        return block, 0, bytearray(head + pack("<I", crc32(head)) + b"\xff" * (_SLOT - _HEAD))

    def _find_first(self):
        held = [first for first in self._firsts if first >= 0]
        self.first = min(held) if held else self.next

    def _void(self, offset):
        # Zeros over every slot from `offset` of the current block on that is not blank.
        region = self._region
        slot = self._slot
        base = self._block * region.block_size
        blank = b"\xff" * _SLOT
        end = offset
        while offset < region.block_size:
            region.read(base + offset, slot)
            offset += _SLOT
            if slot != blank:
                region.program(base + offset - _SLOT, bytes(_SLOT))
                end = offset
        self._end = end


def _needs(records, at):
    # Bytes of the slots that the records from `at` on take.
    total = 0
    while at < len(records):
        size = records[at] | records[at + 1] << 8
        total += _slots(size)
        at += size
    return total


def _slots(size):
    return (size + _SLOT - 1) // _SLOT * _SLOT
