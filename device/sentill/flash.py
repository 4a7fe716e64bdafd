"""A run of raw NOR flash blocks, seen through a block device of MicroPython's extended protocol.

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
        self._device = device
        self._first = first
        self._prog = prog

    def read(self, address: int, buffer) -> None:
        """Fill `buffer` from `address`; the range must lie within one block."""
        block = address // self.block_size
        self._device.readblocks(self._first + block, buffer, address - block * self.block_size)

    def program(self, address: int, data) -> None:
        """Clear those bits from `address` on that are 0 in `data`; the range must lie within one block."""
        prog = self._prog
        block = address // self.block_size
        offset = address - block * self.block_size
        before = offset % prog
        after = -(before + len(data)) % prog
        if before or after:
            wide = bytearray(b"\xff" * (before + len(data) + after))
            wide[before : before + len(data)] = data
            data = wide
        self._device.writeblocks(self._first + block, data, offset - before)

    def erase(self, block: int) -> None:
        """Set all bits of a block."""
        self._device.ioctl(6, self._first + block)

    def is_blank(self, block: int) -> bool:
        """Whether all bits of a block are set."""
        return not self.used(block)

    def used(self, block: int) -> int:
        """Length of what a block holds before nothing but set bits: a multiple of 16."""
        buffer = bytearray(256)
        blank = b"\xff" * len(buffer)
        base = block * self.block_size
        for end in range(self.block_size, 0, -len(buffer)):
            self.read(base + end - len(buffer), buffer)
            if buffer != blank:
                while buffer[-16:] == blank[:16]:
                    buffer = buffer[:-16]
                return end - len(blank) + len(buffer)
        return 0
