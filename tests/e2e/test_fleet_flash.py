"""A fleet is flashed: boards one at a time through their boot drives, told apart although no socket is known.

The boards are virtual ones taken for RP2040s, as in test_flash_rp2.py; the workers inherit that from this process.
"""

import dataclasses
import os
import sys
import threading

import pytest

from sentill_host.board import catalogue
from sentill_host.errors import LinkError
from sentill_host.flash import memory, rp2
from sentill_host.fleet import campaign
from sentill_host.fleet.campaign import Campaign, Request
from sentill_host.fleet.plan import Fleet, Member, Policy
from sentill_host.fleet.store import Store
from sentill_host.virtual import VirtualBoards
from tests.e2e.conftest import until
from tests.host.boot_drive import FLASH_START, BootDrive, make_uf2

CONTENT = os.urandom(256 * 200)
N = 3


class Log:
    """A watcher that keeps the steps."""

    def __init__(self):
        self.steps: list[tuple[str, str]] = []

    def step(self, job: str, step: str, done: int, total: int) -> None:
        self.steps.append((job, step))

    def ended(self, job: str, state: str, text: str) -> None:
        self.steps.append((job, state))


@pytest.fixture
def bench(tmp_path, monkeypatch):
    known = dict(catalogue.all_boards())
    data = {**known["SIM"].data, "firmware": {"chip": "rp2040", "file": "uf2"}}
    known["SIM"] = dataclasses.replace(known["SIM"], data=data)
    monkeypatch.setattr(catalogue, "all_boards", lambda: known)
    monkeypatch.setattr(memory.platformdirs, "user_data_dir", lambda _: str(tmp_path / "data"))
    monkeypatch.setenv("PATH", os.path.dirname(sys.executable))  # no picotool
    with VirtualBoards(N, dir=tmp_path / "boards", usb="usb_cdc") as started:
        drives = []
        for i, board in enumerate(started):
            drive = BootDrive(tmp_path / f"drive{i}", booted=lambda board=board: board.control("power_cycle", ms=100))
            drives.append(drive)
            threading.Thread(target=insert_when_asked, args=(board, drive), daemon=True).start()
        monkeypatch.setattr(rp2, "drives", lambda: [d for d in map(rp2.read_drive, [d.path for d in drives]) if d])
        yield started, drives


def insert_when_asked(board, drive) -> None:
    try:
        until(lambda: board.status()["state"] == "bootloader")
        drive.insert()
    except (AssertionError, LinkError):
        pass


def test_each_board_gets_the_firmware_on_its_own_drive(bench, tmp_path):
    started, drives = bench
    names = [str(tmp_path / "boards" / board.name / "usb") for board in started]
    with Store(tmp_path) as store:
        where = campaign.find(store, names, N)
        assert not [s.error for s in where.sightings if s.error]
        members = tuple(Member(s.uid, f"till {i}") for i, s in enumerate(where.sightings))
        version = where.sightings[0].firmware
        file = tmp_path / f"SIM-20250911-v{version}.uf2"
        file.write_bytes(make_uf2(CONTENT))
        fleet = Fleet("test", tmp_path, tmp_path / "boards.csv", members, policy=Policy(canary=1, attempts=1))
        request = Request("flash", {"file": str(file), "sha256_of": {}})
        run = campaign.start(fleet, store, request, list(members), where)
        log = Log()
        Campaign(fleet, store, run, where, log).go()
        jobs = store.jobs(run.id)
    assert [(job.state, job.error) for job in jobs] == [("done", "")] * N
    assert {job.result["version"] for job in jobs} == {version}
    assert [drive.written for drive in drives] == [(FLASH_START, CONTENT)] * N
    copying = [job for job, step in log.steps if step == "copying"]
    assert len(dict.fromkeys(copying)) == N
    # One at a time: a board's copying is over before another's begins.
    runs = [job for i, job in enumerate(copying) if i == 0 or copying[i - 1] != job]
    assert len(runs) == N, runs
