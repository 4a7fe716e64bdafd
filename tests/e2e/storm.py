"""Deploys through a storm: seeded faults at every step, on virtual boards, several at a time.

A case brings a board to the other of two versions while something goes wrong. Then the board has to run a whole version
by itself, the old one or the new one, read back and compared with the bundles byte by byte: in half of the cases after
its power was off, in the others as the fault has left it; a plain second run has to succeed; and no step may outlive
what it announced. In half of the cases the board has keys, and runs only what is signed for it. `python
tests/e2e/storm.py` runs them all and prints a table; tests/e2e/test_storm.py runs a share.
"""

import argparse
import contextlib
import json
import multiprocessing
import multiprocessing.connection
import os
import random
import re
import signal
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest

from sentill_host.board import catalogue
from sentill_host.board.link import Link
from sentill_host.bundle import archive as image
from sentill_host.bundle import build as bundle
from sentill_host.bundle.build import Bundle, Entry
from sentill_host.deploy import deploy, signing, workers
from sentill_host.errors import SentillHostError
from sentill_host.keys.key_file import KeyFile
from sentill_host.node import client
from sentill_host.virtual import Board, VirtualBoards
from tests.e2e.conftest import STUBBORN

T = TypeVar("T")

STEPS = (
    "connecting", "reading what is there", "compiling", "comparing", "copying", "verifying", "switching over",
    "starting the node",
)  # fmt: skip
# What a board does that meets somebody with the wrong keys.
SITUATIONS = ("its node runs", "at the prompt", "a foreign program", "without a version")
FIRST = "0"
PASSWORD = "a password of the storm"
# What comes on top of the announced limit of a step before its worker is ended.
GRACE_S = workers._GRACE_S
# A board that was left at its prompt restarts by then, and has started.
BACK_S = 75.0
# A step of a deploy on a computer as busy as this one.
LONGEST_S = 150.0

CHATTY = "while True:\n    print('x' * 200)\n"
HUNG = "import micropython, time\nmicropython.kbd_intr(-1)\ntime.sleep({s})\nmicropython.kbd_intr(3)\n"


@dataclass
class Outcome:
    """What a case did, and `problem`, empty when all held."""

    seed: int
    fault: str
    step: str = ""
    cycled: bool = False  # its power, before anybody looked
    ended: str = ""
    booted: str = ""
    longest_s: float = 0.0
    seconds: float = 0.0
    problem: str = ""


@dataclass
class Case:
    """One case on one board: `trigger` makes the fault when the deploy reaches a step."""

    board: Board
    target: Path
    keys: KeyFile | None
    random: random.Random
    outcome: Outcome
    fired: bool = False
    trigger: Callable[[], None] | None = None
    killed: bool = False
    wrong: dict[str, Any] | None = None  # keyword arguments of a deploy that must be refused
    began: float = field(default_factory=time.monotonic)

    def watch(self, port: str, step: str, done: int, total: int) -> None:
        """Progress of the deploy."""
        now = time.monotonic()
        self.outcome.longest_s = max(self.outcome.longest_s, now - self.began)
        self.began = now
        if self.trigger and not self.fired and step == self.outcome.step:
            if step == "copying" and total and done < total * self.random.random():
                return
            self.fired = True
            time.sleep(self.random.choice((0, 0, 0.02, 0.1, 0.3)))
            self.trigger()


# The faults: each prepares the board and perhaps a trigger, and is a generator so that it can clean up afterwards.
Fault = Callable[[Case], Iterator[None]]


def power_cut(case: Case) -> Iterator[None]:
    """The supply fails at a flash write; the chip is on again a moment later."""
    case.outcome.step = ""
    torn = case.random.choice(("none", "half", "random"))
    writes = case.random.randrange(0, case.random.choice((12, 90, 500)))
    seed = case.random.randrange(1 << 30)
    case.board.control("cut_flash", writes=writes, torn=torn, seed=seed, reboot_ms=case.random.choice((1, 300)))
    yield
    case.board.control("cut_flash", writes=None)


def power_cycle(case: Case) -> Iterator[None]:
    """The supply fails at a step."""
    case.trigger = lambda: case.board.control("power_cycle", ms=case.random.choice((1, 400)))
    yield


def cable(case: Case) -> Iterator[None]:
    """The cable is pulled at a step, for a moment or until somebody comes."""
    ms = case.random.choice((None, 50, 1500))
    case.trigger = lambda: case.board.control("pull_cable", ms=ms)
    yield
    case.board.control("plug_cable")


def reset(case: Case) -> Iterator[None]:
    """Somebody presses the reset button at a step."""
    case.trigger = lambda: case.board.control("reset")
    yield


def full_disk(case: Case) -> Iterator[None]:
    """The flash is full, or nearly so."""
    left = case.random.choice((0, 2, 8, 20, 60))
    _run(
        case.board,
        "import os\ns = os.statvfs('/')\nf = open('/ballast', 'wb')\nb = bytes(s[0])\n"
        f"try:\n for _ in range(max(0, s[3] - {left})): f.write(b)\nexcept OSError: pass\nf.close()",
    )
    yield
    _run(case.board, "import os\nif 'ballast' in os.listdir('/'): os.remove('/ballast')")


def chatty(case: Case) -> Iterator[None]:
    """A foreign main.py that prints without end."""
    _write_main(case.board, CHATTY)
    yield


def stubborn(case: Case) -> Iterator[None]:
    """A foreign main.py that swallows Ctrl-C many times."""
    _write_main(case.board, STUBBORN.format(n=case.random.choice((3, 20, 40))))
    yield


def hung(case: Case) -> Iterator[None]:
    """The prompt hangs in something that does not hear Ctrl-C, for a while or until somebody resets the board."""
    with Link(case.board.usb) as link:
        link.enter_repl()
        link.launch(HUNG.format(s=case.random.choice((1, 4, 1000))))
    yield
    case.board.control("reset")


def flood(case: Case) -> Iterator[None]:
    """Text from elsewhere on the console at a step."""
    text = case.random.choice(("boot: hello\r\n", ">>> ", '@{"re": 1}*00000000\n', "x" * 3000, "\x04\x04>"))
    case.trigger = lambda: case.board.control("flood", text=text * case.random.choice((1, 5)))
    yield


def noise(case: Case) -> Iterator[None]:
    """A cable that damages bytes, from a step on."""
    every, count = case.random.choice(((2000, 1), (3000, 5), (300, 3), (5000, 40), (100, 400)))
    seed = case.random.randrange(1 << 30)
    case.trigger = lambda: case.board.control("garble", every=every, count=count, seed=seed)
    yield
    case.board.control("garble", count=0)


def host_killed(case: Case) -> Iterator[None]:
    """The computer's side dies at a step, all of it at once."""
    case.killed = True
    case.trigger = lambda: os.killpg(0, signal.SIGKILL)
    yield


def wrong_key(case: Case) -> Iterator[None]:
    """Somebody with another key file, or with none, wants to deploy."""
    assert case.keys is not None
    case.outcome.step = SITUATIONS[case.outcome.seed // len(FAULTS) % len(SITUATIONS)]
    with tempfile.TemporaryDirectory() as folder:
        other = KeyFile.create(Path(folder) / "keys.json", PASSWORD)
        if case.random.random() < 0.5:
            other.devices.update(case.keys.devices)
        theirs = Path(folder) / case.target.name
        bundle.write(signing.sign_bundle(bundle.read(case.target), other), theirs)
        case.wrong = case.random.choice(({"keys": other}, {"keys": other, "profile": "open"}, {}))
        case.wrong["bundles"] = [theirs]
        if case.outcome.step == SITUATIONS[1]:
            with Link(case.board.usb) as link:
                client.request_maintenance(client.NodeClient(link))
                link.enter_repl()
                link.leave_repl()
        elif case.outcome.step == SITUATIONS[2]:
            _write_main(case.board, case.random.choice((CHATTY, STUBBORN.format(n=3))))
        yield


FAULTS: tuple[Fault, ...] = (
    power_cut, power_cycle, cable, reset, full_disk, chatty, stubborn, hung, flood, noise, host_killed, wrong_key
)  # fmt: skip


def keyed(seed: int) -> bool:
    """Whether the case is for a board with keys."""
    return FAULTS[seed % len(FAULTS)] is wrong_key or seed // len(FAULTS) % 2 == 1


def cycled(seed: int) -> bool:
    """Whether the power comes and goes before the board is looked at: in every other case of a fault at a step."""
    fault, step, turn = seed % len(FAULTS), seed // len(FAULTS) % len(STEPS), seed // len(FAULTS) // len(STEPS)
    return (fault + step // 2 + turn) % 2 == 0


def run_case(board: Board, versions: dict[str, Path], seed: int, keys: KeyFile | None = None) -> Outcome:
    """Carry out the case `seed` on a board in whatever state the case before left it, with a version on it or fresh.

    With `keys` the board has some of this file.
    """
    rng = random.Random(seed)
    fault = FAULTS[seed % len(FAULTS)]
    outcome = Outcome(seed, fault.__name__, step=STEPS[seed // len(FAULTS) % len(STEPS)], cycled=cycled(seed))
    right: dict[str, Any] = {"keys": keys, "profile": "open"} if keys else {}
    try:
        fresh = rng.random() < 0.15
        if fault is wrong_key:
            fresh = SITUATIONS[seed // len(FAULTS) % len(SITUATIONS)] == SITUATIONS[3]
        if fresh:
            _wipe(board)
        old = "" if fresh else running(board)
        new = rng.choice([name for name in versions if name != old])
        case = Case(board, versions[new], keys, rng, outcome)
        storm = fault(case)
        next(storm)
        start = time.monotonic()
        boots = board.status()["boots"]
        case.began = start
        if case.killed:
            result = _killed(case, right)
        else:
            options = {"bundles": [case.target], **(right if case.wrong is None else case.wrong)}
            result = deploy.deploy([board.usb], progress=case.watch, **options)[0]
        outcome.longest_s = max(outcome.longest_s, time.monotonic() - case.began)
        outcome.seconds = time.monotonic() - start
        outcome.ended = "killed" if result is None else result.error or "done"
        if result is not None and result.error and not result.hint:
            outcome.problem = f"no hint with {result.error!r}"
        if case.wrong is not None and result is not None and not re.search("key|sign", result.error):
            outcome.problem = f"not refused for its keys: {result.error!r}"
        if case.wrong is not None and outcome.step == SITUATIONS[0] and board.status()["boots"] != boots:
            outcome.problem = outcome.problem or "the wrong keys made the board restart"
        with contextlib.suppress(StopIteration):
            next(storm)
        foreign = fault in (chatty, stubborn) and result is not None and result.error != ""
        foreign = foreign or case.wrong is not None and outcome.step == SITUATIONS[2]
        if outcome.cycled:
            board.control("power_cycle", ms=1)
            board.wait(boots=board.status()["boots"])
        outcome.booted = "" if foreign else running(board, BACK_S, refused=case.wrong is not None and fresh)
        if not foreign and outcome.booted not in ((old,) if case.wrong is not None else (old, new)):
            outcome.problem = outcome.problem or f"runs {outcome.booted!r}, was {old!r}, to be {new!r}"
        if not outcome.problem and outcome.booted:
            outcome.problem = compare(board, versions[outcome.booted])
        again = deploy.deploy([board.usb], bundles=[case.target], **right)[0]
        if again.error:
            outcome.problem = outcome.problem or f"the second run: {again.error}"
        elif running(board, keyed=keys is not None) != new:
            outcome.problem = outcome.problem or "the second run left the old version"
        if outcome.longest_s > LONGEST_S:
            outcome.problem = outcome.problem or f"a step took {outcome.longest_s:.0f} s"
    except (SentillHostError, AssertionError, OSError) as error:
        outcome.problem = f"{type(error).__name__}: {error}"
        board.control("power_cycle", ms=1)  # the next case shall not suffer from it
        board.wait(boots=board.status()["boots"])
    return outcome


def _killed(case: Case, options: dict[str, Any]) -> None:
    """Deploy in a group of processes of its own, which the trigger kills."""
    ended, alive = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setsid()
        with contextlib.suppress(BaseException):
            deploy.deploy([case.board.usb], bundles=[case.target], progress=case.watch, **options)
        os._exit(0)
    os.waitpid(pid, 0)
    # The workers were killed with it, and each has the port until it is gone.
    os.close(alive)
    os.read(ended, 1)
    os.close(ended)


def running(board: Board, patience_s: float = 40.0, refused: bool = False, keyed: bool | None = None) -> str:
    """The version that reports on the board; "" when it has none and waits at its prompt, or `refused` what it has.

    `keyed` is whether it has to have keys.
    """
    seen = client.Boot()
    with Link(board.usb) as link:
        for _ in client.watch_boot(client.NodeClient(link), patience_s, seen):
            # A version on trial proves itself first.
            if seen.identity and seen.slot in ("a", "b"):
                assert keyed is None or keyed == (seen.identity["gen"] > 0), seen
                return str(seen.identity["sw"])
            # With its watchdog armed a board at the prompt restarts by itself.
            ends = not seen.identity and board.status()["wdt_ms"] == 0
            if ends and any(">>>" in line for line in seen.console):
                link.enter_repl()
                names = link.exec_json("import os, json\nprint(json.dumps(os.listdir('/')))")
                link.leave_repl()
                assert refused or "main.py" not in names, (
                    f"at the prompt with {names}: {seen.console}; {board.status()}"
                )
                return ""
            if not seen.identity and board.status()["state"] == "running" and not board.status()["busy"]:
                link.write(b"\r")
    raise AssertionError(f"nothing runs: {seen}")


INDEX = "f = open('/slot_%s.img' % open('/slot').read()[0], 'rb')\nprint(f.read(8192).hex())"
HASHES = """
import json
from hashlib import sha256
for name, at, size in {parts!r}:
    h = sha256()
    f.seek(at)
    while size:
        data = f.read(min(size, 512))
        h.update(data)
        size -= len(data)
    print(json.dumps([name, h.digest().hex()]))
f.close()
"""


def compare(board: Board, version: Path) -> str:
    """Every file of the slot that runs against the bundle; "" when they are the same."""
    with Link(board.usb) as link:
        client.request_maintenance(client.NodeClient(link))
        link.enter_repl()
        link.soft_reset()
        parts = image.parts(bytes.fromhex(link.exec(INDEX, 60.0).decode()))
        told = link.exec(HASHES.format(parts=[(part.path, part.at, part.size) for part in parts]), 60.0).decode()
        link.exec("import os\nif 'maintenance' in os.listdir('/'): os.remove('/maintenance')")
        link.reset()
    held = dict(json.loads(line) for line in told.splitlines())
    held.pop(image.HEAD, "")
    held.pop("config.json", "")
    wanted = {entry.path: entry.sha256 for entry in bundle.read(version).entries}
    different = sorted(path for path in held.keys() | wanted.keys() if held.get(path) != wanted.get(path))
    return f"the slot is not the version: {different[:3]}" if different else ""


def _run(board: Board, code: str) -> None:
    with Link(board.usb) as link:
        client.request_maintenance(client.NodeClient(link))
        link.enter_repl()
        link.soft_reset()
        link.exec(code, 60.0)
        link.reset()


def _write_main(board: Board, text: str) -> None:
    _run(board, f"with open('/main.py', 'w') as f: f.write({text!r})")
    end = time.monotonic() + 30
    while not board.status()["busy"] and time.monotonic() < end:
        time.sleep(0.02)


def _wipe(board: Board) -> None:
    """Empty the file system; the keys are beside it, and a key file does not take back a board that has lost them."""
    board.control("power_off")
    board.wait("off")
    image = board._directory / board.name / "flash.img"
    files = board.status()["flash_bytes"]
    image.write_bytes(bytes(files) + image.read_bytes()[files:])
    board.control("power_on")
    board.wait("running")


def make_versions(folder: Path, mpy: int, keys: KeyFile) -> dict[str, Path]:
    """Three versions that differ in a few files, as signed bundle files by their names."""
    made: Bundle = bundle.build(catalogue.load("SIM"), bundle.Firmware((1, 28, 0), mpy))
    paths = {}
    for name in (FIRST, "1", "2"):
        entries = [entry for entry in made.entries if not entry.path.startswith("sentill/__init__")]
        entries.insert(0, Entry("sentill/__init__.mpy", bundle.compile_file("v", f"__version__ = {name!r}".encode())))
        entries.insert(1, Entry(f"models/only-{name}.bin", bytes(range(256)) * int(name) * 20))
        entries.insert(2, Entry("models/empty.bin", b""))
        path = folder / f"{name}.sentill"
        bundle.write(signing.sign_bundle(replace(made, version=name, entries=tuple(entries)), keys), path)
        paths[name] = path
    return paths


def spread(jobs: Iterable[tuple[Callable[[int], T], list[int]]], told: Callable[[T], None] | None = None) -> list[T]:
    """The outcomes of the jobs, a function and the seeds to call it with, each job in a process of its own."""
    context = multiprocessing.get_context("fork")
    outcomes: list[T] = []
    processes = []
    lines = []
    for run, seeds in jobs:
        ours, theirs = context.Pipe(False)
        processes.append(context.Process(target=_drive, args=(run, seeds, theirs)))
        processes[-1].start()
        theirs.close()
        lines.append(ours)
    while lines:
        for line in multiprocessing.connection.wait(lines):
            try:
                outcomes.append(line.recv())  # type: ignore[union-attr]
            except EOFError:
                lines.remove(line)  # type: ignore[arg-type]
                continue
            if told:
                told(outcomes[-1])
    for process in processes:
        process.join()
    return outcomes


def _drive(run: Callable[[int], Any], seeds: list[int], line: Any) -> None:
    for seed in seeds:
        line.send(run(seed))
    line.close()


def storm(cases: int, at_once: int, first: int = 0, told: Callable[[Outcome], None] | None = None) -> list[Outcome]:
    """Run the cases `first`, `first` + 1, ... on `at_once` boards, 2 at least: every other one has keys."""
    at_once = max(2, at_once)
    with (
        VirtualBoards(at_once) as started,
        tempfile.TemporaryDirectory() as folder,
        pytest.MonkeyPatch.context() as own,
    ):
        own.setenv("SENTILL_JOURNALS", str(Path(folder) / "journals"))
        with Link(started[0].usb) as link:
            link.enter_repl()
            mpy = link.exec_json("import sys, json\nprint(json.dumps(sys.implementation._mpy))")
            link.reset()
        keys = KeyFile.create(Path(folder) / "keys.json", PASSWORD)
        versions = make_versions(Path(folder), mpy, keys)
        # What a board has when it gets its keys runs unsigned until two signed versions have taken its place.
        given = deploy.deploy([b.usb for b in started[1::2]], bundles=[versions.pop(FIRST)], keys=keys, profile="open")
        assert not any(result.error for result in given), given
        keys.refresh()
        for version in versions.values():
            given = deploy.deploy([b.usb for b in started[1::2]], bundles=[version], keys=keys)
            assert not any(result.error for result in given), given
        jobs = []
        for number, board in enumerate(started):
            group = [seed for seed in range(first, first + cases) if keyed(seed) == (number % 2 == 1)]
            run = partial(run_case, board, versions, keys=keys if number % 2 else None)
            jobs.append((run, group[number // 2 :: len(started[number % 2 :: 2])]))
        return spread(jobs, told)


def main() -> int:
    """All cases, with a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=576)
    parser.add_argument("--boards", type=int, default=8)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--verbose", action="store_true", help="a line per case")
    options = parser.parse_args()

    def show(outcome: Outcome) -> None:
        if options.verbose:
            print(outcome, flush=True)
        elif outcome.problem:
            where = f"seed {outcome.seed} ({outcome.fault}, {outcome.step}; deploy: {outcome.ended or 'none'})"
            print(f"{where}: {outcome.problem}", flush=True)

    start = time.monotonic()
    outcomes = storm(options.cases, options.boards, options.first, show)
    ended: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for outcome in outcomes:
        ended[outcome.fault]["done" if outcome.ended == "done" else "failed"] += 1

    for fault, counts in ended.items():
        print(f"{fault:12} {counts['done']:4} went through, {counts['failed']:4} ended in an error and were repeated")
    bricks = sum(1 for outcome in outcomes if outcome.problem)
    longest = max(outcome.longest_s for outcome in outcomes)
    print(
        f"{len(outcomes)} cases in {time.monotonic() - start:.0f} s on {options.boards} boards at a time: "
        f"{bricks} problems, longest silence of a step {longest:.1f} s"
    )
    return 1 if bricks or len(outcomes) != options.cases else 0


if __name__ == "__main__":
    sys.exit(main())
