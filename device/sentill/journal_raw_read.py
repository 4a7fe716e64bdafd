"""What is read of a journal on raw flash (journal_raw.py): at the start, and when a host asks for records."""

from struct import unpack_from

from .compat import borrow, const, crc32
from .journal import FILE_HEAD, HEAD, MAX, TAG, file_head
from .journal_raw import slots

_SLOT = const(64)
_HEAD = const(42)


def open_store(store, device) -> None:
    """Find the records of `device` (8 bytes); unreadable slots behind the last record are made void."""
    store._device = bytes(device)
    store._block = -1
    for block in range(store._region.count):
        head = _block_head(store, block)
        store._firsts[block] = unpack_from("<I", head, FILE_HEAD)[0] if head else -1
        if head and (store._block < 0 or store._firsts[block] > store._firsts[store._block]):
            store._block = block
    store.next = store._end = store._generation = store._start = 0
    store._tag = borrow("journal_open").first_tag(store._device)
    if store._block >= 0:
        head = _block_head(store, store._block)
        store._generation, store._start = unpack_from("<HI", head, 12)
        store._tag = head[FILE_HEAD - TAG : FILE_HEAD]
        store.next = store._firsts[store._block]
        store._end = _SLOT
        for offset, record in _walk(store, store._block):
            store._note(record)
            store._end = offset + slots(len(record))
        _void(store, store._end)
    store._find_first()


def records(store, sequence: int):
    """Yield the records from `sequence` on, oldest first."""
    for record in _scan(store, sequence):
        if unpack_from("<I", record, 3)[0] >= sequence:
            yield record


def _scan(store, sequence):
    # Records from the beginning of the last block that starts at or before `sequence`.
    order = sorted([(first, block) for block, first in enumerate(store._firsts) if first >= store.first])
    for i, (_, block) in enumerate(order):
        if i + 1 == len(order) or order[i + 1][0] > sequence:
            for _, record in _walk(store, block):
                yield record


def head(store) -> bytes:
    """The FILE_HEAD that makes a journal file of all records held."""
    firsts = list(store._firsts)
    if store.first in firsts and store.first < store.next:
        return bytes(_block_head(store, firsts.index(store.first))[:FILE_HEAD])
    return file_head(store._device, 0, 0, borrow("journal_open").first_tag(store._device))


def tag_before(store, sequence: int) -> bytes:
    """Tag of the record before `sequence`, empty when that is not held."""
    if sequence == store.first:
        return head(store)[-TAG:]
    tag = b""
    scan = _scan(store, sequence - 1)
    for record in scan:
        if unpack_from("<I", record, 3)[0] >= sequence:
            break
        tag = bytes(record[-TAG:])
    scan.close()
    return tag


def drop(store, sequence: int) -> None:
    """Make the records from `sequence` on void."""
    while store._block >= 0 and store.next > sequence:
        if store._firsts[store._block] >= sequence:
            store._region.program(store._block * store._region.block_size, bytes(_HEAD))
        else:
            for offset, record in _walk(store, store._block):
                if unpack_from("<I", record, 3)[0] >= sequence:
                    _void(store, offset)
                    break
        open_store(store, store._device)


def _walk(store, block):
    # (offset, record) of the records of a block, up to the first slot that holds none.
    region = store._region
    slot = store._slot
    base = block * region.block_size
    follow = store._firsts[block]
    # A program that failed may have left records that a later block holds as well.
    later = [first for first in store._firsts if first > follow]
    end = min(later) if later else -1
    offset = _SLOT
    while offset < region.block_size and follow != end:
        region.read(base + offset, slot)
        size = slot[0] | slot[1] << 8
        if not size:
            offset += _SLOT
            continue
        if not HEAD + TAG <= size <= MAX or offset + slots(size) > region.block_size:
            return
        if unpack_from("<I", slot, 3)[0] != follow:
            return
        record = bytearray(size)
        region.read(base + offset, record)
        yield offset, record
        follow += 1
        offset += slots(size)


def _block_head(store, block):
    head = bytearray(_HEAD)
    store._region.read(block * store._region.block_size, head)
    crc = unpack_from("<I", head, _HEAD - 4)[0]
    return head if crc == crc32(memoryview(head)[: _HEAD - 4]) and head[4:12] == store._device else None


def _void(store, offset):
    # Zeros over every slot from `offset` of the current block on that is not blank.
    region = store._region
    slot = store._slot
    base = store._block * region.block_size
    blank = b"\xff" * _SLOT
    end = offset
    while offset < region.block_size:
        region.read(base + offset, slot)
        offset += _SLOT
        if slot != blank:
            region.program(base + offset - _SLOT, bytes(_SLOT))
            end = offset
    store._end = end
