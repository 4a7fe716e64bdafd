"""Stock mpremote on a virtual board: every command of daily use."""

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from hashlib import sha256

import pytest

from tests.e2e.conftest import DEADLINE_S, mpremote_reset, until


@pytest.fixture(autouse=True)
def _empty(shared_board, mpremote):
    mpremote("rm", "-r", ":")


@pytest.fixture
def tree(tmp_path):
    """A folder with a sub-folder, text and all byte values."""
    folder = tmp_path / "tree"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.txt").write_text("alpha\n")
    (folder / "sub" / "b.bin").write_bytes(bytes(range(256)) * 40)
    return folder


def test_exec_eval_run(mpremote, tmp_path):
    assert mpremote("exec", "print(6 * 7)") == "42\n"
    assert mpremote("eval", "2 ** 20").strip() == "1048576"
    script = tmp_path / "script.py"
    script.write_text("import sys\nfor i in range(3):\n    print(sys.implementation.name, i)\n")
    assert mpremote("run", str(script)).split() == ["micropython", "0", "micropython", "1", "micropython", "2"]


def test_the_name_of_a_port_that_stays_serves_as_well(shared_board):
    command = [sys.executable, "-m", "mpremote", "connect", shared_board.usb, "eval", "6 * 7"]
    assert os.path.islink(shared_board.usb)
    assert subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S).stdout.strip() == "42"


def test_a_failing_program_fails(mpremote):
    assert "ZeroDivisionError" in mpremote("exec", "1 // 0", fails=True)


def test_files(mpremote, tree):
    mpremote("cp", str(tree / "a.txt"), ":")
    mpremote("cp", "-r", str(tree), ":")
    assert mpremote("cat", ":a.txt") == "alpha\n"
    listing = mpremote("ls")
    assert "a.txt" in listing and "tree/" in listing
    assert "b.bin" in mpremote("tree")
    data = (tree / "sub" / "b.bin").read_bytes()
    assert sha256(data).hexdigest() in mpremote("sha256sum", ":tree/sub/b.bin")
    back = tree.parent / "back.bin"
    mpremote("cp", ":tree/sub/b.bin", str(back))
    assert back.read_bytes() == data
    mpremote("rm", "-r", ":tree")
    assert "tree" not in mpremote("ls")
    assert "1441792" in mpremote("df")


def test_files_survive_a_reset(shared_board, mpremote, tree):
    mpremote("cp", str(tree / "a.txt"), ":")
    mpremote_reset(shared_board)
    assert mpremote("cat", ":a.txt") == "alpha\n"


def test_mount(mpremote, tree):
    (tree / "fromhost.py").write_text(
        "text = open('/remote/a.txt').read()\nfound = len(open('/remote/sub/b.bin', 'rb').read())\n"
    )
    shown = mpremote("mount", str(tree), "exec", "import fromhost; print(fromhost.text.strip(), fromhost.found)")
    assert "alpha 10240" in shown


def test_mip_installs_a_local_package(mpremote, tmp_path):
    package = tmp_path / "package"
    (package / "greet").mkdir(parents=True)
    (package / "greet" / "__init__.py").write_text("def hello():\n    return 'hello from mip'\n")
    urls = [["greet/__init__.py", "greet/__init__.py"]]
    (package / "package.json").write_text(json.dumps({"urls": urls, "version": "1.0"}))
    mpremote("mip", "install", str(package / "package.json"))
    assert "hello from mip" in mpremote("exec", "import greet; print(greet.hello())")


def test_soft_reset_forgets_and_reset_restarts(shared_board, mpremote):
    mpremote("resume", "exec", "x = 5")
    assert mpremote("resume", "eval", "x").strip() == "5"
    mpremote("soft-reset")
    assert "NameError" in mpremote("resume", "exec", "x", fails=True)
    mpremote_reset(shared_board)
    assert shared_board.status()["reset_cause"] == "hard"


def test_bootloader(shared_board, mpremote):
    mpremote("bootloader")
    assert shared_board.wait("bootloader")["pid"] is None
    shared_board.control("power_cycle", ms=1)
    assert shared_board.wait()["reset_cause"] == "power"


def test_repl(shared_board):
    """A person at mpremote's terminal: types, interrupts, resets, leaves."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-m", "mpremote", "connect", shared_board.usb, "repl"])
    seen = b""

    def shows(wanted: bytes) -> None:
        nonlocal seen
        end_s = time.monotonic() + DEADLINE_S
        while wanted not in seen:
            assert time.monotonic() < end_s, (wanted, seen)
            if select.select([terminal], [], [], 0.1)[0]:
                seen += os.read(terminal, 4096)
        seen = seen.partition(wanted)[2]

    try:
        shows(b"Connected to MicroPython")
        os.write(terminal, b"\r")
        shows(b">>> ")
        os.write(terminal, b"print('answer', 40 + 2)\r")
        shows(b"answer 42")
        shows(b">>> ")
        os.write(terminal, b"while True: pass\r\r")
        until(lambda: shared_board.status()["busy"])
        os.write(terminal, b"\x03")
        shows(b"KeyboardInterrupt")
        shows(b">>> ")
        os.write(terminal, b"half a line\x03")
        shows(b">>> ")
        os.write(terminal, b"\x04")
        shows(b"MPY: soft reboot")
        shows(b">>> ")
        os.write(terminal, b"\x1d")  # Ctrl-] leaves
        assert os.waitpid(pid, 0)[1] == 0
        pid = 0
    finally:
        if pid:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        os.close(terminal)
