"""Play a terminal and its acquirer over a node's UART: ask about every transaction, feed frauds back, measure.

A request without an answer is sent again, as wire/protocol.py says. A node answers it as it did before; one that does
not is found out: its answers to one request are compared, also those that come late.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sentill_host.board.link import looks
from sentill_host.errors import UsageError
from sentill_host.models.transactions import Request
from sentill_host.node.client import NodeClient
from sentill_host.node.frames import Frame

VERDICTS = ("approve", "review", "decline")
# The answer takes milliseconds; a node in the middle of a collection or a flash write can take a few hundred.
ANSWER_S = 2.0
TRIES = 3
_GIVEN = 16  # verdicts that late ones are compared with


@dataclass(frozen=True)
class Answer:
    """A node's verdict on a request: the fields of its T frame that matter, and the round trip seen by the host, us."""

    request: Request
    verdict: str
    score: int
    review: int
    decline: int
    model: str
    reasons: str
    device_us: int
    round_trip_us: int

    @property
    def judgement(self) -> tuple[str, int, int, int, str, str]:
        """What must be equal wherever the same code runs: verdict, score, thresholds, model, reasons."""
        return self.verdict, self.score, self.review, self.decline, self.model, self.reasons


@dataclass
class Report:
    """What a replay saw. `unanswered` frames got no reply in all tries; `duplicates` are verdicts that came late.

    `refused` maps error codes to counts; "changed" is for verdicts other than the one on the same request before.
    """

    answers: list[Answer] = field(default_factory=list)
    sent: int = 0
    resent: int = 0
    unanswered: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    feedback: int = 0
    feedback_late: int = 0
    duplicates: int = 0
    seconds: float = 0.0
    node: dict[str, Any] = field(default_factory=dict)
    _given: dict[int, dict[str, Any]] = field(default_factory=dict, repr=False)

    def compare(self, fields: dict[str, Any]) -> None:
        """Count a verdict that is another than the one given on its request before."""
        told = {key: value for key, value in fields.items() if key not in ("q", "us")}
        if self._given.setdefault(fields["ref"], told) != told:
            self.refused["changed"] += 1
        if len(self._given) > _GIVEN:
            del self._given[next(iter(self._given))]

    def verdicts(self) -> dict[str, int]:
        """Number of answers per verdict."""
        counts = Counter(answer.verdict for answer in self.answers)
        return {verdict: counts[verdict] for verdict in VERDICTS}

    def confusion(self) -> dict[str, dict[str, int]]:
        """Number of answers by label ("fraud", "genuine") and verdict."""
        table = {label: dict.fromkeys(VERDICTS, 0) for label in ("fraud", "genuine")}
        for answer in self.answers:
            table["fraud" if answer.request.fraud else "genuine"][answer.verdict] += 1
        return table

    def latency(self) -> dict[str, dict[str, int]]:
        """p50, p99 and max in microseconds of the whole round trip and of the decision on the device."""
        columns = {
            "round_trip_us": [a.round_trip_us for a in self.answers],
            "device_us": [a.device_us for a in self.answers],
        }
        result = {}
        for name, values in columns.items():
            p50, p99 = np.percentile(values, [50, 99]) if values else (0, 0)
            result[name] = {"p50": round(p50), "p99": round(p99), "max": max(values, default=0)}
        return result

    def summary(self) -> dict[str, Any]:
        """Everything above as plain data for JSON."""
        return {
            "sent": self.sent,
            "answered": len(self.answers),
            "unanswered": self.unanswered,
            "resent": self.resent,
            "duplicates": self.duplicates,
            "refused": dict(self.refused),
            "feedback": self.feedback,
            "feedback_late": self.feedback_late,
            "verdicts": self.verdicts(),
            "confusion": self.confusion(),
            "latency": self.latency(),
            "seconds": round(self.seconds, 3),
        }


def play(
    client: NodeClient,
    steps: Iterable[tuple[str, Request]],
    speed: float = 0.0,
    on_answer: Callable[[Report], None] | None = None,
) -> Report:
    """Send the steps of `transactions.steps` and collect the verdicts.

    `speed` is simulated seconds per second, 0 for as fast as the node answers. A request without an answer is sent
    again, under the same reference, up to TRIES times; a node that has judged it already repeats itself, and what comes
    late or twice counts as a duplicate. A device with keys takes feedback only from a `client` that signs. `on_answer`
    is called after each transaction. Raises LinkError.
    """
    if speed < 0:
        raise UsageError("speed must not be negative")
    report = Report()
    begin = time.monotonic()
    first_t: int | None = None
    for kind, request in steps:
        if speed:
            first_t = request.t if first_t is None else first_t
            # Feedback comes at once with the transaction it precedes; only transactions keep the pace.
            wait = begin + (request.t - first_t) / speed - time.monotonic() if kind == "T" else 0
            if wait > 0:
                time.sleep(wait)
        if kind == "P":
            _feed_back(client, request, report)
        else:
            _ask(client, request, report)
            if on_answer is not None:
                on_answer(report)
    report.seconds = time.monotonic() - begin
    return report


def _ask(client: NodeClient, request: Request, report: Report) -> None:
    report.sent += 1
    for attempt in range(TRIES):
        if attempt:
            report.resent += 1
        start = time.perf_counter_ns()
        q = client.send("T", request.pairs)
        frame = _reply(client, request.ref, q, report)
        if frame is None:
            continue
        took = (time.perf_counter_ns() - start) // 1_000
        fields = frame.fields
        if frame.kind == "T":
            try:
                answer = Answer(
                    request, fields["v"], fields["s"], fields["tr"], fields["td"], fields["m"], fields["why"],
                    fields["us"], took,
                )  # fmt: skip
            except KeyError as missing:
                report.refused[f"no {missing.args[0]}"] += 1
                return
            report.answers.append(answer)
        else:
            report.refused[str(fields.get("err", "?"))] += 1
        return
    report.unanswered += 1


def _reply(client: NodeClient, ref: int, q: int, report: Report) -> Frame | None:
    """The verdict on `ref` or the refusal of frame `q`; answers to earlier requests are counted and dropped."""
    for left in looks(ANSWER_S):
        for item in client.batch(left):
            if isinstance(item, Frame):
                if item.kind == "R" and item.fields.get("re") == q:
                    return item
                if item.kind == "T" and "ref" in item.fields:
                    report.compare(item.fields)
                    if item.fields["ref"] == ref:
                        return item
                    report.duplicates += 1
                    continue
            client.unclaimed.append(item)
    return None


def _feed_back(client: NodeClient, request: Request, report: Report) -> None:
    report.feedback += 1
    for attempt in range(TRIES):
        if attempt:
            report.resent += 1
        fields = client.answer(client.send("P", [("ref", request.ref), ("fraud", 1)]), ANSWER_S)
        if fields is not None:
            if fields.get("err") == "unknown":
                report.feedback_late += 1
            elif not fields.get("ok"):
                report.refused[str(fields.get("err", "?"))] += 1
            return
    report.unanswered += 1
