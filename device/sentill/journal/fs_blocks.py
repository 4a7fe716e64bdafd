"""Blocks for the journal where the file system takes all flash: files of one block each, written in place past it.

As keys/pinned.py explains, littlefs gives a file of exactly one flash block a block of its own, knows no checksum over
it and does not move it. So `FOLDER/01a7` is block 0x1a7 of the flash, and what is programmed there is what the file
reads. An erase that is cut short leaves littlefs whole.

Names may lie: somebody may have copied a file away and back, to another block. So nothing is written to a block before
it was shown, since the start, to be its file's: the file begins as the block does, and after zeros were programmed in
the block the file shows them. Where it does not, the file is removed.

The number of blocks follows what is free. `reserve` blocks stay free for others; when those have taken them all but a
few, the journal gives its oldest blocks back, down to a least number.

Borrowed: at the start, and from block to block. What is known meanwhile is `files` of the region, a tuple: the file
system (with open, ilistdir, mkdir, remove, rename and statvfs), the folder, urandom, how many blocks the flash has, the
reserve, the least and the most blocks of the journal; per block its place, and 1 when it was shown since the start.
"""

from array import array

from sentill.compat import const
from sentill.flash import Region

_LOW = const(4)  # free blocks that the file system needs to replace a file
_SLOT = const(64)
_MARKS = const(42)  # offset of the marks in slot 0
_PAGE = const(256)
_NEW = "/new"
_ENOENT = const(2)
# Of the tuple.
_FS = const(0)
_FOLDER = const(1)
_TOTAL = const(3)
_LEAST = const(5)
_PLACES = const(7)
_SHOWN = const(8)


def open_region(flash: tuple, files: tuple, size: int = 4096) -> Region:
    """The blocks in a folder: `flash` is (device, its blocks, least bytes of a program), `files` (fs, folder, urandom,
    reserve, least, most). Removes what a power cut left of a new one. Raises OSError."""
    device, total, prog = flash
    fs, folder, urandom, reserve, least, most = files
    region = Region(device, 0, 0, prog, size)
    places = array("H")
    region.files = (fs, folder, urandom, total, reserve, least, most, places, bytearray())  # type: ignore[assignment]
    region.pin(places, [], 0)
    try:
        names = [(e[0], e[3]) for e in fs.ilistdir(folder) if e[1] == 0x8000]
    except OSError as error:
        if error.args[0] != _ENOENT:
            raise
        fs.mkdir(folder)
        names = []
    for name, length in names:
        place = _number(name)
        if place >= 0 and length == size and place < total:
            _add(region, place)
        elif place >= 0 or name == _NEW[1:]:
            fs.remove(folder + "/" + name)
    return region


def prove(region, block: int):
    """Show by a mark behind its head that a block is its file's: True, False, None without room for a mark."""
    slot = bytearray(_SLOT)
    region.read(block * region.block_size, slot)
    if not _shows(region, block, 0, slot):
        return _forget(region, block)
    at = slot.find(b"\xff", _MARKS)
    if at < 0:
        return None
    region.program(block * region.block_size + at, b"\0")
    slot[at] = 0
    return _shows(region, block, 0, slot) or _forget(region, block)


def void(region, block: int) -> bool:
    """Zeros over a block's head, so that it holds nothing. False when it is not its file's any more."""
    base = block * region.block_size
    if not region.files[_SHOWN][block]:
        slot = bytearray(_SLOT)
        zeros = bytes(_SLOT)
        at = 0
        while at < region.block_size:
            region.read(base + at, slot)
            if slot != zeros:
                break
            at += _SLOT
        if not _shows(region, block, at, slot):
            return _forget(region, block)
        region.program(base + at, zeros)
        if not _shows(region, block, at, zeros):
            return _forget(region, block)
        region.files[_SHOWN][block] = 1
    region.program(base, bytes(_MARKS))
    return True


def look(region, count: int) -> int:
    """1 when the journal, of `count` blocks, may have one more, -1 when it should give one back, else 0."""
    fs, folder, _, _, reserve, least, most, _, _ = region.files
    stat = fs.statvfs(folder)
    free = stat[3]
    if free > stat[2]:  # littlefs counts blocks of two files twice, and may end below zero
        free = 0
    if count < most and free > (reserve if count >= least else _LOW + 1):
        return 1
    return -1 if free < _LOW and count > least else 0


def remove(region, block: int, count: int) -> bool:
    """Give a block back; False when `count` are no more than the least."""
    if count <= region.files[_LEAST]:
        return False
    _forget(region, block)
    return True


def extend(region):
    """Make one more block: a generator, whose steps erase one block at most. It yields None, at last its number.

    Raises OSError.
    """
    fs, folder, urandom = region.files[:_TOTAL]
    page = bytearray(b"\xff" * _PAGE)
    page[:_SLOT] = urandom(32) * 2
    head = page[:_SLOT]
    file = fs.open(folder + _NEW, "wb")
    try:
        yield None
        for i in range(region.block_size // _PAGE):
            file.write(page)
            page[:_SLOT] = b"\xff" * _SLOT
            if i == 2:  # littlefs has erased a block for it
                yield None
        yield None
    finally:
        file.close()
    yield None
    slot = bytearray(_SLOT)
    for place in range(region.files[_TOTAL]):
        region.device.readblocks(place, slot, 0)
        if slot == head:
            break
    else:
        fs.remove(folder + _NEW)
        raise OSError(5)  # the files are not on this flash
    yield None
    fs.rename(folder + _NEW, "%s/%04x" % (folder, place))
    yield _add(region, place)


def _add(region, place):
    places, shown = region.files[_PLACES], region.files[_SHOWN]
    for block in range(len(places)):
        if places[block] == place:
            shown[block] = 0
            return block
    places.append(place)
    shown.append(0)
    region.count = len(places)
    return region.count - 1


def _path(region, block):
    return "%s/%04x" % (region.files[_FOLDER], region.files[_PLACES][block])


def _shows(region, block, offset, data):
    # Whether the file has these bytes there. One that was just opened has nothing in its cache.
    try:
        with region.files[_FS].open(_path(region, block), "rb") as file:
            file.seek(offset)
            return file.read(len(data)) == data
    except OSError as error:
        if error.args[0] != _ENOENT:
            raise
        return False


def _forget(region, block):
    region.files[_SHOWN][block] = 0
    try:
        region.files[_FS].remove(_path(region, block))
    except OSError as error:
        if error.args[0] != _ENOENT:
            raise
    return False


def _number(name):
    # The place that a name tells, -1 when it is none of ours.
    if len(name) != 4:
        return -1
    for c in name:
        if c not in "0123456789abcdef":
            return -1
    return int(name, 16)
