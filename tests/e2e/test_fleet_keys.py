"""Locked boards in the hands of an operator: fleet deploys, rollbacks and the doctor, with the key file and without."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sentill_host import doctor
from sentill_host.board.link import Link
from sentill_host.keys.key_file import KeyFile
from sentill_host.node import access
from sentill_host.node.client import NodeClient
from sentill_host.virtual import VirtualBoards
from sentill_host.virtual.api import Board
from tests.e2e.test_node_virtual import identity

PASSWORD = "a password of tests"
SENTILL = [sys.executable, "-c", "from sentill_host.cli import main; main()"]


class Fleet:
    """Two boards, their files, and a key file named by the environment."""

    def __init__(self, boards: list[Board], folder: Path):
        self.boards = boards
        self.folder = folder
        self.keys = KeyFile.create(folder / "keys.json", PASSWORD)

    def sentill(self, *arguments: str, exits: int = 0, keys: bool = True) -> str:
        """What the command said."""
        ours = {"SENTILL_KEYS": str(self.keys.path), "SENTILL_KEYS_PASSWORD": PASSWORD, "HOME": str(self.folder)}
        env = {**os.environ, **(ours if keys else {"HOME": str(self.folder)})}
        done = subprocess.run([*SENTILL, *arguments], capture_output=True, text=True, timeout=300, env=env)
        assert done.returncode == exits, (arguments, done.returncode, done.stdout, done.stderr)
        assert PASSWORD not in done.stdout + done.stderr
        return done.stdout + done.stderr

    def rows(self, verb: str, *more: str, exits: int = 0, keys: bool = True) -> list[dict[str, object]]:
        """The rows of the report of a run over all boards."""
        told = self.sentill("fleet", verb, *more, "--fleet", str(self.folder), "--json", exits=exits, keys=keys)
        rows: list[dict[str, object]] = json.loads(told[told.index("{") : told.rindex("}") + 1])["boards"]
        return rows


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    folder = tmp_path_factory.mktemp("fleet")
    with VirtualBoards(2, dir=folder / "boards") as boards:
        made = Fleet(list(boards), folder)
        made.sentill("fleet", "init", "--name", "North", "--fleet", str(folder))
        toml = folder / "fleet.toml"
        toml.write_text(toml.read_text().replace("ports = []", f'ports = ["{folder}/boards/*/usb"]'))
        told = json.loads(made.sentill("fleet", "status", "--fleet", str(folder), "--json"))
        for i, stranger in enumerate(told["strangers"]):
            made.sentill("fleet", "add", stranger["uid"], f"till {i}", "--fleet", str(folder))
        yield made


def profiles(fleet: Fleet) -> list[tuple[str, bool]]:
    """Profile of each board, and whether it is locked now."""
    found = []
    for board in fleet.boards:
        with Link(board.usb) as link:
            state = access.challenge(NodeClient(link))
        found.append((state.profile, state.locked))
    return found


def test_a_fleet_gets_its_keys_and_is_deployed_locked(fleet: Fleet) -> None:
    assert [row["state"] for row in fleet.rows("deploy")] == ["done", "done"]
    assert profiles(fleet) == [("service", True)] * 2
    fleet.keys.refresh()
    assert sorted(fleet.keys.devices.values()) == [1, 1], "both workers noted theirs"
    config = fleet.folder / "north.json"
    config.write_text('{"rate_hz":10}')
    toml = fleet.folder / "fleet.toml"
    toml.write_text(toml.read_text() + f'\n[groups.north]\nconfig = "{config.name}"\n')
    roster = fleet.folder / "boards.csv"
    head, *lines = roster.read_text().splitlines()
    at = head.split(",").index("group")
    moved = [",".join("north" if i == at else cell for i, cell in enumerate(line.split(","))) for line in lines]
    roster.write_text("\n".join([head, *moved]) + "\n")
    refused = fleet.rows("deploy", keys=False, exits=2)
    assert "runs only what is signed" in str(refused), refused
    assert [row["state"] for row in fleet.rows("retry")] == ["done", "done"]
    for board in fleet.boards:
        with Link(board.usb) as link:
            assert NodeClient(link).command("status")["hz"] == 10
    assert profiles(fleet) == [("service", True)] * 2
    assert [row["state"] for row in fleet.rows("collect", keys=False)] == ["done", "done"]


def test_the_doctor_asks_a_locked_board_and_looks_deeper_with_the_keys(fleet: Fleet) -> None:
    board = fleet.boards[0]

    def examine(keys: KeyFile | None) -> str:
        found = doctor.examine_port(board.usb, deep=True, keys=keys)
        return "\n".join(f"{finding.level} {finding.text} {finding.fix}" for finding in found)

    without = examine(None)
    assert "keys of generation 1, profile service" in without
    assert "note its flash was not looked at" in without and "--keys" in without, without
    assert "ok flash:" in examine(fleet.keys)
    with Link(board.usb) as link:
        assert identity(NodeClient(link))["prof"] == "service"
    assert [row["state"] for row in fleet.rows("rollback", "--all")] == ["done", "done"]


def test_a_board_whose_flash_was_erased_gets_keys_it_never_had(fleet: Fleet) -> None:
    board = fleet.boards[1]
    board.control("power_off")
    board.wait("off")
    image = fleet.folder / "boards" / board.name / "flash.img"
    image.write_bytes(b"\xff" * image.stat().st_size)
    board.control("power_on")
    board.wait()
    told = fleet.sentill("deploy", board.usb, exits=2)
    assert "shows keys of generation 0, but was given 1" in told and "--blank" in told, told
    told = fleet.sentill("provision", board.usb, "--blank")
    assert "generation 2" in told, told
    assert "unchanged" in fleet.sentill("deploy", board.usb)


def test_an_older_copy_of_the_key_file_learns_of_new_keys_from_the_board(fleet: Fleet) -> None:
    """A sealed one, too: it is opened by an order under keys that the copy knows nothing of."""
    port = fleet.boards[0].usb
    fleet.sentill("provision", port, "--profile", "sealed")
    fleet.keys.refresh()
    known = dict(fleet.keys.devices)
    with Link(port) as link:
        uid = access.challenge(NodeClient(link)).uid
    assert known[uid] > 1

    def forget(generation: int) -> None:
        fleet.keys.devices[uid] = generation
        fleet.keys.save()

    for generation in (1, 0):
        forget(generation)
        config = fleet.folder / "config.json"
        config.write_text(json.dumps({"rate_hz": generation + 2}))
        assert "deployed" in fleet.sentill("deploy", port, "--config", str(config))
        assert KeyFile.open(fleet.keys.path, PASSWORD).devices == known
    forget(0)
    assert "knows of" in fleet.sentill("order", uid, "--number", "99", "-o", str(fleet.folder / "order"), exits=2)
    assert "sealed" in fleet.sentill("unlock", port, exits=1)
    fleet.sentill("order", uid, "--number", "99", "-o", str(fleet.folder / "order"))
    assert "unlocked" in fleet.sentill("unlock", port, "--order", str(fleet.folder / "order"))
