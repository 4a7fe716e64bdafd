"""The two frames of a decision: a transaction request read into integers, a verdict written from integers.

Both work in buffers made at the start. On a plain request nothing is put on the heap except the integers above
2^30-1 of a 32-bit board.
"""

from array import array

from . import wire
from .compat import const, crc32, native
from .errors import FrameError
from .protocol import MAX, MAX_AMOUNT, MAX_TIME, parse_fields

_TOKEN_MAX = const(32)
_WHY_MAX = const(72)

# Key, slot, greatest value, required; in the order in which faults are reported.
_FIELDS = (
    ("q", wire.Q, 0x3FFFFFFF, True),
    ("ref", wire.REF, 0xFFFFFFFF, True),
    ("t", wire.T, MAX_TIME, True),
    ("amt", wire.AMT, MAX_AMOUNT, True),
    ("pm", wire.PM, 65535, False),
    ("pn", wire.PN, 255, False),
    ("ph", wire.PH, 255, False),
)


class Request:
    """A transaction request; after `parse` its integers are in `fields`, at wire.Q, REF, T, AMT, PM, PN, PH."""

    def __init__(self):
        self.fields = array("I", bytes(4 * wire.SLOTS))
        self.card = None
        self._buf = b""
        self._scan = (native("wire_viper") or wire).scan_request

    def parse(self, reader, guard) -> None:
        """Read the frame that `reader` has found. `guard(bytes)` tells whether bytes hold what may not enter.

        Raises FrameError: "pan", "json", "field" (missing or of the wrong type), "amount" or "range" (out of range),
        "card".
        """
        if self._scan(reader.buf, reader.start, reader.end, self.fields):
            self._buf = reader.buf
        else:
            self._judge(reader.object(), guard)

    def _judge(self, data, guard):
        # The slow path, apart so that the fast one needs no frame on the heap.
        f = self.fields
        for slot in range(wire.SLOTS):
            f[slot] = 0
        suspect = guard(data)
        given = parse_fields(data)
        # What can be told of the request is kept even when it is refused: the answer names q and ref.
        for key, slot, most, _ in _FIELDS[:2]:
            value = given.get(key)
            if is_int(value) and 0 <= value <= most:
                f[slot] = value
        if suspect:
            raise FrameError("pan", "looks like a card number; send a token")
        for key, slot, most, required in _FIELDS:
            value = given.get(key)
            if value is None and not required:
                continue
            if not is_int(value):
                raise FrameError("field", "%s must be an integer" % key)
            if not 0 <= value <= most:
                raise FrameError("amount" if key == "amt" else "range", "%s must be 0..%d" % (key, most))
            f[slot] = value
        card = given.get("card")
        if not isinstance(card, str):
            raise FrameError("field", "card must be a string")
        if not is_token(card):
            raise FrameError("card", "card must be 1..32 of 0-9 A-Z a-z _ -")
        self._buf = card.encode()
        f[wire.CARD] = 0
        f[wire.CARD_LEN] = len(card)

    def token(self) -> bytes:
        """A copy of the card token; valid until the reader's next window."""
        start = self.fields[wire.CARD]
        return bytes(self._buf[start : start + self.fields[wire.CARD_LEN]])


def is_int(value) -> bool:
    """Whether `value` is an integer and not a boolean."""
    return isinstance(value, int) and value is not True and value is not False


def is_token(text: str) -> bool:
    """Whether `text` may stand for a card: 1..32 of `0-9A-Za-z_-`."""
    if not 0 < len(text) <= _TOKEN_MAX:
        return False
    for c in text:
        if not ("0" <= c <= "9" or "A" <= c <= "Z" or "a" <= c <= "z" or c == "_" or c == "-"):
            return False
    return True


class Verdict:
    """Writes verdict frames into `buf`; `view[:n]` of the last one is what goes out."""

    def __init__(self):
        self.buf = bytearray(MAX)
        self.view = memoryview(self.buf)
        self.put = 0
        kernels = native("wire_viper") or wire
        self._int = kernels.put_int
        self._copy = kernels.put
        self._hex = kernels.put_hex
        self._thresholds = b""
        self._at = 0
        self._copy(self.buf, 0, b'#T {"q":', 8)

    def begin(self, q: int, ref: int, word: bytes, score: int) -> None:
        """Start a verdict: the frame count, the request's ref, b"approve", b"review" or b"decline", and the score."""
        buf = self.buf
        copy = self._copy
        at = self._int(buf, 8, q)
        at = copy(buf, at, b',"ref":', 7)
        at = self._int(buf, at, ref)
        at = copy(buf, at, b',"v":"', 6)
        at = copy(buf, at, word, len(word))
        at = copy(buf, at, b'","s":', 6)
        self._at = self._int(buf, at, score)

    def model(self, review: int, decline: int, model_id: bytes) -> None:
        """Add the thresholds used and the model's id (ASCII, up to 16 bytes)."""
        buf = self.buf
        copy = self._copy
        at = copy(buf, self._at, b',"tr":', 6)
        at = self._int(buf, at, review)
        at = copy(buf, at, b',"td":', 6)
        at = self._int(buf, at, decline)
        at = copy(buf, at, b',"m":"', 6)
        at = copy(buf, at, model_id, len(model_id))
        self._at = copy(buf, at, b'","why":"', 9)
        self.put = self._at

    def reason(self, code: bytes) -> None:
        """Add a reason code (ASCII); one that has no room is left out."""
        at = self._at
        n = len(code)
        if at + n - self.put > _WHY_MAX:
            return
        if at > self.put:
            self.buf[at] = 44
            at += 1
        self._at = self._copy(self.buf, at, code, n)

    def end(self, us: int, record: int = -1) -> int:
        """Close the frame with the latency `us`, microseconds, and its `record` (-1: none); returns its length."""
        buf = self.buf
        at = self._copy(buf, self._at, b'","us":', 7)
        at = self._int(buf, at, us)
        if record >= 0:
            at = self._copy(buf, at, b',"j":', 5)
            at = self._int(buf, at, record)
        buf[at] = 125
        buf[at + 1] = 42
        at = self._hex(buf, at + 2, crc32(self.view[1 : at + 1]))
        buf[at] = 13
        buf[at + 1] = 10
        return at + 2
