"""A short part of onslaught.py, which `python -m tests.e2e.onslaught` runs for longer."""

from tests.e2e import onslaught

SECONDS = 6.0


def test_whoever_has_no_key_gets_answers_and_keeps_no_verdict_from_being_recorded() -> None:
    with onslaught.keyed() as (board, keys):
        outcome = onslaught.rush(board, keys, SECONDS)
    print(vars(outcome))
    assert outcome.problems == []
    assert outcome.verdicts == outcome.requests > 100 and outcome.recorded + outcome.missed == outcome.verdicts
    assert outcome.commands > 100 and {"ok", "mac", "busy", "command"} <= outcome.answers.keys(), outcome.answers
