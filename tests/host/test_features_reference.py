"""The features against their definitions, computed the slow way from the list of all transactions."""

from array import array
from io import BytesIO
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from sentill.risk.card_profile import Profile
from sentill.risk.features import KNOWN, NAMES, History, N

DAY = 86_400
DELAY = 7 * DAY
NEVER = 32_767
CAP = 2**30 - 1


class Row(NamedTuple):
    """One transaction and when the history counts it: 7 days on, or earlier where the ring was full."""

    ref: int
    t: int
    amt: int
    pm: int
    pn: int
    fraud: bool


def ratio(amt: int, mean: int) -> int:
    return min(amt * 64 // (mean + 1), 32_767)


def explained(row: Row) -> bool:
    return row.amt > 22_000 or (row.pn >= 5 and ratio(row.amt, row.pm) > 144)


def defined(resolved: list[Row], early: list[Row], now: int, amt: int, pm: int, pn: int, ph: int) -> dict[str, int]:
    """Every feature from its definition; `early` are those of `resolved` that a full ring resolved early."""
    frauds = [r for r in resolved if r.fraud]
    genuine = [r for r in resolved if not r.fraud]
    trailing = 0
    while trailing < len(resolved) and resolved[-1 - trailing].fraud == resolved[-1].fraud:
        trailing += 1
    newest_is_fraud = bool(resolved) and resolved[-1].fraud
    latest_run: list[Row] = []
    for r in reversed(resolved):
        if r.fraud:
            latest_run.append(r)
        elif latest_run:
            break
    end = max([(now - DELAY) // DAY, 0] + [r.t // DAY for r in early])
    window = [r for r in resolved if end - 30 < r.t // DAY <= end]
    values = {
        "L_amt": amt,
        "F_runf": trailing if newest_is_fraud else 0,
        "F_rung": 0 if newest_is_fraud else trailing,
        "F_hfirst": (now - latest_run[-1].t) // 3_600 if latest_run else NEVER,
        "F_hlast": (now - frauds[-1].t) // 3_600 if frauds else NEVER,
        "F_hgen": (now - genuine[-1].t) // 3_600 if genuine else NEVER,
        "F_n30": len(window),
        "F_f30": sum(r.fraud for r in window),
        "G_unx30": sum(r.fraud and not explained(r) for r in window),
        "G_rew": ratio(amt, pm) if pn else 0,
        "G_ewmean": pm if pn else 0,
        "G_hi7": ph if pn else 0,
    }
    return {name: min(value, 32_767) for name, value in values.items()}


steps = st.one_of(st.integers(-5, 3 * DAY), st.sampled_from([0, 1, DAY, DELAY, DELAY - 1, 36 * DAY, 400 * DAY, -DAY]))
amounts = st.one_of(st.integers(0, 40_000), st.sampled_from([22_000, 22_001, CAP]))
events = st.tuples(
    steps,
    amounts,
    st.integers(0, 65_535),
    st.integers(0, 255),
    st.integers(0, 255),
    st.integers(0, 9),
    st.integers(0, 12),
)


@settings(max_examples=400, deadline=None)
@given(st.sampled_from([0, 60 * DAY]), st.sampled_from([1, 4, 64]), st.lists(events, max_size=60))
def test_features_are_what_they_are_defined_to_be(start: int, capacity: int, run: list) -> None:
    history = History(capacity)
    x = array("h", bytes(2 * N))
    t, now = start, 0
    pending: list[Row] = []
    resolved: list[Row] = []
    early: list[Row] = []
    for step, amt, pm, pn, ph, ref, fed in run:
        t = max(0, t + step)
        now = max(now, t)
        while pending and pending[0].t + DELAY <= now:
            resolved.append(pending.pop(0))
        history.fill(x, t, amt, pm, pn, ph)
        assert dict(zip(NAMES, x, strict=True)) == defined(resolved, early, now, amt, pm, pn, ph)
        new = ref not in [r.ref for r in pending]
        if new:
            if len(pending) == capacity:
                early.append(pending.pop(0))
                resolved.append(early[-1])
            pending.append(Row(ref, now, amt, pm, pn, False))
        assert history.add(ref, t, amt, pm, pn, ph) is new
        known = [i for i, r in enumerate(pending) if r.ref == fed]
        # 1 for news, KNOWN for what was told before, 0 for what is not pending.
        assert history.feedback(fed) == (0 if not known else KNOWN if pending[known[0]].fraud else 1)
        for i in known:
            pending[i] = pending[i]._replace(fraud=True)
        other = History(capacity)
        image = BytesIO()
        history.save(image.write)
        image.seek(0)
        other.restore(image.readinto, len(image.getvalue()))
        if t % 3 == 0:
            history = other  # power was cut here
        t = now
    assert history.overflows == len(early)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2 * DAY), amounts), max_size=80))
def test_profiles_are_what_they_are_defined_to_be(run: list[tuple[int, int]]) -> None:
    profile = Profile()
    t = mean = 0
    high: list[int] = []
    for n, (step, amt) in enumerate(run):
        t += step
        assert profile.at(t) == (mean, min(n, 255), sum(h >= t - DELAY for h in high))
        profile.update(amt, t)
        if n == 0:
            mean = min(amt, 22_000)
        else:
            if n >= 5 and ratio(amt, mean) > 144:
                high.append(t)
            mean = min(mean + (min(amt, 5 * mean // 2) - mean) // (min(n, 32) + 1), 65_535)
