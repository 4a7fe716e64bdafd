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


def native(name: str):
    """The module `sentill.NAME` of native kernels, or None where the interpreter has no emitter for them.

    None also for a module that was compiled for another architecture or left out of the firmware.
    """
    if sys.implementation.name != "micropython":
        return None
    try:
        return _load("sentill." + name)
    except (ImportError, SyntaxError, ValueError):
        return None


def kernels(name: str):
    """The kernels `sentill.NAME_thumb` of ARM chips, else `sentill.NAME_viper` in native code, else their twin in
    bytecode, `sentill.NAME`. A board has one of them."""
    return native(name + "_thumb") or native(name + "_viper") or _load("sentill." + name)


def _load(path):
    # `__import__` gives the package above.
    __import__(path)
    return sys.modules[path]


# What `borrow` raises when the heap is full: an import takes whatever befalls the look for a file for a missing one.
MISSING = (MemoryError, ImportError)

lent = [0]  # modules that `borrow` has loaded: garbage of some kilobytes each


def borrow(name: str):
    """The module `sentill.NAME` for a single use: unless somebody has imported it, nothing keeps its code afterwards.

    For what runs once per start, such as checks of files: on a board without frozen code it would stay in the heap.
    """
    path = "sentill." + name
    known = sys.modules.get(path)
    if known:
        return known
    try:
        module = _load(path)
    except ImportError:  # perhaps for want of heap
        if sys.implementation.name != "micropython":
            raise
        collect()
        module = _load(path)
    if sys.implementation.name != "micropython":  # where memory does not matter, time does
        return module
    lent[0] += 1
    _forget(path)
    return module


def _forget(path):
    package, _, name = path.rpartition(".")
    delattr(sys.modules[package], name)
    del sys.modules[path]


class Lent:
    """While this context lasts, `borrow` gives the module `sentill.NAME` without loading it again and again.

    One that somebody has imported stays theirs. One that cannot be loaded is left to `borrow`, whose caller is told.
    """

    def __init__(self, name: str):
        self._name = name
        self._ours = False

    def __enter__(self):
        path = "sentill." + self._name
        if path not in sys.modules and sys.implementation.name == "micropython":
            try:
                __import__(path)
                self._ours = True
            except (ImportError, MemoryError, SyntaxError, ValueError):
                pass  # `borrow` meets it, too, if it is asked
        return self

    def __exit__(self, *error) -> None:
        if self._ours:
            _forget("sentill." + self._name)


def borrow_at_once(name: str):
    """As `borrow`, without a collection meanwhile unless the heap is full: it would take as long again."""
    was = threshold()
    threshold(-1)
    try:
        return borrow(name)
    finally:
        threshold(was)


def present(name: str, part: str) -> bool:
    """Whether the interpreter has the module `name` with this part, such as ulab's numpy; a mere folder has none."""
    try:
        return hasattr(__import__(name), part)
    except ImportError:
        return False
