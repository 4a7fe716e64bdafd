"""Commands at work on locked boards are interrupted: the board must never stay open, and be at work again soon.

A case starts a command on a locked virtual board, in processes of its own, and interrupts it: at a random instant, or
soon after the board came to its prompt, where it is open. From then on the board must not be at its prompt for longer
than its time box, and must judge a request within BACK_S, which is asked on the terminal's line: no host helps it.
Then it must be locked, or in a session no longer than the one that was asked for, which `lock` ends.

`python -m tests.e2e.interruptions` runs them all and prints a table; tests/e2e/test_interruptions.py runs a share.
"""

import argparse
import contextlib
import dataclasses
import itertools
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from sentill_host import cli, doctor
from sentill_host.board import catalogue
from sentill_host.board.link import Link
from sentill_host.deploy import deploy, prompt, signing, workers
from sentill_host.errors import SentillHostError
from sentill_host.flash import procedure, rp2
from sentill_host.flash.memory import Remembered
from sentill_host.flash.procedure import Options
from sentill_host.fleet import tasks
from sentill_host.keys.key_file import KeyFile
from sentill_host.node import access, client
from sentill_host.virtual import Board, VirtualBoards
from tests.e2e import storm
from tests.e2e.test_node_virtual import verdict
from tests.host.boot_drive import BootDrive, make_uf2

BACK_S = 60.0
# A person in a session of a minute has all of it, and then the board starts.
SESSION_MIN = 1
START_S = 8.0
# How late a busy computer may see what happens.
LATE_S = 2.0
# What a command that goes on may take until it ends, on a computer as busy as this one.
LONGEST_S = 240.0
_LOOK_S = 0.02
_COMMANDS = ("deploy", "doctor", "flash", "fleet", "unlock", "person")
_KINDS = ("cable", "killed", "stopped", "told to end", "slow start")
# About how long each takes on a computer with nothing else to do.
_TAKES_S = {"deploy": 4.0, "doctor": 2.0, "flash": 2.5, "fleet": 5.0, "unlock": 0.1, "person": 2.0}


@dataclass
class Outcome:
    """What a case did. `open_s` is the longest time at the prompt after the interruption, `back_s` until the board was
    at work, both from the interruption, or the end of a command that went on; `problem` is empty when all held."""

    seed: int
    command: str
    kind: str
    aimed: bool
    hurt: bool = False  # the command was at work
    at_prompt: bool = False  # when it was interrupted
    open_s: float = 0.0
    back_s: float = 0.0
    said: str = ""  # the end of a command that came to one
    note: str = ""
    problem: str = ""


@dataclass
class Place:
    """A board with what the commands need for it."""

    board: Board
    versions: dict[str, Path]
    keys: KeyFile
    folder: Path
    uid: str


def run_case(place: Place, seed: int) -> Outcome:
    """Carry out the case `seed` on a locked board at work, and leave it so."""
    rng = random.Random(seed)
    command = _COMMANDS[seed % len(_COMMANDS)]
    kind = _KINDS[seed // len(_COMMANDS) % len(_KINDS)]
    outcome = Outcome(seed, command, kind, aimed=rng.random() < 0.5 and command not in ("unlock",))
    board = place.board
    drive = BootDrive(place.folder / f"drive-{seed}", booted=lambda: board.control("power_cycle", ms=100))
    said = place.folder / f"said-{seed}"
    host = None
    try:
        host = _Host(_work(place, command, rng, drive), said)
        boots = board.status()["boots"]
        _await_moment(board, host, drive, outcome, rng, boots)
        outcome.hurt = host.alive()
        outcome.at_prompt = board.status()["at_prompt"]
        _interrupt(board, host, kind, rng)
        _watch(place, host, drive, outcome)
    except (SentillHostError, AssertionError, OSError) as error:
        outcome.problem = outcome.problem or f"{type(error).__name__}: {error}"
    finally:
        if host:
            host.end()
        drive.close()
        outcome.said = said.read_text() if said.exists() else ""
    try:
        _settle(place, outcome)
    except (SentillHostError, AssertionError, OSError) as error:
        outcome.problem = outcome.problem or f"afterwards: {type(error).__name__}: {error}"
        board.control("plug_cable")
        board.control("power_cycle", ms=1)
        board.wait(boots=board.status()["boots"])
    return outcome


# The commands, as they run in a process of their own


def _work(place: Place, command: str, rng: random.Random, drive: BootDrive) -> Callable[[], object]:
    board, keys = place.board, place.keys
    port = board.usb
    version = _other_version(place)
    if command == "deploy":
        return lambda: deploy.deploy([port], bundles=[version], keys=keys)[0].error
    if command == "doctor":
        return lambda: [found.text for found in doctor.examine_port(port, deep=True, keys=keys) if found.level != "ok"]
    if command == "fleet":
        task = tasks.Task(
            "deploy", port, place.uid, {"profile": "service"}, bundles=(deploy.bundle.read(version),), keys=keys
        )
        return lambda: workers.run(tasks.work, [task], lambda _: None)[0].result["error"]
    if command == "flash":
        return lambda: _flash(place, drive)
    soft_reset = rng.random() < 0.5
    return lambda: _person(port, keys, command == "person", soft_reset)


def _other_version(place: Place) -> Path:
    with Link(place.board.usb) as link:
        runs = access.identity(client.NodeClient(link))["sw"]
    return next(path for name, path in place.versions.items() if name != runs)


def _flash(place: Place, drive: BootDrive) -> str:
    # The virtual board as an RP2040, as in test_flash_rp2.py.
    known = dict(catalogue.all_boards())
    known["SIM"] = dataclasses.replace(
        known["SIM"], data={**known["SIM"].data, "firmware": {"chip": "rp2040", "file": "uf2"}}
    )
    catalogue.all_boards = lambda: known  # type: ignore[assignment]
    os.environ["PATH"] = os.path.dirname(sys.executable)  # no picotool
    rp2._LOCK = f"bootsel-{place.uid}"
    rp2.drives = lambda: list(filter(None, [rp2.read_drive(drive.path)]))  # type: ignore[assignment]
    file = place.folder / "SIM-20250911.uf2"
    if not file.exists():
        file.write_bytes(make_uf2(os.urandom(256 * 40)))
    options = Options(file=file, keys=place.keys)
    return procedure.flash(place.board.usb, options, remembered=Remembered(place.folder / "boards.json")).error


def _person(port: str, keys: KeyFile, stays: bool, soft_reset: bool) -> None:
    # Opens a session; who stays is at the prompt of it from then on.
    with Link(port) as link:
        access.unlock(client.NodeClient(link), keys, SESSION_MIN)
        if stays:
            link.enter_repl()
            if soft_reset:
                link.soft_reset()
            signal.pause()


class _Host:
    """`work` in a group of processes of its own; `said` is the file for what it has to say in the end."""

    def __init__(self, work: Callable[[], object], said: Path):
        self._ended, alive = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.setsid()
            null = os.open(os.devnull, os.O_RDWR)
            for fd in range(3):
                os.dup2(null, fd)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            for number in (signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, cli._terminated)
            try:
                told = str(work())
            except BaseException as error:
                told = f"{type(error).__name__} {error}"
            said.write_text(told)
            os._exit(0)
        os.close(alive)

    def alive(self) -> bool:
        """Whether the first of its processes is."""
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

    def signal(self, number: int) -> None:
        """Send a signal to all of them."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def end(self) -> None:
        """Kill them, and wait until all of them are gone: each may have the port."""
        self.signal(signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)
        os.read(self._ended, 1)
        os.close(self._ended)
        time.sleep(0.2)  # they give the pipe back before the port


# The interruption


def _await_moment(
    board: Board, host: _Host, drive: BootDrive, outcome: Outcome, rng: random.Random, boots: int
) -> None:
    # Until the instant of the interruption, or the end of the command.
    end = time.monotonic() + (LONGEST_S if outcome.aimed else rng.random() * _TAKES_S[outcome.command])
    inserted = False
    while time.monotonic() < end and host.alive():
        status = board.status()
        if status["state"] == "bootloader" and not inserted:
            drive.insert()
            inserted = True
        if outcome.aimed and (status["boots"] > boots if outcome.kind == "slow start" else status["at_prompt"]):
            time.sleep(rng.choice((0.0, 0.05, 0.3, 1.0, 2.5)) * rng.random())
            return
        time.sleep(_LOOK_S)


def _interrupt(board: Board, host: _Host, kind: str, rng: random.Random) -> None:
    if kind == "cable":
        board.control("pull_cable", ms=rng.choice((None, 300, 4000)))
    elif kind == "slow start":
        _hold_up(board, rng.choice((1.0, 3.0, 10.0)))
    else:
        told = rng.choice((signal.SIGTERM, signal.SIGHUP, signal.SIGINT))
        number = {"killed": signal.SIGKILL, "stopped": signal.SIGSTOP}.get(kind, told)
        host.signal(number)


def _hold_up(board: Board, seconds: float) -> None:
    # The board starts slowly, or gets on slowly with what it does.
    pid = board.status()["pid"]
    if pid:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
            time.sleep(seconds)
            os.kill(pid, signal.SIGCONT)


# What has to hold


def _watch(place: Place, host: _Host, drive: BootDrive, outcome: Outcome) -> None:
    # Until the board is at work. A command that goes on may take its time; a board nobody works on may not.
    board = place.board
    began = opened = time.monotonic()
    goes_on = outcome.kind in ("cable", "told to end", "slow start")
    limit_s = BACK_S + (START_S if outcome.command == "person" else 0)
    last = began + LONGEST_S
    inserted = drive.path.exists() or drive.written is not None
    while True:
        now = time.monotonic()
        status = board.status()
        if goes_on and outcome.command == "person" and now > last - LONGEST_S + 3:  # who would stay for good
            host.signal(signal.SIGKILL)
        if goes_on and host.alive():
            assert now < last, f"the command does not end within {LONGEST_S:g} s"
            began = opened = now
            if status["state"] == "bootloader" and not inserted:
                drive.insert()
                inserted = True
        elif status["state"] == "bootloader":
            outcome.note = "left in its boot loader, which has no time box"
            board.control("power_cycle", ms=1)
            board.wait(boots=board.status()["boots"])
        if not status["at_prompt"]:
            opened = now
        outcome.open_s = max(outcome.open_s, now - opened)
        if not (goes_on and host.alive()):
            with Link(board.uart) as link, contextlib.suppress(AssertionError):
                if verdict(client.NodeClient(link), 1 + outcome.seed % 999, 0.5):
                    outcome.back_s = time.monotonic() - began
                    break
        assert now - began < limit_s + 30, f"not at work after {now - began:.0f} s; {status}"
        time.sleep(_LOOK_S)
    box_s = max(prompt.BOX_S, 60 * SESSION_MIN if outcome.command == "person" else 0)
    assert outcome.open_s <= box_s + LATE_S, f"at its prompt for {outcome.open_s:.0f} s"
    assert outcome.back_s <= limit_s, f"at work after {outcome.back_s:.0f} s"


def _settle(place: Place, outcome: Outcome) -> None:
    # Locked, or in the session that was asked for, and locked after that.
    board = place.board
    board.control("plug_cable")
    most_s = 60 * (SESSION_MIN if outcome.command in ("unlock", "person") else signing._SESSION_MIN)
    with Link(board.usb) as link:
        node = client.NodeClient(link)
        assert client.await_identity(node, BACK_S)[0], "no node on USB"
        state = access.attach(node, place.keys)
        assert state.locked or 0 < state.left_s <= most_s, state
        access.lock(node, place.keys)
        assert access.challenge(node).locked, "open after lock"
        link.write(b"\x03\x03\r\n")
        assert node.command("status")["ok"] is True


# Many of them


def interrupt(cases: int, at_once: int, first: int = 0, told: Callable[[Outcome], None] | None = None) -> list[Outcome]:
    """Run the cases `first`, `first` + 1, ... on `at_once` boards, half of them with a USB bridge, half without."""
    with (
        contextlib.ExitStack() as stack,
        tempfile.TemporaryDirectory() as folder,
        pytest.MonkeyPatch.context() as own,
    ):
        own.setenv("SENTILL_JOURNALS", str(Path(folder) / "journals"))
        started = [
            board
            for usb, n in (("uart_bridge", (at_once + 1) // 2), ("usb_cdc", at_once // 2))
            if n
            for board in stack.enter_context(VirtualBoards(n, usb=usb))
        ]
        keys = KeyFile.create(Path(folder) / "keys.json", storm.PASSWORD)
        with Link(started[0].usb) as link:
            link.enter_repl()
            mpy = link.exec_json("import sys, json\nprint(json.dumps(sys.implementation._mpy))")
            link.reset()
        versions = storm.make_versions(Path(folder), mpy, keys)
        given = deploy.deploy(
            [b.usb for b in started], bundles=[versions.pop(storm.FIRST)], keys=keys, profile="service"
        )
        assert not any(result.error for result in given), given
        keys.refresh()
        jobs = []
        for number, board in enumerate(started):
            place = Place(board, versions, keys, Path(folder) / f"board-{number}", given[number].uid)
            place.folder.mkdir()
            begin, end = (first + cases * n // len(started) for n in (number, number + 1))
            jobs.append((partial(run_case, place), list(range(begin, end))))
        return storm.spread(jobs, told)


def main() -> int:
    """All cases, with a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=300)
    parser.add_argument("--boards", type=int, default=6)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--verbose", action="store_true", help="a line per case")
    options = parser.parse_args()

    def show(outcome: Outcome) -> None:
        if options.verbose or outcome.problem:
            print(outcome, flush=True)

    start = time.monotonic()
    outcomes = interrupt(options.cases, options.boards, options.first, show)
    rows: defaultdict[tuple[str, str], list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        rows[outcome.command, outcome.kind].append(outcome)
    print(f"{'command':8} {'interrupted':12} {'cases':>5} {'at work':>7} {'at prompt':>9} {'open s':>7} {'back s':>7}")
    for command, kind in itertools.product(_COMMANDS, _KINDS):
        if row := rows[command, kind]:
            print(
                f"{command:8} {kind:12} {len(row):5} {sum(o.hurt for o in row):7} {sum(o.at_prompt for o in row):9} "
                f"{max(o.open_s for o in row):7.1f} {max(o.back_s for o in row):7.1f}"
            )
    problems = sum(1 for outcome in outcomes if outcome.problem)
    notes = Counter(outcome.note for outcome in outcomes if outcome.note)
    print(
        f"{len(outcomes)} interruptions in {time.monotonic() - start:.0f} s on {options.boards} boards: {problems} "
        f"problems; longest open {max(o.open_s for o in outcomes):.1f} s, at work again after at most "
        f"{max(o.back_s for o in outcomes):.1f} s; {dict(notes) or 'none left in a boot loader'}"
    )
    return 1 if problems or len(outcomes) != options.cases else 0


if __name__ == "__main__":
    sys.exit(main())
