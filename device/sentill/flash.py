"""A few raw NOR flash blocks, seen through a block device of MicroPython's extended protocol.

Programming NOR flash can only clear bits, so bytes already written may be overwritten with zeros at any time without an
erase. That is how a key is destroyed here, and what a file system cannot do: littlefs leaves old copies behind.
`rp2.Flash(start=, len=)` and `esp32.Partition` (not flagged as encrypted) are such devices.
"""


class Region:
    """`count` blocks of `device` from block `first`; addresses start at 0. `prog` is the least the device programs.

    Bytes that fill a program up to that size are 0xFF, which leaves what is there as it is.
    """

    def __init__(self, device, first: int, count: int, prog: int = 1, block_size: int = 4096):
        self.count = count
        self.block_size = block_size
        self.size = count * block_size
        self.device = device
        self._places = range(first, first + count)
        self._skip = 0
        self._heads: list = []
        self._prog = prog
        self.files = None  # of a region of files, what fs_blocks knows of them
        self._blank = b"\xff" * prog
        self._page = bytearray(self._blank)

    def pin(self, places, heads, skip: int) -> None:
        """Use the blocks `places`, without the first `skip` bytes of each: they begin with `heads`, also once erased.

        `block_size` must already be what is left of a block.
        """
        self._places = places
        self._heads = heads
        self._skip = skip

    def read(self, address: int, buffer) -> None:
        """Fill `buffer` from `address`; the range must lie within one block."""
        block = address // self.block_size
        self.device.readblocks(self._places[block], buffer, address - block * self.block_size + self._skip)

    def program(self, address: int, data) -> None:
        """Clear those bits from `address` on that are 0 in `data`; the range must lie within one block.

        Whole pages are one program, what is left before and behind them one each. Takes no buffer from the heap: a node
        in use may not find one.
        """
        prog = self._prog
        view = memoryview(data)
        n = min(-address % prog, len(view))
        if n:
            self._part(address, view[:n])
        whole = (len(view) - n) // prog * prog
        if whole:
            self._write(address + n, view[n : n + whole])
        if n + whole < len(view):
            self._part(address + n + whole, view[n + whole :])

    def _part(self, address, data):
        # Less than a page, filled up with what leaves the rest as it is.
        page = self._page
        before = address % self._prog
        end = before + len(data)
        page[before:end] = data
        try:
            self._write(address - before, page)
        finally:
            page[:] = self._blank

    def _write(self, address, data):
        block = address // self.block_size
        self.device.writeblocks(self._places[block], data, address - block * self.block_size + self._skip)

    def erase(self, block: int) -> None:
        """Set all bits of a block, but for its head."""
        place = self._places[block]
        self.device.ioctl(6, place)
        if self._heads:
            head = self._heads[block]
            self.device.writeblocks(place, head + b"\xff" * (-len(head) % self._prog), 0)

    def is_blank(self, block: int) -> bool:
        """Whether all bits of a block are set."""
        buffer = bytearray(256)
        blank = b"\xff" * len(buffer)
        for address in range(block * self.block_size, (block + 1) * self.block_size, len(buffer)):
            self.read(address, buffer)
            if buffer != blank:
                return False
        return True
