"""Frames out of a stream of bytes, everything else kept as console text; pure, the input is handed in.

Uses the node's own protocol module, so both sides agree on what a frame is.
"""

from dataclasses import dataclass, field
from typing import Any

from sentill.errors import FrameError
from sentill.wire import protocol

# A line without an end: the rest of the stream must not wait for it, nor memory grow.
_LONGEST_LINE = 4_096
# Sent to a node only: seen from it they are the echo of a REPL prompt.
_TO_THE_NODE = "CP"


@dataclass(frozen=True)
class Frame:
    """One frame: its type letter and its fields in order of arrival. `missed` frames before it did not arrive."""

    kind: str
    fields: dict[str, Any]
    missed: int = 0


@dataclass(frozen=True)
class Text:
    """One line of console output, without its line end; bytes that are no UTF-8 shown as U+FFFD."""

    line: str


@dataclass
class LinkHealth:
    """Counts that tell a good line from a bad one."""

    frames: int = 0
    crc_errors: int = 0
    malformed: int = 0
    missed: int = 0
    restarts: int = 0
    text_lines: int = 0
    bytes: int = 0


@dataclass
class Decoder:
    """Feed it bytes as they come; it returns the frames and text lines completed by them. Never raises on input."""

    health: LinkHealth = field(default_factory=LinkHealth)
    _pending: bytes = b""
    _sequence: protocol.Sequence = field(default_factory=protocol.Sequence)

    def feed(self, data: bytes) -> list[Frame | Text]:
        """Frames and text of the lines that `data` completes, in order."""
        self.health.bytes += len(data)
        lines = (self._pending + data).split(b"\n")
        self._pending = lines.pop()
        if len(self._pending) > _LONGEST_LINE:
            lines.append(self._pending)
            self._pending = b""
        return [item for line in lines for item in self._line(line)]

    def flush(self) -> list[Frame | Text]:
        """What is left of an unfinished line, when no more will come (a prompt, a cut)."""
        line, self._pending = self._pending, b""
        return self._line(line)

    @property
    def at_prompt(self) -> bool:
        """Whether MicroPython's prompt is the last that came: then no node runs, and frames sent are comments."""
        return self._pending.endswith(b">>> ")

    def forget(self) -> None:
        """Start anew after the port was reopened: half a line and the expected count are void."""
        self._pending = b""
        self._sequence = protocol.Sequence()

    def _line(self, line: bytes) -> list[Frame | Text]:
        line = line.rstrip(b"\r")
        # A frame ends its line: in a longer one only the last bytes can be it.
        tail = line[-(protocol.MAX - 2) :]
        try:
            kind, fields = protocol.decode(tail)
        except FrameError as error:
            if error.code == "crc":
                self.health.crc_errors += 1
                return []
            if error.code != "none":
                self.health.malformed += 1
                return []
            return self._text(line)
        if kind in _TO_THE_NODE:
            return []
        before = line[: len(line) - len(tail) + _start(tail)]
        missed = 0
        q = fields.get("q")
        if type(q) is int and 1 <= q <= protocol.MAX_Q:
            missed = self._sequence.seen(q)
            self.health.missed += missed
            self.health.restarts = self._sequence.restarts
        self.health.frames += 1
        return [*self._text(before), Frame(kind, fields, missed)]

    def _text(self, line: bytes) -> list[Frame | Text]:
        text = line.decode("utf-8", "replace")
        if not text.strip():
            return []
        self.health.text_lines += 1
        return [Text(text)]


def _start(line: bytes) -> int:
    """Where the frame that ends `line` begins; `line` is known to hold one."""
    at = line.find(b"#")
    while at >= 0:
        after = line.find(b"#", at + 1)
        if after < 0:
            return at
        try:
            protocol.decode(line[after:])
        except FrameError:
            # Nothing from the next `#` on is a frame. One further on can only be inside this one's strings, as a
            # frame inside a frame would need two checksums at the same place.
            return at
        at = after
    return 0
