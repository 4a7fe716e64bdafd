"""The terminal's side of the node: requests in, verdicts out; feedback in."""

from binascii import unhexlify
from struct import pack

from . import journal, protocol
from .compat import const, ticks_diff, ticks_us
from .errors import FrameError, SentillError
from .exchange import Request, Verdict, is_int

# Slots of a request, as in wire.py: a constant costs nothing where a look-up would.
_Q = const(0)
_REF = const(1)
_T = const(2)
_AMT = const(3)
_PM = const(4)
_PN = const(5)
_PH = const(6)
_REVIEW = const(1)
_DECLINE = const(2)
_NO_MODEL = b"no_model"
_TAMPERED = b"tampered"
_UART = const(1)  # its counter in the vault
_MAX_COUNT = const(0x3FFFFFFF)


class Terminal:
    """Judges requests with `assessor` (risk.Assessor), which may be None: then every verdict is review.

    Verdicts go to `audit`, with a token of `vault` for the card; while `tamper` refuses, they are all decline.
    `guard(bytes)` tells whether bytes look like a card number. Counters: `verdicts` by code, `refused` requests and
    feedback.
    """

    def __init__(self, assessor, guard, audit, vault, tamper):
        self.assessor = assessor
        self.audit = audit
        self._vault = vault
        self._tamper = tamper
        self.guard = guard
        self.blocked = b""  # tokens of blocked cards, with a space before and behind each
        self.verdicts = [0, 0, 0]
        self.code = 0  # of the latest verdict
        self.frauds = 0
        self.refused = 0
        self.busy = False  # inside the assessor: an interrupt now leaves its history half changed
        self._request = Request()
        self._verdict = Verdict()

    def judge(self, port, started_us) -> None:
        """Answer the T frame that port.reader has found; `started_us` is ticks_us when its line was complete.

        Raises what the assessor raises, after an answer with the code "crash".
        """
        if not self._request.scan(port.reader) and not self._parse(port):
            return
        port.sequence.seen(self._request.fields[_Q])
        self._answer(port)
        self._send(port, started_us)
        self._record(self._request.fields, self.code)
        if self.verdicts[self.code] < _MAX_COUNT:
            self.verdicts[self.code] += 1

    # The way of a plain request is cut so that every frame stays within eleven locals, stack slots and exception
    # blocks: MicroPython takes larger ones from the heap.

    def _answer(self, port) -> None:
        try:
            self._assess(port, self._request.fields)
        except Exception:
            self._crashed(port)
            raise

    def _assess(self, port, f) -> None:
        # Assesses the request and writes all of the verdict but its end.
        assessor = self.assessor
        if assessor is None or self._tamper.refusing:
            self._verdict.begin(port.next_q(), f[_REF], 0, 0, 0)
            self.code = _DECLINE if self._tamper.refusing else _REVIEW
            self._verdict.model(self.code, b"")
            self._verdict.reason(_TAMPERED if self._tamper.refusing else _NO_MODEL)
            return
        self.busy = True
        self.code = self._ask(f)
        self.busy = False
        self._verdict.begin(port.next_q(), f[_REF], assessor.score, assessor.review, assessor.decline)
        self._verdict.model(self.code, assessor.model)
        self._reasons(assessor.reasons, assessor.n_reasons)

    def _reasons(self, codes, n: int) -> None:
        i = 0
        while i < n:
            self._verdict.reason(codes[i])
            i += 1

    def _ask(self, f) -> int:
        if self.blocked:
            self.assessor.blocked = b" " + self._request.token() + b" " in self.blocked
        return self.assessor.assess(f[_REF], f[_T], f[_AMT], f[_PM], f[_PN], f[_PH])

    def _send(self, port, started_us) -> None:
        # The latency goes into the frame, so its end comes last.
        started_us = self._verdict.end(ticks_diff(ticks_us(), started_us), self.audit.next())
        port.put(self._verdict.view, started_us)

    def _record(self, f, code):
        # Behind the verdict, which does not wait for it.
        assessor = self.assessor
        token = self._vault.card.tag(self._request.token())[:8]
        if assessor is None or self._tamper.refusing:
            head = pack(journal.VERDICT_FORMAT, f[_REF], f[_AMT], 0, code, b"", token)
            self.audit.record(journal.VERDICT, head + (_TAMPERED if self._tamper.refusing else _NO_MODEL))
            return
        model = unhexlify(assessor.model)
        head = pack(journal.VERDICT_FORMAT, f[_REF], f[_AMT], assessor.score, code, model, token)
        if code:
            head += b",".join(assessor.reasons[: assessor.n_reasons])
        self.audit.record(journal.VERDICT, head[: journal.MAX_PAYLOAD])

    def feedback(self, port) -> None:
        """Answer the P frame that port.reader has found."""
        ref = 0
        try:
            fields = parse(port, self.guard)
            ref = argument(fields, "ref", 0, 0xFFFFFFFF)
            argument(fields, "fraud", 1, 1)
            if self._vault.generation:
                self._vault.admit(_UART, "uart P ", port.reader.object(), fields.get("c"))
            if self.assessor is None:
                raise SentillError("state", "no model, so no history")
            self.busy = True
            known = self.assessor.feedback(ref)
            self.busy = False
            if not known:
                raise SentillError("unknown", "no such transaction, or older than 7 days")
        except SentillError as error:
            self._refuse(port, port.asked, error, ref)
            return
        if self.frauds < _MAX_COUNT:
            self.frauds += 1
        self.audit.note(journal.FEEDBACK, [("ref", ref)])
        port.send("R", [("re", port.asked), ("ok", True)])

    def _parse(self, port) -> bool:
        # What is no plain request: right all the same, or refused.
        try:
            self._request.parse(port.reader, self.guard)
        except FrameError as error:
            # A PAN cannot be in here: integers of 32 bits have at most 10 digits.
            self._refuse_request(port, error)
            return False
        return True

    def _crashed(self, port) -> None:
        self.busy = False
        self._refuse_request(port, SentillError("crash", "the request could not be judged"))

    def _refuse_request(self, port, error) -> None:
        self._refuse(port, self._request.fields[_Q], error, self._request.fields[_REF])

    def _refuse(self, port, q, error, ref):
        if self.refused < _MAX_COUNT:
            self.refused += 1
        port.send("R", [("re", q), ("ref", ref), ("ok", False), ("err", error.code), ("msg", error.message)])


def parse(port, guard) -> dict:
    """The fields of the frame that port.reader has found; its q is in `port.asked`.

    Raises FrameError "pan" when the frame holds what looks like a card number, or as protocol.parse_fields.
    """
    port.asked = 0
    data = port.reader.object()
    fields = protocol.parse_fields(data)
    q = fields.get("q")
    if is_int(q) and 0 < q <= protocol.MAX_Q:
        port.sequence.seen(q)
        port.asked = q
    if guard(data):
        raise FrameError("pan", "looks like a card number; send a token")
    return fields


def argument(fields: dict, key: str, least: int, most: int) -> int:
    """An integer field within least..most. Raises FrameError "field" or "range", naming the key and the range."""
    value = fields.get(key)
    if not is_int(value):
        raise FrameError("field", "%s must be an integer" % key)
    if not least <= value <= most:
        raise FrameError("range", "%s must be %d..%d" % (key, least, most))
    return value
