"""A transaction in, a verdict out: approve, review or decline, with score, thresholds, model and reasons.

    assessor = Assessor(History(512), profile_model, local_model)
    code = assessor.judge(t, amt, pm, pn, ph)
    assessor.score, assessor.by.review, assessor.by.decline, assessor.by.id
    assessor.reasons[: assessor.n_reasons]
    assessor.remember(ref, amt, pm, pn)             # after the answer: it need not wait for that

Requests without a card profile (`pn` = 0) go to the second model, which knows only the terminal's own history.
"""

from array import array

from sentill.compat import const

from .amount_ratio import explained, ratio_q6
from .features import History, N

APPROVE = 0
REVIEW = 1
DECLINE = 2
MAX_REASONS = 3

_N = const(12)
_MAX16 = const(32_767)
_MAX_REASONS = const(3)
_FACTS = const(4)  # amount in whole units, hour, weekday, blocked: see model_file.FACTS


class Assessor:
    """Judges the transactions of one terminal. Attributes hold the latest verdict, until the next `judge`:

    `verdict` (0 approve, 1 review, 2 decline), `score`, `reasons` (a list of codes as bytes, the weightiest first,
    `n_reasons` of them valid), `duplicate`, whether the ref was pending already, and `by`: its `review` and `decline`
    are the thresholds, its `id` is the model's, 8 hex digits as bytes. `blocked` is for the caller to set before
    `judge`: whether the card is on the block list, a fact for hard rules.
    """

    def __init__(self, history: History, profile, local):
        self.history = history
        self.blocked = False
        self.verdict = self.score = self.n_reasons = 0
        self.duplicate = False
        self.ahead = 0  # seconds by which the hour and the weekday of the next request are later than its `t`
        self.reasons = [b""] * MAX_REASONS
        self._x = array("h", bytes(2 * (N + _FACTS)))  # always this one: a model checks an array it has not seen
        self.use(profile, local)

    def use(self, profile, local) -> None:
        """Judge with these models (tree.Model) from now on: `profile` with a card profile, `local` without."""
        self.by = self._profile = _Judge(profile)
        self._local = _Judge(local)
        if self._local.codes == self._profile.codes:
            self._local.codes = self._profile.codes
        if self._local.rules == self._profile.rules:
            self._local.rules = self._profile.rules
        self._facts = max(profile.n_inputs, local.n_inputs) > N

    # At most 11 locals and stack slots per function on the hot path: MicroPython takes larger frames from the heap. So
    # the steps of `History.fill` and `add`, which take 6 arguments each, are called one by one.

    def judge(self, t: int, amt: int, pm: int, pn: int, ph: int) -> int:
        """Judge a transaction; returns the verdict. Allocates nothing.

        `t` seconds, `amt` cents; profile of the card: robust mean `pm` (cents, 0..65535), count `pn` (0..255, 0 for no
        profile), high-ratio count `ph` (0..255).
        """
        x = self._x
        self.history.own(x, t)
        x[0] = amt if amt < _MAX16 else _MAX16
        if pn:
            x[9] = ratio_q6(amt, pm)
            x[10] = pm if pm < _MAX16 else _MAX16
            x[11] = ph
        else:
            x[9] = x[10] = x[11] = 0
        if self._facts:
            self._add_facts(t + self.ahead, amt)
        self._judge(self._profile if pn else self._local)
        return self.verdict

    def remember(self, ref: int, amt: int, pm: int, pn: int) -> None:
        """Remember what was just judged, as `ref` (0..2^32-1), until its label is known; allocates nothing.

        A ref that is pending already is remembered once.
        """
        amt = explained(amt, pm, pn)  # a local of its own would be the 12th slot
        self.duplicate = not self.history.put(ref, amt)

    def _add_facts(self, t: int, amt: int) -> None:
        x = self._x
        amt //= 100
        x[_N] = amt if amt < _MAX16 else _MAX16
        x[_N + 1] = t // 3_600 % 24
        x[_N + 2] = t // 86_400 % 7  # node time begins on a Monday
        x[_N + 3] = 1 if self.blocked else 0

    def _judge(self, judge) -> None:
        x = self._x
        self.by = judge
        self.score = v = judge.score(x)
        self.verdict = 0 if v < judge.review else 1 if v < judge.decline else 2
        n = 0
        if judge.rules:
            v = judge.rule(x)
            if v >= 0:
                self.reasons[0] = judge.rules[v]
                n = 1
                if judge.model.action >= 0:
                    self.verdict = judge.model.action
        judge.explain(x)
        while n < _MAX_REASONS:
            v = judge.next_reason()
            if v < 0:
                break
            self.reasons[n] = judge.codes[v]
            n += 1
        self.n_reasons = n

    def feedback(self, ref: int) -> int:
        """Note that transaction `ref` was a fraud: as features.History.feedback, 0 for unknown or older than 7 days."""
        return self.history.feedback(ref)

    def save(self, write) -> None:
        """Hand to `write(bytes)` what has to survive a reboot: the history, unresolved ones and feedback included."""
        self.history.save(write)

    def restore(self, readinto, size: int) -> None:
        """Take over what `save` gave. Raises StorageError, changing nothing, when it is of another version."""
        self.history.restore(readinto, size)


class _Judge:
    # A model with its texts as bytes, ready for the wire, and what every request asks of it close at hand.
    def __init__(self, model):
        self.model = model
        self.review = model.review
        self.decline = model.decline
        self.score = model.score
        self.rule = model.rule
        self.explain = model.explain
        self.next_reason = model.next_reason
        self.id = model.model_id.encode()
        self.codes = [code.encode() if isinstance(code, str) else bytes(code) for code in model.reasons]
        self.rules = [code.encode() if isinstance(code, str) else bytes(code) for code in model.rules]
