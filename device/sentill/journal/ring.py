"""The journal's store: blocks of flash in the order they were written in, the oldest of which gives way.

A block is a row of 64-byte slots. Slot 0 holds the FILE_HEAD, the sequence of the block's first record (u32) and the
CRC-32 of both; what is left of it is for marks (fs_blocks). A block with a damaged head holds nothing. A record
starts at a slot and takes as many as it needs, all in one block. A slot whose length is 0 was left by a power cut,
overwritten and skipped. A block is made void, by zeros over its head, before it is erased, so that an erase that was
cut short cannot leave half a block that looks whole.

What is written at once is one program. Where flash is programmed by pages of 256 bytes that is what saves it: four
records share a page. No call here erases more than one block: `advance` and `tidy` are single steps.
"""

from array import array
from gc import collect
from struct import pack_into, unpack_from

from sentill.compat import borrow, borrow_at_once, const
from sentill.errors import StorageError

from .chain import GENERATION, HEAD, TAG, slots

_SLOT = const(64)
_PIECE = const(128)
_VOID = const(-1)


class Ring:
    """Journal store on `region` (a flash.Region): about 63 records per block but one. next_block changes blocks."""

    def __init__(self, region):
        self.next = 0
        self.erases = 0
        self._region = region
        self._device = b""
        self._tag = bytearray(TAG)  # of the last record
        self._generation = 0
        self._start = 0
        self._block = -1  # the one being written, -1 before the first
        self._end = 0  # offset of its first free slot
        self.ahead = -1  # the one to go on in, erased; -1 when there is none yet
        self.latest = -1  # the one that was chosen last to go on in
        self.busy = None  # next_block.turn, on the way there
        # Sequence of the first record of each block; -1 when it holds none, -2 when the region has it no more.
        self._firsts = array("i", [_VOID] * region.count)
        self._slot = bytearray(_SLOT)
        self._echo = memoryview(bytearray(_PIECE))

    def open(self, device) -> None:
        """Find the records of `device` (8 bytes); unreadable slots behind the last record are made void."""
        borrow("journal", "ring_read").open_store(self, device)

    @property
    def first(self) -> int:
        """Sequence of the oldest record held; `next` when there is none."""
        oldest = self.next
        for first in self._firsts:
            if 0 <= first < oldest:
                oldest = first
        return oldest

    def room(self, sequence: int, size: int) -> bool:
        """Whether a record of `size` bytes, number `sequence`, can be written now; else `advance` until it can."""
        return self._block >= 0 and sequence == self.next and self._end + slots(size) <= self._region.block_size

    def write(self, records, sequence: int) -> int:
        """Put as many of the `records`, whole slots of them, as the block takes on flash; the bytes taken.

        Raises OSError, StorageError("flash") when the flash does not keep them; what comes next needs another block.
        """
        size = self._region.block_size
        end = self._end
        n = last = 0
        generation = -1
        start = 0
        while n < len(records):
            needs = slots(records[n] | records[n + 1] << 8)
            if end + n + needs > size:
                break
            if records[n + 2] == GENERATION:
                generation = unpack_from("<H", records, n + HEAD)[0]
                start = sequence
            last = n
            n += needs
            sequence += 1
        last += records[last] | records[last + 1] << 8
        tag = bytes(records[last - TAG : last])
        self._end = size  # until it has worked: what a program that failed left behind is not written again
        self.program(self._block * size + end, records[:n])
        # From here on nothing takes heap: what is on flash must not be written again.
        self._end = end + n
        self.next = sequence
        pack_into("16s", self._tag, 0, tag)
        if generation >= 0:
            self._generation = generation
            self._start = start
        return n

    def advance(self, sequence: int) -> None:
        """One step towards a block that takes the record `sequence`: at last it goes on in that.

        Raises OSError, StorageError: "flash" when it cannot be written, "full" when there is no block.
        """
        if sequence != self.next:
            self._end = self._region.block_size  # numbers jump: not within a block
            self.next = sequence
        self._step()

    def tidy(self) -> bool:
        """One step of what is better done before it is needed: whether there was one. Raises as `advance`."""
        size = self._region.block_size
        if self.ahead >= 0 or (self.busy is None and size - self._end > size >> 2):
            return False  # with a quarter of the block left it is early enough
        self._step()
        return True

    def _step(self):
        busy = self.busy
        if busy is None:
            collect()  # a step of its own: on a chip it takes half as long as an erase
            self.busy = ()
            return
        self.busy = None  # should it fail, it begins anew
        if busy == ():
            self.busy = borrow_at_once("journal", "next_block").turn(self)
            return
        self.ahead = -1
        for _ in busy:
            self.busy = busy
            break

    def make_room(self) -> bool:
        """Give the oldest block back to the file system; False when the region keeps what it has."""
        return borrow("journal", "next_block").make_room(self)

    def close(self) -> None:
        """Give up what is under way: the file system is about to be unmounted."""
        if self.busy:
            self.busy.close()
        self.busy = None
        self.ahead = -1

    def reader(self, sequence: int):
        """A ring_read.Reader of the records from `sequence` on."""
        return borrow("journal", "ring_read").Reader(self, sequence)

    def records(self, sequence: int):
        """The records from `sequence` on, oldest first, as a generator."""
        return borrow("journal", "ring_read").records(self, sequence)

    def head(self) -> bytes:
        """The FILE_HEAD that makes a journal file of all records held."""
        return borrow("journal", "ring_read").head(self)

    def tag_before(self, sequence: int) -> bytes:
        """Tag of the record before `sequence`, empty when that is not held."""
        return borrow("journal", "ring_read").tag_before(self, sequence)

    def drop(self, sequence: int) -> None:
        """Make the records from `sequence` on void."""
        borrow("journal", "ring_read").drop(self, sequence)

    def program(self, address: int, data) -> None:
        """Program and read back. Raises OSError, StorageError("flash") when it does not stand there."""
        region = self._region
        region.program(address, data)
        data = memoryview(data)
        for at in range(0, len(data), _PIECE):
            check = self._echo[: min(_PIECE, len(data) - at)]
            region.read(address + at, check)
            if check != data[at : at + _PIECE]:
                raise StorageError("flash", "the flash does not keep what is written")
