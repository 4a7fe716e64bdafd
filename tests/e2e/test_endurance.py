"""A short part of endurance.py; `make endurance` runs all of it."""

from tests.e2e import endurance

TRANSACTIONS = 1_000
EVERY = 400


def test_every_verdict_of_a_thousand_is_pulled_and_proven() -> None:
    outcome = endurance.endure(TRANSACTIONS, EVERY)
    assert outcome.problems == []
    assert (outcome.answered, outcome.verdicts, outcome.pulls) == (TRANSACTIONS, TRANSACTIONS, 3)
    assert outcome.proven == outcome.records == outcome.held > TRANSACTIONS
    assert outcome.programs > 0 < outcome.erases
    # Records share pages, and blocks are erased once for some sixty of them; the keys and the state take the rest.
    assert outcome.erases < TRANSACTIONS / 15
