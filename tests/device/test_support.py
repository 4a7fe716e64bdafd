"""The helpers of the device tests do fail when they should."""

from sentill.compat import crc32
from support import COUNTS, MICROPYTHON, SkipTest, no_alloc, raises, scratch_path


def _clean():
    x = 1
    return x + 2


def _makes_a_list():
    return [1, 2]


def _raises_inside():
    try:
        raise ValueError
    except ValueError:
        return 1


def _big_frame():
    a = b = c = d = e = f = g = h = i = j = k = l = m = 1  # noqa: E741
    return a + b + c + d + e + f + g + h + i + j + k + l + m


def test_no_alloc_accepts_what_does_not_allocate():
    got = no_alloc(_clean)
    assert got == 3, (got, 3)
    got = no_alloc(_big_frame, frame_bytes=300)
    assert got == 13, (got, 13)


def test_no_alloc_rejects_an_object():
    if not MICROPYTHON:
        raise SkipTest("no heap lock on CPython")
    raises(MemoryError, no_alloc, _makes_a_list)


def test_no_alloc_rejects_a_caught_exception():
    if not MICROPYTHON:
        raise SkipTest("no heap lock on CPython")
    error = raises(AssertionError, no_alloc, _raises_inside)
    assert "garbage" in str(error), str(error)


def test_no_alloc_rejects_an_undeclared_frame():
    if not MICROPYTHON:
        raise SkipTest("no heap lock on CPython")
    if not COUNTS:
        raise SkipTest("this firmware does not count what was taken and given back")
    error = raises(AssertionError, no_alloc, _big_frame)
    assert "frames" in str(error), str(error)


def test_raises_rejects_a_result():
    error = raises(AssertionError, raises, ValueError, _clean)
    assert "expected ValueError" in str(error), str(error)


def test_scratch_files_can_be_written_and_read():
    with open(scratch_path("a.bin"), "wb") as file:
        file.write(b"sentill")
    with open(scratch_path("a.bin"), "rb") as file:
        got = file.read()
    assert got == b"sentill", (got, b"sentill")


def test_crc32_matches_the_published_check_value():
    got = crc32(b"123456789")
    assert got == 0xCBF43926, (got, 0xCBF43926)
