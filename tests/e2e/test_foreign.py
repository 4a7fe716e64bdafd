"""Code planted beside the node's: found by node, deploy, doctor and provisioning, removed on request, not imported."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from sentill_host import doctor
from sentill_host.board.link import Link
from sentill_host.deploy.deploy import deploy
from sentill_host.doctor import FAIL, NOTE, Finding
from sentill_host.keys.key_file import KeyFile
from sentill_host.node import access, health_table
from sentill_host.node.access import AccessError
from sentill_host.node.client import NodeClient, await_identity
from sentill_host.virtual import VirtualBoards
from sentill_host.virtual.api import Board
from tests.e2e.conftest import run_mpremote, until
from tests.e2e.test_node_virtual import identity

PLANTED = ["/boot.py", "/hashlib.py", "/lib/pkg/x.mpy", "/sentill/__init__.py", "/sentill_start.py"]
# Each leaves its mark when it is imported or run.
_PLANT = """
import os
def plant(path, text):
    at = path.find("/", 1)
    while at > 0:
        try:
            os.mkdir(path[:at])
        except OSError:
            pass
        at = path.find("/", at + 1)
    with open(path, "w") as file:
        file.write(text)
for path in {paths!r}:
    plant(path, "import builtins\\nbuiltins.planted = getattr(builtins, 'planted', '') + ' ' + " + repr(path) + "\\n")
"""


def plant(board: Board, keys: KeyFile | None, paths: list[str]) -> None:
    with Link(board.usb) as link:
        client = NodeClient(link)
        identity(client)
        if keys is not None:
            access.enter(client, keys, 5)
        link.enter_repl()
        link.exec(_PLANT.format(paths=paths), 20)
        link.reset()
        assert await_identity(NodeClient(link), 60)[0] is not None


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> KeyFile:
    return KeyFile.create(tmp_path_factory.mktemp("keys") / "keys.json", "a password of tests")


@pytest.fixture(scope="module")
def board(keys: KeyFile) -> Iterator[Board]:
    """A board with keys, profile service."""
    with VirtualBoards(1, heap="288K") as boards:  # a boot.py of its own leaves the node less
        (result,) = deploy([boards[0].usb], keys=keys, profile="service")
        assert not result.error and result.keys_given, result
        yield boards[0]


def faults(board: Board) -> str:
    with Link(board.usb) as link:
        return str(identity(NodeClient(link)).get("faults", ""))


def about_code(findings: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if "not the node's" in finding.text]


def test_planted_code_is_told_by_node_doctor_and_deploy_and_removed_on_request(board: Board, keys: KeyFile) -> None:
    assert faults(board) == "" and not about_code(doctor.examine_port(board.usb, True, keys=keys))
    plant(board, keys, PLANTED[:-1])
    until(lambda: faults(board) == "foreign")
    with Link(board.usb) as link:
        (trouble,) = health_table.troubles(NodeClient(link).command("status"))
        assert "not the node's" in trouble
    (told,) = about_code(doctor.examine_port(board.usb))
    assert told.level == FAIL and "--remove-foreign" in told.fix
    seen, named = about_code(doctor.examine_port(board.usb, True, keys=keys))
    assert (seen.level, named.level) == (FAIL, FAIL) and all(path in named.text for path in PLANTED[:-1]), named
    (warned,) = deploy([board.usb], config=b'{"rate_hz":2}', keys=keys)
    assert not warned.error and sorted(warned.foreign) == PLANTED[:-1] and "/boot.py" in warned.warning, warned
    (refused,) = deploy([board.usb], config=b'{"rate_hz":2}', keys=keys, verify=True)
    assert refused.exit_code == 4 and "/boot.py" in refused.error and "--remove-foreign" in refused.hint, refused
    with Link(board.usb) as link:
        client = NodeClient(link)
        identity(client)
        state = access.challenge(client)
        with pytest.raises(AccessError, match="/boot.py") as caught:
            access.provision(client, keys, "service", 7)
        assert "--remove-foreign" in caught.value.hint
        assert access.challenge(client).generation == state.generation
    (removed,) = deploy([board.usb], config=b'{"rate_hz":2}', keys=keys, remove_foreign=True)
    assert removed.unchanged and not removed.foreign, removed
    assert set(PLANTED[:-1]) <= set(removed.removed)
    (clean,) = deploy([board.usb], config=b'{"rate_hz":2}', keys=keys, verify=True)
    assert clean.unchanged and not clean.warning, clean
    assert faults(board) == ""
    with Link(board.usb) as link:
        client = NodeClient(link)
        access.await_generation(client, access.provision(client, keys, "service", 7).fresh, 60.0)


def test_nothing_beside_the_slot_is_imported_on_a_board_with_keys(board: Board, keys: KeyFile) -> None:
    names = ["hashlib", "json", "os", "struct", "time", "binascii", "asyncio", "deflate", "gc", "sentill", "board"]
    planted = [f"/{name}.py" for name in names] + [f"/lib/{name}.py" for name in names]
    plant(board, keys, planted)
    with Link(board.usb) as link:
        client = NodeClient(link)
        access.enter(client, keys, 5)
        link.enter_repl()  # by Ctrl-C: what the node has imported is still there
        assert link.exec("import builtins\nprint(getattr(builtins, 'planted', 'nothing'))", 10).split() == [b"nothing"]
        assert link.exec("import sys\nprint(sys.path)", 10).strip() == b"['/app', '.frozen']"
        link.reset()
        assert await_identity(NodeClient(link), 60)[0] is not None
    (removed,) = deploy([board.usb], keys=keys, remove_foreign=True)
    assert not removed.error and set(planted) <= set(removed.removed), removed


def test_main_py_and_the_start_code_are_verified_by_hash(board: Board, keys: KeyFile) -> None:
    for name, more in (("main.py", b"\n# more\n"), ("sentill_start.mpy", b"\0")):
        with Link(board.usb) as link:
            client = NodeClient(link)
            identity(client)
            access.enter(client, keys, 5)
            link.enter_repl()
            link.exec(f"f = open('/{name}', 'ab')\nf.write({more!r})\nf.close()", 10)
            link.reset()
            assert await_identity(NodeClient(link), 60)[0] is not None
        found = doctor.examine_port(board.usb, True, keys=keys)
        assert any(f.level == FAIL and f"/{name} is another" in f.text for f in found), found
        (mended,) = deploy([board.usb], keys=keys, verify=True)
        assert not mended.error and not mended.unchanged, mended
        assert not [f for f in doctor.examine_port(board.usb, True, keys=keys) if f.level == FAIL]


def test_a_board_with_foreign_code_gets_no_first_keys(tmp_path: Path) -> None:
    keys = KeyFile.create(tmp_path / "keys.json", "a password of tests")
    with VirtualBoards(1) as boards:
        board = boards[0]
        run_mpremote(board.usb, "exec", "f = open('/boot.py', 'w')\nf.write('x = 1')\nf.close()")
        (refused,) = deploy([board.usb], keys=keys, profile="service")
        assert refused.exit_code == 2 and "/boot.py" in refused.error and not refused.copied, refused
        (without,) = deploy([board.usb])
        assert not without.error and not without.warning and without.foreign == ["/boot.py"], without
        assert faults(board) == "", "without keys, what else is on the flash is nobody's concern"
        (told,) = about_code(doctor.examine_port(board.usb, True))
        assert told.level == NOTE
        (late,) = deploy([board.usb], keys=keys, profile="service")
        assert late.exit_code == 1 and "/boot.py" in late.error and "--remove-foreign" in late.hint, late
        assert not keys.devices.get(late.uid)
        (done,) = deploy([board.usb], keys=keys, profile="service", remove_foreign=True)
        assert done.removed == ["/boot.py"] and done.keys_given, done
        until(lambda: access_generation(board) == 1)


def access_generation(board: Board) -> int:
    with Link(board.usb) as link:
        return access.challenge(NodeClient(link)).generation
