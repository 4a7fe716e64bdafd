"""A virtual board cannot reach the computer it runs on, and leaves nothing behind on it."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from sentill_host.cli import app
from sentill_host.errors import PlatformError, SentillHostError, UsageError
from sentill_host.virtual import Board, VirtualBoards, api
from sentill_host.virtual.sandbox import Sandbox
from sentill_host.virtual.supervisor import process_start
from tests.e2e.conftest import run_mpremote, until

ESCAPES = """
import io, os, vfs
canary = {canary!r}
def attempt(name, what):
    try:
        print(name, 'ESCAPED' if what() else 'held')
    except Exception as error:
        print(name, 'held', type(error).__name__, error)
def mounted():
    vfs.mount(vfs.VfsPosix('/'), '/host')
    return open('/host' + canary).read()
def removed():
    os.remove('/host' + canary)
    return True
def direct():
    return vfs.VfsPosix('/').open(canary, 'r').read()
def listed():
    return list(vfs.VfsPosix('/').ilistdir('/etc'))
def opens(n):
    try:
        open(n, 'rb').read(1)
        return True
    except OSError:
        return False
def connects():
    import socket
    s = socket.socket()
    s.connect(socket.getaddrinfo('127.0.0.1', {port})[0][-1])
    return True
attempt('mounted', mounted)
attempt('removed', removed)
attempt('direct', direct)
attempt('listed', listed)
attempt('written', lambda: vfs.VfsPosix('/').open(canary + '.new', 'w').write('x'))
attempt('shell', lambda: os.system('echo gone > ' + canary) == 0)
attempt('descriptors', lambda: [n for n in range(8, 64) if opens(n)])
attempt('memory', lambda: vfs.VfsPosix('/').open('/proc/self/environ', 'r').read())
attempt('named', lambda: vfs.VfsPosix('/').stat(canary))
attempt('tcp', connects)
"""


def alive(info: dict) -> list[int]:
    """The processes of a supervisor's description that still run."""
    return [pid for pid in [info["pid"], *(board["pid"] for board in info["boards"])] if process_start(pid)]


def test_rm_r_empties_only_the_image(shared_board, tmp_path):
    canary = tmp_path / "canary.txt"
    canary.write_text("sings")
    run_mpremote(shared_board.usb, "exec", "import os; os.mkdir('/d'); open('/d/f', 'w').close()")
    # As on every board, the root itself stays and mpremote says so.
    assert "cannot remove :/" in run_mpremote(shared_board.usb, "rm", "-r", ":/", fails=True)
    assert run_mpremote(shared_board.usb, "eval", "__import__('os').listdir('/')").strip() == "[]"
    assert canary.read_text() == "sings"


def test_no_way_out(shared_board, tmp_path):
    canary = tmp_path / "canary.txt"
    canary.write_text("sings")
    script = tmp_path / "escapes.py"
    with socket.create_server(("127.0.0.1", 0)) as server:
        script.write_text(ESCAPES.format(canary=str(canary), port=server.getsockname()[1]))
        shown = run_mpremote(shared_board.usb, "run", str(script))
    assert shown.count("held") == 10, shown
    assert "ESCAPED" not in shown
    assert "NameError" not in shown and "AttributeError" not in shown, shown  # each attempt was really made
    assert canary.read_text() == "sings"
    assert not canary.with_suffix(".txt.new").exists()


@pytest.mark.parametrize("means", ["landlock", "empty root"])
def test_each_wall_holds_alone(means, tmp_path):
    """A forked process behind only one of the walls cannot open a file; without both it can."""
    sandbox = Sandbox(tmp_path)
    if means not in sandbox.means:
        pytest.skip(f"this kernel or user has no {means}")
    assert run_behind(sandbox) == 0
    assert run_behind(sandbox, means) == 1


def run_behind(sandbox: Sandbox, means: str = "") -> int:
    """1 when a process behind the walls in `means` fails to open this file, else 0."""
    pid = os.fork()
    if pid == 0:
        sandbox.only(means)
        sandbox.enter()
        try:
            os.close(os.open(__file__, os.O_RDONLY))
        except OSError:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_the_context_leaves_nothing():
    boards = VirtualBoards(2)
    with boards as (first, _):
        info = boards.info
        directory = Path(info["directory"])
        assert Path(first.usb).exists()
        assert len(alive(info)) == 3
    assert alive(info) == []
    assert not directory.exists()


def test_an_exception_leaves_nothing():
    boards = VirtualBoards(1)
    with pytest.raises(ZeroDivisionError), boards:
        raise ZeroDivisionError
    assert alive(boards.info) == []
    assert not Path(boards.info["directory"]).exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_the_death_of_the_user_ends_the_boards(number):
    program = (
        "import json, time\nfrom sentill_host.virtual import VirtualBoards\nboards = VirtualBoards(2)\n"
        "with boards:\n    print(json.dumps(boards.info), flush=True)\n    time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as user:
        info = json.loads(user.stdout.readline())
        user.send_signal(number)
    until(lambda: not alive(info))
    until(lambda: not Path(info["directory"]).exists())


def test_the_death_of_the_supervisor_ends_the_boards():
    boards = VirtualBoards(2)
    with boards:
        os.kill(boards.info["pid"], signal.SIGKILL)
        until(lambda: not [board for board in boards.info["boards"] if process_start(board["pid"])])
    assert not Path(boards.info["directory"]).exists()


def test_a_given_directory_keeps_the_flash(tmp_path):
    with VirtualBoards(1, dir=tmp_path) as (board,):
        run_mpremote(board.usb, "exec", "open('kept', 'w').close()")
        with pytest.raises(UsageError, match="in use"), VirtualBoards(1, dir=tmp_path):
            pass
    assert [path.name for path in tmp_path.iterdir()] == ["sim0"]
    assert sorted(path.name for path in (tmp_path / "sim0").iterdir()) == ["chip", "flash.img"]
    with VirtualBoards(1, dir=tmp_path) as (board,):
        assert "kept" in run_mpremote(board.usb, "ls")


def test_a_board_made_anew_is_another_board(tmp_path):
    def uid(board: Board) -> str:
        return run_mpremote(board.usb, "exec", "import machine; print(machine.unique_id().hex())").strip()

    with VirtualBoards(2, dir=tmp_path) as boards:
        first = [uid(board) for board in boards]
        assert len(set(first)) == 2
    with VirtualBoards(2, dir=tmp_path) as boards:
        assert [uid(board) for board in boards] == first
    with VirtualBoards(1) as (board,):
        assert uid(board) not in first


def test_up_list_control_down(tmp_path, capsys):
    def sentill(*arguments: str, code: int = 0) -> str:
        try:
            app(["virtual", *arguments], standalone_mode=False)
        except SentillHostError as error:
            assert error.exit_code == code, error
            return str(error)
        assert code == 0
        return capsys.readouterr().out

    place = ("--dir", str(tmp_path / ("long" * 20) / ("path" * 20)))  # longer than a socket's path may be
    info = json.loads(sentill("up", "-n", "2", *place, "--json"))
    try:
        assert [board["name"] for board in info["boards"]] == ["sim0", "sim1"]
        assert len({board[port] for board in info["boards"] for port in ("usb", "uart")}) == 4
        assert "is in use" in sentill("up", *place, code=2)
        sentill("control", "sim1", "set", "adc.1=40000", "pin.5=1", *place)
        assert "unknown operation" in sentill("control", "sim1", "nothing", *place, code=2)
        code = "from machine import ADC, Pin; print(ADC(1).read_u16(), Pin(5, Pin.IN).value())"
        assert run_mpremote(info["boards"][1]["usb"], "exec", code).split() == ["40000", "1"]
        run_mpremote(info["boards"][0]["usb"], "exec", "open('kept', 'w').close()")
        assert "sim1" in sentill("list", *place)
        sentill("down", "--keep", *place)
        assert alive(info) == []
        assert json.loads(sentill("list", *place, "--json"))["boards"] == []
        info = json.loads(sentill("up", *place, "--json"))
        assert "kept" in run_mpremote(info["boards"][0]["usb"], "ls")
    finally:
        sentill("down", *place)
    assert alive(info) == []
    assert json.loads(sentill("down", *place, "--json"))["stopped"] is False


def test_a_foreign_process_is_not_stopped(tmp_path):
    # The pid of this very process, recorded by a supervisor that died long ago.
    record = {"pid": os.getpid(), "started": process_start(os.getpid()) - 1, "boards": []}
    (tmp_path / "runtime.json").write_text(json.dumps(record))
    assert api.running(tmp_path) is None
    assert api.stop(tmp_path) is False


@pytest.mark.parametrize(
    "arguments",
    [{"n": 0}, {"board": "NO_SUCH"}, {"heap": "lots"}, {"flash": "1K"}, {"usb": "firewire"}, {"scenario": "/no"}],
)
def test_wrong_requests_say_what_is_wrong(arguments):
    with pytest.raises(UsageError) as caught, VirtualBoards(**arguments):
        pass
    assert str(caught.value)


def test_without_an_interpreter_the_error_says_so(monkeypatch):
    monkeypatch.setenv("MICROPYTHON", "/no/such/micropython")
    with pytest.raises(PlatformError, match="MICROPYTHON"), VirtualBoards(1):
        pass


def test_an_interpreter_that_is_none_is_reported(monkeypatch):
    monkeypatch.setenv("MICROPYTHON", "/bin/true")
    with pytest.raises(PlatformError, match="ended before it was ready"), VirtualBoards(1):
        pass


def test_another_platform_is_refused(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(PlatformError, match="Linux"), VirtualBoards(1):
        pass
