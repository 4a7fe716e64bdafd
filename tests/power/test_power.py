"""Power cuts at every program and erase of the node's storage, on the real littlefs of the Unix port (sweep.py).

With SENTILL_SWEEP=all (`make sweep`) nothing is left out; otherwise one run is thinned.
"""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.interpreters import DEVICE, TESTS, unix_command

SWEEP = Path(__file__).parent / "sweep.py"
ALL = os.environ.get("SENTILL_SWEEP") == "all"

# Store, program size, window, and which part of the cuts is tried unless all are wanted.
RUNS = [
    ("files", 32, 1, 1),
    ("files", 32, 8, 2),
    ("files", 256, 1, 1),
    ("files", 256, 8, 1),
    ("raw", 32, 1, 1),
    ("raw", 256, 8, 1),
]
MORE = [("raw", 32, 8, 1), ("raw", 256, 1, 1), ("files", 32, 4, 1), ("files", 256, 16, 1)]

_tried: dict[tuple[str, int, int, int], int] = {}


def sweep(**options: Any) -> dict[str, Any]:
    """Run one sweep; its JSON line."""
    command = [*unix_command(), "-X", "heapsize=64M", str(SWEEP), str(DEVICE), str(TESTS), json.dumps(options)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("run", RUNS + MORE if ALL else RUNS, ids=lambda run: "-".join(map(str, run[:3])))
def test_nothing_acknowledged_is_lost_and_no_old_key_is_left(run: tuple[str, int, int, int]) -> None:
    store, prog, window, of = run
    result = sweep(raw=store == "raw", prog=prog, window=window, share=[0, 1 if ALL else of])
    assert result["faults"] == 0, result["first"]
    _tried[run] = result["cuts"]
    print(f"{result['cuts']} cuts over {result['operations']} programs and erases")


def test_the_sweep_was_wide() -> None:
    missing = [run for run in RUNS if run not in _tried]
    if missing:
        pytest.skip(f"not all sweeps ran in this session: {missing}")
    total = sum(_tried.values())
    print(f"{total} power cuts tried")
    assert total >= 20_000


@pytest.mark.parametrize(
    ("bug", "raw", "fault"),
    [
        ("rename", False, "fails its checksum"),
        ("flush", False, "acknowledged"),
        ("key", False, "is left"),
        ("key", True, "is left"),
    ],
)
def test_a_seeded_bug_is_caught(bug: str, raw: bool, fault: str) -> None:
    result = sweep(bug=bug, raw=raw, share=[0, 10], stop=200)
    assert any(fault in text for text in result["first"]), result
