"""A node with keys at its work for an hour: five requests a second, health frames, commands, pulls of its journal.

`python -m tests.e2e.soak` prints a line a minute and draws what it saw, build/soak.png: free heap and latency, which
have to stay flat. Every request has to be answered, every verdict to be in what was pulled.
"""

import argparse
import json
import random
import statistics
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

from sentill_host.board.link import Link
from sentill_host.errors import SentillHostError
from sentill_host.journal.store import Terminal
from sentill_host.keys.key_file import KeyFile
from sentill_host.node import access, journal_pull
from sentill_host.node.client import NodeClient
from sentill_host.node.frames import Frame
from sentill_host.virtual import Board
from tests.e2e import onslaught

RATE_HZ = 5.0
PULL_S = 60.0
COMMANDS = ("status", "identify", "vitals", "challenge", "blink", "set-rate")
_ANSWER_S = 30.0
_LEAST_HEAP = 0.95  # of the free heap of the first quarter of the time, in the last
_MOST_LATENCY = 1.5  # times the node's own median of the first quarter


@dataclass
class Outcome:
    """What was seen: (seconds, milliseconds from request to verdict, microseconds by the node's clock) of requests,
    (seconds, bytes free) of health frames. `problems` is empty when all held."""

    seconds: float = 0.0
    answered: int = 0
    commands: int = 0
    pulls: int = 0
    recorded: int = 0
    missed: int = 0
    latency: list[tuple[float, float, int]] = field(default_factory=list)
    heap: list[tuple[float, int]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def told(self) -> dict[str, Any]:
        """The figures, without the samples."""
        told = {key: value for key, value in vars(self).items() if key not in ("latency", "heap")}
        for name, quarter in (("first", 0), ("last", 3)):
            us, free = self.quarter(quarter)
            told[f"{name}_quarter"] = {"us": statistics.median(us or [0]), "heap": statistics.median(free or [0])}
        return told

    def quarter(self, n: int) -> tuple[list[int], list[int]]:
        """Latencies by the node's clock and free heap in the quarter `n` (0..3) of the time."""
        low, high = n * self.seconds / 4, (n + 1) * self.seconds / 4
        return [us for s, _, us in self.latency if low <= s < high], [free for s, free in self.heap if low <= s < high]


def soak(board: Board, keys: KeyFile, seconds: float, told: bool = False) -> Outcome:
    """Let the board work for so long."""
    outcome = Outcome(seconds=seconds)
    verdicts: dict[int, int] = {}
    boots = board.status()["boots"]
    start = time.monotonic()
    asking = threading.Thread(target=_ask, args=(board, start, outcome, verdicts))
    asking.start()
    with tempfile.TemporaryDirectory(prefix="sentill-soak-") as folder:
        try:
            terminal = _watch(board, keys, Path(folder), start, outcome, asking, told)
            asking.join()
            onslaught.look(board, keys, verdicts, outcome, terminal)
        except SentillHostError as error:
            outcome.problems.append(f"{type(error).__name__}: {error}")
        asking.join()
    if board.status()["boots"] != boots:
        outcome.problems.append(f"the board was started {board.status()['boots'] - boots} times")
    _compare(outcome)
    return outcome


def _ask(board: Board, start: float, outcome: Outcome, verdicts: dict[int, int]) -> None:
    """Ask at RATE_HZ until the time is over, one request after the other."""
    rng = random.Random(5)
    with onslaught.line(board.uart) as line:
        ref = 0
        while (due := ref / RATE_HZ) < outcome.seconds:
            time.sleep(max(0.0, start + due - time.monotonic()))
            ref += 1
            began = time.monotonic()
            try:
                made = line.verdict(ref, t=1000 + ref, amt=rng.randrange(60_000), card=f"tok-{rng.randrange(500)}")
            except AssertionError as error:
                outcome.problems.append(f"request {ref}: {error}")
                return
            outcome.latency.append((began - start, 1000 * (time.monotonic() - began), made["us"]))
            outcome.answered += 1
            verdicts[ref] = made.get("j", -1)
            line.items.clear()


def _watch(
    board: Board, keys: KeyFile, folder: Path, start: float, outcome: Outcome, asking: threading.Thread, told: bool
) -> Terminal:
    """Take health frames in, give a command every few seconds and pull once a minute, while requests are asked."""
    with Link(board.usb) as link:
        client = NodeClient(link)
        access.attach(client, keys)
        terminal = Terminal(folder, journal_pull.identify(client))
        pulled = commanded = time.monotonic()
        while asking.is_alive():
            for item in [client.receive(0.5), *client.unclaimed]:
                if isinstance(item, Frame) and item.kind == "H" and "heap" in item.fields:
                    outcome.heap.append((time.monotonic() - start, item.fields["heap"]))
                if isinstance(item, Frame) and item.fields.get("ev") in ("task_crash", "hang", "fault"):
                    outcome.problems.append(repr(dict(item.fields)))
            client.unclaimed.clear()
            now = time.monotonic()
            if now - commanded >= 3:
                commanded = now
                name = COMMANDS[outcome.commands % len(COMMANDS)]
                client.command(name, _ANSWER_S, **({"hz": 1} if name == "set-rate" else {}))
                outcome.commands += 1
            if now - pulled >= PULL_S:
                pulled = now
                journal_pull.pull(client, terminal)
                outcome.pulls += 1
                if told:
                    us, free = outcome.latency[-1][2], outcome.heap[-1][1] if outcome.heap else 0
                    print(f"{now - start:6.0f} s: {outcome.answered} answered, {us} us, {free} bytes free", flush=True)
    return terminal


def _compare(outcome: Outcome) -> None:
    (us, free), (last_us, last_free) = outcome.quarter(0), outcome.quarter(3)
    if not us or not last_us or not free or not last_free:
        outcome.problems.append("nothing was seen in the first or the last quarter")
        return
    if statistics.median(last_free) < _LEAST_HEAP * statistics.median(free):
        outcome.problems.append(f"free heap fell from {statistics.median(free)} to {statistics.median(last_free)}")
    if statistics.median(last_us) > _MOST_LATENCY * statistics.median(us):
        outcome.problems.append(f"latency rose from {statistics.median(us)} to {statistics.median(last_us)} us")


def draw(outcome: Outcome, path: Path) -> None:
    """Free heap, and latency by the node's clock and as the terminal sees it, over the time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure, (above, below) = pyplot.subplots(2, 1, sharex=True, figsize=(9, 6), layout="constrained")
    above.plot([s / 60 for s, _ in outcome.heap], [free / 1024 for _, free in outcome.heap], lw=0.8)
    above.set_ylabel("free heap, KB")
    above.set_ylim(bottom=0)
    at = [s / 60 for s, _, _ in outcome.latency]
    below.plot(at, [ms for _, ms, _ in outcome.latency], ".", ms=1, label="from request to verdict, ms")
    below.plot(at, [us / 1000 for _, _, us in outcome.latency], ".", ms=1, label="by the node's clock, ms")
    below.set_yscale("log")
    below.set_xlabel("minutes")
    below.legend(loc="upper right", markerscale=8)
    figure.suptitle(f"{outcome.answered} requests, {outcome.commands} commands, {outcome.pulls} pulls")
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def main() -> int:
    """Prints progress and the outcome as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--heap", default=onslaught.HEAP)
    parser.add_argument("--plot", type=Path, default=Path("build/soak.png"))
    options = parser.parse_args()
    with onslaught.keyed(options.heap) as (board, keys):
        outcome = soak(board, keys, 60 * options.minutes, told=True)
    draw(outcome, options.plot)
    print(json.dumps({**outcome.told(), "plot": str(options.plot)}, indent=1))
    return 1 if outcome.problems else 0


if __name__ == "__main__":
    sys.exit(main())
