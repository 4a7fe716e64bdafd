"""The command as people and scripts meet it: exit codes, output for machines, interruptions."""

import contextlib
import itertools
import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sentill import __version__
from sentill.wire import protocol
from sentill_host.cli import EXIT_CODES, VERBS, build
from sentill_host.errors import SentillHostError
from tests.host.fakes import FakeNode, reply, verdict

ROOT = Path(__file__).parents[2]
SENTILL = [sys.executable, "-c", "from sentill_host.cli import main; main()"]


def run(*arguments: str, **kwargs) -> subprocess.CompletedProcess:
    return subprocess.run([*SENTILL, *arguments], capture_output=True, text=True, timeout=60, **kwargs)


def health(q: int, name: str, state: str) -> bytes:
    return protocol.encode(
        "H", [("q", q), ("t", 100 + q), ("ch", 0), ("name", name), ("v", 88), ("w", 80), ("st", state)]
    )


def test_version_and_help():
    assert run("--version").stdout == f"sentill {__version__}\n"
    text = run("--help").stdout
    places = [text.find(f"│ {verb} ") for verb in VERBS]
    assert -1 not in places and places == sorted(places), "verbs in their order, group by group"
    readme = " ".join((ROOT / "README.md").read_text().split())
    assert EXIT_CODES in readme


EXPLAINED = "deploy,flash,doctor,fleet deploy,fleet status,monitor,replay,demo,ports,simulate traffic".split(",")


@pytest.mark.parametrize("verb", EXPLAINED)
def test_every_verb_explains_itself(verb):
    done = run(*verb.split(), "--help")
    assert done.returncode == 0
    assert len(done.stdout) > 200


def test_helps_flow_to_the_width_of_the_terminal_and_keep_brackets():
    narrow = {**os.environ, "COLUMNS": "80"}
    said = run("deploy", "--help", env=narrow).stdout
    assert "prove itself; if it does not, the board returns to the old one by itself. A" in said, said
    assert "[torn=half]" in run("virtual", "control", "--help", env=narrow).stdout


def test_wrong_requests_end_with_2_and_a_way_out():
    done = run("deploy", "/dev/null", "--board", "toaster")
    assert done.returncode == 2
    assert "unknown board" in done.stderr
    assert "SIM" in done.stderr
    assert run("frobnicate").returncode == 2
    assert run("replay", "/absent.csv", "--uart", "/dev/null").returncode == 2


def test_a_key_file_that_is_named_must_be_there(tmp_path):
    # A slip in $SENTILL_KEYS must not quietly deploy without keys.
    absent = str(tmp_path / "absent.json")
    done = run("deploy", "/dev/sentill-absent", env={**os.environ, "SENTILL_KEYS": absent})
    assert done.returncode == 2, done.stderr
    assert f"no key file {absent}" in done.stderr and "sentill keys new" in done.stderr
    none = {**os.environ, "SENTILL_KEYS": "", "XDG_CONFIG_HOME": str(tmp_path)}
    assert run("deploy", "/dev/sentill-absent", env=none).returncode == 3


def test_tables_are_whole_where_there_is_no_terminal():
    done = run("channels", "SIM", "--with", "cell", "--without", "light", env={**os.environ, "COLUMNS": "40"})
    assert done.returncode == 0, done.stderr
    assert "printer_faults" in done.stdout and "\u2026" not in done.stdout


def test_an_absent_port_ends_with_3_and_json_says_so():
    done = run("deploy", "/dev/sentill-absent", "--json")
    assert done.returncode == 3
    result = json.loads(done.stdout)
    assert (result["port"], result["exit_code"]) == ("/dev/sentill-absent", 3)
    assert "no such port" in result["error"]
    done = run("monitor", "/dev/sentill-absent")
    assert done.returncode == 3
    assert "no such port" in done.stderr
    assert "Traceback" not in done.stderr


def test_simulate_then_replay_from_the_command_line(tmp_path):
    path = tmp_path / "traffic.parquet"
    options = ("--cards", "40", "--terminals", "2", "--days", "20", "--json")
    made = json.loads(run("simulate", "traffic", "--out", str(path), *options).stdout)
    q = itertools.count(1)

    def answer(kind, fields):
        if kind == "C":  # as of a node that knows no keys
            return reply(fields, next(q), ok=False, err="command", msg="no such command")
        return verdict(fields, next(q)) if kind == "T" else reply(fields, next(q))

    with FakeNode(answer) as fake:
        done = run("replay", str(path), "--uart", fake.port, "--limit", "60", "--json")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert made["transactions"] > 60
    assert summary["sent"] == summary["answered"] == 60
    assert summary["verdicts"]["approve"] == 60


def test_a_replay_with_refusals_ends_with_4_and_shows_the_counts(tmp_path):
    path = tmp_path / "traffic.csv"
    run("simulate", "traffic", "--out", str(path), "--cards", "20", "--terminals", "1", "--days", "5")
    q = itertools.count(1)
    with FakeNode(lambda kind, f: reply(f, next(q), ok=False, err="state", msg="no model")) as fake:
        done = run("replay", str(path), "--uart", fake.port, "--limit", "5")
    assert done.returncode == 4, done.stderr
    assert "state" in done.stdout


def test_monitor_prints_frames_text_and_link_health_as_json():
    with FakeNode(lambda kind, f: protocol.encode("I", [("q", 1), ("t", 1), ("sw", "9.9")])) as fake:
        child = subprocess.Popen(
            [*SENTILL, "monitor", fake.port, "--json", "--seconds", "6"], stdout=subprocess.PIPE, text=True
        )
        while not fake.seen:  # it asks for the identity once it is attached
            time.sleep(0.05)
        fake.send(b"booting\r\n" + health(2, "supply", "ok") + health(5, "supply", "warn") + b"#T {}*00000000\r\n")
        output, _ = child.communicate(timeout=30)
    lines = [json.loads(line) for line in output.splitlines()]
    assert [line["kind"] for line in lines] == ["I", "text", "H", "H", "link"]
    assert lines[3]["missed"] == 2
    assert (lines[-1]["crc_errors"], lines[-1]["missed"], lines[-1]["text_lines"]) == (1, 2, 1)
    assert [kind for kind, _ in fake.seen] == ["C"]


def test_ctrl_c_ends_the_monitor_with_130_and_without_a_traceback():
    with FakeNode(lambda kind, f: b"") as fake:
        child = subprocess.Popen(
            [*SENTILL, "monitor", fake.port], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        while not fake.seen:
            time.sleep(0.05)
        child.send_signal(signal.SIGINT)
        _, errors = child.communicate(timeout=30)
    assert child.returncode == 130
    assert "Traceback" not in errors


def test_ctrl_c_while_the_command_loads_ends_it_without_a_word():
    code = (
        "import os, signal, sys\n"
        "class Impatient:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'typer': os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Impatient())\n"
        "from sentill_host.start import main\n"
        "main()"
    )
    done = subprocess.run([sys.executable, "-c", code, "ports"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")


def test_ctrl_c_at_a_question_ends_like_elsewhere(tmp_path):
    process, terminal = pty.fork()
    if not process:
        os.execv(sys.executable, [*SENTILL, "keys", "new", "--keys", str(tmp_path / "keys.json")])
    said, asked = b"", 0
    with contextlib.suppress(OSError):  # the terminal goes with the process
        while chunk := os.read(terminal, 1024):
            said += chunk
            if b"Password" in said and not asked:
                asked = os.write(terminal, b"\x03")
    os.close(terminal)
    _, status = os.waitpid(process, 0)
    assert os.waitstatus_to_exitcode(status) == 130
    assert b"interrupted" in said and b"Aborted" not in said


def test_a_closed_pipe_ends_the_monitor_quietly():
    with FakeNode(lambda kind, f: health(1, "supply", "ok") * 50) as fake:
        child = subprocess.Popen(
            [*SENTILL, "monitor", fake.port, "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert child.stdout is not None
        assert child.stdout.readline()
        child.stdout.close()
        for q in range(2, 200):
            if child.poll() is not None:
                break
            fake.send(health(q, "supply", "ok"))
            time.sleep(0.02)
        assert child.stderr is not None
        assert child.wait(30) != 0
        assert b"Traceback" not in child.stderr.read()
        child.stderr.close()


@pytest.mark.parametrize(
    "request_",
    [
        "deploy PORT --config DATA",
        "deploy PORT --model FOLDER",
        "unlock PORT --order DATA",
        "bundle build --board SIM -o FOLDER",
        "model inspect FOLDER",
        "model rules DATA -o x.stm",
        "wear train DATA --inputs motor",
        "wear train FOLDER --inputs motor",
        "fleet status --fleet DATA",
        "fleet init --fleet DATA/fleet.toml",
        "simulate faults --fault overheating --scenario FOLDER",
        "simulate traffic --days 1 --cards 10 --out DATA/x.csv",
        "channels SIM --config DATA",
        "keys new --password-file DATA",
        "virtual up --scenario DATA",
    ],
)
def test_a_wrong_file_is_named_and_ends_with_2(request_, tmp_path, monkeypatch):
    # In this process: to load the command anew for each takes a second.
    (tmp_path / "data").write_bytes(b"\xff\x00")
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    names = {"PORT": "/dev/null", "DATA": "data", "FOLDER": "folder"}
    words = [names.get(word, word).replace("DATA/", "data/") for word in request_.split()]
    error = CliRunner().invoke(build(), words).exception
    assert isinstance(error, SentillHostError) and error.exit_code == 2, repr(error)
    assert "data" in str(error) or "folder" in str(error)
    assert "Errno" not in str(error)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "folder"]
    assert not list((tmp_path / "folder").iterdir())


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk_is_no_crash(unbuffered):
    model = str(ROOT / "device" / "models" / "profile.stm")
    env = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*SENTILL, "model", "inspect", model], stdout=full, stderr=subprocess.PIPE, timeout=60, env=env
        )
    assert done.returncode == 5, done.stderr
    assert b"No space left" in done.stderr and b"Traceback" not in done.stderr


def test_a_terminal_without_the_letters_is_no_crash():
    model = str(ROOT / "device" / "models" / "profile.stm")
    plain = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
    done = run("model", "inspect", model, env=plain)
    assert done.returncode == 0, done.stderr
    assert "about" in done.stdout


def test_a_fault_of_our_own_is_one_line_and_a_file_to_report(tmp_path):
    code = (
        "import sentill_host.cli as cli\n"
        "import sentill_host.cli.ports as ports\n"
        "def nothing() -> None: raise KeyError('odd')\n"
        "ports.ports = nothing\n"
        "import sys; sys.argv = ['sentill', 'ports']\n"
        "cli.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert done.returncode == 1
    assert "unexpected KeyError: 'odd'" in done.stderr and "Traceback" not in done.stderr
    (kept,) = tmp_path.iterdir()
    assert str(kept) in done.stderr
    assert "KeyError: 'odd'" in kept.read_text()


def test_a_port_in_use_is_named_with_its_user():
    with FakeNode(lambda kind, f: b"") as fake:
        first = subprocess.Popen([*SENTILL, "monitor", fake.port], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while not fake.seen:
            time.sleep(0.05)
        second = run("monitor", fake.port)
        first.send_signal(signal.SIGINT)
        first.wait(30)
    assert second.returncode == 3
    assert f"pid {first.pid}" in second.stderr


def test_a_verb_loads_what_it_needs_and_no_more():
    code = "import sys\nfrom sentill_host.cli import build\nbuild('deploy')\nprint('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "False\n"
