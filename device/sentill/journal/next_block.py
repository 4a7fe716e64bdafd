"""From block to block of a journal's ring (ring.py): which one is next, and how many there are.

Borrowed about once per block. On a chip an import takes as long as half an erase, and so does a collection, and may a
look at what is free: each is a step of its own.
"""

from gc import collect
from struct import pack, pack_into

from sentill.compat import borrow, borrow_at_once, const, crc32
from sentill.errors import StorageError

from .chain import FILE_HEAD, file_head

_SLOT = const(64)
_HEAD = const(42)  # of a block
_ENOSPC = const(28)
_VOID = const(-1)  # a block that holds nothing
_GONE = const(-2)  # one that the region has no more


def turn(ring):
    """Make a block ready, then go on in it: a generator, whose steps erase one block at most.

    `ring.ahead` is the block from when it is ready. The step after that begins it, with the record `ring.next`. Raises
    OSError, StorageError: "flash" when it cannot be written, "full" when there is no block.
    """
    region = ring._region
    files = borrow_at_once("journal", "fs_blocks") if region.files else None
    yield
    if files and _find(ring, _VOID) < 0:
        wanted = files.look(region, _count(ring))
        yield
        if wanted < 0:
            make_room(ring)
        elif wanted:
            block = None
            try:
                for block in files.extend(region):
                    yield
            except OSError as error:
                if error.args[0] != _ENOSPC:  # somebody else has taken what was free
                    raise
            if block is not None and block < len(ring._firsts):
                ring._firsts[block] = _VOID
            elif block is not None:
                ring._firsts.append(_VOID)
    while True:
        block = _choose(ring)
        if not files or files.void(region, block):
            break
        ring._firsts[block] = _GONE
        yield
    if files or not region.is_blank(block):
        if not files:
            region.program(block * region.block_size, bytes(_HEAD))
        yield
        collect()  # rather than during the erase
        yield
        region.erase(block)
        ring.erases += 1
    ring.ahead = block
    yield
    ring.ahead = -1
    _begin(ring, block)


def make_room(ring) -> bool:
    """What Ring.make_room does."""
    oldest = _oldest(ring)
    if not ring._region.files or oldest < 0:
        return False
    if not borrow("journal", "fs_blocks").remove(ring._region, oldest, _count(ring)):
        return False
    ring._firsts[oldest] = _GONE
    return True


def _begin(ring, block):
    # Write the head of a block and go on in it.
    region = ring._region
    if ring._block >= 0 and ring._firsts[ring._block] == ring.next:  # given up before it held anything
        region.program(ring._block * region.block_size, bytes(_HEAD))
        ring._firsts[ring._block] = _VOID
    slot = bytearray(b"\xff" * _SLOT)
    slot[: FILE_HEAD + 4] = file_head(ring._device, ring._generation, ring._start, ring._tag) + pack("<I", ring.next)
    pack_into("<I", slot, FILE_HEAD + 4, crc32(memoryview(slot)[: FILE_HEAD + 4]))
    ring.program(block * region.block_size, slot)
    ring._block = block
    ring._end = _SLOT
    ring._firsts[block] = ring.next


def _choose(ring):
    # A block that holds nothing, else the oldest, which holds nothing from now on.
    block = _find(ring, _VOID)
    if block < 0:
        block = _oldest(ring)
        if block < 0:
            raise StorageError("full", "no room for the journal")
        ring._firsts[block] = _VOID
    ring.latest = block
    return block


def _find(ring, what):
    # A block with this in _firsts, from the one chosen last on, so that a bad one is not tried for ever.
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
