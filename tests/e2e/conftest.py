"""Virtual boards for the end-to-end tests, and stock mpremote as a user has it: a subprocess."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from sentill_host.virtual import Board, VirtualBoards

DEADLINE_S = 120.0

Mpremote = Callable[..., str]


# A program that swallows `n` Ctrl-C, those too that come while it is dealing with one: it is ready for five in a row.
STUBBORN = """
import time
caught = 0
def nap(depth):
    global caught
    while caught < {n}:
        try:
            nap(depth - 1) if depth else time.sleep(0.01)
        except KeyboardInterrupt:
            caught += 1
            print("caught")
nap(5)
"""


def run_mpremote(port: str, *arguments: str, fails: bool = False, stdin: str = "") -> str:
    """Run `mpremote connect PORT ...`; its stdout. With `fails` it has to fail, and stderr is returned as well."""
    done = subprocess.run(
        [sys.executable, "-m", "mpremote", "connect", os.path.realpath(port), *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert (done.returncode != 0) == fails, (
        f"mpremote {arguments}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    )
    return done.stdout + (done.stderr if fails else "")


def mpremote_reset(board: Board, *commands: str) -> str:
    """Run mpremote's commands and then its `reset`; the commands' stdout, once the board has started anew.

    mpremote itself is gone a tenth of a second before the board resets, and has reset it softly when it came.
    """
    boots = board.status()["boots"]
    told = run_mpremote(board.usb, *commands, "reset")

    def started() -> bool:
        status = board.status()
        return bool(status["boots"] > boots and status["last_event"] == "hard reset" and status["state"] == "running")

    until(started)
    return told


def until(holds: Callable[[], object]) -> None:
    """Wait until `holds()` is true; fails after DEADLINE_S."""
    end_s = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < end_s, "it never came true"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def shared_board() -> Iterator[Board]:
    """One virtual board for all tests of a file: they see each other's files."""
    with VirtualBoards(1) as boards:
        yield boards[0]


@pytest.fixture
def board() -> Iterator[Board]:
    """A fresh virtual board."""
    with VirtualBoards(1) as boards:
        yield boards[0]


@pytest.fixture
def mpremote(shared_board: Board) -> Mpremote:
    """mpremote connected to the shared board."""
    return lambda *arguments, **options: run_mpremote(shared_board.usb, *arguments, **options)
