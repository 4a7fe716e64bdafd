"""Flash and file systems for tests: NOR flash with MicroPython's block protocol, and littlefs's calls over a dict."""


class Nor:
    """NOR flash of `count` blocks: programs only clear bits. Counts programs and erases; `log` gets them when a list.

    A log entry is (address, bytes) for a program and (block, None) for an erase.
    """

    def __init__(self, count, block_size=4096):
        self.count = count
        self.block_size = block_size
        self.data = bytearray(b"\xff" * (count * block_size))
        self.programmed = 0
        self.set = 0  # bytes programmed that are not 0xFF, which leaves a cell as it is
        self.erased = 0
        self.log = None
        self.fails = 0  # 1: the next program does half of its work and raises
        self._blank = b"\xff" * block_size

    def readblocks(self, block, buffer, offset=0):
        at = block * self.block_size + offset
        buffer[:] = memoryview(self.data)[at : at + len(buffer)]

    def writeblocks(self, block, data, offset=0):
        at = block * self.block_size + offset
        end = at + len(data)
        self.programmed += len(data)
        self.set += len(data) - bytes(data).count(b"\xff")
        if self.log is not None:
            self.log.append((at, bytes(data)))
        if self.fails:
            self.fails -= 1
            if not self.fails:
                program(self.data, at, data[: len(data) // 2])
                raise OSError(5)
        program(self.data, at, data)
        if end > (block + 1) * self.block_size:
            raise AssertionError("a program across blocks")

    def ioctl(self, operation, argument):
        if operation == 4:
            return self.count
        if operation == 5:
            return self.block_size
        if operation == 6:
            self.erased += 1
            if self.log is not None:
                self.log.append((argument, None))
            at = argument * self.block_size
            self.data[at : at + self.block_size] = self._blank
        return 0


def program(image, at, data):
    """Clear in `image` the bits that are 0 in `data`."""
    end = at + len(data)
    old = bytes(memoryview(image)[at:end])
    if old.count(b"\xff") == len(old):
        image[at:end] = data
        return
    bits = int.from_bytes(old, "little") & int.from_bytes(bytes(data), "little")
    image[at:end] = bits.to_bytes(len(old), "little")


class Tree:
    """A file system on `flash`, as far as the journal wants one: files of one flash block, one block each.

    Content counts when the file is closed; it lies in the flash, where it can be written past the file system. `taken`
    blocks are somebody else's.
    """

    def __init__(self, flash):
        self.flash = flash
        self.files = {}  # path -> block, None for a file without content
        self.folders = {}
        self.taken = 0
        self._next = 0

    def open(self, path, mode):
        if mode == "rb":
            self._find(path)
        elif path not in self.files:
            self.files[path] = None
        return _File(self, path, mode == "wb")

    def remove(self, path):
        self._find(path)
        del self.files[path]

    def rename(self, old, new):
        self.files[new] = self._find(old)
        del self.files[old]

    def mkdir(self, path):
        self.folders[path] = True

    def ilistdir(self, path):
        if path not in self.folders:
            raise OSError(2)
        prefix = path + "/"
        for name in list(self.files):
            if name.startswith(prefix):
                yield name[len(prefix) :], 0x8000, 0, 0 if self.files[name] is None else self.flash.block_size

    def statvfs(self, path):
        used = len([1 for block in self.files.values() if block is not None])
        return 0, 0, self.flash.count, self.flash.count - used - self.taken

    def place(self):
        """A free block."""
        used = list(self.files.values())
        if self.statvfs("")[3] <= 0:
            raise OSError(28)
        while self._next in used:
            self._next = (self._next + 1) % self.flash.count
        block = self._next
        self._next = (block + 1) % self.flash.count
        return block

    def _find(self, path):
        if path not in self.files:
            raise OSError(2)
        return self.files[path]


class _File:
    def __init__(self, tree, path, writes):
        self._tree = tree
        self._path = path
        self._data = b"" if writes else None
        self._at = 0

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()
        return False

    def close(self):
        tree, data = self._tree, self._data
        if data:
            size = tree.flash.block_size
            block = tree.place()
            tree.flash.ioctl(6, block)
            for at in range(0, size, 256):
                tree.flash.writeblocks(block, data[at : at + 256], at)
            tree.files[self._path] = block
        self._data = None

    def seek(self, at):
        self._at = at

    def read(self, n):
        block = self._tree.files[self._path]
        data = bytearray(0 if block is None else n)
        if data:
            self._tree.flash.readblocks(block, data, self._at)
        self._at += n
        return bytes(data)

    def write(self, data):
        self._data += bytes(data)
        return len(data)
