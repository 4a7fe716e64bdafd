"""`sentill deploy` against virtual boards: first install, update, repair, cut cables, boards that do not cooperate."""

import hashlib
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sentill import __version__
from sentill_host import boards, bundle, client, deploy
from sentill_host.link import Link
from sentill_host.virtual import VirtualBoards

SENTILL = [sys.executable, "-c", "from sentill_host.cli import main; main()"]
MPREMOTE = [sys.executable, "-m", "mpremote"]


def mpremote(port: str, *arguments: str) -> str:
    done = subprocess.run([*MPREMOTE, "connect", port, *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def deploy_to(port: str, **options) -> deploy.Result:
    return deploy.deploy([port], **options)[0]


def node_answers(port: str) -> dict:
    with Link(port) as link:
        identity, console = client.await_identity(client.NodeClient(link), 10)
    assert identity is not None, console
    return identity


@pytest.fixture
def board():
    with VirtualBoards(1) as started:
        yield started[0]


@pytest.fixture(scope="module")
def deployed():
    """A board with the node on it, for tests that leave it as it is or repair it."""
    with VirtualBoards(1) as started:
        result = deploy_to(started[0].usb)
        assert not result.error, result
        yield started[0]


def test_a_fresh_board_gets_everything_and_a_second_run_copies_nothing(board):
    first = deploy_to(board.usb)
    assert (first.error, first.board, first.version) == ("", "SIM", __version__)
    with Link(board.usb) as link:
        link.enter_repl()
        link.soft_reset()
        survey = deploy.read_survey(link)
        link.reset()
    made = bundle.build(boards.load("SIM"), survey.firmware)
    assert set(first.copied) >= {entry.path for entry in made.entries}
    for entry in (*made.entries, made.manifest):
        assert survey.holds(entry), entry.path
    time.sleep(1)
    second = deploy_to(board.usb)
    assert second.error == ""
    assert second.unchanged
    assert second.before == __version__
    assert node_answers(board.usb)["sw"] == __version__


def test_stock_mpremote_reads_back_what_was_deployed(deployed):
    listing = mpremote(deployed.usb, "fs", "ls", ":/sentill")
    assert "protocol.mpy" in listing
    told = mpremote(deployed.usb, "resume", "fs", "sha256sum", ":/main.py")
    assert hashlib.sha256(boards.device_data("main.py").read_bytes()).hexdigest() in told
    assert mpremote(deployed.usb, "resume", "exec", "import sentill; print(sentill.__version__)").strip() == __version__


def test_a_damaged_a_missing_and_a_foreign_file_are_put_right(deployed):
    mpremote(
        deployed.usb, "exec",
        "import os\nos.remove('/models/' + os.listdir('/models')[0])\n"
        "f = open('/sentill/protocol.mpy', 'ab')\nf.write(b'x')\nf.close()\n"
        "f = open('/sentill/protocol.py', 'w')\nf.write('hides the .mpy')\nf.close()\n",
    )  # fmt: skip
    result = deploy_to(deployed.usb)
    assert result.error == ""
    assert len(result.copied) == 2, result.copied
    assert "/sentill/protocol.mpy" in result.copied
    assert result.removed == ["/sentill/protocol.py"]
    assert deploy_to(deployed.usb).unchanged


def test_a_configuration_is_checked_written_and_kept(deployed, tmp_path):
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    good.write_text('{"name": "till 7", "rate_hz": 2}')
    bad.write_text('{"rate_hz": 99}')
    refused = subprocess.run(
        [*SENTILL, "deploy", deployed.usb, "--config", str(bad)], capture_output=True, text=True, timeout=60
    )
    assert refused.returncode == 2
    assert "rate_hz" in refused.stderr
    before = node_answers(deployed.usb)["cfg"]
    result = deploy_to(deployed.usb, config=deploy.read_config(good.read_text(), "good.json"))
    assert result.copied == ["/config.json"], result
    after = node_answers(deployed.usb)["cfg"]
    assert after != before
    assert deploy_to(deployed.usb).unchanged
    assert node_answers(deployed.usb)["cfg"] == after


def test_several_boards_are_served_at_once_and_reported_one_by_one():
    with VirtualBoards(3) as started:
        ports = [b.usb for b in started]
        done = subprocess.run(
            [*SENTILL, "deploy", *ports, "/dev/sentill-absent", "--json"], capture_output=True, text=True, timeout=120
        )
        results = [json.loads(line) for line in done.stdout.splitlines()]
        assert [r["port"] for r in results] == [*ports, "/dev/sentill-absent"]
        assert [r["exit_code"] for r in results] == [0, 0, 0, 3]
        assert len({r["uid"] for r in results[:3]}) == 3
        assert done.returncode == 3
        again = subprocess.run([*SENTILL, "deploy", *ports], capture_output=True, text=True, timeout=120)
        assert again.returncode == 0
        assert len(re.findall("nothing copied", again.stdout)) == 3


STUBBORN = """
import time
caught = 0
while caught < 40:
    try:
        time.sleep(0.01)
    except KeyboardInterrupt:
        caught += 1
"""


def test_a_program_that_catches_ctrl_c_is_insisted_on(board):
    mpremote(board.usb, "exec", f"f = open('/main.py', 'w')\nf.write({STUBBORN!r})\nf.close()", "reset")
    time.sleep(1.5)
    result = deploy_to(board.usb)
    assert (result.error, result.rung) == ("", "insist")


def test_a_program_that_prints_without_end_is_interrupted(board):
    mpremote(
        board.usb, "exec", "f = open('/main.py', 'w')\nf.write('while True: print(\"x\" * 60)')\nf.close()", "reset"
    )
    time.sleep(1.5)
    assert deploy_to(board.usb).error == ""


def test_a_node_that_does_not_start_is_reported_with_its_own_words(board, monkeypatch, tmp_path):
    (tmp_path / "main.py").write_text("raise RuntimeError('nothing works')\n")
    real = boards.device_data
    monkeypatch.setattr(boards, "device_data", lambda name: tmp_path / name if name == "main.py" else real(name))
    monkeypatch.setattr(deploy, "_BOOT_S", 4.0)
    result = deploy_to(board.usb)
    assert result.exit_code == 4
    assert "nothing works" in result.error
    monkeypatch.undo()
    repaired = deploy_to(board.usb)
    assert (repaired.error, "/main.py" in repaired.copied) == ("", True)


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


def test_ctrl_c_leaves_the_version_that_was_there_running(deployed):
    mpremote(deployed.usb, "exec", "import os\nfor f in os.listdir('/models'): os.remove('/models/' + f)", "reset")
    time.sleep(1)
    child = subprocess.Popen(
        [*SENTILL, "deploy", deployed.usb], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    time.sleep(1.0)
    child.send_signal(signal.SIGINT)
    _, errors = child.communicate(timeout=60)
    assert child.returncode in (0, 130), errors
    assert "Traceback" not in errors
    assert node_answers(deployed.usb)["sw"] == __version__
    assert deploy_to(deployed.usb).error == ""
    assert Path("/proc").is_dir()


@pytest.mark.parametrize("writes", [3, 25, 60, 90, 110])
def test_power_that_fails_while_writing_is_survived(board, writes):
    board.control("cut_flash", writes=writes, torn="half", reboot_ms=300)
    cut = deploy_to(board.usb)
    board.wait("running")
    board.control("cut_flash", writes=None)
    again = deploy_to(board.usb)
    assert again.error == ""
    assert node_answers(board.usb)["sw"] == __version__
    if cut.error:
        assert cut.hint, cut
        assert deploy_to(board.usb).unchanged


@pytest.mark.parametrize("step", ["copying", "putting in place", "starting the node"])
def test_a_cable_pulled_at_a_step_gives_a_clear_error_and_a_second_run_completes(board, step):
    pulled = []

    def pull(port: str, now: str, done: int, total: int) -> None:
        # In the middle of copying, at the beginning of the other steps.
        if now == step and not pulled and (not total or done > total // 2):
            pulled.append(now)
            board.control("pull_cable")

    cut = deploy_to(board.usb, progress=pull)
    assert pulled
    assert cut.exit_code == 3, cut
    assert "port" in cut.error
    assert cut.hint
    board.control("plug_cable")
    again = deploy_to(board.usb)
    assert again.error == ""
    assert node_answers(board.usb)["sw"] == __version__
    if step == "copying":
        assert len(again.copied) > 10
