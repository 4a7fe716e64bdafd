"""The start of a key store: finds its entries, overwrites leftovers, completes what a power cut interrupted."""

from struct import unpack_from

from .compat import const, crc32
from .errors import StorageError
from .keystore import room

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
    store._clear_others()
    if store.wiped:
        store._overwrite(_WIPED)
    else:
        _sweep(store)


def _scan(region, block):
    # The valid entries of a block, {name: (version, address, length)}, and the offset behind the last written byte.
    base = block * region.block_size
    place = bytearray(_STEP)
    blank = b"\xff" * _STEP
    dead = bytes(_STEP)
    entries = {}
    end = offset = 0
    limit = region.used(block)
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
