"""From runs to failure to an index that a node's channel can use: readings, levels, training, the command."""

import json
from itertools import pairwise

import numpy as np
import pytest
from typer.testing import CliRunner

from sentill.health.degradation import WearIndex, attach
from sentill.health.monitor import Monitor
from sentill_host.board import catalogue
from sentill_host.cli import app
from sentill_host.errors import UsageError
from sentill_host.health import degradation_runs, faults
from sentill_host.health.degradation import WearSettings, WearTrainingError, train

SPECS = degradation_runs.chosen(catalogue.load("SIM").data["channels"], ["motor", "vibration"])
UNIT_S = 6 * 3600
SETTINGS = WearSettings(cap=60, quick=2, slow=5, unit_s=UNIT_S)


def _course(seed):
    return faults.simulate(SPECS, faults.find("clogged-printer"), seed)


@pytest.fixture(scope="module")
def index():
    runs = [degradation_runs.observe(SPECS, _course(seed), UNIT_S) for seed in range(8)]
    return train(runs, SETTINGS, ["motor", "vibration"])


def test_a_node_tells_the_life_that_training_promised(index):
    """The channel of a monitor, fed with raw readings only, tells the same lives as the index over the levels."""
    course = _course(100)
    life = {"name": "life", "source": "wear:x", "min": 0, "max": 100, "lo_warn": 12, "lo_fail": 4, "good": 60}
    monitor = Monitor([*SPECS, life])
    attach(monitor, 2, WearIndex(index))
    told, warned = [], None
    for k, now in enumerate(course.times_s):
        for i, spec in enumerate(SPECS):
            monitor.sample(i, course.raw[spec["name"]][k], now)
        monitor.sample(2, None, now)
        if monitor.channels[2].state >= 2 and warned is None:
            warned = now
        told.append(monitor.channels[2].value)
    promised = degradation_runs.predict(index, degradation_runs.observe(SPECS, course, UNIT_S))[:, 0]
    assert told[-1] == pytest.approx(promised[-1], abs=3)
    assert warned is not None and course.begin_s < warned < course.fail_s - UNIT_S
    row = dict(monitor.row(2))
    assert row["left_h"] == told[-1] * 6 and row["lo_h"] <= row["left_h"] <= row["hi_h"], row


def test_levels_are_counted_back_from_the_failure():
    course = _course(3)
    levels = degradation_runs.observe(SPECS, course, UNIT_S)
    assert len(levels) == pytest.approx((course.times_s[-1] - course.times_s[0]) / UNIT_S, abs=1)
    assert 350 < levels[0][0] < 450 < 800 < levels[-1][0], (levels[0], levels[-1])


def test_a_test_on_unseen_runs_needs_two():
    run = np.arange(60).reshape(30, 2)
    with pytest.raises(WearTrainingError):
        degradation_runs.cross_validate([run], SETTINGS)
    rmse, covered = degradation_runs.cross_validate([run, run + 1], SETTINGS)
    assert rmse < 6 and 0 <= covered <= 1


@pytest.mark.parametrize(
    "text", ["", "t,motor\n", "t,motor\n1,5\n", "motor\n5\n6\n", "t,motor\n2,5\n1,5\n", "t,motor\n1,x\n2,5\n"]
)
def test_what_is_no_run_is_refused(tmp_path, text):
    path = tmp_path / "run.csv"
    path.write_text(text)
    with pytest.raises(UsageError):
        degradation_runs.read(path)


def test_what_the_monitor_writes_is_a_run(tmp_path):
    path = tmp_path / "run.jsonl"
    lines = [{"kind": "I", "t": 5}, {"kind": "H", "t": 6, "up": 6}]
    for k in range(2000):
        name, value = ("motor", 400 + k // 10) if k % 2 else ("vibration", 40)
        lines.append({"kind": "H", "t": 1000 + 60 * k, "name": name, "raw": value})
    path.write_text("\n".join(map(json.dumps, lines)))
    course = degradation_runs.read_frames(path, SPECS)
    levels = degradation_runs.observe(SPECS, course, 3600)
    assert len(levels) == pytest.approx(2000 * 60 / 3600, abs=2)
    assert levels[0].tolist() == pytest.approx([400, 40], abs=3), levels[0]
    assert levels[-1].tolist() == pytest.approx([597, 40], abs=12), levels[-1]
    for broken in (lines[:3], [*lines, lines[-9]], [{"kind": "H", "name": "motor"}], [[1]]):
        path.write_text("\n".join(map(json.dumps, broken)))
        with pytest.raises(UsageError):
            degradation_runs.read_frames(path, SPECS)
    with pytest.raises(UsageError, match="counter"):
        degradation_runs.read_frames(path, [{"name": "keys", "per_s": 60}])


def test_a_channel_without_readings_is_refused():
    with pytest.raises(UsageError, match="no readings of vibration"):
        degradation_runs.observe(SPECS, faults.Course([1, 2], {"motor": [1, 2]}, None, 2), 60)
    with pytest.raises(UsageError, match="no channel"):
        degradation_runs.chosen(SPECS, ["gremlins"])


def test_the_commands_train_and_show_an_index(tmp_path):
    run = CliRunner().invoke
    folder, target = tmp_path / "runs", tmp_path / "printer.stw"
    made = run(app, ["simulate", "faults", "--fault", "clogged-printer", "--seeds", "3", "--out", str(folder)])
    assert made.exit_code == 0 and len(list(folder.glob("*.csv"))) == 3, made.output
    options = ["--inputs", "motor,vibration", "--unit-h", "6", "--cap", "60", "--out", str(target), "--json"]
    trained = json.loads(run(app, ["wear", "train", str(folder), *options]).stdout)
    assert trained["runs"] == 3 and trained["bytes"] == target.stat().st_size and trained["rmse_units"] < 30, trained
    shown = json.loads(run(app, ["wear", "inspect", str(target), "--json"]).stdout)
    assert shown["inputs"] == ["motor", "vibration"] and shown["unit_s"] == UNIT_S
    assert all(a[0] < b[0] and a[1] <= b[1] for a, b in pairwise(shown["knots"])), shown
    assert "unit of life: 6 h" in run(app, ["wear", "inspect", str(target)]).stdout
    target.write_bytes(target.read_bytes()[:-1])
    assert run(app, ["wear", "inspect", str(target)]).exit_code != 0
