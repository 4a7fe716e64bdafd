"""Deploys through a storm: seeded faults at every step, on virtual boards, several at a time.

A case brings a board to the other of two versions while something goes wrong. Then the board has to start a whole
version by itself, the old one or the new one, read back and compared with the bundles byte by byte; a plain second run
has to succeed; and no step may outlive what it announced. `python tests/e2e/storm.py --cases 500` runs them all and
prints a table; tests/e2e/test_storm.py runs a share of them.
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sentill_host import boards, bundle, client, deploy, workers
from sentill_host.bundle import Bundle, Entry
from sentill_host.errors import SentillHostError
from sentill_host.link import Link
from sentill_host.virtual import Board, VirtualBoards

STEPS = (
    "connecting", "reading what is there", "compiling", "comparing", "copying", "verifying", "switching over",
    "starting the node",
)  # fmt: skip
# What comes on top of the announced limit of a step before its worker is ended.
GRACE_S = workers._GRACE_S
# A step of a deploy on a computer as busy as this one.
LONGEST_S = 150.0

STUBBORN = """
import time
caught = 0
while caught < {n}:
    try:
        time.sleep(0.01)
    except KeyboardInterrupt:
        caught += 1
"""
CHATTY = "while True:\n    print('x' * 200)\n"
HUNG = "import micropython, time\nmicropython.kbd_intr(-1)\ntime.sleep({s})\nmicropython.kbd_intr(3)\n"


@dataclass
class Outcome:
    """What a case did, and `problem`, empty when all held."""

    seed: int
    fault: str
    step: str = ""
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
    random: random.Random
    outcome: Outcome
    fired: bool = False
    trigger: Callable[[], None] | None = None
    killed: bool = False
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


FAULTS: tuple[Fault, ...] = (
    power_cut, power_cycle, cable, reset, full_disk, chatty, stubborn, hung, flood, noise, host_killed
)  # fmt: skip


def run_case(board: Board, versions: dict[str, Path], seed: int) -> Outcome:
    """Carry out the case `seed` on a board in whatever state the case before left it, with a version on it or fresh."""
    rng = random.Random(seed)
    fault = FAULTS[seed % len(FAULTS)]
    outcome = Outcome(seed, fault.__name__, step=STEPS[seed // len(FAULTS) % len(STEPS)])
    try:
        fresh = rng.random() < 0.15
        if fresh:
            _wipe(board)
        old = "" if fresh else running(board)
        new = rng.choice([name for name in versions if name != old])
        case = Case(board, versions[new], rng, outcome)
        storm = fault(case)
        next(storm)
        start = time.monotonic()
        case.began = start
        if case.killed:
            result = _killed(case)
        else:
            result = deploy.deploy([board.usb], bundles=[case.target], progress=case.watch)[0]
        outcome.longest_s = max(outcome.longest_s, time.monotonic() - case.began)
        outcome.seconds = time.monotonic() - start
        outcome.ended = "killed" if result is None else result.error or "done"
        if result is not None and result.error and not result.hint:
            outcome.problem = f"no hint with {result.error!r}"
        with contextlib.suppress(StopIteration):
            next(storm)
        # By itself: only the power comes and goes.
        foreign = fault in (chatty, stubborn) and result is not None and result.error != ""
        board.control("power_cycle", ms=1)
        board.wait(boots=board.status()["boots"])
        outcome.booted = "" if foreign else running(board, patience_s=40)
        if not foreign and outcome.booted not in (old, new):
            outcome.problem = f"runs {outcome.booted!r} instead of {old!r} or {new!r}"
        if not outcome.problem and outcome.booted:
            outcome.problem = compare(board, versions[outcome.booted])
        again = deploy.deploy([board.usb], bundles=[case.target])[0]
        if again.error:
            outcome.problem = outcome.problem or f"the second run: {again.error}"
        elif running(board) != new:
            outcome.problem = outcome.problem or "the second run left the old version"
        if outcome.longest_s > LONGEST_S:
            outcome.problem = outcome.problem or f"a step took {outcome.longest_s:.0f} s"
    except (SentillHostError, AssertionError, OSError) as error:
        outcome.problem = f"{type(error).__name__}: {error}"
    return outcome


def _killed(case: Case) -> None:
    """Deploy in a group of processes of its own, which the trigger kills."""
    pid = os.fork()
    if pid == 0:
        os.setsid()
        with contextlib.suppress(BaseException):
            deploy.deploy([case.board.usb], bundles=[case.target], progress=case.watch)
        os._exit(0)
    os.waitpid(pid, 0)


def running(board: Board, patience_s: float = 40.0) -> str:
    """The version that reports on the board; "" when it has none and waits at its prompt."""
    seen = client.Boot()
    with Link(board.usb) as link:
        for _ in client.watch_boot(client.NodeClient(link), patience_s, seen):
            # A version on trial proves itself first.
            if seen.identity and seen.slot in ("a", "b"):
                return str(seen.identity["sw"])
            if not seen.identity and any(">>>" in line for line in seen.console):
                link.enter_repl()
                names = link.exec_json("import os, json\nprint(json.dumps(os.listdir('/')))")
                assert "main.py" not in names, f"at the prompt with {names}: {seen.console[-5:]}"
                link.leave_repl()
                return ""
            if not seen.identity and board.status()["state"] == "running" and not board.status()["busy"]:
                link.write(b"\r")
    raise AssertionError(f"nothing runs: {seen}")


HASHES = """
import os, json
from hashlib import sha256
from binascii import hexlify
def walk(d):
    for e in os.ilistdir(d):
        p = d + '/' + e[0]
        if e[1] == 0x4000:
            walk(p)
        else:
            h = sha256()
            with open(p, 'rb') as f:
                while True:
                    b = f.read(512)
                    if not b:
                        break
                    h.update(b)
            print(json.dumps([p[8:], hexlify(h.digest()).decode()]))
walk('/slot_' + open('/slot').read()[0])
"""


def compare(board: Board, version: Path) -> str:
    """Every file of the slot that runs against the bundle; "" when they are the same."""
    with Link(board.usb) as link:
        client.request_maintenance(client.NodeClient(link))
        link.enter_repl()
        link.soft_reset()
        told = link.exec(HASHES, 60.0).decode()
        link.exec("import os\nif 'maintenance' in os.listdir('/'): os.remove('/maintenance')")
        link.reset()
    held = dict(json.loads(line) for line in told.splitlines())
    held.pop("manifest", "")
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
    board.control("power_off")
    board.wait("off")
    image = board._directory / board.name / "flash.img"
    image.write_bytes(bytes(image.stat().st_size))
    board.control("power_on")
    board.wait("running")


def make_versions(folder: Path, mpy: int) -> dict[str, Path]:
    """Two versions that differ in a few files, as bundle files by their names."""
    made: Bundle = bundle.build(boards.load("SIM"), bundle.Firmware((1, 28, 0), mpy))
    paths = {}
    for name in ("1", "2"):
        entries = [entry for entry in made.entries if not entry.path.startswith("sentill/__init__")]
        entries.insert(0, Entry("sentill/__init__.mpy", bundle.compile_file("v", f"__version__ = {name!r}".encode())))
        entries.insert(1, Entry(f"models/only-{name}.bin", bytes(range(256)) * int(name) * 20))
        entries.insert(2, Entry("models/empty.bin", b""))
        path = folder / f"{name}.sentill"
        bundle.write(replace(made, version=name, entries=tuple(entries)), path)
        paths[name] = path
    return paths


def _drive(board: Board, versions: dict[str, Path], seeds: list[int], line: Any) -> None:
    for seed in seeds:
        line.send(run_case(board, versions, seed))
    line.close()


def storm(cases: int, at_once: int, first: int = 0, told: Callable[[Outcome], None] | None = None) -> list[Outcome]:
    """Run the cases `first`, `first` + 1, ... on `at_once` boards."""
    context = multiprocessing.get_context("fork")
    outcomes: list[Outcome] = []
    with VirtualBoards(at_once) as started, tempfile.TemporaryDirectory() as folder:
        with Link(started[0].usb) as link:
            link.enter_repl()
            mpy = link.exec_json("import sys, json\nprint(json.dumps(sys.implementation._mpy))")
            link.reset()
        versions = make_versions(Path(folder), mpy)
        drivers = []
        for number, board in enumerate(started):
            seeds = list(range(first, first + cases))[number::at_once]
            ours, theirs = context.Pipe(False)
            process = context.Process(target=_drive, args=(board, versions, seeds, theirs))
            process.start()
            theirs.close()
            drivers.append((process, ours))
        lines = [line for _, line in drivers]
        while lines:
            for line in multiprocessing.connection.wait(lines):
                try:
                    outcomes.append(line.recv())  # type: ignore[union-attr]
                except EOFError:
                    lines.remove(line)  # type: ignore[arg-type]
                    continue
                if told:
                    told(outcomes[-1])
        for process, _ in drivers:
            process.join()
    return outcomes


def main() -> int:
    """All cases, with a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=528)
    parser.add_argument("--boards", type=int, default=8)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--verbose", action="store_true", help="a line per case")
    options = parser.parse_args()

    def show(outcome: Outcome) -> None:
        if options.verbose:
            print(outcome, flush=True)
        elif outcome.problem:
            print(f"seed {outcome.seed} ({outcome.fault}, {outcome.step}): {outcome.problem}", flush=True)

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
