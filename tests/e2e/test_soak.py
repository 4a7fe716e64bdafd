"""A short part of soak.py; `make soak` runs all of it."""

from pathlib import Path

from tests.e2e import onslaught, soak

SECONDS = 12.0


def test_daily_work_is_recorded_and_drawn(tmp_path: Path) -> None:
    with onslaught.keyed() as (board, keys):
        outcome = soak.soak(board, keys, SECONDS)
    soak.draw(outcome, tmp_path / "soak.png")
    assert (tmp_path / "soak.png").read_bytes().startswith(b"\x89PNG")
    assert outcome.answered == outcome.recorded == SECONDS * soak.RATE_HZ and not outcome.missed
    assert outcome.commands > 1 and outcome.heap and len(outcome.latency) == outcome.answered
    # What takes its place in the heap once is no leak, which so short a time does not tell apart.
    assert [problem for problem in outcome.problems if "fell" not in problem and "rose" not in problem] == []


def test_what_is_not_flat_is_a_finding() -> None:
    outcome = soak.Outcome(seconds=400)
    outcome.latency = [(float(s), 1.0, 100 if s < 300 else 200) for s in range(400)]
    outcome.heap = [(float(s), 20_000 - 5 * s) for s in range(400)]
    soak._compare(outcome)
    assert [problem.split(" from")[0] for problem in outcome.problems] == ["free heap fell", "latency rose"]
    flat = soak.Outcome(seconds=400, latency=[(float(s), 1.0, 100) for s in range(400)])
    flat.heap = [(float(s), 20_000 + s % 7) for s in range(400)]
    soak._compare(flat)
    assert flat.problems == []
