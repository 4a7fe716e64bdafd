"""Finds frames in a stream of bytes, in one buffer made at the start.

    view = reader.window()          # room for what the stream has
    n = stream.readinto(view)
    reader.received(n)
    while kind := reader.next():    # ord("T") etc.
        ... reader.buf[reader.start : reader.end] is the object ...

What is no frame is counted, never kept: `garbage` lines, `bad_crc`, `too_long` lines. Nothing here raises on bytes from
the wire, and a wrong checksum costs no more than a right one.
"""

from .compat import const, crc32, kernels
from .protocol import MAX

_MAX = const(240)
_TAIL = const(9)
_SLACK = const(8)  # kernels may read this far past a frame
_STAR = const(42)
_COUNT_MAX = const(0x3FFFFFFF)


class FrameReader:
    """Reads frames of one stream, in a buffer of `size` bytes (at least 2 * MAX)."""

    def __init__(self, size: int = 512):
        if size < 2 * MAX:
            raise ValueError("buffer below two frames")
        self.buf = bytearray(size + _SLACK)
        self._view = memoryview(self.buf)
        self._size = size
        self._low = 0  # start of the line being collected
        self._seen = 0  # searched for its end up to here
        self._high = 0
        self._skipping = False  # inside a line that is too long
        self.start = 0
        self.end = 0
        self.line = 0  # bytes of the latest line
        self.heard = 0  # bytes received
        self.frames = 0
        self.garbage = 0
        self.bad_crc = 0
        self.too_long = 0
        wire = kernels("wire")
        self._find = wire.find_byte
        self._start = wire.find_start
        self._same = wire.same_hex

    def window(self):
        """The free part of the buffer, never empty. Frames found before are gone after this call."""
        low = self._low
        high = self._high
        if low == high:
            self._low = self._seen = self._high = high = 0
        elif low and self._size - high < _MAX:
            self._view[: high - low] = self._view[low:high]  # a memmove
            self._seen -= low
            self._low = 0
            self._high = high = high - low
        return self._view[high : self._size]

    def received(self, n: int) -> None:
        """Tell that `n` bytes have been written to the window."""
        self._high += n
        self.heard = self.heard + n & _COUNT_MAX

    def waiting(self) -> int:
        """Bytes received that are not yet part of a frame or thrown away."""
        return self._high - self._low

    def next(self) -> int:
        """The type of the next frame, as a byte, or 0 when none is complete. Its object lies in buf[start:end]."""
        while True:
            line_end = self._find(self.buf, self._seen, self._high, 10)
            if line_end < 0:
                self._seen = self._high
                if self._high - self._low > _MAX:
                    self._low = self._high
                    self._too_long()
                return 0
            low = self._low
            self._low = self._seen = line_end + 1
            self.line = line_end + 1 - low
            if self._skipping:
                self._skipping = False
            elif line_end + 1 - low > _MAX:
                self.too_long = _more(self.too_long)
            else:
                kind = self._frame(low, line_end)
                if kind:
                    self.frames = _more(self.frames)
                    return kind

    def _too_long(self):
        if not self._skipping:
            self._skipping = True
            self.too_long = _more(self.too_long)

    def _frame(self, low: int, end: int) -> int:
        # The frame in the line buf[low:end], or 0 with the reason counted.
        buf = self.buf
        if end > low and buf[end - 1] == 13:
            end -= 1
        if end == low:
            return 0
        end -= _TAIL
        damaged = False
        at = self._start(buf, low, end)
        while at >= 0:
            if buf[end] == _STAR and self._sound(at, end):
                self.start = at + 3
                self.end = end
                return buf[at + 1]
            damaged = True
            at = self._start(buf, at + 1, end)
        if damaged:
            self.bad_crc = _more(self.bad_crc)
        else:
            self.garbage = _more(self.garbage)
        return 0

    def _sound(self, at: int, star: int) -> int:
        # Whether the checksum behind `star` is that of the frame from `at` on.
        crc = crc32(self._view[at + 1 : star])
        return self._same(self.buf, star + 1, crc)

    def object(self) -> bytes:
        """A copy of the object of the frame `next` found, for `protocol.parse_fields`."""
        return bytes(self._view[self.start : self.end])


def _more(count: int) -> int:
    return count + 1 if count < _COUNT_MAX else count
