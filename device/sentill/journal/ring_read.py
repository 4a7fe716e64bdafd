"""What is read of a journal's ring (ring.py): at the start, and when a host asks for records."""

from struct import unpack_from

from sentill.compat import borrow, const, crc32

from .chain import FILE_HEAD, GENERATION, HEAD, MAX, TAG, file_head, slots

_SLOT = const(64)
_HEAD = const(42)
_VOID = const(-1)
_GONE = const(-2)


def open_store(ring, device) -> None:
    """Find the records of `device` (8 bytes); unreadable slots behind the last record are made void."""
    region = ring._region
    ring._device = bytes(device)
    ring._block = -1
    for block in range(len(ring._firsts)):
        if ring._firsts[block] == _GONE:
            continue
        head = _block_head(ring, block)
        ring._firsts[block] = unpack_from("<I", head, FILE_HEAD)[0] if head else _VOID
        if head and (ring._block < 0 or ring._firsts[block] > ring._firsts[ring._block]):
            ring._block = block
    ring.next = ring._end = ring._generation = ring._start = 0
    ring._tag[:] = borrow("journal", "recovery").first_tag(ring._device)
    ring.ahead = -1
    ring.latest = ring._block
    if ring._block >= 0:
        head = _block_head(ring, ring._block)
        ring._generation, ring._start = unpack_from("<HI", head, 12)
        ring._tag[:] = head[FILE_HEAD - TAG : FILE_HEAD]
        ring.next = ring._firsts[ring._block]
        ring._end = _SLOT
        reader = Reader(ring, ring.next)
        while reader.step():
            record = reader.record()
            ring._tag[:] = record[-TAG:]
            ring.next = reader.sequence + 1
            if record[2] == GENERATION:
                ring._generation = unpack_from("<H", record, HEAD)[0]
                ring._start = reader.sequence
            ring._end = reader.end
        owned = borrow("journal", "fs_blocks").prove(region, ring._block) if region.files else True
        if owned:
            _void(ring, ring._end)
        if owned is None:  # nothing can be shown any more: what is there stays, and the next block is used
            ring._end = region.block_size
        elif not owned:
            ring._firsts[ring._block] = _GONE
            open_store(ring, device)


class Reader:
    """Reads the records of `ring` from `sequence` on, one by `step`; the ring may change meanwhile."""

    def __init__(self, ring, sequence: int):
        self.sequence = 0  # of the record found
        self.end = 0  # offset in its block behind it
        self._source = ring
        self._wish = sequence
        self._block = -1  # to be looked for
        self._origin = -1
        self._offset = 0
        self._follow = 0
        self._slot = bytearray(_SLOT)
        self._address = 0
        self._size = 0

    def step(self) -> bool:
        """Find the next record: whether there is one."""
        ring = self._source
        while True:
            if self._block < 0 or ring._firsts[self._block] != self._origin:
                if not self._seek():
                    return False
            if not self._scan():
                # The rest of this block holds nothing: on to the one behind it.
                following = self._after(self._origin)
                if following < 0:
                    return False
                self._wish = max(self._wish, following)
                self._block = -1
                continue
            if self.sequence >= self._wish:
                self._wish = self.sequence + 1
                return True

    def record(self):
        """The record that `step` has found, all of its bytes, in a fresh bytearray."""
        record = bytearray(self._size)
        self._source._region.read(self._address, record)
        return record

    def _seek(self):
        # To the block that holds the record wanted, or the first behind it.
        firsts = self._source._firsts
        best = -1
        for block in range(len(firsts)):
            first = firsts[block]
            if first >= 0 and (
                best < 0 or (firsts[best] < first <= self._wish) or (firsts[best] > self._wish and first < firsts[best])
            ):
                best = block
        if best < 0:
            return False
        self._block = best
        self._origin = self._follow = firsts[best]
        self._offset = _SLOT
        return True

    def _after(self, first):
        # First sequence of the block behind the one that starts with `first`, -1 without one.
        following = -1
        for other in self._source._firsts:
            if other > first and (following < 0 or other < following):
                following = other
        return following

    def _scan(self):
        # The next record of the block, from _offset on, up to the first slot that holds none.
        region = self._source._region
        base = self._block * region.block_size
        slot = self._slot
        # A program that failed may have left records that a later block holds as well.
        stop = self._after(self._origin)
        while self._offset < region.block_size and self._follow != stop:
            region.read(base + self._offset, slot)
            size = slot[0] | slot[1] << 8
            if not size:
                self._offset += _SLOT
                continue
            if not HEAD + TAG <= size <= MAX or self._offset + slots(size) > region.block_size:
                return False
            if unpack_from("<I", slot, 3)[0] != self._follow:
                return False
            self.sequence = self._follow
            self._address = base + self._offset
            self._size = size
            self._offset += slots(size)
            self.end = self._offset
            self._follow += 1
            return True
        return False


def records(ring, sequence: int):
    """Yield the records from `sequence` on, oldest first."""
    reader = Reader(ring, sequence)
    while reader.step():
        yield reader.record()


def head(ring) -> bytes:
    """The FILE_HEAD that makes a journal file of all records held."""
    for block in range(len(ring._firsts)):
        if ring._firsts[block] == ring.first and ring.first < ring.next:
            return bytes(_block_head(ring, block)[:FILE_HEAD])
    return file_head(ring._device, 0, 0, borrow("journal", "recovery").first_tag(ring._device))


def tag_before(ring, sequence: int) -> bytes:
    """Tag of the record before `sequence`, empty when that is not held."""
    if sequence == ring.next:
        return bytes(ring._tag)
    for block in range(len(ring._firsts)):
        if ring._firsts[block] == sequence:
            return bytes(_block_head(ring, block)[FILE_HEAD - TAG : FILE_HEAD])
    reader = Reader(ring, sequence - 1)
    if reader.step() and reader.sequence < sequence:
        return bytes(reader.record()[-TAG:])
    return b""


def drop(ring, sequence: int) -> None:
    """Make the records from `sequence` on void."""
    while ring._block >= 0 and ring.next > sequence:
        if ring._firsts[ring._block] >= sequence:
            ring._region.program(ring._block * ring._region.block_size, bytes(_HEAD))
        else:
            reader = Reader(ring, sequence)
            if reader.step():
                _void(ring, reader.end - slots(reader._size))
        open_store(ring, ring._device)


def _block_head(ring, block):
    head = bytearray(_HEAD)
    ring._region.read(block * ring._region.block_size, head)
    crc = unpack_from("<I", head, _HEAD - 4)[0]
    return head if crc == crc32(memoryview(head)[: _HEAD - 4]) and head[4:12] == ring._device else None


def _void(ring, offset):
    # Zeros over every slot from `offset` of the current block on that is not blank.
    region = ring._region
    slot = ring._slot
    base = ring._block * region.block_size
    blank = b"\xff" * _SLOT
    end = offset
    while offset < region.block_size:
        region.read(base + offset, slot)
        offset += _SLOT
        if slot != blank:
            region.program(base + offset - _SLOT, bytes(_SLOT))
            end = offset
    ring._end = end
