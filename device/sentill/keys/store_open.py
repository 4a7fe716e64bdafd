"""The start of a key store: finds its entries, overwrites leftovers, completes what a power cut interrupted."""

from struct import unpack_from

from sentill.compat import const, crc32
from sentill.errors import StorageError

from .store import room

_STEP = const(16)
_MAGIC = const(0x5345)
_HEAD = const(8)
_EXTRA = const(12)
_WIPED = const(251)


def open_store(store) -> None:
    """Find the entries, overwrite leftovers, complete what a power cut interrupted. Raises StorageError."""
    region = store._region
    found = []
    for block in range(region.count):
        entries, end = _scan(region, block)
        if end:
            found.append((block, entries, end))
    newest = {}
    for _, entries, _ in found:
        for name, (version, _, _) in entries.items():
            newest[name] = max(version, newest.get(name, 0))
    # Of several written blocks one is whole: a move copies all entries before it erases the old block.
    store._entries = {}
    store._block, store._end = (0, 0)
    for block, entries, end in found:
        if all(name in entries and entries[name][0] == version for name, version in newest.items()):
            store._block, store._end = block, end
            for name, (_, address, length) in entries.items():
                store._entries[name] = (address, length)
            break
    else:
        if found:
            raise StorageError("keys", "no block of the key store is whole")
    store._version = max(newest.values()) if newest else 0
    store.wiped = _WIPED in store._entries
    _clear_others(store)
    if store.wiped:
        _overwrite(store, _WIPED)
    else:
        _sweep(store)


def format_store(store) -> None:
    """Overwrite and erase everything, the mark of a wipe included."""
    _overwrite(store, 0)
    _clear_others(store)
    store._erase(store._block)
    store._entries = {}
    store._end = 0
    store.wiped = False


def _scan(region, block):
    # The valid entries of a block, {name: (version, address, length)}, and the offset behind the last written byte.
    base = block * region.block_size
    place = bytearray(_STEP)
    blank = b"\xff" * _STEP
    dead = bytes(_STEP)
    entries = {}
    end = offset = 0
    limit = _used(region, block)
    while offset < limit:
        region.read(base + offset, place)
        offset += _STEP
        if place == blank:
            continue
        end = offset
        name, length, magic, version = unpack_from("<BBHI", place, 0)
        size = room(length)
        if place == dead or magic != _MAGIC or not 0 < name <= _WIPED or offset - _STEP + size > region.block_size:
            continue
        entry = bytearray(length + _EXTRA)
        region.read(base + offset - _STEP, entry)
        crc = unpack_from("<I", entry, _HEAD + length)[0]
        if crc != crc32(memoryview(entry)[: _HEAD + length]):
            continue
        if name not in entries or version > entries[name][0]:
            entries[name] = (version, base + offset - _STEP, length)
        offset += size - _STEP
        end = offset
    return entries, end


def _sweep(store):
    # Overwrite every place of the block that is neither free, nor dead, nor part of a live entry.
    region = store._region
    base = store._block * region.block_size
    live = []
    for address, length in store._entries.values():
        live.append((address - base, address - base + room(length)))
    place = bytearray(_STEP)
    dead = bytes(_STEP)
    for offset in range(0, store._end, _STEP):
        if any(a <= offset < b for a, b in live):
            continue
        region.read(base + offset, place)
        if place != dead:
            store._zero(base + offset, _STEP)


def wipe(store) -> None:
    """Overwrite every entry. Only `format` makes the store usable again."""
    try:
        if not store.wiped:
            if store._end + _STEP > store._region.block_size:  # a torn mark took the last place
                move(store)
            store._write(_WIPED, b"", store._version + 1)
    finally:  # flash that does not keep the mark must not keep the keys
        store.wiped = True
        _overwrite(store, _WIPED)
        _clear_others(store)


def _overwrite(store, keep):
    # Zeros over all that was ever written in the block, but for the entry `keep`.
    at = store._block * store._region.block_size
    end = at + store._end
    entry = store._entries.get(keep)
    store._entries = {}
    if entry:
        store._entries[keep] = entry
        store._zero(at, entry[0] - at)
        at = entry[0] + room(entry[1])
    store._zero(at, end - at)


def move(store) -> None:
    """Copy the live entries to the next block and erase this one."""
    region = store._region
    old = store._block
    block = (old + 1) % region.count
    if not region.is_blank(block):
        store._erase(block)
    store._block, store._end = block, 0
    was = store._entries
    store._entries = {}
    head = bytearray(_HEAD)
    for name, (address, length) in was.items():
        payload = bytearray(length)
        region.read(address + _HEAD, payload)
        region.read(address, head)
        # Under its old version: until the last copy is made, only the old block is whole.
        store._write(name, payload, unpack_from("<I", head, 4)[0])
        for i in range(length):
            payload[i] = 0
    # Before the erase: one that is cut short may leave entries that read well today and not tomorrow.
    for address, length in was.values():
        store._zero(address, room(length))
    store._erase(old)


def _clear_others(store):
    for block in range(store._region.count):
        if block != store._block and not store._region.is_blank(block):
            store._erase(block)


def _used(region, block):
    # Length of what a block holds before nothing but set bits, a multiple of 16.
    buffer = bytearray(256)
    blank = b"\xff" * len(buffer)
    base = block * region.block_size
    for end in range(region.block_size, 0, -len(buffer)):
        region.read(base + end - len(buffer), buffer)
        if buffer != blank:
            while buffer[-16:] == blank[:16]:
                buffer = buffer[:-16]
            return end - len(blank) + len(buffer)
    return 0
