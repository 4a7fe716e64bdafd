"""Power cuts at every program and erase of the node's storage, on the real littlefs of the Unix port.

sweep.py has the journal, the key on flash and the files that are replaced; life.py has keys given, changed and erased;
install.py has versions installed, proven, given up and refused.

With SENTILL_SWEEP=all (`make sweep`) every operation is cut in every torn mode; otherwise the longest runs cut each
operation in one mode, the modes taking turns. The sweeps run two at a time, each in a process of its own.
"""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from sentill_host.bundle import agent
from tests.interpreters import DEVICE, TESTS, unix_command

HERE = Path(__file__).parent
ALL = os.environ.get("SENTILL_SWEEP") == "all"


class Run(NamedTuple):
    """What is swept, see Options of the `script`; `of`: which part of the cuts unless all are wanted."""

    store: str
    prog: int
    window: int = 1
    mixed: bool = False
    of: int = 1
    bug: str = ""
    script: str = ""

    def __str__(self) -> str:
        words = [self.script, self.store, str(self.prog), str(self.window), "mixed" * self.mixed, self.bug]
        return "-".join(word for word in words if word)


RUNS = [
    Run("files", 32, 1, of=3),
    Run("files", 32, 8, True, of=3),
    Run("files", 256, 1),
    Run("files", 256, 4, True),
    Run("files", 256, 23),
    Run("raw", 32, 1),
    Run("raw", 32, 8, True),
    Run("raw", 256, 1),
    Run("raw", 256, 4, True),
    Run("raw", 256, script="life"),
    Run("files", 256, script="life"),
    Run("pinned", 256, script="life"),
    Run("raw", 256, of=2, script="install"),
    Run("pinned", 256, of=2, script="install"),
]
MORE = [
    Run("pinned", 32, script="life"),
    Run("raw", 32, script="life"),
    Run("files", 32, script="life"),
    Run("raw", 32, script="install"),
    Run("pinned", 32, script="install"),
    Run("files", 32, 4),
    Run("files", 32, 1, True),
    Run("files", 256, 16, True),
    Run("raw", 256, 23),
    Run("files", 32, 23, True),
    Run("raw", 32, 1, True),
]
# A seeded bug, and what the sweep says of it.
BUGS = {
    Run("files", 32, 1, of=10, bug="rename"): "fails its checksum",
    Run("files", 32, 1, of=10, bug="flush"): "acknowledged",
    Run("files", 32, 1, of=10, bug="key"): "is left",
    Run("raw", 32, 1, of=10, bug="key"): "is left",
    Run("raw", 256, bug="order", script="life"): "a used counter is free",
    Run("raw", 256, bug="latch", script="life"): "no keys, and not tampered",
    Run("raw", 256, bug="adopt", script="life"): "must not start any more",
    Run("raw", 256, of=4, bug="order", script="install"): "not the main.py of config",
    Run("raw", 256, of=4, bug="place", script="install"): "is neither old nor new",
    Run("raw", 256, of=4, bug="gap", script="install"): "main.py is neither old nor new",
    Run("raw", 256, of=4, bug="early", script="install"): "floor 50",
    Run("raw", 256, of=4, bug="forget", script="install"): "adopted: False",
    Run("raw", 256, bug="floor", script="install"): "without a cut",
    Run("raw", 256, bug="trust", script="install"): "without a cut",
}

_tried: dict[Run, int] = {}


def sweep(run: Run) -> dict[str, Any]:
    """Run one sweep; its JSON line."""
    of = 1 if ALL and not run.bug else run.of
    options: dict[str, Any] = {"raw": run.store == "raw", "prog": run.prog, "bug": run.bug, "share": [0, of]}
    options["stop"] = 0 if not run.bug else 5 if run.script else 200
    if run.script == "life":
        options |= {"pinned": run.store == "pinned"}
    elif not run.script:
        options |= {"window": run.window, "mixed": run.mixed}
    script = str(HERE / f"{run.script or 'sweep'}.py")
    command = [*unix_command(), "-X", "heapsize=64M", script, str(DEVICE), str(TESTS), json.dumps(options)]
    if run.script == "install":
        command.append(str(Path(agent.__file__).with_name("onboard") / "agent.py"))
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stdout + done.stderr
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


@pytest.fixture(scope="module")
def result(request: pytest.FixtureRequest) -> Iterator[Callable[[Run], dict[str, Any]]]:
    """What a sweep brought. All sweeps that this session's tests want are started with the first."""
    tests = [item for item in request.session.items if item.path == request.path and hasattr(item, "callspec")]
    pool = ThreadPoolExecutor(2)
    started: dict[Run, Future[dict[str, Any]]] = {
        run: pool.submit(sweep, run) for run in dict.fromkeys(test.callspec.params["run"] for test in tests)
    }
    yield lambda run: started[run].result()
    pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("run", RUNS + MORE if ALL else RUNS, ids=str)
def test_nothing_acknowledged_is_lost_and_no_old_key_is_left(run: Run, result: Callable[[Run], Any]) -> None:
    found = result(run)
    assert found["faults"] == 0, found["first"]
    _tried[run] = found["cuts"]
    print(f"{found['cuts']} cuts over {found['operations']} programs and erases")


def test_the_sweep_was_wide() -> None:
    missing = [str(run) for run in RUNS if run not in _tried]
    if missing:
        pytest.skip(f"not all sweeps ran in this session: {missing}")
    total = sum(_tried.values())
    print(f"{total} power cuts tried")
    assert total >= 20_000


@pytest.mark.parametrize("run", BUGS, ids=str)
def test_a_seeded_bug_is_caught(run: Run, result: Callable[[Run], Any]) -> None:
    found = result(run)
    assert any(BUGS[run] in text for text in found["first"]), found
