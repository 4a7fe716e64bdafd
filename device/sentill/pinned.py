"""Flash for keys where the file system takes it all: two files of one block each, whose blocks are written in place.

A file of exactly one flash block is too long for littlefs to keep inline, so its content fills one block by itself (a
CTZ list of one block has no pointers). littlefs knows no checksum over it, and has no reason to move it: it levels wear
by where it writes next, never by moving what is at rest. So the block stays where it is until somebody writes or
removes the file, and what is programmed past littlefs is what the file then reads. pinned_open.py finds the blocks at
every start, and makes the files.

The first 256 bytes of such a block are its head: magic (12 bytes), a random id (16), CRC-32 of both; then marks, zeros
in place of 0xFF, each programmed past littlefs to see that it shows in the file. A key store uses the rest.
"""

from .compat import const

BLOCK = 4096
HEAD = 256
MAGIC = b"\x9dSTkeys\x1f\xc3\xa5\x0b\x01"
_ERASE = const(6)


class Pinned:
    """The blocks `places` of `device`, without their heads, as a block device for flash.Region. `heads` begin them."""

    def __init__(self, device, places, heads, prog: int):
        self._device = device
        self._places = places
        self._heads = heads
        self._prog = prog

    def readblocks(self, block: int, buffer, offset: int) -> None:
        """Fill `buffer` from `offset` bytes behind the head."""
        self._device.readblocks(self._places[block], buffer, HEAD + offset)

    def writeblocks(self, block: int, data, offset: int) -> None:
        """Program `data` at `offset` bytes behind the head."""
        self._device.writeblocks(self._places[block], data, HEAD + offset)

    def ioctl(self, operation: int, block: int) -> None:
        """6: erase. The head comes back at once; when the power fails before, the file is made anew."""
        if operation == _ERASE:
            place = self._places[block]
            head = self._heads[block]
            self._device.ioctl(_ERASE, place)
            self._device.writeblocks(place, head + b"\xff" * (-len(head) % self._prog), 0)
