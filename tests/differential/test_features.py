"""Features and card profiles are the same integers on every interpreter."""

from hypothesis import given
from hypothesis import strategies as st

DAY_S = 86_400
CAP = 2**30 - 1

# Steps across what the window is made of: hours, days, the 7 days of feedback, its 30 days; and back.
steps_s = st.sampled_from(
    [0, 1, 60, 3_599, 3_600, DAY_S - 1, DAY_S, 7 * DAY_S - 1, 7 * DAY_S, 30 * DAY_S, 400 * DAY_S, -1]
)
amounts = st.one_of(st.integers(0, 40_000), st.sampled_from([0, 1, 22_000, 22_001, 32_767, 32_768, CAP]))
cards = st.tuples(st.integers(0, 65_535), st.integers(0, 255), st.integers(0, 255))
refs = st.one_of(st.integers(0, 12), st.sampled_from([2**30 - 1, 2**30, 2**31, 2**32 - 1]))


@st.composite
def runs(draw: st.DrawFn) -> list[list[int]]:
    """A terminal's run: times mostly forward, few refs so that duplicates and feedback for known refs happen."""
    t = draw(st.sampled_from([0, 1, 8 * DAY_S, 60 * DAY_S]))
    rows = []
    for step in draw(st.lists(steps_s, max_size=40)):
        t = min(max(t + step, 0), CAP)
        rows.append([t, draw(amounts), *draw(cards), draw(refs), draw(st.one_of(st.just(-1), refs))])
    return rows


@given(st.sampled_from([1, 3, 16]), runs())
def test_a_terminal_s_features(same, capacity, run):
    kind, (rows, image) = same("_drive_features:history", capacity, run)
    assert kind == "value", (kind, rows)
    assert len(rows) == len(run)


@given(st.lists(st.tuples(amounts, st.integers(0, CAP)), max_size=60))
def test_a_card_s_profile(same, purchases):
    kind, value = same("_drive_features:profile", [list(p) for p in sorted(purchases, key=lambda p: p[1])])
    assert kind == "value", value
