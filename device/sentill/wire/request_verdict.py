"""The two frames of a decision: a transaction request read into integers, a verdict written from integers; and the
answers given lately, for a terminal that asks again.

Both work in buffers made at the start. On a plain request nothing is put on the heap except the integers above
2^30-1 of a 32-bit board.
"""

from array import array

from sentill.compat import const, kernels
from sentill.errors import FrameError
from sentill.pan import frame_hides_pan

from .protocol import MAX, MAX_AMOUNT, MAX_TIME, is_int, parse_fields
from .reader import CRC_TABLE

_TOKEN_MAX = const(32)
_WHY_MAX = const(72)
_LATELY = const(4)
_MODELS = const(4)  # whose verdicts' beginnings are kept ready
MAX_REASONS = 3  # in an answer

# Slots of a scanned request, an array("I") of SLOTS words. A constant costs nothing where a look-up would.
Q, REF, T, AMT, PM, PN, PH, CARD, CARD_LEN, SLOTS = range(10)
_REF = const(1)
_CARD = const(7)
_CARD_LEN = const(8)

# Key, slot, greatest value, required; in the order in which faults are reported.
_FIELDS = (
    ("q", Q, 0x3FFFFFFF, True),
    ("ref", REF, 0xFFFFFFFF, True),
    ("t", T, MAX_TIME, True),
    ("amt", AMT, MAX_AMOUNT, True),
    ("pm", PM, 65535, False),
    ("pn", PN, 255, False),
    ("ph", PH, 255, False),
)


class Request:
    """A transaction request; after `parse` its integers are in `fields`, at Q, REF, T, AMT, PM, PN, PH."""

    def __init__(self):
        self.fields = array("I", bytes(4 * SLOTS))
        self.numbers = memoryview(self.fields)[REF:CARD]  # with the token, what makes a request this one
        self.view = memoryview(b"")  # where the token lies
        self._scan = kernels("wire", "values").scan_request

    def scan(self, reader) -> bool:
        """Read the frame that `reader` has found, if it is a plain request; otherwise `parse` tells what it is."""
        self.view = reader.view
        state = reader.state
        return self._scan(reader.buf, state[3], state[4], self.fields) == 1

    def parse(self, reader, guard) -> None:
        """Read the frame that `reader` has found. `guard(bytes)` tells whether bytes hold what may not enter.

        Raises FrameError: "pan", "json", "field" (missing or of the wrong type), "amount" or "range" (out of range),
        "card".
        """
        if not self.scan(reader):
            self._judge(reader.object(), guard)

    def _judge(self, data, guard):
        # The slow path, apart so that the fast one needs no frame on the heap.
        f = self.fields
        for slot in range(SLOTS):
            f[slot] = 0
        given = parse_fields(data)
        suspect = guard(data) or frame_hides_pan(given)
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
        self.view = memoryview(card.encode())
        f[CARD] = 0
        f[CARD_LEN] = len(card)

    def token(self):
        """The card token, a memoryview; valid until the reader's next window."""
        start = self.fields[_CARD]
        return self.view[start : start + self.fields[_CARD_LEN]]


def is_token(text: str) -> bool:
    """Whether `text` may stand for a card: 1..32 of `0-9A-Za-z_-`."""
    if not 0 < len(text) <= _TOKEN_MAX:
        return False
    for c in text.encode():  # see protocol.printable
        if not (48 <= c <= 57 or 65 <= c <= 90 or c == 95 or c == 45 or 97 <= c <= 122):
            return False
    return True


class Answer:
    """A verdict as it was given.

    `score`, the thresholds `review` and `decline`, `code` (0 approve, 1 review, 2 decline), `model` (its id, ASCII, up
    to 16 bytes), `n` `reasons` (codes, ASCII), `record` (its number, -1: none).
    """

    def __init__(self):
        self.score = self.review = self.decline = self.code = self.n = 0
        self.model = b""
        self.reasons = [b""] * MAX_REASONS
        self.record = -1


class Lately:
    """The latest 4 requests with their answers, for a terminal that asks again: all but the q is as it was."""

    def __init__(self):
        self._refs = [-1] * _LATELY
        self._numbers = [memoryview(array("I", bytes(4 * (CARD - REF)))) for _ in range(_LATELY)]
        self._cards = [b""] * _LATELY
        self._answers = [Answer() for _ in range(_LATELY)]
        self._next = 0

    def recall(self, request):
        """The Answer that `request` was given; None when it is a new one."""
        return self._find(request) if request.fields[_REF] in self._refs else None

    def _find(self, request):
        for i in range(_LATELY):
            if (
                self._refs[i] == request.fields[REF]
                and self._numbers[i] == request.numbers
                and self._cards[i] == request.token()
            ):
                return self._answers[i]
        return None

    def next(self) -> Answer:
        """The Answer to fill in for a new request, before `remember`."""
        self._refs[self._next] = -1  # what it stood for until now is forgotten
        return self._answers[self._next]

    def remember(self, request) -> None:
        """Note that the request `recall` was asked for was given the answer that `next` named."""
        i = self._next
        start = request.fields[_CARD]
        self._cards[i] = bytes(request.view[start : start + request.fields[_CARD_LEN]])
        self._numbers[i][:] = request.numbers
        self._refs[i] = request.fields[_REF]
        self._next = (i + 1) % _LATELY


# A verdict up to its reasons, and its end: see values.fill.
_HEAD = '#T {"q":\x01,"ref":\x0a,"v":"%s","s":\x03,"tr":\x04,"td":\x05,"m":"%s","why":"\0'
_WORDS = ("approve", "review", "decline")
_END = b'","us":\x06}\0'
_END_RECORD = b'","us":\x06,"j":\x07}\0'


class Verdict:
    """Writes verdict frames into `buf`; `view[:n]` of the last one is what goes out.

    The methods are cut so that a frame stays within eleven locals and stack slots: MicroPython takes larger ones from
    the heap.
    """

    def __init__(self):
        self.buf = bytearray(MAX)
        self.view = memoryview(self.buf)
        values = kernels("wire", "values")
        self._fill = values.fill
        self._copy = values.put
        self._numbers = values.numbers(7)
        self._finish = kernels("wire", "scan").finish
        self._at = 0
        self._heads: dict = {}
        self._form = b""

    def open(self, q: int, ref: int, answer: Answer) -> None:
        """Start a verdict: the frame count, the request's ref, and what was answered."""
        numbers = self._numbers
        numbers[0] = q
        numbers[1] = ref
        numbers[2] = answer.score
        numbers[3] = answer.review
        numbers[4] = answer.decline
        self._form = (self._heads.get(answer.model) or self._ready(answer.model))[answer.code]
        self._at = self._fill(self.buf, 0, self._form, numbers)
        if answer.n:
            self._why(answer, self._at)

    def _why(self, answer, put):
        i = 0
        while i < answer.n:
            self._reason(answer.reasons[i], put)
            i += 1

    def _reason(self, code, put):
        # One that has no room is left out.
        at = self._at
        if at + len(code) - put > _WHY_MAX:
            return
        if at > put:
            self.buf[at] = 44
            at += 1
        self._at = self._copy(self.buf, at, code, len(code))

    def _ready(self, model_id):
        if len(self._heads) == _MODELS:
            self._heads.clear()
        self._heads[model_id] = heads = [(_HEAD % (word, str(model_id, "utf-8"))).encode() for word in _WORDS]
        return heads

    def close(self, us: int, record: int = -1) -> int:
        """Close the frame with the latency `us`, microseconds, and its `record` (-1: none); returns its length."""
        numbers = self._numbers
        numbers[5] = us
        numbers[6] = record
        us = self._fill(self.buf, self._at, _END if record < 0 else _END_RECORD, numbers)
        return self._finish(self.buf, us, CRC_TABLE)
