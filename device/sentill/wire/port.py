"""One line to the outside: frames found in what comes in, and a bounded queue for what goes out."""

from sentill.compat import const, kernels, ticks_ms
from sentill.errors import FrameError
from sentill.pan import frame_hides_pan

from . import protocol
from .reader import CRC_TABLE, FrameReader

_MAX = const(240)
_MAX_COUNT = const(0x3FFFFFFF)
_MAX_Q = const(0x3FFFFFFF)


class Port:
    """`stream` (hal.stream.Stream) with a reader and a queue of `room` bytes, at least two frames.

    `direct` tries to write a frame at once when none waits; else it leaves with the next `pump`, and `wake()` is
    called. Nothing here waits: what has no room is dropped whole and counted in `dropped`.
    """

    def __init__(self, name: str, stream, room: int, direct: bool, wake):
        self.name = name
        self.stream = stream
        self.reader = FrameReader()
        self.sequence = protocol.Sequence()
        self.dropped = 0
        self.errors = 0  # faults of the stream
        self.q = 0
        self.heard_ms = ticks_ms()  # when bytes came in last
        self.free = True  # whether nobody has signed that
        self.asked = 0  # q of the frame that is being answered, 0 when it cannot be told
        wire = kernels("wire", "scan")
        self._text = wire.put_text
        values = kernels("wire", "values")
        self._fill = values.fill
        self._copy = values.put
        self._numbers = values.numbers(3)
        self._finish = wire.finish
        self._line = memoryview(bytearray(_MAX))
        self._direct = direct
        self._wake = wake
        self._buf = bytearray(room)
        self._view = self._out = memoryview(self._buf)
        self._at = 0
        self._size = room
        self._low = 0
        self._high = 0

    def pending(self) -> int:
        """Bytes waiting to go out."""
        return self._high - self._low

    def room(self) -> int:
        """Bytes the queue can take."""
        return self._size - self._high + self._low

    def next_q(self) -> int:
        """Count a frame that goes out on this port."""
        self.q = q = self.q + 1 if self.q < _MAX_Q else 1  # as protocol.next_q
        return q

    def send(self, kind: str, pairs) -> bool:
        """Queue a frame of these pairs after `q`, cut to fit a line. False when it was dropped."""
        line = self._line
        n = self._write_line(line, kind, pairs)
        if not n:
            line = memoryview(protocol.fit(kind, [("q", self.q)] + pairs))
            n = len(line)
        return self.put(line, n)

    def _write_line(self, line, kind, pairs):
        # As protocol.encode, and much faster; 0 where that raises, or could.
        line[0] = 35
        line[1] = ord(kind)
        line[2] = 32
        line[3] = 123
        text = "%d" % self.next_q()
        at = self._text(line, 4 - (len(text) << 8), "q", text)
        for key, value in pairs:
            if isinstance(value, str):
                at = self._text(line, at + (len(value) << 8), key, value)
            elif isinstance(value, int) and -protocol.MAX_INT <= value <= protocol.MAX_INT:
                text = "true" if value is True else "false" if value is False else "%d" % value
                at = self._text(line, at - (len(text) << 8), key, text)
            else:
                return 0
            if not at:
                return 0
        line[at - 1] = 125
        return self._finish(line, at, CRC_TABLE)

    def put(self, view, n: int) -> bool:
        """Queue the frame in the first `n` bytes of `view`. False when it was dropped."""
        at = 0
        if self._direct and self._low == self._high:
            self._out = view
            self._at = 0
            at = done = self._write(n)
            while done and at < n:
                self._at = at
                done = self._write(n)
                at += done
            if at == n:
                return True
        if n - at > self.room():  # never with half a frame gone: the queue is empty then
            self._drop()
            return False
        if at:
            self._high = self._copy(self._buf, 0, view, n)
            self._low = at
        else:
            if n > self._size - self._high:
                self._view[: self._high - self._low] = self._view[self._low : self._high]
                self._high -= self._low
                self._low = 0
            self._high = self._copy(self._buf, self._high, view, n)
        self._wake()
        return True

    def tell(self, form, re: int, ref: int, key: str, text: str) -> bool:
        """Queue a frame where the heap may be full: nothing is taken from it. False when it was dropped.

        `form` is the frame's beginning for values.fill, with \x01 for its q, \x02 for `re`, \x0b for `ref`, up to
        the last field, which is `key` with `text`.
        """
        numbers = self._numbers
        numbers[0] = self.next_q()
        numbers[1] = re
        numbers[2] = ref
        at = self._text(self._line, self._fill(self._line, 0, form, numbers) | len(text) << 8, key, text)
        self._line[at - 1] = 125
        try:
            return self.put(self._line, self._finish(self._line, at, CRC_TABLE))
        except MemoryError:  # what waits would have to be moved together
            self._drop()
            return False

    def skip(self) -> None:
        """Drop a frame before it is made: it is counted and leaves a gap in `q`."""
        self.next_q()
        self._drop()

    def _drop(self):
        if self.dropped < _MAX_COUNT:
            self.dropped += 1

    def pump(self) -> int:
        """Write one portion of what waits; returns the bytes written."""
        self._out = self._view
        self._at = self._low
        n = self._write(self._high)
        self._low += n
        if self._low == self._high:
            self._low = self._high = 0
        return n

    def _write(self, end):
        # Of what _out holds from _at on: more arguments would not fit the frame.
        try:
            return self.stream.write(self._out, self._at, end)
        except OSError:
            self._failed()
            return 0

    def _failed(self):
        if self.errors < _MAX_COUNT:
            self.errors += 1


def parse(port, guard) -> dict:
    """The fields of the frame that port.reader has found; its q is in `port.asked`.

    Raises FrameError "pan" when the frame holds what looks like a card number, or as protocol.parse_fields.
    """
    port.asked = 0
    data = port.reader.object()
    fields = protocol.parse_fields(data)
    q = fields.get("q")
    if protocol.is_int(q) and 0 < q <= protocol.MAX_Q:
        port.sequence.seen(q)
        port.asked = q
    if guard(data) or frame_hides_pan(fields):
        raise FrameError("pan", "looks like a card number; send a token")
    return fields
