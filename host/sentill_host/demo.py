"""The node at work in a minute, without hardware: a deploy to a virtual board, two months of a terminal, a fault.

Everything shown is measured, and the demo judges itself: see `Demo.checks`.
"""

import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from sentill_host.board import catalogue
from sentill_host.board.link import Link
from sentill_host.deploy import deploy
from sentill_host.errors import SentillHostError, VerifyError
from sentill_host.journal.decode import read
from sentill_host.journal.store import Terminal
from sentill_host.journal.verify import lab_root
from sentill_host.journal.verify_terminal import Audit, verify_terminal
from sentill_host.models import replay, simulate, transactions
from sentill_host.models.oracle import Reference
from sentill_host.node import journal_pull
from sentill_host.node.client import NodeClient
from sentill_host.node.frames import LinkHealth
from sentill_host.node.view import NodeView
from sentill_host.virtual import Board, VirtualBoards

# Two months of one busy terminal with outliers, leaked cards, and criminals in control of it from day 17 to day 37.
TRAFFIC = simulate.TrafficOptions(cards=300, terminals=8, days=60, rate=1.0, seed=28)
TERMINAL = "1"
LEAST_TRANSACTIONS = 2_000
# The supply sags when this share of the transactions is done; the node then has this long to say so.
FAULT_AT = 0.5
FAULT_SEEN_S = 30.0
FAULT_CHANNEL = "supply"
FAULT_MV = 4_300

Notify = Callable[[str, int, int], None]
"""Called with (step in words, done, in all); `in all` is 0 for steps without a measure."""


@dataclass
class Demo:
    """What the demo did and saw."""

    deployed: deploy.Result
    terminal: str = TERMINAL
    days: int = TRAFFIC.days
    report: replay.Report = field(default_factory=replay.Report)
    view: NodeView = field(default_factory=NodeView)
    link: LinkHealth = field(default_factory=LinkHealth)
    differences: int = 0
    # Seconds of the transactions' time: while criminals control the terminal, and until every label of it is known.
    compromised: tuple[int, int] = (0, 0)
    audit: Audit | None = None
    seconds: float = 0.0

    @property
    def health_events(self) -> list[dict[str, Any]]:
        """Changes of state of the hardware channels, oldest first."""
        return [event for event in self.view.events if event.get("ev") == "channel"]

    def journalled(self) -> int:
        """Verdicts that the node's journal holds and proves."""
        return sum(read(record).verdict is not None for record in self.audit.records) if self.audit else 0

    @property
    def fault_seen(self) -> bool:
        """Whether the node reported the failing supply as a warning or a failure."""
        return any(e.get("name") == FAULT_CHANNEL and e.get("st") in ("warn", "fail") for e in self.health_events)

    def counts(self) -> dict[str, int]:
        """Frauds, those caught (declined or sent to review), genuine transactions, and false alarms among these.

        The genuine ones also without the days on which the terminal was compromised or known as such.
        """
        first, last = self.compromised
        result = dict.fromkeys(("frauds", "caught", "genuine", "false_alarms", "quiet", "quiet_false_alarms"), 0)
        for answer in self.report.answers:
            stopped = answer.verdict != "approve"
            if answer.request.fraud:
                result["frauds"] += 1
                result["caught"] += stopped
                continue
            result["genuine"] += 1
            result["false_alarms"] += stopped
            if not first <= answer.request.t <= last:
                result["quiet"] += 1
                result["quiet_false_alarms"] += stopped
        return result

    def checks(self) -> list[tuple[bool, str]]:
        """What must hold for the demo to succeed, each with whether it does."""
        answered, sent = len(self.report.answers), self.report.sent
        return [
            (not self.deployed.error, "the node was deployed, verified and reported its version"),
            (answered == sent >= LEAST_TRANSACTIONS, f"all of {sent:,} transactions were answered"),
            (answered > 0 and self.differences == 0, "every verdict and score is bit-identical to this PC's own run"),
            (self.counts()["caught"] > 0, "frauds were caught"),
            (self.fault_seen, "the sagging supply was reported by the node"),
            (
                self.audit is not None and self.audit.finding is None and self.journalled() == answered,
                "the journal pulled from the node proves every verdict",
            ),
        ]

    @property
    def ok(self) -> bool:
        """Whether all checks hold."""
        return all(held for held, _ in self.checks())


def run(notify: Notify) -> Demo:
    """Run the demo; everything started is stopped and removed again, also on errors and Ctrl-C.

    Raises PlatformError where no virtual board can run, VerifyError when the deploy fails, LinkError when the board
    stops answering.
    """
    begin = time.monotonic()
    notify("making two months of transactions", 0, 0)
    table = simulate.traffic(TRAFFIC)
    data = transactions.from_table(table)
    terminal = data.terminal_number(TERMINAL)
    sent = transactions.requests(data, [terminal])[terminal]
    notify("starting a virtual board", 0, 0)
    with VirtualBoards(1) as started:
        board = started[0]
        demo = Demo(_deploy(board.usb, notify), compromised=_compromised(table))
        if demo.deployed.error:
            raise VerifyError(demo.deployed.error, demo.deployed.hint)
        with _watching(board.usb, demo), Link(board.uart) as link:
            at = round(len(sent) * FAULT_AT)

            def answered(report: replay.Report) -> None:
                notify("replaying the terminal's transactions", report.sent, len(sent))
                if report.sent == at:
                    _sag(board)

            demo.report = replay.play(NodeClient(link), transactions.steps(sent), on_answer=answered)
            notify("waiting for the node to report its sagging supply", 0, 0)
            end = time.monotonic() + FAULT_SEEN_S
            while not demo.fault_seen and time.monotonic() < end:
                time.sleep(0.1)
        demo.audit = _audit(board.usb, notify)
    notify("comparing with this PC", 0, 0)
    demo.differences = Reference().differences(transactions.steps(sent), demo.report.answers)
    demo.seconds = time.monotonic() - begin
    return demo


def _compromised(table: pa.Table) -> tuple[int, int]:
    pattern = simulate.SCENARIOS.index("compromised terminal")
    hit = (table["scenario"].to_numpy() == pattern) & (table["terminal_id"].to_numpy() == int(TERMINAL))
    times = table["time_s"].to_numpy()[hit]
    return int(times.min()), int(times.max()) + transactions.DELAY_S


def _sag(board: Board) -> None:
    """Let the supply voltage of the virtual board fall, over two seconds, to where real terminals start to fail."""
    (channel,) = (c for c in catalogue.load("SIM").data["channels"] if c["name"] == FAULT_CHANNEL)
    raw = FAULT_MV * channel["den"] // channel["num"]
    board.control("ramp", values={channel["source"].replace(":", "."): raw}, over_ms=2_000)


def _audit(port: str, notify: Notify) -> Audit:
    """Pull the journal of the node at `port` and verify it; nothing of it is kept."""
    with tempfile.TemporaryDirectory(prefix="sentill-demo-") as folder:
        with Link(port) as link:
            client = NodeClient(link)
            terminal = Terminal(Path(folder), journal_pull.identify(client))
            journal_pull.pull(client, terminal, lambda done, total: notify("pulling the journal", done, total))
        return verify_terminal(terminal, {terminal.device: lab_root})


def _deploy(port: str, notify: Notify) -> deploy.Result:
    return deploy.deploy([port], progress=lambda _, step, done, total: notify(f"deploying: {step}", done, total))[0]


@contextmanager
def _watching(port: str, demo: Demo) -> Iterator[None]:
    """Gather the node's telemetry from its USB port while the block runs."""
    stop = threading.Event()
    failures: list[SentillHostError] = []

    def watch() -> None:
        try:
            with Link(port) as link:
                client = NodeClient(link)
                demo.link = client.decoder.health
                while not stop.is_set():
                    if (item := client.receive(0.1)) is not None:
                        demo.view.take(item)
        except SentillHostError as error:
            failures.append(error)

    thread = threading.Thread(target=watch, name="telemetry", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(5)
    if failures:
        raise failures[0]
