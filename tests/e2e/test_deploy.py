"""`sentill deploy` against virtual boards: install, update, repair, trial and return, boards that do not cooperate.

What fails on the way (cables, power, flash) is the storm's: tests/e2e/test_storm.py.
"""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from sentill import __version__
from sentill_host.board import catalogue
from sentill_host.board.link import Link
from sentill_host.bundle import agent
from sentill_host.bundle import archive as image
from sentill_host.bundle import build as bundle
from sentill_host.bundle.build import Bundle, Entry
from sentill_host.deploy import deploy
from sentill_host.deploy.session import Session
from sentill_host.node import client
from sentill_host.virtual import Board, VirtualBoards
from tests.e2e.conftest import STUBBORN, mpremote_reset, until

SENTILL = [sys.executable, "-c", "from sentill_host.cli import main; main()"]
MPREMOTE = [sys.executable, "-m", "mpremote"]


def mpremote(port: str, *arguments: str) -> str:
    command = [*MPREMOTE, "connect", os.path.realpath(port), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def deploy_to(port: str, **options) -> deploy.Result:
    return deploy.deploy([port], **options)[0]


def node_answers(port: str) -> tuple[dict, str]:
    """The identity of the node that runs, and its slot."""
    with Link(port) as link:
        seen = client.Boot()
        for _ in client.watch_boot(client.NodeClient(link), 60, seen):
            if seen.identity and seen.slot:
                return seen.identity, seen.slot
    raise AssertionError(seen)


def version(tmp_path: Path, name: str, board: Board, **changes: bytes) -> list[Path]:
    """A bundle file with this version, some files replaced (sentill__node__node="..." for sentill/node/node)."""
    boots = board.status()["boots"]
    with Link(board.usb) as link:
        link.enter_repl()
        mpy = link.exec_json("import sys, json\nprint(json.dumps(sys.implementation._mpy))")
        link.reset()
    board.wait(boots=boots + 1)
    made = bundle.build(catalogue.load("SIM"), bundle.Firmware((1, 28, 0), mpy))
    sources = {key.replace("__", "/"): source for key, source in changes.items()}
    sources["sentill/__init__"] = f"__version__ = {name!r}\n".encode()
    entries = [entry for entry in made.entries if entry.path.rpartition(".")[0] not in sources]
    entries[:0] = [Entry(f"{key}.py", source) for key, source in sources.items()]
    path = tmp_path / f"{name}.sentill"
    bundle.write(replace(made, version=name, entries=tuple(entries)), path)
    return [path]


@pytest.fixture
def board():
    with VirtualBoards(1) as started:
        yield started[0]


@pytest.fixture(scope="module")
def deployed():
    """A board with the node on it, for tests that leave it with the node running."""
    with VirtualBoards(1) as started:
        result = deploy_to(started[0].usb)
        assert not result.error, result
        yield started[0]


def test_a_fresh_board_gets_everything_and_a_second_run_copies_nothing(board):
    first = deploy_to(board.usb)
    assert (first.error, first.board, first.version, first.slot) == ("", "SIM", __version__, "a")
    assert not first.unchanged
    assert board.status()["boots"] == 3, "the start, a soft reset before it looks, and one into the node"
    told = mpremote_reset(
        board, "exec", "import os\nprint(*os.listdir('/'))\nprint(open('/slot').read())\n"
        "f = open('/slot_a.img', 'rb')\n"
        "print(f.read(8192).hex())",
    ).splitlines()  # fmt: skip
    assert {"main.py", "sentill_start.mpy", "slot", "slot_a.img"} <= set(told[0].split())
    assert not {"slot_b.img", "slot_a.sig"} & set(told[0].split())
    assert told[1] == "a"
    assert sorted(part.path for part in image.parts(bytes.fromhex(told[2]))) == sorted([*first.copied, image.HEAD])
    until(lambda: node_answers(board.usb))
    second = deploy_to(board.usb)
    assert (second.error, second.unchanged, second.before) == ("", True, __version__)
    assert node_answers(board.usb)[0]["sw"] == __version__


def test_stock_mpremote_lists_reads_and_runs_what_was_deployed(deployed, tmp_path):
    """While the node runs, or right after Ctrl-C, the version lies at /app; its archive is a file like any other."""
    listed = mpremote(deployed.usb, "resume", "fs", "ls", ":/app/sentill")
    assert "errors.mpy" in listed and "hal/" in listed
    assert mpremote(deployed.usb, "resume", "fs", "cat", ":/app/config.json") == "{}"
    mpremote(deployed.usb, "resume", "fs", "cp", ":/app/models/rules.stm", str(tmp_path / "rules.stm"))
    assert (tmp_path / "rules.stm").read_bytes() == (catalogue.device_data("models") / "rules.stm").read_bytes()
    told = mpremote(deployed.usb, "resume", "fs", "sha256sum", ":/main.py")
    assert hashlib.sha256(catalogue.device_data("main.py").read_bytes()).hexdigest() in told
    script = tmp_path / "script.py"
    script.write_text("import sentill\nprint(sentill.__version__, sentill.__file__)\n")
    told = mpremote(deployed.usb, "resume", "run", str(script)).strip()
    assert told == f"{__version__} /app/sentill/__init__.mpy"
    mpremote(deployed.usb, "resume", "fs", "cp", ":/slot_a.img", str(tmp_path / "slot_a.img"))
    archive = (tmp_path / "slot_a.img").read_bytes()
    assert image.digest(archive) == hashlib.sha256(archive[:-32]).digest()
    mpremote_reset(deployed)
    assert node_answers(deployed.usb)[1] == "a"


DAMAGE = "f = open('/slot_a.img', 'r+b')\nf.seek({at})\nf.write(b'?')\nf.close()\n"


def place(board: Board, path: str) -> int:
    """Where in the archive of slot a the middle of a file lies."""
    told = mpremote(board.usb, "exec", "f = open('/slot_a.img', 'rb')\nprint(f.read(8192).hex())\nf.close()")
    return next(part.at + part.size // 2 for part in image.parts(bytes.fromhex(told.strip())) if part.path == path)


def test_a_damaged_archive_and_a_missing_start_are_put_right(board):
    assert not deploy_to(board.usb).error
    mpremote(board.usb, "exec", DAMAGE.format(at=place(board, "sentill/wire/protocol.mpy")))
    result = deploy_to(board.usb)
    assert (result.error, result.slot) == ("", "b")
    assert result.copied == ["sentill/wire/protocol.mpy"], result
    assert result.reused > 30
    for damage in ("os.remove('/sentill_start.mpy')", "f = open('/main.py', 'a')\nf.write('#')\nf.close()"):
        mpremote(board.usb, "exec", "import os\n" + damage)
        result = deploy_to(board.usb, verify=True)
        assert (result.error, result.unchanged, result.copied) == ("", False, [])
    assert deploy_to(board.usb, verify=True).unchanged


OLD = """
import os
for folder in ("/slot_a", "/slot_a/sentill", "/slot_b"):
    os.mkdir(folder)
for path, text in (("/slot_a/sentill/x.mpy", "x" * 9000), ("/slot_a/config.json", '{"rate_hz": 3}'),
                   ("/slot_a/manifest", "sentill 1 version=0.0.9 board=SIM"), ("/slot_b/manifest", "sentill 1"),
                   ("/slot", "a"), ("/main.py", "print('old')"), ("/sentill_start.py", "raise 1")):
    with open(path, "w") as file:
        file.write(text)
"""


def test_a_board_of_a_version_that_kept_folders_is_taken_over(board):
    mpremote(board.usb, "exec", OLD)
    result = deploy_to(board.usb)
    assert (result.error, result.slot, result.before) == ("", "b", "")
    assert {"/slot_a", "/slot_a/sentill/x.mpy", "/slot_b/manifest", "/slot_b"} <= set(result.removed)
    names = mpremote(board.usb, "resume", "exec", "import os\nprint(*os.listdir('/'))").split()
    assert not {"slot_a", "slot_b", "sentill_start.py"} & set(names)
    assert mpremote(board.usb, "resume", "exec", "print(open('/app/config.json').read())").strip() == '{"rate_hz": 3}'


def test_the_agent_of_a_slot_is_used_only_when_it_is_whole(board, monkeypatch):
    assert not deploy_to(board.usb).error
    damage = DAMAGE.format(at=place(board, agent.KEPT))
    launched = []
    launch = Link.launch
    monkeypatch.setattr(Link, "launch", lambda link, code: launched.append(code) or launch(link, code))
    for code in ("", damage):
        with Link(board.usb) as link:
            link.enter_repl()
            link.exec(code)
            link.soft_reset()
            session = Session(link, bundle.agent_code())
            assert session.about["slots"]["a"]["bytes"] > 100_000
            session.leave()
        until(lambda: board.status()["state"] == "running")
    assert "import agent" in launched[0] and launched[1] == agent.packed("agent")
    assert deploy_to(board.usb).copied == ["agent.mpy"]


def test_a_slot_that_is_not_whole_does_not_run(board, tmp_path):
    assert not deploy_to(board.usb, bundles=version(tmp_path, "1", board)).error
    bundles = version(tmp_path, "2", board)
    boots = board.status()["boots"]
    second = deploy_to(board.usb, bundles=bundles)
    assert board.status()["boots"] == boots + 3, "maintenance, a soft reset, and one boot of its trial"
    assert (second.error, second.slot, second.before) == ("", "b", "1")
    assert second.copied == ["sentill/__init__.py"]
    mpremote_reset(board, "exec", "f = open('/slot_b.img', 'ab')\nf.write(b'x')\nf.close()")
    identity, slot = node_answers(board.usb)
    assert (identity["sw"], slot) == ("1", "a")
    assert "slot_b: the archive is missing or damaged" in mpremote(board.usb, "cat", ":/slot.note")


def test_a_configuration_is_checked_written_and_kept(deployed, tmp_path):
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    good.write_text('{"name": "till 7", "rate_hz": 2}')
    bad.write_text('{"rate_hz": 99}')
    refused = subprocess.run(
        [*SENTILL, "deploy", deployed.usb, "--config", str(bad)], capture_output=True, text=True, timeout=120
    )
    assert refused.returncode == 2
    assert "rate_hz" in refused.stderr
    before = node_answers(deployed.usb)[0]["cfg"]
    result = deploy_to(deployed.usb, config=deploy.read_config(good.read_text(), "good.json"))
    assert (result.error, result.copied) == ("", ["config.json"]), result
    after = node_answers(deployed.usb)[0]["cfg"]
    assert after != before
    assert deploy_to(deployed.usb).unchanged
    assert node_answers(deployed.usb)[0]["cfg"] == after


def test_several_boards_are_served_at_once_and_reported_one_by_one():
    with VirtualBoards(3) as started:
        ports = [b.usb for b in started]
        done = subprocess.run(
            [*SENTILL, "deploy", *ports, "/dev/sentill-absent", "--json"], capture_output=True, text=True, timeout=300
        )
        results = [json.loads(line) for line in done.stdout.splitlines()]
        assert [r["port"] for r in results] == [*ports, "/dev/sentill-absent"]
        assert [r["exit_code"] for r in results] == [0, 0, 0, 3], results
        assert len({r["uid"] for r in results[:3]}) == 3
        assert done.returncode == 3
        again = subprocess.run([*SENTILL, "deploy", *ports], capture_output=True, text=True, timeout=300)
        assert again.returncode == 0
        assert len(re.findall("nothing copied", again.stdout)) == 3


def test_a_program_that_catches_ctrl_c_is_insisted_on(board):
    mpremote_reset(board, "exec", f"f = open('/main.py', 'w')\nf.write({STUBBORN.format(n=40)!r})\nf.close()")
    until(lambda: board.status()["busy"])
    result = deploy_to(board.usb)
    assert (result.error, result.rung) == ("", "insist")


def test_a_program_that_prints_without_end_is_interrupted(board):
    mpremote_reset(board, "exec", "f = open('/main.py', 'w')\nf.write('while True: print(\"x\" * 60)')\nf.close()")
    until(lambda: board.status()["busy"])
    assert deploy_to(board.usb).error == ""


SESSION = b"""
class Session:
    def __init__(self, hal):
        pass
    def left_s(self):
        return 0
    def expired(self):
        if self.left_s:
            self.left_s = None
            raise RuntimeError('no session')
"""
# The module that is replaced, its source, and what the deploy says of it.
BROKEN = {
    "raises": ("node__node", b"def start(hal):\n    raise RuntimeError('nothing works')\n", "nothing works"),
    "does not compile": ("node__node", b"def start(hal:\n", "SyntaxError"),
    "hangs": ("node__node", b"def start(hal):\n    while True:\n        pass\n", "the watchdog has reset the board"),
    "crashes": ("keys__session", SESSION, "warden: RuntimeError('no session',)"),
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_version_that_does_not_come_up_is_left_again_by_the_board_itself(deployed, tmp_path, monkeypatch, how):
    if how != "raises":
        monkeypatch.setattr(deploy.slots, "TRIES", 1)  # to hang takes eight seconds each
    before = node_answers(deployed.usb)
    module, source, reason = BROKEN[how]
    if how == "crashes":  # whose class other modules ask for, by the name that it has on boards
        given = bundle.names(catalogue.load("SIM"))["sentill/keys/session.py"]
        source = source.replace(b"class Session", b"class " + given.get("Session", "Session").encode())
    made = version(tmp_path, "broken", deployed, **{f"sentill__{module}": source})
    result = deploy_to(deployed.usb, bundles=made)
    assert result.exit_code == 4, result
    assert f"returned to {__version__}" in result.error
    assert reason in result.error, result
    after = node_answers(deployed.usb)
    assert (after[0]["sw"], after[1]) == (before[0]["sw"], before[1])
    assert deploy_to(deployed.usb).unchanged


def test_a_first_version_that_does_not_come_up_is_reported_and_put_right(board, tmp_path, monkeypatch):
    monkeypatch.setattr(deploy, "_FIRST_BOOT_S", 15.0)  # the prompt that comes ends the wait
    result = deploy_to(board.usb, bundles=version(tmp_path, "broken", board, sentill__node__node=BROKEN["raises"][1]))
    assert result.exit_code == 4
    assert "nothing works" in result.error
    monkeypatch.undo()
    repaired = deploy_to(board.usb)
    assert (repaired.error, repaired.slot) == ("", "b")


def test_rollback_returns_to_the_other_version_and_forth(board, tmp_path):
    alone = deploy.roll_back([board.usb])[0]
    assert alone.exit_code == 4
    assert "no other version" in alone.error
    assert not deploy_to(board.usb, bundles=version(tmp_path, "1", board)).error
    config = deploy.read_config('{"name": "two"}', "")
    assert not deploy_to(board.usb, bundles=version(tmp_path, "2", board), config=config).error
    done = subprocess.run([*SENTILL, "rollback", board.usb, "--json"], capture_output=True, text=True, timeout=300)
    back = json.loads(done.stdout)
    assert (done.returncode, back["before"], back["version"], back["slot"]) == (0, "2", "1", "a"), done
    assert node_answers(board.usb)[1] == "a"
    forth = deploy.roll_back([board.usb])[0]
    assert (forth.error, forth.version, forth.slot) == ("", "2", "b")


def test_a_full_flash_is_found_before_anything_is_written(board):
    mpremote(
        board.usb, "exec",
        "import os\ns = os.statvfs('/')\nf = open('/ballast', 'wb')\n"
        "for _ in range(s[3] - 8): f.write(bytes(s[0]))\nf.close()",
    )  # fmt: skip
    result = deploy_to(board.usb)
    assert result.exit_code == 4
    assert "flash is too full" in result.error
    assert "main.py" not in mpremote(board.usb, "fs", "ls", ":/")


def test_a_cable_that_is_out_while_the_board_is_told_to_reset(board, monkeypatch):
    leave = Session.leave
    pulled = []

    def without_cable(self):
        if not pulled:
            pulled.append(True)
            board.control("pull_cable", ms=300)
        leave(self)

    monkeypatch.setattr(Session, "leave", without_cable)
    result = deploy_to(board.usb)
    assert result.error == ""
    assert result.restart_s < 30, result


def test_ctrl_c_leaves_the_version_that_was_there_running(deployed):
    before = node_answers(deployed.usb)
    boots = deployed.status()["boots"]
    child = subprocess.Popen(
        [*SENTILL, "deploy", "--verify", deployed.usb], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    until(lambda: deployed.status()["boots"] > boots)  # it has begun
    child.send_signal(signal.SIGINT)
    _, errors = child.communicate(timeout=120)
    assert child.returncode in (0, 130), errors
    assert "Traceback" not in errors
    assert node_answers(deployed.usb)[0]["sw"] == before[0]["sw"]
    assert deploy_to(deployed.usb).error == ""


def test_a_bundle_file_is_built_twice_alike_and_deployed(board, tmp_path):
    files = [tmp_path / "one.sentill", tmp_path / "two.sentill"]
    told = []
    for path in files:
        done = subprocess.run(
            [*SENTILL, "bundle", "build", "--board", "SIM", "--out", str(path), "--json"],
            capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        told.append(json.loads(done.stdout)["sha256"])
    assert told[0] == told[1] == hashlib.sha256(files[1].read_bytes()).hexdigest()
    made: Bundle = bundle.read(files[0])
    done = subprocess.run(
        [*SENTILL, "deploy", board.usb, "--bundle", str(files[0]), "--json"],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert json.loads(done.stdout)["copied_bytes"] == made.size + 2  # and the default configuration, {}


def test_a_node_that_is_the_one_wanted_is_left_running_and_with_verify_read_back(deployed):
    boots = deployed.status()["boots"]
    result = deploy_to(deployed.usb)
    assert (result.error, result.unchanged, result.version) == ("", True, __version__)
    assert deployed.status()["boots"] == boots
    result = deploy_to(deployed.usb, verify=True)
    assert (result.error, result.unchanged) == ("", True)
    assert deployed.status()["boots"] > boots
