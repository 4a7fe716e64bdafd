"""The scoring of anomaly detections: what a score is worth, the scale of a series, families left out."""

import importlib
from pathlib import Path

import pytest

ROWS = 100


@pytest.fixture(scope="module")
def nab():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parents[2] / "tools" / "bench"))
        yield importlib.import_module("_nab")


def _series(nab, name, spans):
    one = nab.Series(name, [], [0.0] * ROWS, bytes(ROWS), [], [], len(spans))
    one.window, one.worth = nab._worths(ROWS, one.probation, spans)
    return one


def _alarms(**rows):
    strengths = [0] * ROWS
    for row, strength in rows.items():
        strengths[int(row[1:])] = strength
    return strengths


def test_silence_scores_0_and_perfection_100(nab):
    series = [_series(nab, "a/1", [(40, 49)]), _series(nab, "b/1", []), _series(nab, "b/2", [(60, 69), (80, 89)])]
    silent = {one.name: [0] * ROWS for one in series}
    assert nab.score(series, silent, 1, nab.STANDARD) == 0
    perfect = {"a/1": _alarms(r40=9), "b/1": _alarms(), "b/2": _alarms(r60=9, r80=9)}
    assert nab.score(series, perfect, 1, nab.LOW_FN) == pytest.approx(100)
    false = perfect | {"b/1": _alarms(r50=9)}
    assert nab.score(series, false, 1, nab.STANDARD) == pytest.approx(100 - 100 * 0.11 / 6)
    assert nab.score(series, false, 1, nab.LOW_FP) == pytest.approx(100 - 100 * 0.22 / 6)
    late = perfect | {"a/1": _alarms(r49=9)}
    assert 80 < nab.score(series, late, 1, nab.STANDARD) < 95


def test_the_threshold_of_a_family_left_out_is_that_of_the_others(nab):
    series = [_series(nab, "a/1", [(40, 49)]), _series(nab, "b/1", [(40, 49)]), _series(nab, "b/2", [(40, 49)])]
    noisy = {f"r{k}": 20 for k in range(60, 90)}
    # Family a would need a threshold above 20, b one below 10: one for both cannot be had.
    strengths = {"a/1": _alarms(r40=90, **noisy), "b/1": _alarms(r40=9), "b/2": _alarms(r40=9)}
    points = nab.family_out(series, strengths, nab.STANDARD)
    assert points["b"] == 0, points
    assert points["a"] < 20, points
    assert nab.best_threshold(series, strengths, nab.STANDARD)[1] > sum(points.values())
    agreed = {one.name: _alarms(r40=30) for one in series}
    assert sum(nab.family_out(series, agreed, nab.STANDARD).values()) == pytest.approx(100)


def test_a_series_is_scaled_by_what_was_seen_while_learning(nab):
    values = [5.0, 1.0, 1.0, 1.0, 2.0, 100.0, -100.0]
    assert nab.scaled(values, 5) == [4096, 0, 0, 0, 1024, 32767, -32767]
    assert nab.scaled([3.0] * 4, 4) == [0, 0, 0, 0]
    assert nab.scaled(values, 5, 0.5, 10) == [2058, 10, 10, 10, 522, 32767, -32767]


def test_shaken_scales_repeat_and_differ(nab):
    series = [_series(nab, "a/1", [(40, 49)]), _series(nab, "a/2", [(40, 49)])]
    for one in series:
        one.values = [float(k % 7) for k in range(ROWS)]
    first, again, other = nab.shaken(series, 1), nab.shaken(series, 1), nab.shaken(series, 2)
    assert first == again and first != other
    for samples in first.values():
        assert 0.89 * 4096 < max(samples) - min(samples) < 1.11 * 4096
        assert abs(sorted(samples)[ROWS // 2]) <= 102
    assert first["a/1"] != first["a/2"]
