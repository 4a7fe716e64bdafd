"""A board whose flash is full of somebody else's files: nobody who looks at it can overlook that, and it heals.

The tests of this file are one story on one board; each says what the one before left.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from sentill_host import doctor
from sentill_host.board.link import Link
from sentill_host.deploy import deploy
from sentill_host.node.client import NodeClient
from sentill_host.node.health_table import FULL_KB
from sentill_host.virtual import Board, VirtualBoards
from tests.e2e.conftest import run_mpremote, until

SENTILL = [sys.executable, "-c", "from sentill_host.cli import main; main()"]
SEEN_S = 10
# Somebody makes room for a film, and fills the flash with it, and with what else fits.
FILL = """
import os
def empty(folder):
    for name, kind, *_ in list(os.ilistdir(folder)):
        empty(folder + '/' + name) if kind == 0x4000 else os.remove(folder + '/' + name)
    os.rmdir(folder)
empty('/journal')
os.mkdir('/films')
for size in (4096, 256, 16):
    try:
        for n in range(1000):
            with open('/films/%d' % size, 'ab') as f:
                f.write(bytes(size))
    except OSError as error:
        print(error)
print(os.statvfs('/')[2:4])
"""
CLEAR = "import os\nfor n in os.listdir('/films'): os.remove('/films/' + n)\nos.rmdir('/films')"


class Site:
    """The board, a roster with it, and the commands of whoever looks after it."""

    def __init__(self, board: Board, folder: Path):
        self.board = board
        self.folder = folder

    def sentill(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run([*SENTILL, *arguments], capture_output=True, text=True, timeout=300)
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def fleet(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.sentill("fleet", *arguments, "--fleet", str(self.folder), "--port", self.board.usb)

    def restart_after(self, code: str) -> str:
        """Stop the node, run `code` at its prompt, start the board anew; what was printed."""
        boots = self.board.status()["boots"]
        told = run_mpremote(self.board.usb, "exec", code)
        self.board.control("reset")
        self.board.wait(boots=boots + 1)
        return told

    def summaries(self) -> list[dict]:
        """The H summaries that a technician sees for a while."""
        lines = self.sentill("monitor", self.board.usb, "--seconds", "4", "--json").stdout.splitlines()
        frames = [json.loads(line) for line in lines]
        return [frame for frame in frames if frame["kind"] == "H" and "ch" not in frame]

    def channels(self) -> dict[str, dict]:
        done = self.sentill("health", self.board.usb, "--json")
        return {row["name"]: row for row in json.loads(done.stdout)["channels"]}

    def status(self) -> dict:
        with Link(self.board.usb) as link:
            return NodeClient(link).command("status")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    with VirtualBoards(1, raw="0", flash="848K", heap="384K") as boards:
        done = deploy.deploy([boards[0].usb], config=b'{"rate_hz": 4}')[0]
        assert not done.error
        made = Site(boards[0], folder)
        made.sentill("fleet", "init", "--fleet", str(folder))
        made.sentill("fleet", "add", done.uid, "till 1", "--fleet", str(folder))
        yield made


def test_a_healthy_node_says_how_much_is_free_and_nothing_else(site):
    told = site.summaries()[-1]
    assert (told["miss"], told["st"]) == (0, "ok") and told["free"] > 100, told
    assert {site.channels()[name]["st"] for name in ("disk", "journal")} == {"ok"}
    assert not [f for f in doctor.examine_port(site.board.usb) if f.level == doctor.FAIL]
    assert json.loads(site.fleet("status", "--json").stdout)["boards"][0]["trouble"] == ""


def test_the_monitor_shows_it_at_once(site):
    shown = site.restart_after(FILL)
    assert "28" in shown, shown  # ENOSPC
    told = site.summaries()
    seen = [s for s in told if s["miss"] and s["free"] < FULL_KB and s["st"] == "fail"]
    assert seen and seen[0]["up"] <= SEEN_S, told
    plain = site.sentill("monitor", site.board.usb, "--seconds", "2").stdout
    assert "NOT KEPT" in plain and "its flash is full" in plain


def test_the_health_table_fails_with_advice(site):
    rows = site.channels()
    for name in ("disk", "journal"):
        assert rows[name]["st"] == "fail" and rows[name]["adv"], rows[name]
    assert rows["disk"]["raw"] < FULL_KB and rows["journal"]["raw"] >= 1
    done = site.sentill("health", site.board.usb)
    assert "NOT KEPT" in done.stdout and "its flash is full" in done.stdout


def test_the_doctor_calls_it_a_failure(site):
    done = site.sentill("doctor", site.board.usb, "--json")
    assert done.returncode == 1
    found = [json.loads(line) for line in done.stdout.splitlines()]
    failures = [f for f in found if f["level"] == "fail"]
    assert len(failures) == 2 and all("mpremote" in f["fix"] for f in failures), found
    assert any("NOT KEPT" in f["text"] for f in failures)


def test_the_fleet_shows_it(site):
    (row,) = json.loads(site.fleet("status", "--json").stdout)["boards"]
    assert "NOT KEPT" in row["trouble"] and "its flash is full" in row["trouble"], row
    assert "its flash is full" in site.fleet("status").stderr


def test_a_deploy_to_it_is_done_but_says_so(site):
    """Nothing is copied: the board runs this version."""
    done = site.fleet("deploy", "--json")
    (row,) = json.loads(done.stdout)["boards"]
    assert row["state"] == "done" and "NOT KEPT" in row["told"] and "its flash is full" in row["told"], done


def test_a_pull_calls_nothing_proven_that_was_not_recorded(site, tmp_path):
    done = site.sentill("journal", "pull", site.board.usb, "--dir", str(tmp_path))
    assert "proven" not in done.stdout or "NOT KEPT" in done.stderr, (done.stdout, done.stderr)
    assert done.stderr


def test_the_doctor_says_0_free_where_littlefs_says_more_than_there_is(site):
    """Deep: at the prompt, where a full littlefs claims 4,294,967,294 free blocks."""
    found = doctor.examine_port(site.board.usb, deep=True)
    assert any("flash is nearly full: 0 of 848 KB free" in f.text for f in found), found


def test_it_heals_when_the_files_are_gone(site):
    site.restart_after(CLEAR)
    until(lambda: (told := site.status())["free"] > 100 and told["jk"] == told["jn"] > 0)
    site.board.control("scenario", text="warp = 60")
    until(lambda: site.status()["st"] == "ok")
    site.board.control("scenario", text="warp = 1")
    site.restart_after("print()")  # what was lost before the start before this one is told by then
    told = site.summaries()[-1]
    assert told["miss"] == 0 and told["free"] > 100 and told["st"] == "ok", told
    assert {site.channels()[name]["st"] for name in ("disk", "journal")} == {"ok"}
    assert not [f for f in doctor.examine_port(site.board.usb) if f.level == doctor.FAIL]
    assert json.loads(site.fleet("status", "--json").stdout)["boards"][0]["trouble"] == ""
