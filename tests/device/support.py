"""What device tests share. Runs on every interpreter of the tests, so it uses only what MicroPython has."""

import gc
import sys
from io import BytesIO

MICROPYTHON = sys.implementation.name == "micropython"

# Width of a machine word: 31-bit small integers on 32-bit boards, 63-bit on the Unix port.
WORD_BITS = 32 if sys.maxsize == 0x7FFFFFFF else 64

# Whether MicroPython counts what is taken from the heap: firmware for boards does not.
try:
    import micropython

    COUNTS = hasattr(micropython, "mem_total")
except ImportError:
    COUNTS = False

_folders = {}


class SkipTest(Exception):
    """Raised by a test that this interpreter cannot run; the argument is the reason, which the test session prints."""


def set_folders(device: str, tests: str, scratch: str):
    """Called once by the runner: where the device sources, the tests and a writable folder are."""
    _folders.update({"device": device, "tests": tests, "scratch": scratch})


def device_path(name: str) -> str:
    """Path of a file of the device folder, such as `models/profile.stm`."""
    return _folders["device"] + "/" + name


def vector_path(name: str) -> str:
    """Path of a golden file in tests/vectors."""
    return _folders["tests"].rsplit("/", 1)[0] + "/vectors/" + name


def scratch_path(name: str) -> str:
    """Path for a file a test wants to write: in a private folder, removed after the test session."""
    return _folders["scratch"] + "/" + name


def saved(owner) -> bytes:
    """All that `owner.save` hands out."""
    image = bytearray()
    owner.save(image.extend)
    return bytes(image)


def restored(owner, image):
    """What `owner.restore` says to the bytes `image`, given as a file would give them."""
    file = BytesIO(image)

    def readinto(buffer):
        assert file.readinto(buffer) == len(buffer), "reads past the end"

    return owner.restore(readinto, len(image))


def raises(kind, function, *args):
    """Call `function(*args)`, which must raise `kind`, and return the exception."""
    try:
        result = function(*args)
    except kind as error:
        return error
    raise AssertionError("expected " + kind.__name__ + ", got the result " + repr(result))


def _taken(function):
    # Bytes that a call leaves on the heap, and that it took from it; the latter 0 where nothing counts them.
    if COUNTS:
        left = micropython.mem_current()
        total = micropython.mem_total()
        function()
        return micropython.mem_current() - left, micropython.mem_total() - total

    collecting = gc.isenabled()
    gc.disable()
    left = gc.mem_alloc()
    function()
    left = gc.mem_alloc() - left
    if collecting:
        gc.enable()
    return left, 0


def no_alloc(function, frame_bytes: int = 0):
    """Check that `function()` needs no heap, and return its result.

    Called three times. First to warm up. Then with the heap locked: an allocation raises MemoryError. A raised and
    caught exception gets past that lock, so the third call runs unlocked and compares the interpreter's own counters:
    garbage left behind must be 0 bytes. MicroPython also takes the frame of a function with more than about 11 locals
    and stack slots from the heap and gives it back on return; such frames may sum to `frame_bytes` (in 64-bit words;
    half of it on 32 bits). Firmware for boards keeps no such counters: there garbage shows in the blocks in use, and
    what was given back does not.
    """
    if not MICROPYTHON:
        raise SkipTest("CPython has no heap lock; allocations are checked on MicroPython")
    function()
    micropython.heap_lock()
    try:
        result = function()
    finally:
        micropython.heap_unlock()
    left, total = _taken(function)
    if left:
        raise AssertionError("left " + str(left) + " bytes of garbage")
    if total > frame_bytes * WORD_BITS // 64:
        raise AssertionError("took " + str(total) + " bytes of frames, allowed " + str(frame_bytes * WORD_BITS // 64))
    return result
