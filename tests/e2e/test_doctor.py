"""The doctor at virtual boards, healthy, stubborn, full and mute; and that it leaves them as they were."""

import json
import subprocess
import sys

import pytest

from sentill.wire import protocol
from sentill_host import doctor
from sentill_host.board.link import Link
from sentill_host.deploy import deploy
from sentill_host.doctor import FAIL, NOTE, OK, WARN
from sentill_host.keys.key_file import KeyFile
from sentill_host.node.client import NodeClient, await_identity
from sentill_host.virtual import VirtualBoards
from tests.e2e.conftest import STUBBORN, run_mpremote, until
from tests.host.fakes import FakeNode, reply

SENTILL = [sys.executable, "-c", "from sentill_host.cli import main; main()"]


@pytest.fixture(scope="module")
def board():
    with VirtualBoards(1, heap="384K") as started:
        yield started[0]


def install(board, main: str) -> None:
    run_mpremote(board.usb, "exec", f"f = open('/main.py', 'w')\nf.write({main!r})\nf.close()")
    board.control("reset")
    board.wait()
    until(lambda: board.status()["busy"])


def texts(findings, *levels: str) -> list[str]:
    return [f.text for f in findings if f.level in levels]


def test_a_board_without_a_node(board):
    findings = doctor.examine_port(board.usb)
    assert not texts(findings, WARN, FAIL)
    assert [f.fix for f in findings if f.level == NOTE] == [f"sentill deploy {board.usb}"]
    assert any("Virtual board" in text for text in texts(findings, OK))


def test_a_program_that_catches_ctrl_c(board):
    install(board, STUBBORN.format(n=40))
    findings = doctor.examine_port(board.usb)
    assert any("it took many to stop it" in text for text in texts(findings, NOTE)), findings
    assert any("a main.py is there, but no node answers" in text for text in texts(findings, WARN))
    with Link(board.usb) as link:  # stock mpremote does not get through to it
        assert link.enter_repl() == "insist"
        link.exec("import os\nos.remove('/main.py')")
        link.leave_repl()


def test_a_program_that_never_yields_is_told_by_what_it_prints():
    with FakeNode(lambda kind, f: b"kernel panic\r\n") as mute:
        findings = doctor.examine_port(mute.port)
    (failure,) = [f for f in findings if f.level == FAIL]
    assert "no raw REPL; it printed: kernel panic" in failure.text
    assert "reset key" in failure.fix


def test_a_full_flash(board):
    run_mpremote(
        board.usb, "exec",
        "import os\ns = os.statvfs('/')\nf = open('/ballast', 'wb')\n"
        "for _ in range(s[3] - 20): f.write(bytes(s[0]))\nf.close()",
    )  # fmt: skip
    findings = doctor.examine_port(board.usb)
    assert any("flash is nearly full" in text for text in texts(findings, WARN)), findings
    run_mpremote(board.usb, "exec", "import os\nos.remove('/ballast')")


def test_a_node_is_examined_undisturbed_and_deeply_when_asked(board):
    assert not deploy.deploy([board.usb])[0].error
    boots = board.status()["boots"]
    findings = doctor.examine_port(board.usb)
    assert not texts(findings, FAIL, WARN), findings
    assert any("a node runs" in text for text in texts(findings, OK))
    assert any("health channels" in text for text in texts(findings, OK))
    assert board.status()["boots"] == boots
    deep = doctor.examine_port(board.usb, deep=True)
    assert any(text.startswith("flash: ") for text in texts(deep, OK))
    assert board.status()["boots"] > boots
    with Link(board.usb) as link:
        assert await_identity(NodeClient(link), 60)[0] is not None, "it runs again"


def test_a_locked_board_is_opened_by_one_challenge(tmp_path, monkeypatch):
    asked = []
    command = NodeClient.command

    def record(self, name, *arguments, **more):
        asked.append(name)
        return command(self, name, *arguments, **more)

    with VirtualBoards(1) as boards:
        keys = KeyFile.create(tmp_path / "keys.json", "a password of tests")
        assert not deploy.deploy([boards[0].usb], config=b'{"rate_hz":10}', keys=keys, profile="service")[0].error
        monkeypatch.setattr(NodeClient, "command", record)
        for deep, opening in ((False, []), (True, ["unlock"])):
            asked.clear()
            findings = doctor.examine_port(boards[0].usb, deep, keys=keys)
            assert not texts(findings, FAIL, WARN), findings
            assert any(text.startswith("flash: ") for text in texts(findings, OK)) == deep
            assert asked == ["challenge", *opening, "status", "status", "set-rate", "set-rate"], asked
        stranger = KeyFile.create(tmp_path / "other.json", "a password of tests")
        findings = doctor.examine_port(boards[0].usb, True, keys=stranger)
        (shut,) = texts(findings, NOTE)
        assert "its keys are not from" in shut, findings
        assert any("health channels" in text for text in texts(findings, OK)), findings


def test_the_command_tells_findings_and_its_exit_code(board):
    done = subprocess.run([*SENTILL, "doctor", board.usb, "--json"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    findings = [json.loads(line) for line in done.stdout.splitlines()]
    assert {f["about"] for f in findings} == {board.usb}
    until(lambda: not board.status()["usb_clients"])
    holder = subprocess.Popen([*SENTILL, "monitor", board.usb], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until(lambda: board.status()["usb_clients"])
        busy = subprocess.run([*SENTILL, "doctor", board.usb], capture_output=True, text=True, timeout=300)
    finally:
        holder.kill()
        holder.wait()
    assert busy.returncode == 1
    assert f"pid {holder.pid}" in busy.stdout


@pytest.mark.parametrize("frozen", [False, True])
def test_which_start_a_sealed_board_has(frozen):
    identity = {"t": 1, "sw": "0.1.0", "board": "SIM", "uid": "00" * 8, "fw": "1.28.0", "gen": 1, "prof": "sealed"}

    def answer(kind, fields):
        if fields.get("cmd") != "identify":
            return reply(fields, 3, ok=False, err="mac", msg="not signed")
        start = {"start": "frozen"} if frozen else {}
        told = protocol.encode("I", [("q", 1), *identity.items()])
        return told + reply(fields, 2, ok=True, slot="a", bundle="b", **start)

    with FakeNode(answer) as node:
        findings = doctor.examine_port(node.port)
    assert any("its start is frozen" in text for text in texts(findings, OK)) == frozen, findings
    assert any("it is sealed, but its start is a file" in text for text in texts(findings, WARN)) != frozen, findings


def test_a_board_that_is_sealed_without_a_frozen_start_is_told_of(tmp_path):
    keys = KeyFile.create(tmp_path / "keys.json", "a password of tests")
    with VirtualBoards(1) as boards:
        (made,) = deploy.deploy([boards[0].usb], keys=keys, profile="sealed")
        assert not made.error and made.keys_given and "its start is a file" in made.warning, made
        findings = doctor.examine_port(boards[0].usb)
        assert any("its start is a file" in text for text in texts(findings, WARN)), findings
