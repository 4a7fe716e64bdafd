"""Flash for keys where the file system takes it all: two files of one block each, whose blocks are written in place.

A file of exactly one flash block is too long for littlefs to keep inline, so its content fills one block by itself (a
CTZ list of one block has no pointers). littlefs knows no checksum over it, and has no reason to move it: it levels wear
by where it writes next, never by moving what is at rest. So such a *pinned block* stays where it is until somebody
writes or removes the file, and what is programmed past littlefs is what the file then reads.

The first 256 bytes of it are its head: magic (12 bytes), a random id (16), CRC-32 of both; then marks, zeros in place
of 0xFF, each programmed past littlefs to see that it shows in the file. A key store uses the rest. Erasing takes the
head away for a moment; when the power fails then, the file is made anew, and the other block has all keys.

At every start the blocks are looked for. A block belongs to a file when it begins with the file's head and both read
the same throughout. Where that holds for several blocks, somebody copied the file: a mark in one of them shows in the
file or not. A block that begins with the magic and belongs to neither file is what was left of one that was removed, or
such a copy. It may hold keys, so zeros are programmed over it. Nothing but a whole block of ours begins with the magic:
behind littlefs's back only such blocks are ever written, and what littlefs keeps for itself has checksums it does not
have.
"""


from sentill.compat import const, crc32
from sentill.errors import StorageError
from sentill.flash import Region

NAMES = ("keys0", "keys1")
BLOCK = const(4096)
HEAD = const(256)
MAGIC = b"\x9dSTkeys\x1f\xc3\xa5\x0b\x01"
_KNOWN = const(28)  # what a head's CRC-32 is of
_MARKS = const(32)
_ENOSPC = const(28)


def open_region(flash: tuple, root: str, urandom, remove) -> Region:
    """Two blocks for keys, as a region, in files below `root`. `flash` is the file system's, see HAL.file_flash.

    `urandom(n)` gives random bytes, `remove(path)` removes a file.
    Files that are missing or damaged are made anew, so a block that had keys may come back empty. Raises StorageError:
    "keys", "flash", "full" when the file system is.
    """
    device, blocks, prog = flash
    whole = Region(device, 0, blocks, prog)
    ours = _ours(whole)
    places = []
    heads = []
    for name in NAMES:
        path = root + name
        head = _head(path)
        place = None if head is None or head in heads else _place(whole, ours, path, head)
        if place is None:
            head = _create(path, urandom, remove)
            ours = _ours(whole)
            place = _place(whole, ours, path, head)
            if place is None:
                raise StorageError("keys", "the files are not on the board's own flash")
        places.append(place)
        heads.append(head)
    for block in ours:
        if block not in places:
            _destroy(whole, block)
    region = Region(device, 0, len(places), prog, BLOCK - HEAD)
    region.pin(places, heads, HEAD)
    return region


def _ours(whole):
    # The blocks that begin with the magic.
    start = bytearray(len(MAGIC))
    found = []
    for block in range(whole.count):
        whole.read(block * BLOCK, start)
        if start == MAGIC:
            found.append(block)
    return found


def _head(path):
    # The head of a file, None when it is not one of ours, or the power failed before its head was whole.
    try:
        with open(path, "rb") as file:
            head = file.read(_MARKS)
            size = file.seek(0, 2)
    except OSError:
        return None
    return head if size == BLOCK and head == _sealed(head[:_KNOWN]) and head.startswith(MAGIC) else None


def _sealed(known):
    return known + crc32(known).to_bytes(4, "little")


def _create(path, urandom, remove):
    # What is there under this name goes first: its block may be the last one free.
    head = _sealed(MAGIC + urandom(_KNOWN - len(MAGIC)))
    piece = head + b"\xff" * (HEAD - len(head))
    try:
        remove(path)
    except OSError:
        pass
    try:
        with open(path, "wb") as file:
            for _ in range(BLOCK // HEAD):
                file.write(piece)
                piece = b"\xff" * HEAD
    except OSError as error:
        try:
            remove(path)
        except OSError:
            pass
        if error.args[0] == _ENOSPC:
            raise StorageError("full", "no room for the files of the keys, two blocks")
        raise
    return head


def _place(whole, ours, path, head):
    # The block of the file. None: there is none, as on another flash; or it was copied so often that no mark is left.
    start = bytearray(len(head))
    found = []
    for block in ours:
        whole.read(block * BLOCK, start)
        if start == head and _same(whole, block, path):
            found.append(block)
    while len(found) > 1 or (found and not _marked(whole, found[0])):
        if _marked(whole, found[0]) == HEAD - _MARKS:
            return None
        _mark(whole, found[0])
        found = [block for block in found if _same(whole, block, path)]
    return found[0] if found else None


def _same(whole, block, path):
    # Whether a block reads as the file does. A file that was just opened has nothing in its cache.
    there = bytearray(HEAD)
    here = bytearray(HEAD)
    with open(path, "rb") as file:
        for at in range(block * BLOCK, (block + 1) * BLOCK, HEAD):
            whole.read(at, there)
            if file.readinto(here) != HEAD or here != there:
                return False
    return True


def _marked(whole, block):
    # How many bytes for marks are programmed.
    marks = bytearray(HEAD - _MARKS)
    whole.read(block * BLOCK + _MARKS, marks)
    n = marks.find(b"\xff")
    return n if n >= 0 else len(marks)


def _mark(whole, block):
    at = block * BLOCK + _MARKS + _marked(whole, block)
    one = bytearray(1)
    whole.program(at, one)
    one[0] = 1
    whole.read(at, one)
    if one[0]:
        raise StorageError("flash", "the flash does not keep what is written")


def _destroy(whole, block):
    # From behind: while the magic is there, a start after a power cut goes on with it.
    for at in range((block + 1) * BLOCK - HEAD, block * BLOCK - 1, -HEAD):
        whole.program(at, bytes(HEAD))
