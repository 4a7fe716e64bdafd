"""Flash and file systems for tests: NOR flash with MicroPython's block protocol, and littlefs's calls over a dict."""

from io import BytesIO


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
    """Files in memory behind the methods of a littlefs object; content counts when the file is closed."""

    def __init__(self):
        self.files = {}
        self.folders = {}
        self.room = None  # bytes the files may hold together
        self.names = None  # how many there may be

    def open(self, path, mode):
        return _File(self, path, mode)

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
            if name.startswith(prefix) and "/" not in name[len(prefix) :]:
                yield name[len(prefix) :], 0x8000, 0, len(self.files[name])

    def _find(self, path):
        if path not in self.files:
            raise OSError(2)
        return self.files[path]


class _File:
    def __init__(self, tree, path, mode):
        old = b"" if mode == "wb" else tree.files.get(path, b"") if mode == "ab" else tree._find(path)
        self._tree = tree
        self._path = path
        self._writes = mode != "rb"
        self._data = b"" if self._writes else old
        self._old = old
        self._stream = BytesIO(old)
        if self._writes and path not in tree.files:
            if tree.names is not None and len(tree.files) >= tree.names:
                raise OSError(28)
            tree.files[path] = b""

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        if self._writes and exc[0] is None:
            self._tree.files[self._path] = self._old + self._data
        return False

    def read(self, n=-1):
        return self._stream.read(n)

    def write(self, data):
        tree = self._tree
        if tree.room is not None and sum([len(d) for d in tree.files.values()]) + len(data) > tree.room:
            raise OSError(28)
        self._data += bytes(data)
        return len(data)
