"""`sentill replay` on a deployed node: everything answered, bit-identical to this computer."""

import json
import os
import subprocess
import sys

import pytest

from sentill_host.board.link import Link
from sentill_host.deploy import deploy
from sentill_host.keys.key_file import KeyFile
from sentill_host.models import replay, simulate, transactions
from sentill_host.models.oracle import Reference
from sentill_host.node.client import NodeClient
from sentill_host.virtual import VirtualBoards
from tests.e2e.test_access import provision

SENTILL = [sys.executable, "-c", "from sentill_host.cli import main; main()"]
TRAFFIC = simulate.TrafficOptions(cards=150, terminals=3, days=30, rate=0.8, seed=5)


@pytest.fixture
def board():
    with VirtualBoards(1) as started:
        assert not deploy.deploy([started[0].usb])[0].error
        yield started[0]


def test_the_board_judges_as_this_computer_does(board):
    data = transactions.from_table(simulate.traffic(TRAFFIC))
    terminal = data.busiest()[0]
    sent = transactions.requests(data, [terminal])[terminal][:600]
    with Link(board.uart) as link:
        report = replay.play(NodeClient(link), transactions.steps(sent))
    assert (report.unanswered, dict(report.refused), len(report.answers)) == (0, {}, 600)
    assert Reference().differences(transactions.steps(sent), report.answers) == 0
    # The comparison notices a single deviation.
    other = [*report.answers[:-1], replay.Answer(report.answers[-1].request, "approve", -1, 0, 0, "", "", 0, 0)]
    assert Reference().differences(transactions.steps(sent), other) == 1
    assert Reference().differences(transactions.steps(sent), report.answers[1:]) == 1
    assert all(answer.device_us > 0 for answer in report.answers)


def test_the_command_replays_a_file(board, tmp_path):
    path = tmp_path / "traffic.csv"
    simulate.write(simulate.traffic(TRAFFIC), path)
    done = subprocess.run(
        [*SENTILL, "replay", str(path), "--uart", board.uart, "--limit", "120", "--json"],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["answered"] == summary["sent"] == 120
    assert sum(summary["verdicts"].values()) == 120
    assert summary["latency"]["round_trip_us"]["p99"] >= summary["latency"]["device_us"]["p50"] > 0


def test_a_board_with_keys_takes_signed_feedback(board, tmp_path):
    path = tmp_path / "traffic.csv"
    simulate.write(simulate.traffic(TRAFFIC), path)
    keys = KeyFile.create(tmp_path / "keys.json", "a password of tests")
    (tmp_path / "password").write_text("a password of tests")
    with Link(board.usb) as link:
        provision(NodeClient(link), keys, "service")
    command = [*SENTILL, "replay", str(path), "--uart", board.uart, "--limit", "900", "--json"]
    environment = {**os.environ, "SENTILL_KEYS": "", "XDG_CONFIG_HOME": str(tmp_path / "absent")}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 1 and not done.stdout, done.stderr
    assert "takes feedback only when it is signed" in done.stderr and "--keys" in done.stderr, done.stderr
    command += ["--keys", str(keys.path), "--password-file", str(tmp_path / "password")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert (summary["answered"], summary["refused"], summary["feedback_late"]) == (900, {}, 0), summary
    assert summary["feedback"] > 0
    with Link(board.usb) as link:
        assert NodeClient(link).command("status")["fr"] == summary["feedback"]
