"""Where a board keeps its keys: two blocks that no file system uses, or two pinned ones of the file system's."""

from sentill.compat import borrow, const
from sentill.errors import StorageError
from sentill.flash import Region

from .store import KeyStore

_BLOCKS = const(2)


def open_keys(hal) -> KeyStore:
    """The KeyStore of the board with this HAL, opened once. Raises StorageError without flash for it, or when it is
    damaged; OSError when the file system is full."""
    if hal.keys:
        return hal.keys
    raw = hal.raw_flash()
    if raw and raw[1] >= _BLOCKS:
        region = Region(raw[0], 0, _BLOCKS, raw[2])
    else:
        files = hal.file_flash()
        if not files:
            raise StorageError("raw", "no flash for keys: no journal")
        region = borrow("keys", "pinned").open_region(files, hal.root, hal.urandom, hal.remove)
    keys = KeyStore(region)
    keys.open()
    hal.keys = keys
    return keys
