"""Starts of locked boards while somebody types: single keys and floods, over a serial chip and over USB of the board's.

`python tests/e2e/starts.py` runs 500 and prints a table; tests/e2e/test_starts.py runs a share. A start that ends at a
prompt is told apart by what MicroPython prints of it: inside the window are interruptions of main.py's first lines,
which run before Ctrl-C is off; everything else is outside and must not be.
"""

import argparse
import os
import random
import re
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sentill_host.board import catalogue
from sentill_host.board.link import Link
from sentill_host.deploy.deploy import deploy
from sentill_host.errors import PortGone, SentillHostError
from sentill_host.keys.key_file import KeyFile
from sentill_host.node import access
from sentill_host.node.client import NodeClient
from sentill_host.virtual import Board, VirtualBoards

KINDS = ("uart_bridge", "usb_cdc")
_DEADLINE_S = 60.0
_STEP_S = 0.001
_FLOOD = 11  # bytes a step: what 115200 baud carry
_TYPED_S = 0.6  # after the reset: a start takes a third of that
_PASSWORD = "a password of the starts"
KEYS = {"Ctrl-C": b"\x03", "Ctrl-D": b"\x04", "Ctrl-A": b"\x01", "raw": b"\r\x03\x03\x01"}
FLOODS = {"flood of Ctrl-C": b"\x03", "flood of all": b"\r\x03\x01\x04\x02"}
_PROMPT = re.compile(rb">>> |raw REPL; CTRL-B")
_first = (catalogue.device_data("main.py")).read_text().splitlines()
_LAST_LINE = next(number for number, line in enumerate(_first, 1) if "kbd_intr(-1)" in line)
# The window: main.py until Ctrl-C is off.
_INSIDE = re.compile(rb'File "main\.py", line (\d+), in <module>\r?\nKeyboardInterrupt')


@dataclass
class Outcome:
    """A start: what was typed at what kind of board, and "shut", "inside" or "outside" with the console's text."""

    kind: str
    typed: str
    became: str
    console: str = ""


class Typist:
    """Types at a board's USB port, whatever becomes of it, and keeps what it prints."""

    def __init__(self, port: str):
        self._port = port
        self._fd = -1
        self.seen = bytearray()

    def _open(self) -> bool:
        if self._fd < 0:
            try:
                self._fd = os.open(self._port, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
            except OSError:
                return False
        return True

    def type(self, data: bytes) -> None:
        """Write `data`; lost where nothing takes it."""
        try:
            if self._open() and data:
                os.write(self._fd, data)
        except BlockingIOError:
            pass
        except OSError:
            self.close()

    def read(self) -> None:
        """Keep what has come."""
        try:
            while self._open() and (data := os.read(self._fd, 4096)):
                self.seen += data
        except BlockingIOError:
            pass
        except OSError:
            self.close()

    def close(self) -> None:
        """Let the port go."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def start(board: Board, kind: str, rng: random.Random) -> Outcome:
    """Reset a locked board, or cut its power, and type while it starts; what became of it."""
    typed = rng.choice([*KEYS, *FLOODS])
    boots = board.status()["boots"]
    board.control(*(("reset",) if rng.random() < 0.5 else ("power_cycle",)))
    typist = Typist(board.usb)
    began = time.monotonic()
    at = rng.random() * _TYPED_S
    done = False
    while (now := time.monotonic() - began) < _TYPED_S or board.status()["boots"] <= boots:
        if typed in FLOODS:
            unit = FLOODS[typed]
            typist.type((unit * _FLOOD)[:_FLOOD])
        elif now >= at and not done:
            typist.type(KEYS[typed])
            done = True
        typist.read()
        time.sleep(_STEP_S)
        if now > _DEADLINE_S:
            break
    for _ in range(20):
        typist.read()
        time.sleep(0.005)
    typist.close()
    opened = board.status()["at_prompt"] or _PROMPT.search(typist.seen)
    if opened:
        told = _INSIDE.search(typist.seen)
        inside = told is not None and int(told[1]) <= _LAST_LINE
        board.control("power_cycle")
        return Outcome(kind, typed, "inside" if inside else "outside", typist.seen[-2000:].decode(errors="replace"))
    return _shut(board, kind, typed, typist)


def _shut(board: Board, kind: str, typed: str, typist: Typist) -> Outcome:
    """The node has to be there, and locked; a failed start is tried again by the board itself."""
    end = time.monotonic() + _DEADLINE_S
    while True:
        try:
            with Link(board.usb) as link:
                link.write(b"\r\n")
                state = access.challenge(NodeClient(link))
            shut = state.locked and not board.status()["at_prompt"]
            return Outcome(kind, typed, "shut" if shut else "outside", repr(state))
        except (SentillHostError, PortGone) as error:
            if time.monotonic() > end:
                return Outcome(kind, typed, "outside", f"no node: {error}; {typist.seen[-2000:]!r}")


def run(count: int, seed: int, say: Callable[[str], None] = lambda _: None) -> list[Outcome]:
    """`count` starts, half of them on boards of each kind."""
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory(prefix="sentill-starts-") as folder:
        keys = KeyFile.create(Path(folder) / "keys.json", _PASSWORD)

        def of_kind(kind: str, share: int) -> None:
            rng = random.Random(f"{seed} {kind}")
            with VirtualBoards(1, usb=kind) as (board,):
                (made,) = deploy([board.usb], keys=keys, profile="service")
                assert not made.error, made
                for number in range(share):
                    outcomes.append(start(board, kind, rng))
                    if outcomes[-1].became != "shut":
                        say(f"{kind}, start {number}: {outcomes[-1]}")

        threads = [threading.Thread(target=of_kind, args=(kind, count // len(KINDS))) for kind in KINDS]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return outcomes


def main() -> int:
    """See the head of the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    outcomes = run(options.count, options.seed, lambda text: print(text, file=sys.stderr, flush=True))
    counts = Counter((outcome.kind, outcome.typed, outcome.became) for outcome in outcomes)
    print(f"{'board':12} {'typed':16} {'shut':>6} {'inside':>7} {'outside':>8}")
    for kind in KINDS:
        for typed in [*KEYS, *FLOODS]:
            shut, inside, outside = (counts[kind, typed, became] for became in ("shut", "inside", "outside"))
            print(f"{kind:12} {typed:16} {shut:6} {inside:7} {outside:8}")
    outside = sum(outcome.became == "outside" for outcome in outcomes)
    print(f"{len(outcomes)} starts, {outside} opened outside the window")
    return 1 if outside or len(outcomes) < options.count // len(KINDS) * len(KINDS) else 0


if __name__ == "__main__":
    sys.exit(main())
