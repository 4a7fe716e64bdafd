"""`sentill monitor` on a running node: attaches without disturbing it, survives its reset, sees its hardware."""

import json
import signal
import subprocess
import sys
import threading
import time

import pytest

from sentill import __version__
from sentill_host.board.link import Link
from sentill_host.deploy import deploy
from sentill_host.node.client import NodeClient
from sentill_host.virtual import VirtualBoards
from tests.e2e.conftest import DEADLINE_S

SENTILL = [sys.executable, "-c", "from sentill_host.cli import main; main()"]


@pytest.fixture(scope="module")
def board():
    with VirtualBoards(1) as started:
        assert not deploy.deploy([started[0].usb])[0].error
        yield started[0]


def watch(port: str, seconds: float) -> list[dict]:
    done = subprocess.run(
        [*SENTILL, "monitor", port, "--json", "--seconds", str(seconds)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_it_shows_identity_health_and_a_clean_line_without_resetting_the_node(board):
    first = watch(board.usb, 6)
    second = watch(board.usb, 6)
    for lines in (first, second):
        identity = next(line for line in lines if line["kind"] == "I")
        assert identity["sw"] == __version__
        summaries = [line for line in lines if line["kind"] == "H" and "up" in line]
        assert len(summaries) >= 2
        link = lines[-1]
        assert (link["kind"], link["crc_errors"], link["malformed"]) == ("link", 0, 0)
    ups = [[line["up"] for line in lines if "up" in line] for lines in (first, second)]
    assert ups[1][0] > ups[0][-1], "the node restarted between the two"


def test_it_shows_every_channel_of_the_board_in_turn(board):
    with Link(board.usb) as link:
        NodeClient(link).command("set-rate", hz=10)
    rows = {line["name"] for line in watch(board.usb, 6) if line["kind"] == "H" and "name" in line}
    assert {"supply"} <= rows
    assert len(rows) >= 4, rows


def test_it_goes_on_after_a_reset_of_the_board(board):
    child = subprocess.Popen([*SENTILL, "monitor", board.usb, "--json"], stdout=subprocess.PIPE, text=True)
    deadline = threading.Timer(DEADLINE_S, child.kill)
    deadline.start()
    assert child.stdout is not None
    try:
        lines = map(json.loads, child.stdout)
        assert next(line for line in lines if line["kind"] == "H")
        began = time.monotonic()
        board.control("reset")
        assert next(line for line in lines if line["kind"] == "I")["rst"] == "hard", "it tells who it is after its boot"
        up = next(line["up"] for line in lines if "up" in line)
        assert up <= time.monotonic() - began + 1
        child.send_signal(signal.SIGINT)
        child.communicate()
        assert child.returncode == 130
    finally:
        deadline.cancel()
        child.kill()
        child.wait()


def test_the_plain_view_is_one_line_per_frame(board):
    done = subprocess.run(
        [*SENTILL, "monitor", board.usb, "--seconds", "5"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0
    assert any("  node  " in line and "records kept" in line for line in done.stdout.splitlines()), done.stdout
    assert "\x1b" not in done.stdout
