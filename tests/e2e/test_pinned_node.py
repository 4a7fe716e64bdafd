"""A board as stock firmware leaves it, all flash in the file system: it keeps its keys in pinned blocks of it."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sentill.keys import derivation
from sentill.keys.pinned import MAGIC
from sentill_host.board.link import Link
from sentill_host.deploy.deploy import deploy
from sentill_host.keys.key_file import KeyFile
from sentill_host.node import access
from sentill_host.node.client import NodeClient
from sentill_host.virtual import VirtualBoards
from sentill_host.virtual.api import Board
from tests.e2e.conftest import DEADLINE_S
from tests.e2e.test_access import provision
from tests.e2e.test_node_virtual import identity, verdict

PASSWORD = "a password of tests"
SENTILL = [sys.executable, "-c", "from sentill_host.cli import main; main()"]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> KeyFile:
    return KeyFile.create(tmp_path_factory.mktemp("keys") / "keys.json", PASSWORD)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("boards")


@pytest.fixture(scope="module")
def boards(home: Path) -> Iterator[list[Board]]:
    with VirtualBoards(2, home, raw="0", heap="288K") as started:
        result = deploy([started[0].usb])[0]
        assert not result.error, result
        yield started


def image(home: Path, board: Board) -> bytes:
    """The whole flash of a board."""
    return (home / board.name / "flash.img").read_bytes()


def blocks_of_keys(flash: bytes) -> int:
    """How many blocks begin as those that have keys."""
    return sum(flash.startswith(MAGIC, at) for at in range(0, len(flash), 4096))


def secrets(keys: KeyFile, uid: str, generation: int) -> list[bytes]:
    """What a board keeps, what it is given, and what comes of it."""
    root = keys.root(uid, generation)
    purposes = (b"frame", b"unlock", b"sign", b"token")
    return [root, derivation.kept(root), *(keys.derive(uid, purpose, generation) for purpose in purposes)]


def test_keys_are_given_used_and_erased(boards: list[Board], keys: KeyFile, home: Path, tmp_path: Path) -> None:
    board = boards[0]
    password = tmp_path / "password"
    password.write_text(PASSWORD)
    given = [*SENTILL, "provision", board.usb, "--keys", str(keys.path), "--password-file", str(password), "--json"]
    done = subprocess.run(given, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["generation"], told["profile"]) == (1, "service")
    opened = KeyFile.open(keys.path, PASSWORD)
    held = secrets(opened, told["uid"], 1)
    with Link(board.usb) as link, Link(board.uart) as line:
        client, uart = NodeClient(link), NodeClient(line)
        for ref in range(120):  # the journal's key moves on, from block to block of the key store
            assert "j" in verdict(uart, ref)
        assert "faults" not in identity(client)
        flash = image(home, board)
        assert [flash.count(secret) for secret in held] == [0, 1, 0, 0, 0, 0]
        assert blocks_of_keys(flash) == 2
        board.control("set", values={"pin.5": 1})
        end = time.monotonic() + DEADLINE_S
        while verdict(uart, 500)["why"] != "tampered":
            assert time.monotonic() < end
        board.control("set", values={"pin.5": 0})
        flash = image(home, board)
        assert not any(secret in flash for secret in held)
        provision(client, opened, "service")
        assert verdict(uart, 501)["why"] != "tampered"


def test_a_deploy_leaves_the_keys(boards: list[Board], keys: KeyFile, home: Path) -> None:
    board = boards[0]
    with Link(board.usb) as link:
        before = access.challenge(NodeClient(link))
    done = deploy([board.usb], config=b'{"rate_hz":2}', keys=KeyFile.open(keys.path, PASSWORD))[0]
    assert not done.error, done
    with Link(board.usb) as link:
        client = NodeClient(link)
        assert access.challenge(client).generation == before.generation and "faults" not in identity(client)
    assert blocks_of_keys(image(home, board)) == 2


def test_an_image_on_another_board_is_a_tamper_event(boards: list[Board], keys: KeyFile, home: Path) -> None:
    board, other = boards
    boots = other.status()["boots"]
    for each in boards:
        each.control("power_off")
        each.wait("off")
    shutil.copyfile(home / board.name / "flash.img", home / other.name / "flash.img")
    for each in boards:
        each.control("power_on")
    other.wait(boots=boots + 1)
    with Link(other.usb) as link, Link(board.usb) as line:
        told = identity(NodeClient(link))
        assert (told["tamper"], told["gen"], told["prof"]) == ("board", 0, "sealed"), told
        assert "tamper" not in identity(NodeClient(line))
    opened = KeyFile.open(keys.path, PASSWORD)
    with Link(board.usb) as link:
        state = access.challenge(NodeClient(link))
    held = secrets(opened, state.uid, state.generation)
    flash = image(home, other)
    assert not any(secret in flash for secret in held)


def test_removed_key_files_seal_the_board_until_new_keys(boards: list[Board], keys: KeyFile, home: Path) -> None:
    board = boards[0]
    opened = KeyFile.open(keys.path, PASSWORD)
    boots = board.status()["boots"]
    with Link(board.usb) as link:
        client = NodeClient(link)
        state = access.unlock(client, opened, 5)
        link.enter_repl()
        link.exec("import os\nos.remove('/keys0')\nos.remove('/keys1')\n")
        link.reset()
    board.wait(boots=boots + 1)
    held = secrets(opened, state.uid, state.generation)
    with Link(board.usb) as link, Link(board.uart) as line:
        client, uart = NodeClient(link), NodeClient(line)
        told = identity(client)
        assert (told["tamper"], told["prof"]) == ("keys lost", "sealed"), told
        assert verdict(uart, 600)["why"] == "tampered"
        flash = image(home, board)
        assert not any(secret in flash for secret in held) and blocks_of_keys(flash) == 2
        provision(client, opened, "service")
        assert verdict(uart, 601)["why"] != "tampered"
