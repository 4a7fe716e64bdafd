"""Months of a node's journal on a chip's flash: many transactions, pulled now and then, until old records give way.

A virtual board with the flash of a Raspberry Pi Pico W (212 blocks) decides on transactions, as fast as it can. Every
verdict has to name its record, every pull to prove all that is new and to miss nothing, and what was pulled in the end
to hold each transaction once, in order. `python -m tests.e2e.endurance` prints what the flash went through.
"""

import argparse
import json
import struct
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sentill.journal import chain
from sentill_host.board.link import Link
from sentill_host.deploy import deploy
from sentill_host.journal.store import Terminal
from sentill_host.journal.verify import lab_root
from sentill_host.journal.verify_terminal import verify_terminal
from sentill_host.node import journal_pull
from sentill_host.node.client import NodeClient
from sentill_host.node.frames import Frame
from sentill_host.virtual import Board, VirtualBoards

CHIP = "RPI_PICO_W"
SPEED = 10.0
ANSWER_S = 60
CARDS = 500
SECONDS_APART = 60


@dataclass
class Outcome:
    """What came of it: `problems` is empty when all held. Erases and programs are those of transactions alone."""

    answered: int = 0
    pulls: int = 0
    records: int = 0
    proven: int = 0
    verdicts: int = 0
    held: int = 0  # records the node has in the end
    erases: int = 0
    programs: int = 0
    programmed_bytes: int = 0
    most_erased: int = 0
    problems: list[str] = field(default_factory=list)


def endure(transactions: int, every: int, told: bool = False) -> Outcome:
    """Have a new board decide on `transactions`, its journal pulled after each `every` of them and in the end."""
    outcome = Outcome()
    with (
        VirtualBoards(1, like=CHIP, speed=SPEED, uart="dma") as (board,),
        tempfile.TemporaryDirectory(prefix="sentill-endurance-") as folder,
    ):
        (done,) = deploy.deploy([board.usb])
        if done.error:
            outcome.problems.append(f"deploy: {done.error}")
            return outcome
        begin = board.status()["flash"]
        with Link(board.usb) as link:
            terminal = Terminal(Path(folder), journal_pull.identify(NodeClient(link)))
        for first in range(0, transactions, every):
            _judge(board, range(first, min(first + every, transactions)), outcome)
            _pull(board, terminal, outcome)
            if told:
                print(f"{outcome.answered} transactions, {outcome.records} records pulled", flush=True)
        _flash(begin, board.status()["flash"], outcome)
        _look(terminal, transactions, outcome)
    return outcome


def _judge(board: Board, refs: range, outcome: Outcome) -> None:
    last = -1
    with Link(board.uart) as link:
        client = NodeClient(link)
        for ref in refs:
            made = _verdict(client, ref)
            if made is None or made.get("j", -1) <= last:
                outcome.problems.append(f"transaction {ref}: record {made and made.get('j')} after {last}")
                return
            last = made["j"]
            outcome.answered += 1


def _verdict(client: NodeClient, ref: int) -> dict[str, Any] | None:
    amount = 500 if ref % 7 else 50_000
    card = f"tok-{ref % CARDS}"
    client.send("T", [("ref", ref), ("t", 1000 + SECONDS_APART * ref), ("amt", amount), ("card", card)])
    while (item := client.receive(ANSWER_S)) is not None:
        if isinstance(item, Frame) and item.kind == "T" and item.fields["ref"] == ref:
            return item.fields
    return None


def _pull(board: Board, terminal: Terminal, outcome: Outcome) -> None:
    with Link(board.usb) as link:
        client = NodeClient(link)
        pulled = journal_pull.pull(client, terminal)
        status = client.command("status")
        outcome.held = status["jn"] - journal_pull.ask(client, 0).first
    outcome.pulls += 1
    outcome.records += pulled.count
    if pulled.gone or pulled.missing:
        outcome.problems.append(f"pull {outcome.pulls}: {pulled.gone} gone, {pulled.missing} missing")
    if status["miss"]:
        outcome.problems.append(f"pull {outcome.pulls}: {status['miss']} records could not be made")


def _flash(begin: dict[str, int], end: dict[str, int], outcome: Outcome) -> None:
    for name in ("erases", "programs", "programmed_bytes"):
        setattr(outcome, name, end[name] - begin[name])
    outcome.most_erased = end["most_erased"]


def _look(terminal: Terminal, transactions: int, outcome: Outcome) -> None:
    """Verify all that was pulled, and look for each transaction in it."""
    audit = verify_terminal(terminal, {terminal.device: lab_root})
    if audit.finding:
        outcome.problems.append(f"verify: {audit.finding}")
    outcome.proven = len(audit.records)
    if audit.unrecorded:
        outcome.problems.append(f"{audit.unrecorded} records could not be made")
    refs = [struct.unpack_from("<I", r.payload)[0] for r in audit.records if r.kind == chain.VERDICT]
    outcome.verdicts = len(refs)
    if refs != list(range(transactions)):
        outcome.problems.append(f"{len(refs)} verdicts, not each of {transactions} once and in order")


def main() -> int:
    """Prints progress, then the outcome as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--transactions", type=int, default=20_000)
    parser.add_argument("--every", type=int, default=3_000, help="transactions between two pulls")
    options = parser.parse_args()
    outcome = endure(options.transactions, options.every, told=True)
    print(json.dumps(vars(outcome), indent=1))
    return 1 if outcome.problems else 0


if __name__ == "__main__":
    sys.exit(main())
