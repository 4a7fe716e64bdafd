"""What a node with keys stands from people without: commands and requests at full speed, on both lines at once.

Nobody signs anything here. Every request has to be answered, and every verdict to be in the journal or to be counted as
missed; no task may crash, and the board must not restart. `python -m tests.e2e.onslaught` prints what came of it.
"""

import argparse
import json
import os
import random
import struct
import sys
import tempfile
import threading
import time
import tty
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sentill.crypto import LAB_ROOT
from sentill.journal import chain
from sentill_host.board.link import Link
from sentill_host.deploy import deploy
from sentill_host.errors import SentillHostError
from sentill_host.journal.store import Terminal
from sentill_host.journal.verify_terminal import verify_terminal
from sentill_host.keys.key_file import KeyFile
from sentill_host.node import access, journal_pull
from sentill_host.node.client import NodeClient
from sentill_host.node.frames import Frame
from sentill_host.virtual import Board, VirtualBoards
from tests.e2e.bare import Line

# Objects of the Unix port are twice as large as a chip's. With less the code that is borrowed for a moment, as for the
# next block of the journal, does not always find room beside the node: what is not kept then is counted.
HEAP = "240K"
RAW = "4M"  # holds the records of all that a quick computer asks here
_QUIET_S = 30.0
SETTLE_S = 3.0

COMMANDS: tuple[dict[str, Any], ...] = (
    *({"cmd": "blink", "n": n} for n in (1, 60, 60, 60)),
    *({"cmd": name} for name in ("identify", "status", "vitals", "challenge", "maintenance", "audit", "explode")),
    {"cmd": "challenge", "nonce": "A" * 24},
    {"cmd": "audit", "from": 0},
    {"cmd": "order", "n": 3, "min": 5, "sig": "A" * 24},
    {"cmd": "reboot", "c": 900, "mac": "A" * 24},
    {"cmd": "set-rate", "hz": 9, "c": 901, "mac": "A" * 24},
)
ON_THE_LINE: tuple[dict[str, Any], ...] = (
    *({"cmd": name} for name in ("identify", "status", "vitals", "challenge", "blink")),
    {"cmd": "count", "name": "card_errors", "c": 5, "mac": "A" * 24},
)


@dataclass
class Outcome:
    """What came of it: `problems` is empty when all held."""

    requests: int = 0
    verdicts: int = 0
    commands: int = 0
    answers: Counter[str] = field(default_factory=Counter)  # by code, "ok" for those carried out
    events: Counter[str] = field(default_factory=Counter)
    recorded: int = 0
    missed: int = 0  # verdicts that the journal tells it could not record
    problems: list[str] = field(default_factory=list)


@contextmanager
def keyed(heap: str = HEAP, raw: str = RAW, policy: int = 7, **settings: Any) -> Iterator[tuple[Board, KeyFile]]:
    """A virtual board with keys, locked; `policy` is what a tamper event leads to."""
    with VirtualBoards(1, heap=heap, raw=raw, **settings) as (board,), tempfile.TemporaryDirectory() as folder:
        keys = KeyFile.create(Path(folder) / "keys.json", "a password of tests")
        (done,) = deploy.deploy([board.usb])
        assert not done.error, done
        with Link(board.usb) as link:
            client = NodeClient(link)
            fresh = access.provision(client, keys, "service", policy).fresh
            identity = access.await_generation(client, fresh, _QUIET_S)
            assert "faults" not in identity, identity
        yield board, keys


@contextmanager
def line(port: str) -> Iterator[Line]:
    """The port of a board, raw."""
    fd = os.open(os.path.realpath(port), os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    try:
        tty.setraw(fd)
        yield Line(fd, fd)
    finally:
        os.close(fd)


class Asking:
    """One line that is asked in a thread of its own: `ask(line)` until the time is over, then for all answers."""

    def __init__(self, port: str, ask: Callable[[Line], None], seconds: float):
        self.line: Line | None = None
        self.error = ""
        self._run = port, ask, seconds
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    def join(self) -> str:
        """Wait for the end; what went wrong."""
        self._thread.join()
        return self.error

    def _work(self) -> None:
        port, ask, seconds = self._run
        try:
            with line(port) as self.line:
                end = time.monotonic() + seconds
                while time.monotonic() < end:
                    ask(self.line)
                _settle(self.line)
        except (AssertionError, OSError) as error:
            self.error = f"{type(error).__name__}: {error}"


def _settle(line: Line) -> None:
    # Until all that was asked is answered: no answer comes any more for a while.
    seen, quiet = len(line.items), time.monotonic()
    while time.monotonic() - quiet < SETTLE_S:
        line.poll(0.2)
        if any(isinstance(item, Frame) and item.kind in "TRA" for item in line.items[seen:]):
            quiet = time.monotonic()
        seen = len(line.items)


def rush(board: Board, keys: KeyFile, seconds: float, seed: int = 1) -> Outcome:
    """Ask on both lines at once for so long; then look into the journal."""
    outcome = Outcome()
    rng = random.Random(seed)
    boots = board.status()["boots"]
    sent = Counter[str]()

    def on_usb(line: Line) -> None:
        sent["usb"] += 1
        line.send("C", **rng.choice(COMMANDS))

    def on_uart(line: Line) -> None:
        if rng.randrange(8) == 0:
            sent["uart"] += 1
            line.send("C", **rng.choice(ON_THE_LINE))
            return
        if rng.randrange(20) == 0:
            sent["uart"] += 1
            line.send("P", ref=max(sent["T"] - 3, 0), fraud=1)
            return
        sent["T"] += 1
        line.send("T", ref=sent["T"], t=1000 + sent["T"], amt=rng.randrange(60_000), card=f"tok-{rng.randrange(500)}")

    asking = [Asking(board.usb, on_usb, seconds), Asking(board.uart, on_uart, seconds)]
    outcome.problems += [f"{asked}" for asked in (one.join() for one in asking) if asked]
    usb, uart = (one.line for one in asking)
    assert usb and uart
    events = [frame.fields for frame in usb.items if isinstance(frame, Frame) and frame.kind == "E"]
    outcome.events = Counter(f"{e['ev']} {e.get('task', '')} {e.get('err') or e.get('of') or ''}" for e in events)
    outcome.requests, outcome.commands = sent["T"], sent["usb"] + sent["uart"]
    if board.status()["boots"] != boots:
        outcome.problems.append(f"the board was started {board.status()['boots'] - boots} times: {board.status()}")
    told = [frame.fields for frame in uart.items if isinstance(frame, Frame) and frame.kind == "T"]
    outcome.verdicts = len(told)
    numbers = {fields["ref"]: fields.get("j", -1) for fields in told}
    if sorted(numbers) != list(range(1, sent["T"] + 1)):
        outcome.problems.append(f"{sent['T'] - len(numbers)} of {sent['T']} requests have no verdict")
    for asked, kept in ((usb, sent["usb"]), (uart, sent["uart"])):
        replies = [f.fields for f in asked.items if isinstance(f, Frame) and f.kind == "R" and "ref" not in f.fields]
        replies += [f.fields for f in asked.items if isinstance(f, Frame) and f.kind == "R" and "ref" in f.fields]
        outcome.answers.update(str(reply.get("err", "ok")) for reply in replies)
        if len(replies) != kept:
            outcome.problems.append(f"{kept} commands, {len(replies)} replies")
    for frame in usb.items:
        if isinstance(frame, Frame) and frame.kind == "E" and frame.fields["ev"] in ("task_crash", "hang", "fault"):
            outcome.problems.append(repr(dict(frame.fields)))
    try:
        look(board, keys, numbers, outcome)
    except SentillHostError as error:
        outcome.problems.append(f"afterwards: {error}")
    return outcome


def look(
    board: Board,
    keys: KeyFile,
    numbers: dict[int, int],
    outcome: Any,
    terminal: Terminal | None = None,
    by_ref: bool = True,
) -> None:
    """Compare the verdicts given with the journal; `terminal` holds what was pulled before.

    `numbers` are their records by ref, -1 for none; without `by_ref` the refs by record, of those that have one.
    `outcome` is given `recorded`, `missed` and what is found as `problems`.
    """
    with Link(board.usb) as link, tempfile.TemporaryDirectory(prefix="sentill-onslaught-") as folder:
        client = NodeClient(link)
        end = time.monotonic() + _QUIET_S
        while (status := client.command("status"))["jk"] < status["jn"] and time.monotonic() < end:
            time.sleep(0.1)
        access.attach(client, keys)
        terminal = terminal or Terminal(Path(folder), journal_pull.identify(client))
        journal_pull.pull(client, terminal)
        uid = access.challenge(client).uid
        roots = {terminal.device: lambda generation: keys.root(uid, generation) if generation else LAB_ROOT}
        audit = verify_terminal(terminal, roots)
    if audit.finding:
        outcome.problems.append(f"verify: {audit.finding}")
    held = {r.sequence: struct.unpack_from("<I", r.payload)[0] for r in audit.records if r.kind == chain.VERDICT}
    outcome.recorded = len(held)
    told = [r.payload.decode() for r in audit.records if r.kind == chain.MISSING]
    outcome.missed = sum(int(text.split("verdicts=")[1].split()[0]) for text in told)
    given = sum(status[code] for code in ("ap", "rv", "dc"))
    if given != len(held) + outcome.missed:
        outcome.problems.append(f"{given} verdicts, {len(held)} recorded, {outcome.missed} told as missed")
    refs = {number: ref for ref, number in numbers.items() if number >= 0} if by_ref else numbers
    wrong = [ref for number, ref in refs.items() if held.get(number) != ref]
    if len(wrong) > outcome.missed:
        outcome.problems.append(f"{len(wrong)} verdicts promise records that are others, or not there: {wrong[:5]}")
    if status["crash"]:
        outcome.problems.append(f"{status['crash']} tasks crashed: {dict(status)}")


def main() -> int:
    """Prints the outcome as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--heap", default=HEAP)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--paced", action="store_true", help="lines as slow as wires")
    options = parser.parse_args()
    with keyed(options.heap, paced=options.paced) as (board, keys):
        outcome = rush(board, keys, options.seconds, options.seed)
    print(json.dumps(vars(outcome), indent=1))
    return 1 if outcome.problems else 0


if __name__ == "__main__":
    sys.exit(main())
