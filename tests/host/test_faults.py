"""The fault library: seeded courses, and the device's monitor warns of each fault before it fails."""

import csv
import json

import numpy as np
import pytest
from typer.testing import CliRunner

from sentill.health.channel_spec import KEYS
from sentill.health.monitor import Monitor
from sentill_host.board import catalogue
from sentill_host.cli import app
from sentill_host.errors import UsageError
from sentill_host.health import fault_scenario, faults
from sentill_host.virtual import scenario

SPECS = catalogue.load("SIM").data["channels"]


@pytest.mark.parametrize("name", faults.FAULTS)
def test_every_fault_is_warned_of_before_it_fails(name):
    fault = faults.FAULTS[name]
    leads = []
    for seed in range(4):
        outcome = faults.watch(SPECS, faults.simulate(SPECS, fault, seed, all_channels=False))
        assert outcome.lead_h is not None, (name, seed, outcome.warnings)
        assert outcome.false == 0, (name, seed, outcome.warnings)
        leads.append(outcome.lead_h)
    assert float(np.median(leads)) >= fault.lead_h, (name, leads)


def test_a_healthy_node_does_not_warn():
    outcome = faults.watch(SPECS, faults.simulate(SPECS, None, 7, days=12))
    assert outcome.warnings == []


def test_the_same_seed_gives_the_same_life():
    fault = faults.find("weak-supply")
    assert faults.simulate(SPECS, fault, 3) == faults.simulate(SPECS, fault, 3)
    assert faults.simulate(SPECS, fault, 3).raw != faults.simulate(SPECS, fault, 4).raw


def test_a_fault_changes_only_its_own_channels_and_only_after_its_beginning():
    fault = faults.find("memory-leak")
    course = faults.simulate(SPECS, fault, 5)
    begin = course.times_s.index(next(t for t in course.times_s if t >= course.begin_s))
    heap = course.raw["heap"]
    assert min(heap[:begin]) > 70 * 1024
    assert heap[-1] < 20 * 1024
    assert course.fail_s - course.begin_s >= fault.days[0] * faults.DAY_S


def test_readings_are_what_the_sensor_would_deliver():
    spec = {"num": 1000, "den": 65536, "offset": -250, "source": "adc:0"}
    assert faults.to_raw(spec, np.array([250.0, -250.0, 99999.0])) == [32768, 0, 65535]
    assert faults.to_raw({"per_s": 3600}, np.array([1.0, 0.0, 2.0])) == [1, 1, 3]


def test_an_unknown_fault_names_the_known_ones():
    with pytest.raises(UsageError) as error:
        faults.find("gremlins")
    assert "clogged-printer" in error.value.hint


def test_the_command_shows_leads_and_writes_readings(tmp_path):
    target = tmp_path / "life.csv"
    done = CliRunner().invoke(
        app, ["simulate", "faults", "--fault", "overheating", "--seeds", "2", "--out", str(target), "--json"]
    )
    assert done.exit_code == 0, done.output
    results = json.loads(done.output)
    assert [row["seed"] for row in results] == [0, 1]
    assert all(row["lead_h"] > 1 for row in results), results
    rows = list(csv.reader(target.open()))
    assert rows[0] == ["t", "chip_temp", "head_temp"]
    assert len(rows) > 1000
    assert (
        "overheating"
        in CliRunner().invoke(app, ["simulate", "faults", "--fault", "overheating", "--seeds", "1"]).output
    )


def test_the_inputs_of_the_virtual_board_rest_at_healthy_values():
    for spec in SPECS:
        if spec["source"].startswith("adc:"):
            at_rest = 32768 * spec.get("num", 1) // spec.get("den", 1) + spec.get("offset", 0)
            assert abs(at_rest - spec["good"]) <= abs(spec["good"]) // 5 + 1, (spec["name"], at_rest)


@pytest.mark.parametrize("board", catalogue.all_boards())
def test_the_channels_of_every_board_are_accepted_by_the_device(board):
    specs = catalogue.load(board).data["channels"]
    monitor = Monitor(specs)
    assert len(monitor) == len(specs) > 0
    for spec in specs:
        assert set(spec) <= {*KEYS, "name", "unit", "source", "advice"}, (spec["name"], set(spec))


@pytest.mark.parametrize("name", sorted(set(faults.FAULTS) - {"memory-leak", "flash-wear"}))
def test_a_fault_becomes_a_scenario_of_a_virtual_board(name):
    text, begin_s, fail_s = fault_scenario.write(SPECS, faults.find(name), 2, 1800)
    _, events = scenario.parse(text, ["sim0"])
    assert scenario.warp(text) == 1800
    assert 0 < begin_s < fail_s and events[-1].at_s <= fail_s + 1
    moved = {key for event in events for key in event.set} | {event.do for event in events if event.do}
    assert moved, name
    still = {spec["source"].replace("adc:", "adc.") for spec in SPECS if spec.get("stuck")}
    assert still and still <= moved, "a sensor at rest would raise a false alarm of its own"
    sent = "".join(event.arguments["text"] for event in events if event.do)
    assert sent.count("*") == sent.count("#C"), sent[:200]


def test_what_is_in_the_node_cannot_be_played(tmp_path):
    with pytest.raises(UsageError, match="inside the node"):
        fault_scenario.write(SPECS, faults.find("memory-leak"), 1, 60)
    options = ["simulate", "faults", "--fault", "stuck-sensor", "--scenario", str(tmp_path / "x" / "s.toml")]
    done = CliRunner().invoke(app, options)
    assert done.exit_code == 0 and "begins after" in done.output, done.output


@pytest.mark.parametrize("factor", [0, 3601, "fast", 1.5])
def test_a_scenario_runs_at_a_sane_speed(factor):
    with pytest.raises(UsageError, match="warp"):
        scenario.warp(f"warp = {json.dumps(factor)}")
