"""From block to block of a journal's ring (journal_ring.py): which one is next, and how many there are.

Borrowed about once per block. Nothing here erases more than one block at a time.
"""

from struct import pack, pack_into

from .compat import borrow, const, crc32
from .errors import StorageError
from .journal import FILE_HEAD, file_head

_SLOT = const(64)
_HEAD = const(42)  # of a block
_ENOSPC = const(28)
_VOID = const(-1)  # a block that holds nothing
_GONE = const(-2)  # one that the region has no more


def advance(ring, sequence: int) -> None:
    """What Ring.advance does."""
    block = ring.ahead
    if block < 0:
        step(ring)
        return
    ring.ahead = -1
    region = ring._region
    if ring._block >= 0 and ring._firsts[ring._block] == sequence:  # given up before it held anything
        region.program(ring._block * region.block_size, bytes(_HEAD))
        ring._firsts[ring._block] = _VOID
    slot = bytearray(b"\xff" * _SLOT)
    slot[: FILE_HEAD + 4] = file_head(ring._device, ring._generation, ring._start, ring._tag) + pack("<I", sequence)
    pack_into("<I", slot, FILE_HEAD + 4, crc32(memoryview(slot)[: FILE_HEAD + 4]))
    ring.program(block * region.block_size, slot)
    ring._block = block
    ring._end = _SLOT
    ring._firsts[block] = ring.next = sequence


def step(ring) -> None:
    """One step towards a block that is ready: of growing, or shrinking, or to erase the next one.

    Raises OSError, StorageError("full").
    """
    if not ring.busy:
        if not ring._region.files or ring.busy is False or _find(ring, _VOID) >= 0:
            return _prepare(ring)
        # To ask what is free takes as long as half an erase: a step of its own.
        wanted = borrow("journal_blocks").look(ring._region, _count(ring))
        if wanted > 0:
            ring.busy = borrow("journal_blocks").extend(ring._region)
        elif not wanted or not make_room(ring):
            ring.busy = False
        return None
    try:
        block = next(ring.busy)
    except OSError as error:
        ring.busy = None
        if error.args[0] != _ENOSPC:
            raise
        ring.busy = False  # somebody else has taken what was free
        return None
    if block is not None:
        ring.close()
        if block < len(ring._firsts):
            ring._firsts[block] = _VOID
        else:
            ring._firsts.append(_VOID)
    return None


def make_room(ring) -> bool:
    """What Ring.make_room does."""
    oldest = _oldest(ring)
    if not ring._region.files or oldest < 0:
        return False
    if not borrow("journal_blocks").remove(ring._region, oldest, _count(ring)):
        return False
    ring._firsts[oldest] = _GONE
    return True


def _prepare(ring):
    # Make a block ready: one that holds nothing, else the oldest.
    block = _find(ring, _VOID)
    if block < 0:
        block = _oldest(ring)
        if block < 0:
            raise StorageError("full", "no room for the journal")
        ring._firsts[block] = _VOID
        ring.latest = block
    region = ring._region
    if region.files:
        if not borrow("journal_blocks").renew(region, block):
            ring._firsts[block] = _GONE
            return
        ring.erases += 1
    elif not region.is_blank(block):
        region.program(block * region.block_size, bytes(_HEAD))
        region.erase(block)
        ring.erases += 1
    ring.ahead = block
    ring.busy = None


def _find(ring, what):
    # A block with this in _firsts, from the one made ready last on, so that a bad one is not tried for ever.
    n = len(ring._firsts)
    for i in range(ring.latest + 1, ring.latest + 1 + n):
        if ring._firsts[i % n] == what:
            return i % n
    return -1


def _oldest(ring):
    # The block with the oldest records, but for the current one; -1 when there is none.
    oldest = -1
    for i in range(len(ring._firsts)):
        first = ring._firsts[i]
        if first >= 0 and i != ring._block and (oldest < 0 or first < ring._firsts[oldest]):
            oldest = i
    return oldest


def _count(ring):
    n = 0
    for first in ring._firsts:
        n += first != _GONE
    return n
