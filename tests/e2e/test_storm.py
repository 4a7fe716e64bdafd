"""A share of the storm (tests/e2e/storm.py); `make storm` runs all of it."""

import os

from tests.e2e import storm

CASES = 24  # each fault on a board without keys and on one with keys
BOARDS = 12


def test_a_share_of_the_storm_leaves_every_board_with_a_whole_version():
    # Another part of the whole on another day, should somebody ask for it; the same one otherwise.
    outcomes = storm.storm(CASES, BOARDS, int(os.environ.get("SENTILL_STORM_FIRST", "0")))
    assert len(outcomes) == CASES
    assert {outcome.fault for outcome in outcomes} == {fault.__name__ for fault in storm.FAULTS}
    assert [outcome for outcome in outcomes if outcome.problem] == []
    # The faults bite: not every deploy goes through undisturbed.
    assert sum(outcome.ended != "done" for outcome in outcomes) > CASES // 5
