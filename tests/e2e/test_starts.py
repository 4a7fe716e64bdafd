"""A share of the starts under floods and keys (tests/e2e/starts.py); `make starts` runs all of them."""

from tests.e2e import starts

COUNT = 40


def test_no_key_and_no_flood_opens_a_locked_board_that_starts():
    outcomes = starts.run(COUNT, 7)
    assert len(outcomes) == COUNT and {outcome.kind for outcome in outcomes} == set(starts.KINDS)
    assert [outcome for outcome in outcomes if outcome.became == "outside"] == []
    # Inside the window is main.py until its first statement: far less than a tenth of a percent of a start.
    assert sum(outcome.became == "inside" for outcome in outcomes) <= 1, outcomes


def test_the_window_is_the_first_statement_of_main_py():
    assert starts._LAST_LINE <= 3
