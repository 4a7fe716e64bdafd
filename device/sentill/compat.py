"""What differs between MicroPython and CPython, in one place: the only `except ImportError` of the device code.

The device modules run unchanged on ESP32, RP2040, the Unix port, 32-bit WASM and CPython; they take `const`, the
millisecond and microsecond ticks, `crc32` and `native` from here.
"""

import sys
from binascii import crc32  # noqa: F401  (re-exported)

try:
    from micropython import const
except ImportError:

    def const(value):  # type: ignore[no-redef]
        return value


from gc import collect

try:
    from gc import threshold
except ImportError:

    def threshold(size: int = -1) -> int:  # type: ignore[misc]
        """Collect after so many bytes were taken, -1 for only when there are none left. CPython counts otherwise."""
        return -1


try:
    from time import ticks_add, ticks_diff, ticks_ms, ticks_us
except ImportError:
    from time import monotonic_ns as _monotonic_ns

    def ticks_ms() -> int:  # type: ignore[misc]
        """Milliseconds from an arbitrary start, wrapping at 2^30 as on MicroPython."""
        return _monotonic_ns() // 1_000_000 & 0x3FFFFFFF

    def ticks_us() -> int:  # type: ignore[misc]
        """Microseconds from an arbitrary start, wrapping at 2^30 as on MicroPython."""
        return _monotonic_ns() // 1_000 & 0x3FFFFFFF

    def ticks_add(ticks: int, delta: int) -> int:  # type: ignore[misc]
        """`ticks` moved by `delta`, in the wrapping domain."""
        return ticks + delta & 0x3FFFFFFF

    def ticks_diff(end: int, start: int) -> int:  # type: ignore[misc]
        """Signed distance `end - start` in the wrapping domain, within ±2^29."""
        return ((end - start + 0x20000000) & 0x3FFFFFFF) - 0x20000000


def _module(room, name):
    path = _path(room, name)
    __import__(path)
    return sys.modules[path]


def _path(room, name):
    # Apart they are names that MicroPython keeps anyway; in one piece, each place that asks would have its own string.
    return "sentill." + room + "." + name if name else "sentill." + room


def native(room: str, name: str = ""):
    """The module `sentill.ROOM.NAME` of native kernels, or None where the interpreter has no emitter for them.

    None also for a module that was compiled for another architecture or left out of the firmware.
    """
    if sys.implementation.name != "micropython":
        return None
    try:
        return _module(room, name)
    except (ImportError, SyntaxError, ValueError):
        return None


def kernels(room: str, name: str):
    """The kernels `sentill.ROOM.NAME_thumb` of ARM chips, else `..._viper` in native code, else their twin in bytecode,
    `sentill.ROOM.NAME`. A board has one of them."""
    return native(room, name + "_thumb") or native(room, name + "_viper") or _module(room, name)


# What `borrow` raises when the heap is full: an import takes whatever befalls the look for a file for a missing one.
MISSING = (MemoryError, ImportError)

lent = [0]  # modules that `borrow` has loaded: garbage of some kilobytes each


def borrow(room: str, name: str = ""):
    """The module `sentill.ROOM.NAME` for a single use: unless somebody has imported it, nothing keeps its code after.

    For what runs once per start, such as checks of files: on a board without frozen code it would stay in the heap.
    """
    known = sys.modules.get(_path(room, name))
    if known:
        return known
    try:
        module = _module(room, name)
    except ImportError:  # perhaps for want of heap
        if sys.implementation.name != "micropython":
            raise
        collect()
        module = _module(room, name)
    if sys.implementation.name == "micropython":  # elsewhere memory does not matter, time does
        lent[0] += 1
        _forget(room, name)
    return module


def _forget(room, name):
    path = _path(room, name)
    above, _, part = path.rpartition(".")
    delattr(sys.modules[above], part)
    del sys.modules[path]


class Lent:
    """While this context lasts, `borrow` gives the module `sentill.ROOM.NAME` without loading it again and again.

    One that somebody has imported stays theirs. One that cannot be loaded is left to `borrow`, whose caller is told.
    """

    def __init__(self, room: str, name: str):
        self._room = room
        self._name = name
        self._ours = False

    def __enter__(self):
        path = _path(self._room, self._name)
        if path not in sys.modules and sys.implementation.name == "micropython":
            try:
                __import__(path)
                self._ours = True
            except (ImportError, MemoryError, SyntaxError, ValueError):
                pass  # `borrow` meets it, too, if it is asked
        return self

    def __exit__(self, *error) -> None:
        if self._ours:
            _forget(self._room, self._name)


def borrow_at_once(room: str, name: str):
    """As `borrow`, without a collection meanwhile unless the heap is full: it would take as long again."""
    was = threshold()
    threshold(-1)
    try:
        return borrow(room, name)
    finally:
        threshold(was)


def present(name: str, part: str) -> bool:
    """Whether the interpreter has the module `name` with this part, such as ulab's numpy; a mere folder has none."""
    try:
        return hasattr(__import__(name), part)
    except ImportError:
        return False
