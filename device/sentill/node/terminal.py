"""The terminal's side of the node: requests in, verdicts out; feedback in."""

from binascii import unhexlify
from gc import collect
from struct import calcsize, pack_into

from sentill.compat import MISSING, const, ticks_diff, ticks_us
from sentill.errors import FrameError, SentillError
from sentill.journal import chain
from sentill.risk.features import KNOWN
from sentill.wire.port import parse
from sentill.wire.protocol import argument
from sentill.wire.request_verdict import Lately, Request, Verdict

# Slots of a request, as in wire/values.py: a constant costs nothing where a look-up would.
_Q = const(0)
_REF = const(1)
_T = const(2)
_AMT = const(3)
_PM = const(4)
_PN = const(5)
_PH = const(6)
_CARD = const(7)
_CARD_LEN = const(8)
_REVIEW = const(1)
_DECLINE = const(2)
_FORMAT = chain.VERDICT_FORMAT
_HEAD = calcsize(_FORMAT)  # bytes of its record before the reasons
_MOST_WHY = const(72)
_NO_MODEL = b"no_model"
_TAMPERED = b"tampered"
_MODELS = const(4)
_MAX_TIME = const(0x3FFFFFFF)
_AHEAD_S = const(3600)  # that a request may be ahead of the node's clock
_ANSWER = const(1)
_RECORD = const(2)
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
        self.latest = 0  # the greatest t of a request that need not be held against the node's clock
        self.due = 0  # node time from which another leap is told
        self.state = 0  # to the request that is being judged: _ANSWER, then _RECORD
        self.busy = False  # inside the assessor: an interrupt now leaves its history half changed
        self.repeated = 0  # answers given once more
        self._request = Request()
        self._fields = self._request.fields
        self._verdict = Verdict()
        self._lately = Lately()
        self._way_us = 0  # from the reading of the clock for a verdict until that has gone out, the time before
        self._told = b""  # the latest feedback that was taken
        self._models: dict = {}
        self._payload = memoryview(bytearray(chain.MAX_PAYLOAD))
        self._plain = self._payload[:_HEAD]

    def judge(self, port) -> None:
        """Answer the T frame that port.reader has found: with what it was answered before, when it is asked again.

        Raises what the assessor raises, after an answer with the code "crash". When there is no room in the heap, the
        code is "memory"; behind the verdict, it is counted as not recorded.
        """
        self.state = _ANSWER
        try:
            self._judge(port)
        except MISSING:
            self._full(port)
        except Exception:
            self._crashed(port)
            raise

    # The way of a plain request is cut so that every frame stays within eleven locals, stack slots and exception
    # blocks: MicroPython takes larger ones from the heap.

    def _judge(self, port):
        if not self._request.scan(port.reader) and not self._parse(port):
            return
        port.sequence.seen(self._fields[_Q])
        answer = self._lately.recall(self._request)
        if answer and not self._tamper.refusing:
            self._send(port, answer)
            self.repeated = _more(self.repeated)
            return
        answer = self._lately.next()
        self._assess(answer)
        self._send(port, answer)
        self.state = _RECORD
        self._keep(answer)

    def _assess(self, answer) -> None:
        f = self._fields
        answer.record = self.audit.next()
        if self.assessor is None or self._tamper.refusing:
            self._refer(answer)
            return
        if self.blocked:
            self.assessor.blocked = b" " + bytes(self._request.token()) + b" " in self.blocked
        self.busy = True
        if f[_T] > self.latest:
            answer.code = self.advance(f)
        else:
            answer.code = self.assessor.judge(f[_T], f[_AMT], f[_PM], f[_PN], f[_PH])
        self.busy = False
        self._take(answer, self.assessor)

    def advance(self, f) -> int:
        """Judge a request that is later than any before: because time goes on, or the terminal's clock is wrong."""
        node = self.audit.node
        t = f[_T]
        self.latest = _MAX_TIME
        if node.hal.clock_set:
            now = node.hal.now_s()
            self.latest = now + _AHEAD_S
            if t > self.latest:
                t = now  # else the terminal's history would stand still until then
                if now >= self.due:
                    self.due = now + _AHEAD_S
                    node.event("leap", [("at", f[_T])], chain.ERROR)
        self.assessor.ahead = f[_T] - t
        t = self.assessor.judge(t, f[_AMT], f[_PM], f[_PN], f[_PH])
        self.assessor.ahead = 0
        return t

    def _refer(self, answer):
        answer.score = answer.review = answer.decline = 0
        answer.model = b""
        answer.code = _DECLINE if self._tamper.refusing else _REVIEW
        answer.reasons[0] = _TAMPERED if self._tamper.refusing else _NO_MODEL
        answer.n = 1

    def _take(self, answer, assessor) -> None:
        by = assessor.by
        answer.model = by.id
        answer.review = by.review
        answer.decline = by.decline
        answer.score = assessor.score
        answer.n = n = assessor.n_reasons
        while n:
            n -= 1
            answer.reasons[n] = assessor.reasons[n]

    def _send(self, port, answer) -> None:
        # The latency goes into the frame, so its end comes last.
        self._verdict.open(port.next_q(), self._fields[_REF], answer)
        us = ticks_us()
        n = self._verdict.close(ticks_diff(us, port.stream.came_us) + self._way_us, answer.record)
        port.put(self._verdict.view, n)
        self._way_us = ticks_diff(ticks_us(), us)

    def _keep(self, answer):
        # Behind the verdict, which does not wait for it.
        f = self._fields
        if answer.model:  # it was judged
            self.busy = True
            self.assessor.remember(f[_REF], f[_AMT], f[_PM], f[_PN])
            self.busy = False
        self._lately.remember(self._request)
        self.code = code = answer.code
        if self.verdicts[code] < _MAX_COUNT:
            self.verdicts[code] += 1
        self._record(answer, f)

    def _record(self, answer, f):
        payload = self._payload
        card = self._vault.card.tag_of(self._request.view, f[_CARD], f[_CARD_LEN])
        model = self._models.get(answer.model) or self._add_model(answer.model)
        pack_into(_FORMAT, payload, 0, f[_REF], f[_AMT], answer.score, answer.code, model, card)  # 8 bytes of the card
        if answer.code:
            why = b",".join(answer.reasons[: answer.n])[:_MOST_WHY]
            payload[_HEAD : _HEAD + len(why)] = why
            payload = payload[: _HEAD + len(why)]
        else:
            payload = self._plain
        self.state = 0  # whatever becomes of it there, it is counted
        self.audit.verdict(payload)

    def _add_model(self, model):
        # The 4 bytes that stand for a model in a record.
        if len(self._models) == _MODELS:
            self._models.clear()
        self._models[model] = (unhexlify(model) + bytes(4))[:4]
        return self._models[model]

    def feedback(self, port) -> bool:
        """Answer the P frame that port.reader has found; whether it was let in."""
        ref = 0
        try:
            fields = parse(port, self.guard)
            ref = argument(fields, "ref", 0, 0xFFFFFFFF)
            argument(fields, "fraud", 1, 1)
            signed = port.reader.object()
            if signed == self._told:  # word for word: its answer was lost
                port.send("R", [("re", port.asked), ("ok", True)])
                return True
            if self._vault.generation:
                self._vault.admit(_UART, "uart P ", signed, fields.get("c"))
            if self.assessor is None:
                raise SentillError("state", "no model, so no history")
            self.busy = True
            known = self.assessor.feedback(ref)
            self.busy = False
            if not known:
                raise SentillError("unknown", "no such transaction, or older than 7 days")
        except SentillError as error:
            self._refuse(port, port.asked, error, ref)
            return False
        except MISSING:
            self.busy = False
            self.tell(port, port.asked, ref, "memory")
            return False
        self._told = signed
        if known != KNOWN:  # or its answer was lost
            self.frauds = _more(self.frauds)
            self.audit.note(chain.FEEDBACK, [("ref", ref)])
        port.send("R", [("re", port.asked), ("ok", True)])
        return True

    def _parse(self, port) -> bool:
        # What is no plain request: right all the same, or refused.
        try:
            self._request.parse(port.reader, self.guard)
        except FrameError as error:
            # A PAN cannot be in here: integers of 32 bits have at most 10 digits.
            self._refuse_request(port, error)
            return False
        return True

    def _full(self, port):
        self._give_up(port, "memory")
        collect()

    def _crashed(self, port):
        self._give_up(port, "crash")

    def _give_up(self, port, code) -> None:
        # For what went wrong, in whatever was under way; takes no heap, because that may be why.
        self.busy = False
        if self.state == _RECORD:
            self.audit.count(chain.VERDICT)
        elif self.state:
            self.refused = _more(self.refused)
            q = self._request.fields[_Q]
            try:
                self.tell(port, q, self._request.fields[_REF], code)
            except MemoryError:  # on 32 bits a large ref is an object
                self.tell(port, q, 0, code)

    def _refuse_request(self, port, error) -> None:
        self._refuse(port, self._request.fields[_Q], error, self._request.fields[_REF])

    def _refuse(self, port, q, error, ref):
        self.refused = _more(self.refused)
        try:
            port.send("R", [("re", q), ("ref", ref), ("ok", False), ("err", error.code), ("msg", error.message)])
        except MemoryError:
            self.tell(port, q, ref, error.code)

    def tell(self, port, q, ref, code):
        """Refuse a request or feedback without taking heap."""
        port.tell(b'#R {"q":\x01,"re":\x02,"ref":\x0b,"ok":false,\0', q, ref, "err", code)


def _more(count):
    return count + 1 if count < _MAX_COUNT else count
