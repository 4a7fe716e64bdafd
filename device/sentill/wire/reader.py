"""Finds frames in a stream of bytes, in one buffer made at the start.

    view = reader.window()          # room for what the stream has
    n = stream.readinto(view)
    reader.received(n)
    while kind := reader.next():    # ord("T") etc.
        ... reader.buf[reader.start : reader.end] is the object ...

What is no frame is counted, never kept: `garbage` lines, `bad_crc`, `too_long` lines. Nothing here raises on bytes from
the wire, and a wrong checksum costs no more than a right one.
"""

from array import array

from sentill.compat import const, kernels

from .protocol import MAX

# What native kernels compute CRC-32 with: for half a byte each.
CRC_TABLE = array(
    "I",
    b"\x00\x00\x00\x00\x64\x10\xb7\x1d\xc8\x20\x6e\x3b\xac\x30\xd9\x26\x90\x41\xdc\x76\xf4\x51\x6b\x6b"
    b"\x58\x61\xb2\x4d\x3c\x71\x05\x50\x20\x83\xb8\xed\x44\x93\x0f\xf0\xe8\xa3\xd6\xd6\x8c\xb3\x61\xcb"
    b"\xb0\xc2\x64\x9b\xd4\xd2\xd3\x86\x78\xe2\x0a\xa0\x1c\xf2\xbd\xbd",
)

_MAX = const(240)
_SLACK = const(8)  # kernels may read this far past a frame
_COUNT_MAX = const(0x3FFFFFFF)
# Words of the state that the kernel works on.
_LOW = const(0)  # start of the line being collected
_SEEN = const(1)  # searched for its end up to here
_HIGH = const(2)
_START = const(3)
_END = const(4)
_LINE = const(5)
_FRAMES = const(7)  # behind a 1 inside a line that is too long
_GARBAGE = const(8)
_BAD_CRC = const(9)
_TOO_LONG = const(10)
_WORDS = const(11)


class FrameReader:
    """Reads frames of one stream, in a buffer of `size` bytes (at least 2 * MAX)."""

    def __init__(self, size: int = 512):
        if size < 2 * MAX:
            raise ValueError("buffer below two frames")
        self.buf = bytearray(size + _SLACK)
        self.view = memoryview(self.buf)
        self._size = size
        self.state = array("i", bytes(4 * _WORDS))
        self.heard = 0  # bytes received
        self._next = kernels("wire", "scan").next_frame

    @property
    def start(self) -> int:
        """Where the object of the frame begins that `next` found."""
        return self.state[_START]

    @property
    def end(self) -> int:
        """Where it ends."""
        return self.state[_END]

    @property
    def line(self) -> int:
        """Bytes of the latest line."""
        return self.state[_LINE]

    @property
    def frames(self) -> int:
        """Frames found."""
        return self.state[_FRAMES]

    @property
    def garbage(self) -> int:
        """Lines without a frame."""
        return self.state[_GARBAGE]

    @property
    def bad_crc(self) -> int:
        """Lines whose frame was damaged."""
        return self.state[_BAD_CRC]

    @property
    def too_long(self) -> int:
        """Lines that were no line."""
        return self.state[_TOO_LONG]

    def window(self):
        """The free part of the buffer, never empty. Frames found before are gone after this call."""
        s = self.state
        low = s[_LOW]
        high = s[_HIGH]
        if low == high:
            s[_LOW] = s[_SEEN] = s[_HIGH] = high = 0
        elif low and self._size - high < _MAX:
            self.view[: high - low] = self.view[low:high]  # a memmove
            s[_SEEN] -= low
            s[_LOW] = 0
            s[_HIGH] = high = high - low
        return self.view[high : self._size]

    def received(self, n: int) -> None:
        """Tell that `n` bytes have been written to the window."""
        self.state[_HIGH] += n
        self.heard = self.heard + n & _COUNT_MAX

    def waiting(self) -> int:
        """Bytes received that are not yet part of a frame or thrown away."""
        return self.state[_HIGH] - self.state[_LOW]

    def next(self) -> int:
        """The type of the next frame, as a byte, or 0 when none is complete. Its object lies in buf[start:end]."""
        return self._next(self.buf, self.state, CRC_TABLE)

    def object(self) -> bytes:
        """A copy of the object of the frame `next` found, for `protocol.parse_fields`."""
        return bytes(self.view[self.start : self.end])
