"""`sentill demo`: succeeds on its own criteria, and leaves nothing behind, also when interrupted at any moment."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.e2e.conftest import DEADLINE_S

SENTILL = [sys.executable, "-c", "from sentill_host.cli import main; main()", "demo"]


def marked_processes(mark: str) -> list[str]:
    """Processes that inherited the environment variable of this test, whatever their session."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (folder / "environ").read_bytes():
                found.append(f"{folder.name} {(folder / 'cmdline').read_bytes()!r}")
        except OSError:
            continue
    return found


@pytest.fixture
def clean(tmp_path):
    """Runs a demo in its own temporary folder, and afterwards finds neither a process nor a file of it."""
    mark = f"SENTILL_TEST_DEMO={os.getpid()}-{time.monotonic_ns()}"
    folder = tmp_path / "tmp"
    folder.mkdir()
    name, _, value = mark.partition("=")
    environment = {**os.environ, name: value, "TMPDIR": str(folder), "XDG_RUNTIME_DIR": str(folder)}

    def start(*arguments: str) -> subprocess.Popen:
        return subprocess.Popen(
            [*SENTILL, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
            start_new_session=True,
        )  # fmt: skip

    yield start
    end = time.monotonic() + DEADLINE_S
    while marked_processes(mark) and time.monotonic() < end:
        time.sleep(0.05)
    assert marked_processes(mark) == []
    assert [str(path) for path in folder.rglob("*")] == []


def test_the_demo_succeeds_and_says_why(clean, tmp_path):
    picture = tmp_path / "demo.svg"
    child = clean("--json", "--svg", str(picture))
    output, errors = child.communicate(timeout=300)
    assert child.returncode == 0, output + errors
    told = json.loads(output)
    assert told["ok"]
    assert all(told["checks"].values())
    assert told["answered"] == told["sent"] >= 2_000
    assert told["journalled"] == told["answered"]
    assert told["caught"] > 0.4 * told["frauds"] > 0
    assert told["quiet_false_alarms"] < 0.05 * told["quiet"]
    # The fault is reported, and nothing that is not broken.
    assert {event["name"] for event in told["health_events"]} == {"supply"}
    drawing = picture.read_text()
    assert "<svg" in drawing and "the&#160;demo&#160;succeeded" in drawing
    assert "url(" not in drawing.replace("url(#", ""), "the picture needs nothing from the network"
    print(f"demo: {told['seconds_in_all']} s, caught {told['caught']} of {told['frauds']}, {told['latency']}")


@pytest.mark.parametrize("after", ["starting a virtual board", "deploying", "replaying"])
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "terminate"])
def test_an_interrupted_demo_leaves_nothing(clean, after, signum):
    child = clean()
    assert child.stderr is not None
    for line in child.stderr:
        if after in line:
            break
    time.sleep(0.3)
    if signum == signal.SIGINT:
        os.killpg(child.pid, signum)  # the terminal sends Ctrl-C to the whole group
    else:
        child.send_signal(signum)
    output, errors = child.communicate(timeout=120)
    assert child.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143}[signum], output + errors
    assert "Traceback" not in errors
