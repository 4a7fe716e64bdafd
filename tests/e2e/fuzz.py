"""Frames that are damaged, forged, replayed or right, on both lines of a node with keys, commands among them.

Every frame has to get one answer, every verdict a record or a count; no task may crash, the board must not restart.
What a frame is, is told by the node's own reader, run here. `python -m tests.e2e.fuzz` sends 100,000.
"""

import argparse
import json
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from sentill.wire import protocol
from sentill.wire.reader import FrameReader
from sentill_host.board.link import Link
from sentill_host.errors import SentillHostError
from sentill_host.journal.store import Terminal
from sentill_host.keys.key_file import KeyFile
from sentill_host.node import journal_pull
from sentill_host.node.client import NodeClient
from sentill_host.node.frames import Frame
from sentill_host.virtual import Board
from tests.e2e import onslaught
from tests.e2e.bare import Line
from tests.e2e.test_node_bare import mutate

FRAMES = 100_000
ROUND = 4_000  # frames from one pull to the next: the node holds the records of no more than some
ONLY_RECORD = 0  # of a tamper event: wrong unlocks are among what is sent

ON_UART = (
    b'T {"q":1,"ref":4711,"t":1000000,"amt":12999,"card":"c_9f31-B2","pm":4210,"pn":17,"ph":2}',
    b'T {"q":2,"ref":4712,"t":1000001,"amt":0,"card":"x"}',
    b'T {"q":2,"ref":4294967295,"t":1073741823,"amt":1073741823,"card":"x"}',
    b'P {"q":3,"ref":4711,"fraud":1}',
    b'P {"q":3,"ref":4711,"fraud":1,"c":5,"mac":"AAAAAAAAAAAAAAAAAAAAAA=="}',
    b'C {"q":4,"cmd":"status"}',
    b'C {"q":4,"cmd":"challenge"}',
    b'C {"q":5,"cmd":"count","name":"card_errors","n":2,"c":7,"mac":"AAAAAAAAAAAAAAAAAAAAAA=="}',
    b'R {"q":6,"re":1,"ok":true}',
)
ON_USB = (
    *(b'C {"q":4,"cmd":"%s"}' % name for name in (b"status", b"identify", b"vitals", b"challenge", b"maintenance")),
    b'C {"q":4,"cmd":"blink","n":60}',
    b'C {"q":4,"cmd":"audit","from":1000000}',
    b'C {"q":4,"cmd":"challenge","nonce":"AAAAAAAAAAAAAAAAAAAAAA=="}',
    b'C {"q":4,"cmd":"unlock","min":5,"sig":"AAAAAAAAAAAAAAAAAAAAAA=="}',
    b'C {"q":4,"cmd":"order","n":3,"min":5,"sig":"AAAAAAAAAAAAAAAAAAAAAA=="}',
    b'C {"q":4,"cmd":"set-time","t":1000,"force":true,"c":9,"mac":"AAAAAAAAAAAAAAAAAAAAAA=="}',
    b'C {"q":4,"cmd":"reboot","c":9,"mac":"AAAAAAAAAAAAAAAAAAAAAA=="}',
    b'C {"q":4,"cmd":"provision","gen":2,"prof":0,"pol":0,"key":"AAAA","rec":"AAAA","c":9,"mac":"AAAAAAAA"}',
    b'T {"q":2,"ref":4712,"t":1000001,"amt":0,"card":"x"}',
    b'P {"q":3,"ref":4711,"fraud":1}',
    b'A {"q":6,"n":1,"end":true}',
)


@dataclass
class Outcome:
    """What came of it: `problems` is empty when all held."""

    lines: int = 0
    frames: Counter[str] = field(default_factory=Counter)  # by type, as the node reads them
    answers: Counter[str] = field(default_factory=Counter)  # by type and code
    recorded: int = 0
    missed: int = 0
    problems: list[str] = field(default_factory=list)


def fuzz(board: Board, keys: KeyFile, frames: int, seed: int = 1, told: bool = False) -> Outcome:
    """Send about so many, half on each line, in rounds with a pull behind each."""
    outcome = Outcome()
    rng = random.Random(seed)
    boots = board.status()["boots"]
    verdicts: dict[int, int] = {}
    with tempfile.TemporaryDirectory(prefix="sentill-fuzz-") as folder:
        with Link(board.usb) as link:
            terminal = Terminal(Path(folder), journal_pull.identify(NodeClient(link)))
        while outcome.lines < frames and not outcome.problems:
            _round(board, min(ROUND, frames - outcome.lines), rng, outcome, verdicts)
            if board.status()["boots"] != boots:
                outcome.problems.append(f"the board was started anew: {board.status()}")
                break
            outcome.missed = 0
            try:
                onslaught.look(board, keys, verdicts, outcome, terminal, by_ref=False)
            except SentillHostError as error:
                outcome.problems.append(f"afterwards: {error}")
            if told:
                print(f"{outcome.lines} lines, {outcome.recorded} recorded, {outcome.missed} missed", flush=True)
    return outcome


def _round(board: Board, frames: int, rng: random.Random, outcome: Outcome, verdicts: dict[int, int]) -> None:
    sides = ((board.usb, ON_USB, rng.getrandbits(32)), (board.uart, ON_UART, rng.getrandbits(32)))
    works = [threading.Thread(target=_side, args=(*side, frames // 2, outcome, verdicts)) for side in sides]
    for work in works:
        work.start()
    for work in works:
        work.join()


def _side(
    port: str, bodies: tuple[bytes, ...], seed: int, lines: int, outcome: Outcome, verdicts: dict[int, int]
) -> None:
    rng = random.Random(seed)
    reader = FrameReader()
    expected = 0
    try:
        with onslaught.line(port) as line:
            for _ in range(lines):
                data = _line(rng, bodies)
                line.write(data)
                expected += _read(reader, data, outcome.frames)
                outcome.lines += 1
            answers = _answers(line, expected)
    except (AssertionError, OSError) as error:
        outcome.problems.append(f"{port}: {type(error).__name__}: {error}")
        return
    for frame in answers:
        outcome.answers[f"{frame.kind} {frame.fields.get('err', '')}"] += 1
        if frame.kind == "T" and "j" in frame.fields:
            verdicts[frame.fields["j"]] = frame.fields["ref"]
        elif frame.kind == "T":
            outcome.answers["T without record"] += 1
    if len(answers) != expected:
        outcome.problems.append(f"{port}: {expected} frames, {len(answers)} answers")
    for item in line.items:
        if isinstance(item, Frame) and item.fields.get("ev") in ("task_crash", "hang", "fault"):
            outcome.problems.append(repr(dict(item.fields)))


def _line(rng: random.Random, bodies: tuple[bytes, ...]) -> bytes:
    body = rng.choice(bodies)
    if body.startswith(b"T ") and rng.random() < 0.5:  # right, and another one each time
        body = body.replace(b'"ref":4711', b'"ref":%d' % rng.getrandbits(32))
    else:
        body = mutate(rng, body)
    crc = protocol.crc32(body) ^ (rng.randrange(1, 1 << 32) if rng.random() < 0.1 else 0)
    line = b"#" + body + b"*%08x" % crc
    if rng.random() < 0.03:
        line = line[: rng.randrange(len(line))].rstrip()
    return line + b"\r\n"


def _read(reader: FrameReader, data: bytes, seen: Counter[str]) -> int:
    """How many of the frames in `data` want an answer."""
    wanted = 0
    while data:
        window = reader.window()
        n = min(len(window), len(data))
        window[:n] = data[:n]
        data = data[n:]
        reader.received(n)
        while kind := reader.next():
            seen[chr(kind)] += 1
            wanted += chr(kind) in "TPC"
    return wanted


def _answers(line: Line, expected: int) -> list[Frame]:
    """The answers that came, once they are as many as expected, or none comes any more."""
    seen, quiet = 0, time.monotonic()
    while True:
        answers = [item for item in line.items if isinstance(item, Frame) and item.kind in "TR"]
        if len(answers) >= expected or time.monotonic() - quiet > onslaught.SETTLE_S:
            return answers
        if len(answers) > seen:
            seen, quiet = len(answers), time.monotonic()
        line.poll(0.2)


def main() -> int:
    """Prints progress and the outcome as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=FRAMES)
    parser.add_argument("--heap", default=onslaught.HEAP)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with onslaught.keyed(options.heap, policy=ONLY_RECORD) as (board, keys):
        outcome = fuzz(board, keys, options.frames, options.seed, told=True)
    print(json.dumps(vars(outcome), indent=1))
    return 1 if outcome.problems else 0


if __name__ == "__main__":
    sys.exit(main())
