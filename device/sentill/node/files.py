"""Small files of the node, replaced whole: after a power cut there is the old file or the new one.

They go through in pieces, so that a heap in pieces can hold them; a CRC-32 (4 bytes, little-endian) closes each.
"""

import os

from sentill.compat import const, crc32
from sentill.errors import StorageError

_PIECE = const(256)
_STEP = const(2048)  # bytes written at once: half a block, so that they need a fresh one at most once


class Store:
    """Files of the node below the folder `root` (with its slash), and those that came with its version below `home`.

    `erases` estimates the flash blocks erased by `save`: one per file.
    """

    def __init__(self, root: str, home: str):
        self._root = root
        self._home = home
        self.erases = 0

    def path(self, name: str) -> str:
        """Where the file `name` of this version lies."""
        return self._home + name

    def load(self, name: str, restore) -> bool:
        """Give a saved file back: `restore(readinto, size)` fills byte buffers of `size` in all by `readinto(buffer)`.

        False when there is no such file. StorageError "damaged" before `restore` is called when the checksum is wrong.
        """
        try:
            file = open(self._root + name, "rb")
        except OSError:
            return False
        with file:
            size = self._check(file)

            def readinto(buffer):
                if file.readinto(buffer) != len(buffer):
                    raise StorageError("damaged", "saved state ends early")

            file.seek(0)
            restore(readinto, size)
        return True

    def _check(self, file) -> int:
        # The size without the checksum, which must be right.
        size = file.seek(0, 2) - 4
        file.seek(0)
        piece = memoryview(bytearray(_PIECE))
        crc = 0
        left = size
        while left > 0:
            n = file.readinto(piece[: min(left, _PIECE)])
            if not n:
                break
            crc = crc32(piece[:n], crc)
            left -= n
        if left or file.read(5) != crc.to_bytes(4, "little"):
            raise StorageError("damaged", "saved state fails its checksum")
        return size

    def save(self, name: str, save) -> None:
        """Write a file of the pieces that `save(write)` hands to `write(bytes)`; raises OSError.

        The new content is closed under another name before it takes the place of the old.
        """
        for _ in self.writing(name, save):
            pass

    def writing(self, name: str, save):
        """As `save`, in steps that erase a block of flash at most: a generator. The first asks `save`.

        Each call that changes a folder is a step of its own: littlefs may have to write that anew, in an erased block.
        """
        pieces: list = []  # so that a heap in pieces can hold them
        save(lambda piece: pieces.append(bytes(piece)))
        yield True
        path = self._root + name
        crc = 0
        left = _STEP
        with open(path + ".new", "wb") as file:
            yield True
            for piece in pieces:
                left -= len(piece)
                if left < 0:
                    left = _STEP - len(piece)
                    yield True
                crc = crc32(piece, crc)
                file.write(piece)
            yield True
            file.write(crc.to_bytes(4, "little"))
            yield True
            file.flush()  # the folder's entry, too, which may take an erase of its own
            yield True
        os.rename(path + ".new", path)
        self.erases += 1

    def take(self, name: str) -> bool:
        """Remove a file; whether it was there."""
        try:
            os.remove(self._root + name)
        except OSError:
            return False
        return True

    def free_kb(self) -> int:
        """KB free for files, 0 on a full file system. Takes some 30 ms on a chip: littlefs counts what is in use."""
        return free_kb(os.statvfs(self._root))

    def slot(self) -> str:
        """The pointer that update/slots.py explains: "a", or "b 2 a" while b is on trial; "" on a board without
        slots."""
        try:
            with open(self._root + "slot") as file:
                return file.read(8).strip()  # a person may have written it
        except OSError:
            return ""

    def bundle(self) -> str:
        """The name of the bundle that the running version came from; "" on a board without slots."""
        try:
            with open(self._home + "head.txt") as file:
                return file.readline().split("bundle=")[1][:16]
        except (OSError, IndexError):
            return ""

    def digest(self) -> bytes:
        """The SHA-256 of the archive of the running version, which the start has compared; b"" without slots."""
        try:
            with open(self._root + "slot_%s.img" % self.slot()[:1], "rb") as file:
                file.seek(-32, 2)
                return file.read(32)
        except OSError:
            return b""

    def note(self) -> str:
        """Why a slot was given up (update.NOTE); "" when none was."""
        try:
            with open(self._root + "slot.note") as file:
                return file.read(100)
        except OSError:
            return ""

    def write_note(self, why: str) -> None:
        """Leave word of why the slot on trial is not proven, for when it is given up. Raises OSError."""
        with open(self._root + "slot.note", "w") as file:
            file.write(why)

    def prove(self) -> None:
        """End the trial of the slot that runs: it is the proven one from now on. Raises OSError."""
        path = self._root + "slot"
        with open(path + ".new", "w") as file:
            file.write(self.slot()[0])
        os.rename(path + ".new", path)
        self.take("slot.note")


def free_kb(stat) -> int:
    """KB free by what os.statvfs tells: littlefs may count more in use than there is, and then the difference wraps."""
    return stat[3] * (stat[1] >> 10) if 0 <= stat[3] <= stat[2] else 0
