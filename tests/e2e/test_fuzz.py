"""A share of fuzz.py; `make fuzz` sends all of it."""

from tests.e2e import fuzz, onslaught

FRAMES = 3_000


def test_whatever_comes_is_answered_and_every_verdict_recorded_or_counted() -> None:
    with onslaught.keyed(policy=fuzz.ONLY_RECORD) as (board, keys):
        outcome = fuzz.fuzz(board, keys, FRAMES)
    print(vars(outcome))
    assert outcome.problems == []
    assert outcome.lines == FRAMES and outcome.frames["T"] > 100 < outcome.frames["C"]
    assert outcome.recorded > 50 and {"T ", "R mac", "R busy", "R json", "R type"} <= outcome.answers.keys()
