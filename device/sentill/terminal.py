"""The terminal's side of the node: requests in, verdicts out; feedback in."""

from binascii import unhexlify
from struct import pack

from . import journal, protocol, wire
from .compat import const, ticks_diff, ticks_us
from .errors import FrameError, SentillError
from .exchange import Request, Verdict, is_int

_WORDS = (b"approve", b"review", b"decline")
_REVIEW = const(1)
_NO_MODEL = b"no_model"
_MAX_COUNT = const(0x3FFFFFFF)


class Terminal:
    """Judges requests with `assessor` (risk.Assessor), which may be None: then every verdict is review.

    Verdicts go to `audit`, with the first 8 bytes of `token(card)` for the card. `guard(bytes)` tells whether bytes
    look like a card number. Counters: `verdicts` by code, `refused` requests and
    feedback.
    """

    def __init__(self, assessor, guard, audit, token):
        self.assessor = assessor
        self.audit = audit
        self.token = token
        self.guard = guard
        self.verdicts = [0, 0, 0]
        self.frauds = 0
        self.refused = 0
        self.busy = False  # inside the assessor: an interrupt now leaves its history half changed
        self._request = Request()
        self._verdict = Verdict()

    def judge(self, port, started_us) -> None:
        """Answer the T frame that port.reader has found; `started_us` is ticks_us when its line was complete.

        Raises what the assessor raises, after an answer with the code "crash".
        """
        request = self._request
        fields = request.fields
        try:
            request.parse(port.reader, self.guard)
        except FrameError as error:
            # A PAN cannot be in here: integers of 32 bits have at most 10 digits.
            self._refuse(port, fields[wire.Q], error, fields[wire.REF])
            return
        port.sequence.seen(fields[wire.Q])
        try:
            code = self._assess(fields, port.next_q())
        except Exception:
            self.busy = False
            self._refuse(
                port, fields[wire.Q], SentillError("crash", "the request could not be judged"), fields[wire.REF]
            )
            raise
        verdict = self._verdict
        record = self.audit.next()
        port.put(verdict.view, verdict.end(ticks_diff(ticks_us(), started_us), record))
        self._record(fields, code)
        count = self.verdicts
        if count[code] < _MAX_COUNT:
            count[code] += 1

    def _assess(self, f, q):
        # Assesses the request and writes all of the verdict but its end.
        assessor = self.assessor
        verdict = self._verdict
        if assessor is None:
            verdict.begin(q, f[wire.REF], _WORDS[_REVIEW], 0)
            verdict.model(0, 0, b"")
            verdict.reason(_NO_MODEL)
            return _REVIEW
        ref = f[wire.REF]
        self.busy = True
        code = assessor.assess(ref, f[wire.T], f[wire.AMT], f[wire.PM], f[wire.PN], f[wire.PH])
        self.busy = False
        verdict.begin(q, ref, _WORDS[code], assessor.score)
        verdict.model(assessor.review, assessor.decline, assessor.model)
        i = 0
        while i < assessor.n_reasons:
            verdict.reason(assessor.reasons[i])
            i += 1
        return code

    def _record(self, f, code):
        # Behind the verdict, which does not wait for it.
        assessor = self.assessor
        token = self.token(self._request.token())[:8]
        if assessor is None:
            head = pack(journal.VERDICT_FORMAT, f[wire.REF], f[wire.AMT], 0, code, b"", token)
            self.audit.record(journal.VERDICT, head + _NO_MODEL)
            return
        model = unhexlify(assessor.model)
        head = pack(journal.VERDICT_FORMAT, f[wire.REF], f[wire.AMT], assessor.score, code, model, token)
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
