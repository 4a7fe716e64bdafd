"""Images of a board's file system, littlefs2 as MicroPython formats it, made and read on the host."""

from dataclasses import dataclass
from typing import Any

from littlefs import LittleFS

BLOCK = 4096
_VERSION = 0x00020000  # of images made here: every MicroPython mounts it; 0 for any


@dataclass(frozen=True)
class Geometry:
    """Where the file system lies in flash, in bytes. The default is that of an RPI_PICO: 352 blocks behind 640 KB."""

    start: int = 0xA0000
    blocks: int = 352
    flash_bytes: int = 2 << 20

    @property
    def end(self) -> int:
        """Where it ends."""
        return self.start + self.blocks * BLOCK


def _littlefs(blocks: int, mount: bool) -> Any:
    return LittleFS(
        block_size=BLOCK, block_count=blocks, prog_size=256, read_size=32, lookahead_size=32, mount=mount,
        disk_version=_VERSION if mount else 0,
    )  # fmt: skip


def make(files: dict[str, bytes], blocks: int = Geometry().blocks) -> bytes:
    """An image with these files, by their paths without the leading slash."""
    disk = _littlefs(blocks, mount=True)
    for path in sorted(files):
        folder = path.rpartition("/")[0]
        if folder:
            disk.makedirs("/" + folder, exist_ok=True)
        with disk.open("/" + path, "wb") as file:
            file.write(files[path])
    return bytes(disk.context.buffer)


def _mounted(image: bytes) -> Any:
    disk = _littlefs(len(image) // BLOCK, mount=False)
    disk.context.buffer = bytearray(image)
    disk.mount()
    return disk


def add(image: bytes, files: dict[str, bytes]) -> bytes:
    """The image with these files, too."""
    disk = _mounted(image)
    for path, data in files.items():
        with disk.open("/" + path, "wb") as file:
            file.write(data)
    return bytes(disk.context.buffer)


def read(image: bytes) -> dict[str, bytes]:
    """The files of an image, by their paths without the leading slash."""
    disk = _mounted(image)
    found = {}
    for folder, _, names in disk.walk("/"):
        for name in names:
            path = f"{folder.rstrip('/')}/{name}"
            with disk.open(path, "rb") as file:
                found[path[1:]] = file.read()
    return found


def used(image: bytes) -> int:
    """Blocks in use."""
    return int(_mounted(image).used_block_count)


def taken_by(image: bytes, prefix: str) -> int:
    """Blocks that become free when everything whose path begins with `prefix` goes."""
    disk = _mounted(image)
    before = int(disk.used_block_count)
    for folder, _, names in reversed(list(disk.walk("/"))):
        for name in names:
            path = f"{folder.rstrip('/')}/{name}"
            if path[1:].startswith(prefix):
                disk.remove(path)
        if folder[1:].startswith(prefix):
            disk.remove(folder)
    return before - int(disk.used_block_count)
