"""The wear index: trained on the host, computed by the device's integers, refused when damaged."""

import struct
import zlib
from array import array

import numpy as np
import pytest

from sentill.errors import ModelError
from sentill.health.degradation import STATE, WearIndex
from sentill_host.health.degradation import WearSettings, WearTrainingError, train

INPUTS = 5


def _runs(count, seed):
    dice = np.random.default_rng(seed)
    runs = []
    for _ in range(count):
        life = int(dice.integers(120, 260))
        left = np.arange(life)[::-1]
        wear = np.exp(-left / 45)
        clean = np.outer(wear, [900, -400, 15, 0, 30000]) + [20000, 5000, 100, 77, -100000]
        runs.append(np.round(clean + dice.normal(0, [60, 40, 3, 0, 2500], clean.shape)).astype(np.int64))
    return runs


def _predict(data, run):
    index, state = WearIndex(data), array("i", [0] * STATE)
    rows = []
    for reading in run.tolist():
        index.update(state, 0, reading)
        rows.append((index.life, index.low, index.high))
    return rows


@pytest.fixture(scope="module")
def trained():
    return train(_runs(40, 1))


def test_unseen_runs_are_predicted_with_an_honest_band(trained):
    errors, covered = [], []
    for run in _runs(15, 2):
        for left, (life, low, high) in zip(range(len(run) - 1, -1, -1), _predict(trained, run), strict=True):
            if left < 60:
                errors.append(life - left)
                covered.append(low <= left <= high)
    assert np.sqrt(np.mean(np.square(errors))) < 15, np.sqrt(np.mean(np.square(errors)))
    assert 0.65 < np.mean(covered) < 0.97, np.mean(covered)


def _stretched(run, factor):
    """The same wear, `factor` times as long."""
    return run[(np.arange(int(len(run) * factor)) / factor).astype(int)]


def test_the_band_covers_a_part_that_ages_at_another_pace(trained):
    widths = {}
    for factor in (1, 0.5, 2):
        covered, widths[factor] = [], []
        for run in _runs(10, 6):
            rows = _predict(trained, _stretched(run, factor))
            for left, (life, low, high) in zip(range(len(rows) - 1, -1, -1), rows, strict=True):
                if life < 80 and left < 60 * factor:
                    covered.append(low <= left <= high)
                    widths[factor].append(high - low)
        assert np.mean(covered) > 0.6, (factor, np.mean(covered))
    assert np.mean(widths[2]) > 1.5 * np.mean(widths[1]), "a slower pace moves the late end"


def test_a_part_that_stops_ageing_has_no_forecast(trained):
    index, state = WearIndex(trained), array("i", [0] * STATE)
    run = _runs(1, 7)[0].tolist()
    for reading in run[:-40]:
        index.update(state, 0, reading)
    assert index.shows() and index.foretells
    for _ in range(800):
        index.update(state, 0, run[-40])
    assert index.shows() and not index.foretells
    for _ in range(200):
        index.update(state, 0, run[0])
    assert not index.shows(), "a new part"
    assert state[4] == 0, "its pace starts anew"


def test_the_end_is_seen_coming(trained):
    for run in _runs(5, 3):
        rows = _predict(trained, run)
        assert rows[-1][0] < 12, rows[-1]
        assert rows[len(run) // 4][0] > 60, rows[len(run) // 4]
        assert all(low <= life <= high for life, low, high in rows)


def test_extreme_inputs_stay_on_the_scale(trained):
    index, state = WearIndex(trained), array("i", [0] * STATE)
    for sign in (1, -1):
        for _ in range(100):
            life = index.update(state, 0, [sign * (1 << 29)] * INPUTS)
            assert 0 <= life <= 125, life
            assert all(abs(word) < 1 << 30 for word in state), list(state)


def test_damage_is_refused(trained):
    for broken in (b"", trained[:-1], b"XXXX" + trained[4:], trained[:20] + b"\x55" + trained[21:]):
        with pytest.raises(ModelError):
            WearIndex(broken)


@pytest.mark.parametrize(("at", "byte"), [(4, 0), (4, 17), (5, 1), (6, 200), (18, 255), (20, 60)])
def test_values_out_of_range_are_refused_though_the_sum_is_right(trained, at, byte):
    bad = bytearray(trained[:-4])
    bad[at] = byte
    if at == 18:
        bad[16:20] = struct.pack("<hh", 20000, 0)
    with pytest.raises(ModelError):
        WearIndex(bytes(bad) + struct.pack("<I", zlib.crc32(bad)))


def test_training_without_runs_or_change_is_refused():
    with pytest.raises(WearTrainingError):
        train([])
    with pytest.raises(WearTrainingError):
        train([np.ones((50, 3), np.int64)])
    with pytest.raises(WearTrainingError):
        train([np.ones((50, 17), np.int64)])


def test_settings_reach_the_file():
    index = WearIndex(train(_runs(10, 4), WearSettings(cap=60, quick=2, slow=6, knots=8, unit_s=3600)))
    assert (index.unit_s, index.inputs, index._quick, index._slow) == (3600, INPUTS, 2, 6)


@pytest.mark.parametrize("name", ["unix", "unix-mpy", "wasm", "wasm-mpy"])
def test_every_interpreter_predicts_the_same(interpreters, trained, name):
    for factor in (1, 0.5, 2):
        run = _stretched(_runs(1, 5)[0][-120:], factor)
        got = interpreters[name].call("health_series:lives", trained, run.tolist())
        assert [tuple(row) for row in got] == _predict(trained, run)
