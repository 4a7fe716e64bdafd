"""Whether all is there that should be: journals held against ledger, roster and anchor.

The chain of a journal proves what is in a file. That a file, a terminal, the begin of one or the end of one is not
there can only be told by something else that knows of it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from sentill.journal import chain
from sentill_host.journal.anchor import Anchor, Held
from sentill_host.journal.ledger import Reading
from sentill_host.journal.ledger_history import Book, History, Life, terminal_of
from sentill_host.journal.store import CHECKPOINTS, Terminal, head_digest, terminals, whole_records


class Lack(StrEnum):
    """What kind of thing is not there, or not as it was."""

    TERMINAL = "missing terminal"
    FILE = "missing file"
    HEAD = "head cut"
    TAIL = "tail cut"
    OTHER = "not what was pulled"
    CHECKPOINTS = "checkpoints cut"
    LEDGER = "ledger altered"
    ANCHOR = "not as anchored"
    ROSTER = "not in the roster"


@dataclass(frozen=True)
class Absence:
    """One finding: of the terminal `uid`, "" when of none; its kind and the particulars, in words."""

    uid: str
    lack: Lack
    detail: str


def lacking(
    folder: Path, book: Book, anchors: Iterable[Anchor] = (), only: frozenset[str] = frozenset()
) -> list[Absence]:
    """All that is not there, of the terminals `only`, or of all without any. Raises UsageError for damaged files."""
    found: list[Absence] = []
    if book.fault:
        found.append(Absence("", Lack.LEDGER, book.fault))
    for anchor in anchors:
        if why := anchor.against(book.reading):
            found.append(Absence("", Lack.ANCHOR, why))
        wanted = [t for t in anchor.terminals if not only or t.uid in only]
        found += [Absence(t.uid, Lack.ANCHOR, why) for t in wanted if (why := _against(folder, book, t))]
    there = {terminal.uid: History(terminal.uid) for terminal in terminals(folder)}
    for uid, history in sorted({**there, **book.histories}.items()):
        if only and uid not in only:
            continue
        for life in history.lives:
            found += _of_life(folder, book, history, life)
        if book.members is not None and not history.retired:
            found += _of_roster(folder, book, history, book.members)
    return found


def _of_roster(folder: Path, book: Book, history: History, members: Mapping[str, str]) -> list[Absence]:
    uid = history.uid
    if uid in members:
        never = not any(life.pulls for life in history.lives) and not Terminal(folder, uid).files()
        return [Absence(uid, Lack.TERMINAL, "it is in the roster, and was never pulled")] if never else []
    entry = book.enrolled.get(uid)
    if entry is None:
        return []
    retire = f"`sentill journal note {uid} --retired --why TEXT` where it was taken out of service"
    return [Absence(uid, Lack.ROSTER, f"it was on {entry.at}, as {history.label}; {retire}")]


def _of_life(folder: Path, book: Book, history: History, life: Life) -> list[Absence]:
    uid, terminal = history.uid, terminal_of(folder, history, life)
    found: list[Absence] = []

    def lacks(lack: Lack, detail: str) -> None:
        found.append(Absence(uid, lack, detail))

    lines = terminal.checkpoints()
    for line in lines:
        if "entries" in line and (why := _shorter(book.reading, line)):
            found.append(Absence("", Lack.LEDGER, f"at the pull of {uid} on {line['at']} {why}"))
            break
    if not life.pulls:
        return found
    files = {path.name: path for path in terminal.files()}
    if not files:
        last = life.pulls[-1]
        lacks(Lack.TERMINAL, f"records up to {last.sequence}, pulled {last.at}, are not in {terminal.folder}")
        return found
    for pull in {pull.file: pull for pull in reversed(life.pulls)}.values():  # the first of each file
        path = files.get(pull.file)
        if path is None:
            lacks(Lack.FILE, f"{terminal.folder / pull.file}, pulled {pull.at}, is not there")
            continue
        data = path.read_bytes()
        first = next((number for number, _ in whole_records(data)), None)
        if head_digest(data[: chain.FILE_HEAD]) != pull.head or first != pull.first:
            there = "it holds no record" if first is None else f"its first record is {first}"
            lacks(Lack.HEAD, f"{path} began with record {pull.first} when pulled {pull.at}; now {there}")
    tags = _tags(terminal)
    end = max(tags, default=-1)
    for pull in life.pulls:
        if pull.sequence > end:
            lacks(Lack.TAIL, f"record {pull.sequence} was pulled {pull.at}, and they end at {end}")
            break
        if tags.get(pull.sequence, pull.tag) != pull.tag:
            lacks(Lack.OTHER, f"record {pull.sequence} is another than the one pulled {pull.at}")
            break
    noted = {(line["sequence"], line["tag"]) for line in lines}
    for pull in life.pulls:
        if (pull.sequence, pull.tag) not in noted:
            there = f"is not in {terminal.folder / CHECKPOINTS}" if lines else f"was in {CHECKPOINTS}, which is gone"
            lacks(Lack.CHECKPOINTS, f"the one of record {pull.sequence}, pulled {pull.at}, {there}")
            break
    return found


def _shorter(reading: Reading, line: Mapping[str, Any]) -> str:
    """What is wrong with a ledger that a checkpoint tells of; "" when nothing is, or a fault in it is told already."""
    count = int(line["entries"])
    if reading.fault:
        return ""
    if count > len(reading.entries):
        return f"the ledger had {count} entries, and now ends after {len(reading.entries)}"
    if reading.head_at(count).chain != line["chain"]:
        return "the ledger was another one"
    return ""


def _against(folder: Path, book: Book, held: Held) -> str:
    """What is wrong with a terminal that the page of an anchor tells of."""
    history = book.histories.get(held.uid, History(held.uid))
    if any(_tags(terminal_of(folder, history, life)).get(held.sequence) == held.tag for life in history.lives):
        return ""
    there = Terminal(folder, held.uid).files()
    what = "it is another one, or not there" if there else "nothing of the terminal is there"
    return f"it was held up to record {held.sequence}; {what}"


def _tags(terminal: Terminal) -> dict[int, str]:
    """The tags of the records held of a terminal, in hex, by their numbers."""
    whole = (record for path in terminal.files() for record in whole_records(path.read_bytes()))
    return {number: record[-chain.TAG :].hex() for number, record in whole}


def unknown(folder: Path, book: Book, held: Iterable[Terminal]) -> list[str]:
    """The terminals that are there, and of which the ledger tells no pull."""
    pulled = {uid for uid, history in book.histories.items() if any(life.pulls for life in history.lives)}
    return [terminal.uid for terminal in held if terminal.uid not in pulled and terminal.files()]
