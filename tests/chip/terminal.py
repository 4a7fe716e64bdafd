"""A payment terminal at the chip's UART: requests by the chip's clock, verdicts and when they came."""

import itertools
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from sentill.errors import FrameError
from sentill.wire import protocol
from sentill_host.models import simulate, transactions
from tests.chip.chip import Chip
from tests.chip.heap import Heap

ANSWER_MS = 500.0
TRIES = 3
"""The terminal repeats a request, under the same ref, when no verdict came in this time; so often it asks in all."""
_START_S = 50_000_000  # node time of the first request
_LOOK_NS = 0.5e6  # at the heap, in the windows
_WINDOW_MS = 60.0  # after a request, in which its judgement and its record are done; and before it, for comparison


@dataclass(frozen=True)
class Regime:
    """Milliseconds from a verdict to the next request, uniform between the two."""

    name: str
    least_ms: float
    most_ms: float


PAUSING = Regime("pausing", 300, 2500)
SUSTAINED = Regime("sustained", 0, 150)


@dataclass(frozen=True)
class Line:
    """What the node sent on the UART: a line without its end, and when its first byte began to leave."""

    text: bytes
    start_ns: float


@dataclass
class Asked:
    """One request: milliseconds from its last byte to the verdict's first, None when it never came, and what it took.

    `us` is what the verdict says of itself; the costs are None where the next request came too soon to tell.
    """

    ref: int
    ms: float | None
    tries: int
    us: int = 0
    verdict: str = ""
    record: int = -1
    cpu_ms: float | None = None
    cpu_before_ms: float | None = None
    heap_bytes: int | None = None
    heap_before_bytes: int | None = None


@dataclass
class Report:
    """What the terminal saw: every request; answers nobody waited for; all else that came, by its type."""

    regime: str
    asked: list[Asked] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def lost(self) -> int:
        """Requests whose first sending got no verdict in time."""
        return sum(asked.tries > 1 or asked.ms is None for asked in self.asked)

    @property
    def unanswered(self) -> int:
        """Requests that got no verdict in all their tries."""
        return sum(asked.ms is None for asked in self.asked)


@lru_cache(maxsize=1)
def _sent() -> list[transactions.Request]:
    table = simulate.traffic(simulate.TrafficOptions(cards=120, terminals=2, days=60, rate=0.5, seed=7))
    data = transactions.from_table(table)
    first = data.busiest()[0]
    return transactions.requests(data, [first])[first]


def requests() -> Iterator[transactions.Request]:
    """What a terminal sends, with card profiles, without end; the same in every run, refs count from 1."""
    lap = 60 * 86_400
    ref = itertools.count(1)
    for turn in itertools.count():
        for r in _sent():
            t = _START_S + turn * lap + r.t
            yield transactions.Request(next(ref), t, r.amt, r.card, r.pm, r.pn, r.ph, r.fraud)


class Terminal:
    """Sits at `chip`'s line from now on."""

    def __init__(self, chip: Chip, heap: Heap | None = None):
        self.chip = chip
        self.lines: list[Line] = []
        self._taken = _Taken(chip, heap) if heap else None
        self._text = bytearray()
        self._start_ns = 0.0
        self._q = 0
        self._requests = requests()
        chip.on_sent = self._on_sent

    def _on_sent(self, byte: int, start_ns: float) -> None:
        if not self._text:
            self._start_ns = start_ns
        if byte != 10:
            self._text.append(byte)
            return
        self.lines.append(Line(bytes(self._text).rstrip(b"\r"), self._start_ns))
        self._text.clear()
        self.chip.stop("line")

    def wait_for(self, kind: str, seconds: float) -> tuple[dict[str, Any], float]:
        """Fields of the next frame of this type, and when it began. Raises Stuck."""
        found: list[tuple[dict[str, Any], float]] = []
        at = len(self.lines)

        def come() -> bool:
            nonlocal at
            while at < len(self.lines) and not found:
                frame = decoded(self.lines[at].text)
                if frame and frame[0] == kind:
                    found.append((frame[1], self.lines[at].start_ns))
                at += 1
            return bool(found)

        self.chip.run_until(come, seconds, f"{kind} frame on the UART")
        return found[0]

    def play(self, regime: Regime, count: int, rng: random.Random, feedback: bool = False) -> Report:
        """Send `count` requests in `regime` and wait for each verdict."""
        report = Report(regime.name)
        begun = self.chip.ns
        for _ in range(count):
            self._pause(rng.uniform(regime.least_ms, regime.most_ms), report)
            report.asked.append(self._ask(next(self._requests), report, regime.least_ms > 2 * _WINDOW_MS))
        report.seconds = (self.chip.ns - begun) / 1e9
        return report

    def _pause(self, ms: float, report: Report) -> None:
        end = self.chip.ns + ms * 1e6
        while (left := end - self.chip.ns) > 0:
            self.chip.run(left / 1e9)
            self._drain(report, -1)

    def _drain(self, report: Report, ref: int) -> tuple[dict[str, Any], float] | None:
        """The verdict on `ref` among the lines that came; the others are noted."""
        found = None
        for line in self.lines:
            frame = decoded(line.text)
            if frame and frame[0] == "T" and frame[1].get("ref") == ref and found is None:
                found = frame[1], line.start_ns
            else:
                report.unexpected.append(line.text.decode(errors="replace"))
        self.lines.clear()
        return found

    def _ask(self, request: transactions.Request, report: Report, costs: bool) -> Asked:
        chip = self.chip
        asked = Asked(request.ref, None, 0)
        if costs and self._taken:
            self._taken.watch()
        before = self._costs() if costs else None
        if before:
            self._pause(_WINDOW_MS, report)
            after = self._costs()
            asked.cpu_before_ms = after[0] - before[0]
            asked.heap_before_bytes = after[1] - before[1]
        for asked.tries in range(1, TRIES + 1):
            self._q = protocol.next_q(self._q)
            chip.feed(protocol.encode("T", [("q", self._q), *request.pairs]))
            while chip.fed_ns is None:
                chip.run(0.001)
            fed_ns = chip.fed_ns
            before = self._costs() if costs else None
            end = fed_ns + ANSWER_MS * 1e6
            answer = self._drain(report, request.ref)
            while answer is None and chip.ns < end:
                chip.run((end - chip.ns) / 1e9)
                answer = self._drain(report, request.ref)
            if answer is None:
                continue
            fields, start_ns = answer
            asked.ms = (start_ns - fed_ns) / 1e6
            asked.us, asked.verdict, asked.record = fields.get("us", 0), fields.get("v", ""), fields.get("j", -1)
            if before:
                self._pause((fed_ns - chip.ns) / 1e6 + _WINDOW_MS, report)
                after = self._costs()
                asked.cpu_ms = after[0] - before[0]
                asked.heap_bytes = after[1] - before[1]
            break
        if self._taken:
            self._taken.rest()
        return asked

    def _costs(self) -> tuple[float, int]:
        """Milliseconds that the core was awake so far; bytes of heap that were taken."""
        awake_ns = self.chip.ns - self.chip.idle_ns
        return awake_ns / 1e6, self._taken.bytes if self._taken else 0


class _Taken:
    """Sums up what is taken from the heap, whatever collections give back meanwhile, while it watches."""

    def __init__(self, chip: Chip, heap: Heap):
        self.bytes = 0
        self._heap = heap
        self._used = 0
        self._alarm = chip.alarm(self._look)

    def watch(self) -> None:
        self._used = self._heap.look().used
        self._alarm.schedule(_LOOK_NS)

    def rest(self) -> None:
        self._alarm.cancel()

    def _look(self) -> None:
        used = self._heap.look().used
        self.bytes += max(used - self._used, 0)
        self._used = used
        self._alarm.schedule(_LOOK_NS)


def decoded(line: bytes) -> tuple[str, dict[str, Any]] | None:
    """Type and fields of the frame that a line is; None for any other."""
    try:
        return protocol.decode(line)
    except (FrameError, json.JSONDecodeError):
        return None
