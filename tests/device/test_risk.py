"""Verdicts: which model, which thresholds, which reasons; facts for hard rules; no allocation; reboots."""

from array import array

import support
from sentill.errors import StorageError
from sentill.risk import assess as risk
from sentill.risk import features
from sentill.risk.assess import Assessor
from sentill.risk.features import History, N
from sentill.risk.model import Model

DAY = 86_400
T0 = 2_000 * DAY
BIG_REF = 0xFFFF_FFF0


def assess(a, ref, t, amt, pm, pn, ph):
    """Judge and remember, as the terminal does for every request."""
    code = a.judge(t, amt, pm, pn, ph)
    a.remember(ref, amt, pm, pn)
    return code


def shipped(name):
    return Model.load(support.device_path("models/" + name + ".stm"), features.SCHEMA_ID)


def assessor(capacity=64):
    return Assessor(History(capacity), shipped("profile"), shipped("local"))


class Recorded:
    """Stands for a model: remembers its input, gives the score, rule and action it was told to."""

    def __init__(self, score=0, rule=-1, action=-1, n_inputs=N):
        self.model_id = "0123abcd"
        self.review, self.decline = 10, 20
        self.reasons, self.rules = ("F_runf", "L_amt", "G_rew", "G_hi7"), ("BLOCKED", "LIMIT")
        self.n_inputs = n_inputs
        self.value, self.hit, self.wanted = score, rule, action
        self.left = 4

    def score(self, x):
        self.x = list(x)
        return self.value

    def rule(self, x):
        self.action = self.wanted
        return self.hit

    def explain(self, x):
        self.left = 4

    def next_reason(self):
        self.left -= 1
        return self.left


def test_the_thresholds_part_the_verdicts():
    model = Recorded()
    a = Assessor(History(8), model, model)
    for ref, (score, verdict) in enumerate(((-5, 0), (9, 0), (10, 1), (19, 1), (20, 2), (500, 2))):
        model.value = score
        found = assess(a, ref, T0, 100, 0, 0, 0)
        assert (found, a.verdict, a.score) == (verdict, verdict, score), (score, found, a.score)
        assert (a.by.review, a.by.decline, a.by.id) == (10, 20, b"0123abcd"), (a.by.review, a.by.decline, a.by.id)
        assert a.reasons[: a.n_reasons] == [b"G_hi7", b"G_rew", b"L_amt"], a.reasons


def test_a_hard_rule_comes_first():
    for action, verdict in ((0, 0), (1, 1), (2, 2), (-1, 2)):
        model = Recorded(99, 1, action)
        a = Assessor(History(8), model, model)
        assert assess(a, 1, T0, 100, 0, 0, 0) == verdict, (action, a.verdict)
        assert a.reasons[: a.n_reasons] == [b"LIMIT", b"G_hi7", b"G_rew"], a.reasons


def test_the_model_sees_what_fill_writes_and_the_facts():
    model = Recorded(n_inputs=N + 4)
    a = Assessor(History(8), model, model)
    h = History(8)
    x = array("h", bytes(2 * N))
    for i in range(30):
        t, amt, pm, pn, ph = T0 + i * DAY + 13 * 3600, 10_000 * i, 700 * i, 9 * (i % 2), i
        h.fill(x, t, amt, pm, pn, ph)
        a.blocked = i % 3 == 0
        assess(a, i, t, amt, pm, pn, ph)
        h.add(i, t, amt, pm, pn, ph)
        wanted = list(x) + [100 * i, 13, (t // DAY) % 7, int(a.blocked)]
        assert model.x == wanted, (model.x, wanted)
        if i % 4 == 0:
            assert a.feedback(i) and h.feedback(i)
    assess(a, 99, T0 + 40 * DAY, 2**30 - 1, 0, 0, 0)
    assert model.x[N] == 32_767, model.x
    assert support.saved(a) != support.saved(h)
    h.add(99, T0 + 40 * DAY, 2**30 - 1, 0, 0, 0)
    h.advance(T0 + 40 * DAY)
    assert support.saved(a) == support.saved(h)


def test_no_profile_takes_the_second_model():
    profile, local = shipped("profile"), shipped("local")
    a = Assessor(History(8), profile, local)
    assess(a, 1, T0, 5_000, 4_000, 9, 0)
    assert a.by.id == profile.model_id.encode(), a.by.id
    assert (a.by.review, a.by.decline) == (profile.review, profile.decline)
    assess(a, 2, T0, 5_000, 0, 0, 0)
    assert a.by.id == local.model_id.encode(), a.by.id
    assert (a.by.review, a.by.decline) == (local.review, local.decline)


def test_the_shipped_models_know_the_obvious():
    for pm, pn in ((4_000, 20), (0, 0)):
        a = assessor()
        for i in range(12):  # a quiet terminal
            assess(a, i, T0 + i * DAY, 4_000, pm, pn, 0)
        assert a.verdict == risk.APPROVE, (a.score, a.by.review)
        quiet = a.score
        assess(a, 20, T0 + 12 * DAY, 31_000, pm, pn, 0)
        assert a.score > quiet and a.verdict > risk.APPROVE, (a.score, quiet)
        assert b"L_amt" in a.reasons[: a.n_reasons], a.reasons
        for i in range(30, 42):  # compromised for twelve days
            assess(a, i, T0 + (i - 17) * DAY, 4_000, pm, pn, 0)
            a.feedback(i)
        assess(a, 50, T0 + 25 * DAY, 4_000, pm, pn, 0)
        assert a.score > quiet and a.verdict > risk.APPROVE, (a.score, quiet)
        codes = a.reasons[: a.n_reasons]
        assert any(code.startswith(b"F_") or code == b"G_unx30" for code in codes), codes


def test_a_repeated_request_is_judged_again_and_counted_once():
    a = assessor()
    assess(a, BIG_REF, T0, 5_000, 4_000, 9, 0)
    first = (a.verdict, a.score, a.duplicate)
    assess(a, BIG_REF, T0, 5_000, 4_000, 9, 0)
    assert (a.verdict, a.score) == first[:2], (a.score, first)
    assert (first[2], a.duplicate, a.history.pending) == (False, True, 1), a.history.pending


def test_a_reboot_changes_no_verdict():
    a, b = assessor(), assessor()
    for i in range(60):
        image = support.saved(a)
        b = assessor()
        support.restored(b, image)
        request = (BIG_REF - i, T0 + i * DAY // 3, 700 * (i % 40), 4_000, 9 if i % 5 else 0, i % 3)
        assess(a, *request)
        assess(b, *request)
        assert (a.verdict, a.score, a.by.id) == (b.verdict, b.score, b.by.id), i
        assert a.reasons[: a.n_reasons] == b.reasons[: b.n_reasons], (a.reasons, b.reasons)
        if i % 4 == 1:
            assert a.feedback(BIG_REF - i) and b.feedback(BIG_REF - i)
        assert support.saved(a) == support.saved(b), i
    before = support.saved(b)
    support.raises(StorageError, support.restored, b, b"STH0" + image[4:])
    assert support.saved(b) == before


def test_a_verdict_allocates_nothing():
    a = assessor()
    rules = shipped("rules")
    ruled = Assessor(History(64), rules, rules)
    clock = [T0]

    def run(who, pn):
        clock[0] += DAY // 2
        who.judge(clock[0], 25_000, 3_000, pn, 2)
        who.remember(clock[0], 25_000, 3_000, pn)

    for who in (a, ruled):
        for i in range(40):
            run(who, 9)
            if i % 3:
                who.feedback(clock[0])
        support.no_alloc(lambda: run(who, 9))
        support.no_alloc(lambda: run(who, 0))
        support.no_alloc(lambda: who.feedback(clock[0]))
        assert who.n_reasons, "reasons were part of it"


def test_what_both_models_say_is_in_memory_once():
    a = assessor()
    assert a._local.codes is a._profile.codes and len(a._local.codes) == features.N
    assert a._local.rules is a._profile.rules
