"""What the virtual board's modules share: the page of simulated hardware and the line to the supervisor."""

import time

import micropython
import page

_page = open(page.FD_PAGE, "r+b")
_control = open(page.FD_CONTROL, "wb")
_word = bytearray(4)
_half = bytearray(2)
_byte = bytearray(1)


def load(offset: int, buffer) -> None:
    """Fill `buffer` from the page."""
    _page.seek(offset)
    _page.readinto(buffer)


def store(offset: int, buffer) -> None:
    """Write `buffer` to the page."""
    _page.seek(offset)
    _page.write(buffer)


def u8(offset: int) -> int:
    """Byte of the page."""
    load(offset, _byte)
    return _byte[0]


def set_u8(offset: int, value: int) -> None:
    """Write a byte of the page."""
    _byte[0] = value
    store(offset, _byte)


def u16(offset: int) -> int:
    """16-bit number of the page."""
    load(offset, _half)
    return _half[0] | _half[1] << 8


def set_u16(offset: int, value: int) -> None:
    """Write a 16-bit number of the page."""
    _half[0] = value & 0xFF
    _half[1] = value >> 8
    store(offset, _half)


def u32(offset: int) -> int:
    """32-bit number of the page."""
    load(offset, _word)
    return _word[0] | _word[1] << 8 | _word[2] << 16 | _word[3] << 24


def add_u32(offset: int, delta: int) -> None:
    """Add `delta` to a 32-bit number of the page, wrapping."""
    set_u32(offset, u32(offset) + delta)


def set_u32(offset: int, value: int) -> None:
    """Write the low 32 bits of `value` to the page."""
    for i in range(4):
        _word[i] = value >> 8 * i & 0xFF
    store(offset, _word)


def tell(line: str) -> None:
    """Send one line to the supervisor."""
    _control.write(line + "\n")


def perish(line: str) -> None:
    """Tell the supervisor to end this run and wait for it; nothing, not even Ctrl-C, brings the program back."""
    micropython.kbd_intr(-1)
    tell(line)
    while True:
        time.sleep(1000)
