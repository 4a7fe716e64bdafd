"""Small secrets on raw flash: each is replaced whole or not at all, and its former value is overwritten.

Two or more blocks of a `flash.Region`; one holds all entries, the others are blank. An entry starts at a multiple of
16 and is filled up to one with 0xFF:

    u8 name (1..250), u8 payload length, u16 0x5345, u32 version, payload, CRC-32 of all that

`put` programs the new entry, reads it back, then programs zeros over the old one: whenever the power fails, the newest
whole entry counts, and `open` overwrites whatever else is left. When a block is full the live entries move to the next
one, are overwritten here, and the block is erased. `wipe` first writes a mark, then overwrites every other entry; the
next `open` completes a wipe that was cut short. CRC-32 is against torn writes, not against attackers: whoever can write
this flash can read it too.
"""

from struct import pack_into

from sentill.compat import borrow, borrow_at_once, const, crc32
from sentill.errors import StorageError

_STEP = const(16)
_PAGE = const(256)
_MAGIC = const(0x5345)
_HEAD = const(8)
_EXTRA = const(12)  # bytes of an entry beside its payload
_PIECE = const(256)
_WIPED = const(251)
MAX = 228  # longest payload


def room(payload_length: int) -> int:
    """Bytes that an entry takes."""
    return (payload_length + _EXTRA + _STEP - 1) // _STEP * _STEP


class KeyStore:
    """The entries of `region` (two blocks or more). Call `open` before anything else."""

    def __init__(self, region):
        if region.count < 2:
            raise StorageError("keys", "the key store needs two flash blocks")
        self.wiped = False
        self.erases = 0
        self._region = region
        self._block = 0
        self._end = 0  # offset in the block of the first free byte
        self._version = 0
        self._entries = {}  # name -> (address, payload length)
        self._mover = None  # store_open, from when `ready` has loaded it until it has moved the entries

    def open(self) -> None:
        """Find the entries, overwrite leftovers, complete what a power cut interrupted. Raises StorageError."""
        borrow("keys", "store_open").open_store(self)

    def format(self) -> None:
        """Overwrite and erase everything, the mark of a wipe included."""
        borrow("keys", "store_open").format_store(self)

    def get(self, name: int):
        """The payload kept as `name`, a fresh bytearray the caller may overwrite, or None."""
        entry = self._entries.get(name)
        if entry is None:
            return None
        payload = bytearray(entry[1])
        self._region.read(entry[0] + _HEAD, payload)
        return payload

    def put(self, name: int, payload) -> None:
        """Replace the entry `name` (1..250); the former value is gone when this returns.

        Raises StorageError: "wiped", "size", or "flash" when the flash does not keep what was programmed.
        """
        if self.wiped:
            raise StorageError("wiped", "the keys were erased")
        if not 0 < name < _WIPED or len(payload) > MAX:
            raise StorageError("size", "no such entry fits")
        if not self.room(len(payload)):
            mover = self._mover or borrow("keys", "store_open")
            self._mover = None
            mover.move(self)
            if not self.room(len(payload)):
                raise StorageError("size", "the key store is full")
        self._write(name, payload, self._version + 1)

    def room(self, length: int) -> bool:
        """Whether `put` of so many bytes erases nothing."""
        # The last place of a block stays free for the mark of a wipe.
        return self._end + room(length) <= self._region.block_size - _STEP

    def ready(self, length: int) -> bool:
        """Whether `put` of so many bytes only works on flash. When not, it has loaded the module that this takes."""
        if self.room(length) or self._mover:
            return True
        self._mover = borrow_at_once("keys", "store_open")
        return False

    def remove(self, name: int) -> None:
        """Overwrite the entry `name`, if there is one."""
        old = self._entries.pop(name, None)
        if old:
            self._zero(old[0], room(old[1]))

    def wipe(self) -> None:
        """Overwrite every entry. Only `format` makes the store usable again."""
        borrow("keys", "store_open").wipe(self)

    def _write(self, name, payload, version):
        region = self._region
        length = len(payload)
        entry = bytearray(length + _EXTRA)
        pack_into("<BBHI", entry, 0, name, length, _MAGIC, version)
        entry[_HEAD : _HEAD + length] = payload
        pack_into("<I", entry, _HEAD + length, crc32(memoryview(entry)[: _HEAD + length]))
        check = bytearray(len(entry))  # before anything is on flash
        address = self._block * region.block_size + self._end
        # Whatever becomes of this program, the place is used.
        self._end += room(length)
        region.program(address, entry)
        region.read(address, check)
        if check != entry:
            raise StorageError("flash", "the flash does not keep what is written")
        for i in range(len(entry)):
            entry[i] = check[i] = 0
        self._version = max(self._version, version)
        old = self._entries.get(name)
        self._entries[name] = (address, length)
        if old:
            self._zero(old[0], room(old[1]))

    def _zero(self, address, length):
        end = address + length
        while address < end:
            n = min(_PIECE - address % _PIECE, end - address)
            self._region.program(address, bytes(n))
            address += n

    def _erase(self, block):
        self._region.erase(block)
        self.erases += 1
