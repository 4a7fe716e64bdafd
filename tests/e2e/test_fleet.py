"""A fleet of virtual boards through the command: named, deployed with a canary, cut off, resumed, retried, reported.

The tests of this file are one story on one set of boards; each says what the one before left.
"""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from sentill import __version__
from sentill_host.board.link import Link
from sentill_host.fleet.store import Store
from sentill_host.journal.store import terminals
from sentill_host.node.client import NodeClient, await_identity
from sentill_host.virtual import Board, VirtualBoards
from tests.e2e.conftest import run_mpremote, until
from tests.host.fakes import FakeNode

SENTILL = [sys.executable, "-c", "from sentill_host.cli import main; main()"]
N = 6
DEADLINE_S = 300
# A flash too full for a deploy.
FILL = """
import os
s = os.statvfs('/')
f = open('/ballast', 'wb')
for _ in range(s[3] - 6): f.write(bytes(s[0]))
f.close()
"""


class Fleet:
    """Boards, their files, and the command that looks after them."""

    def __init__(self, boards: list[Board], folder: Path):
        self.boards = boards
        self.folder = folder
        self.uids: dict[str, str] = {}

    def sentill(self, *arguments: str, exits: int = 0) -> str:
        done = subprocess.run(
            [*SENTILL, "fleet", *arguments, "--fleet", str(self.folder)],
            capture_output=True, text=True, timeout=DEADLINE_S,
        )  # fmt: skip
        assert done.returncode == exits, (arguments, done.returncode, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        return done.stdout + done.stderr

    def boots(self) -> list[int]:
        return [board.status()["boots"] for board in self.boards]

    def rows(self) -> dict[str, dict]:
        report = json.loads(self.sentill("report", "--json"))
        return {row["label"]: row for row in report["boards"]}

    def states(self) -> list[str]:
        rows = self.rows()
        return [rows[f"till {i}"]["state"] for i in range(N)]


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fleet")
    # More heap than a small board has: what is under test here is the host.
    with VirtualBoards(N, dir=folder / "boards", heap="384K") as boards:
        made = Fleet(boards, folder / "north")
        made.folder.mkdir()
        made.sentill("init", "--name", "North")
        toml = made.folder / "fleet.toml"
        text = toml.read_text().replace("ports = []", f'ports = ["{folder}/boards/*/usb"]')
        toml.write_text(text.replace("attempts = 2", "attempts = 1"))
        yield made


def test_boards_are_found_and_named(fleet):
    told = json.loads(fleet.sentill("status", "--json"))
    assert (told["boards"], told["silent"], told["ambiguous"]) == ([], [], {})
    assert {(s["board"], s["via"], s["software"]) for s in told["strangers"]} == {("SIM", "prompt", "")}
    by_port = {s["port"]: s["uid"] for s in told["strangers"]}
    for i, board in enumerate(fleet.boards):
        fleet.uids[f"till {i}"] = by_port[str(fleet.folder.parent / "boards" / board.name / "usb")]
    with open(fleet.folder / "boards.csv", "a") as roster:
        roster.writelines(f"{uid},{label},Lyon,\n" for label, uid in fleet.uids.items() if label != "till 0")
    fleet.sentill("add", fleet.uids["till 0"], "till 0", "--site", "Lyon")
    told = json.loads(fleet.sentill("status", "--json"))
    assert sorted(row["label"] for row in told["boards"]) == [f"till {i}" for i in range(N)]
    assert not told["strangers"]
    fleet.sentill("add", fleet.uids["till 0"], "again", exits=2)
    assert "no board of North is called 'till 99'" in fleet.sentill("deploy", "till 99", exits=2)
    assert "name them, or say --all" in fleet.sentill("flash", exits=2)


def test_a_failing_canary_saves_the_others(fleet):
    canary = fleet.boards[1]
    run_mpremote(canary.usb, "exec", FILL)
    before = fleet.boots()
    told = fleet.sentill("deploy", exits=4)
    assert "flash is too full" in told
    assert "stopped: canary till 1" in told
    assert fleet.states() == ["held", "failed", *["held"] * (N - 2)]
    after = fleet.boots()
    assert [i for i in range(N) if after[i] != before[i]] in ([], [1]), "no other board was touched"
    assert "till 1" in (fleet.folder / "reports" / "run-1.html").read_text()


def test_after_the_cause_is_gone_retry_does_the_rest(fleet):
    run_mpremote(fleet.boards[1].usb, "exec", "import os\nos.remove('/ballast')")
    fleet.sentill("retry")
    assert fleet.states() == ["done"] * N
    told = json.loads(fleet.sentill("status", "--json"))
    assert {(row["software"], row["via"]) for row in told["boards"]} == {(__version__, "node")}
    assert "nothing failed" in fleet.sentill("retry", exits=2)
    rows = list(csv.DictReader((fleet.folder / "reports" / "run-1.csv").open()))
    assert [row["state"] for row in rows] == ["done"] * N


def test_a_second_run_changes_nothing(fleet):
    told = fleet.sentill("deploy")
    assert told.count(f"version {__version__} was there") == N


def test_a_configuration_is_deployed_and_rolled_back(fleet):
    def config() -> str:
        with Link(fleet.boards[2].usb) as link:
            return await_identity(NodeClient(link), 60)[0]["cfg"]

    before = config()
    toml = fleet.folder / "fleet.toml"
    text = toml.read_text()
    (fleet.folder / "node.json").write_text('{"name": "North", "rate_hz": 2}')
    toml.write_text(text.replace("\n[policy]\n", "\n[policy]\nconfig = 'node.json'\n"))
    fleet.sentill("deploy", "till 2")
    assert config() != before
    assert "name them, or say --all" in fleet.sentill("rollback", exits=2)
    fleet.sentill("rollback", "till 2")
    assert config() == before
    (fleet.folder / "node.json").write_text('{"rate_hz": 99}')
    assert "rate_hz" in fleet.sentill("deploy", "till 2", exits=2)
    toml.write_text(text)


def test_a_bundle_built_once_is_what_the_boards_get(fleet):
    made = fleet.folder / "node.sentill"
    done = subprocess.run(
        [*SENTILL, "bundle", "build", "--board", "SIM", "--out", str(made)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert f"version {__version__}" in fleet.sentill("deploy", "till 3", "--bundle", str(made))
    made.write_bytes(made.read_bytes()[:2000])
    assert "node.sentill" in fleet.sentill("deploy", "till 3", "--bundle", str(made), exits=2)
    assert "is finished" in fleet.sentill("resume", exits=2), "no run was begun with it"


def test_looking_and_collecting_leave_the_nodes_running(fleet):
    before = fleet.boots()
    fleet.sentill("status")
    journals = fleet.folder / "journals"
    told = fleet.sentill("collect", "till 1", "till 2", "--journals", str(journals))
    assert told.count("new audit records") == 2
    assert sorted(terminal.uid for terminal in terminals(journals)) == sorted(fleet.uids[f"till {i}"] for i in (1, 2))
    files = sorted((fleet.folder / "collected").rglob("*.json"))
    assert [file.parent.name for file in files] == sorted(fleet.uids[f"till {i}"] for i in (1, 2))
    document = json.loads(files[0].read_text())
    assert document["identity"]["uid"] == files[0].parent.name
    assert len(document["health"]) > 5
    assert document["status"]
    assert fleet.boots() == before


def test_one_board_blinks(fleet):
    lights = [set() for _ in fleet.boards]

    def watch() -> bool:
        for seen, board in zip(lights, fleet.boards, strict=True):
            seen.add(board.control("get", names=["pin.25"])["values"]["pin.25"])
        return len(lights[3]) == 2

    child = subprocess.Popen([*SENTILL, "fleet", "blink", "till 3", "--fleet", str(fleet.folder)])
    until(watch)
    assert child.wait(60) == 0
    assert [len(seen) for seen in lights].count(2) == 1


def jobs(fleet: Fleet) -> dict[str, str]:
    with Store(fleet.folder) as store:
        return {job.label: job.state for job in store.jobs(store.run().id)}


def test_a_run_survives_the_death_of_its_host(fleet):
    toml = fleet.folder / "fleet.toml"
    toml.write_text(toml.read_text().replace("at_once = 16", "at_once = 2"))
    with Store(fleet.folder) as store:
        number = store.run().id
    command = [*SENTILL, "fleet", "deploy", "--fleet", str(fleet.folder)]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def midway() -> bool:
        assert child.poll() is None, "the run ended before it could be cut"
        with Store(fleet.folder) as store:
            run = store.run()
            states = [job.state for job in store.jobs(run.id)]
            return run.id > number and states.count("done") >= 2 and "running" in states

    def begun() -> bool:
        with Store(fleet.folder) as store:
            return store.run().id > number

    until(begun)
    # The last board is mute: the run lasts for so long that it can be cut, however busy the computer is.
    fleet.boards[5].control("power_off")
    until(midway)
    workers = psutil.Process(child.pid).children(recursive=True)
    child.send_signal(signal.SIGKILL)
    child.wait()
    done = {label for label, state in jobs(fleet).items() if state == "done"}
    assert 2 <= len(done) < N
    _, alive = psutil.wait_procs(workers, timeout=120)
    assert not [p for p in alive if p.status() != psutil.STATUS_ZOMBIE], "workers outlive their host"
    fleet.boards[5].control("power_on")
    fleet.boards[5].wait()
    assert f"interrupted with {len(done)} of {N} boards done" in fleet.sentill("deploy", exits=2)
    assert "was interrupted" in fleet.sentill("retry", exits=2)
    toml.write_text(toml.read_text().replace("at_once = 2", "at_once = 16"))
    told = fleet.sentill("resume")
    assert f"{N} done" in told
    with Store(fleet.folder) as store:
        by_label = {job.label: job for job in store.jobs(store.run().id)}
    assert {by_label[label].attempts for label in done} == {1}, "what was done is left alone"
    assert {by_label[label].attempts for label in by_label.keys() - done} <= {1, 2}
    assert "is finished" in fleet.sentill("resume", exits=2)


def test_a_board_that_is_unplugged_is_held_and_retried_alone(fleet):
    fleet.boards[4].control("pull_cable")
    fleet.sentill("deploy", exits=3)
    assert fleet.states() == ["done"] * 4 + ["held"] + ["done"]
    assert fleet.rows()["till 4"]["error"] == "not plugged in"
    fleet.boards[4].control("plug_cable")
    before = fleet.rows()
    fleet.sentill("retry")
    assert fleet.states() == ["done"] * N
    after = fleet.rows()
    assert [label for label in sorted(after) if after[label] != before[label]] == ["till 4"]


def test_boards_that_changed_places_are_not_mistaken(fleet):
    """Ports are found anew for each run: what counts is who answers, not where."""
    links = [Path(fleet.folder.parent) / "boards" / fleet.boards[i].name / "usb" for i in (3, 5)]
    targets = [os.readlink(link) for link in links]
    for link, target in zip(links, reversed(targets), strict=True):
        link.unlink()
        link.symlink_to(target)
    try:
        told = json.loads(fleet.sentill("status", "--json"))
        ports = {row["label"]: row["port"] for row in told["boards"]}
        assert (ports["till 3"], ports["till 5"]) == (str(links[1]), str(links[0]))
        fleet.sentill("deploy", "till 5")
        assert fleet.rows().keys() == {"till 5"}
    finally:
        for link, target in zip(links, targets, strict=True):
            link.unlink()
            link.symlink_to(target)


def test_a_port_with_two_names_is_one_board_and_a_foreign_port_is_silent(fleet):
    with FakeNode(lambda kind, f: b"") as mute:
        start = time.monotonic()
        told = json.loads(fleet.sentill("status", "--json", "--port", fleet.boards[0].usb, "--port", mute.port))
        assert time.monotonic() - start < 120
    assert [row["label"] for row in told["boards"] if row["port"]] == ["till 0"]
    assert [s["port"] for s in told["silent"]] == [mute.port]
    assert "does not yield" in told["silent"][0]["error"]
