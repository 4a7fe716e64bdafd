"""What proven journals cover on a day, and what they do not: which terminals, from when until when."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sentill_host.journal.decode import CLOCK_IS_SET_S, EPOCH, read, unrecorded, when
from sentill_host.journal.ledger_history import Book, History, Life, Pull, terminal_of
from sentill_host.journal.verify_terminal import Audit


@dataclass(frozen=True)
class Coverage:
    """What is proven of one life of a terminal: from its `first` record, of the time `begin`, `until` then (UTC).

    `covered`: until the day asked for. `holes` are what is missing in between; `last_pull` brought all.
    """

    uid: str
    label: str
    life: int
    first: int | None
    begin: str
    until: str
    last_pull: str
    covered: bool
    holes: tuple[str, ...]


def coverage(folder: Path, book: Book, audits: Mapping[str, Audit], as_of: datetime) -> list[Coverage]:
    """What is covered of each terminal that was known at `as_of` (aware); `audits` by the names of their folders."""
    rows = []
    day = as_of.astimezone(UTC).isoformat("T", "seconds")
    for history in sorted(book.histories.values(), key=lambda history: history.uid):
        if history.retired and history.retired <= day:
            continue
        for life in history.lives:
            audit = audits.get(terminal_of(folder, history, life).folder.name)
            known = history.since <= day or (audit is not None and _begun(audit, as_of))
            if known and (life.pulls or life is history.lives[-1]):
                rows.append(_covered(history, life, audit, as_of))
    return rows


def _covered(history: History, life: Life, audit: Audit | None, as_of: datetime) -> Coverage:
    records = audit.records if audit else []
    holes = [hole for pull in life.pulls for hole in _holes(pull)]
    holes += [f"{read(record).text} (record {record.sequence})" for record in records if unrecorded(record)]
    last = life.last
    until = min(datetime.fromisoformat(last.at), as_of) if last and records else None
    covered = until == as_of
    if audit and audit.finding:
        holes.append(f"not proven from record {audit.finding.sequence} on: {audit.finding.fault}")
        until, covered = None, False
    if life.ended:
        holes.append(f"what came after that until {life.ended}, when its flash was erased on purpose")
        covered = True
    return Coverage(
        history.uid, history.label, life.number, records[0].sequence if records else None,
        when(records[0]) if records else "", f"{until.astimezone(UTC):%Y-%m-%d %H:%M:%S}" if until else "",
        last.at if last else "", covered, tuple(holes),
    )  # fmt: skip


def _begun(audit: Audit, as_of: datetime) -> bool:
    """Whether the proven records begin before a day, by the node's clock."""
    return any(r.time >= CLOCK_IS_SET_S and EPOCH + timedelta(seconds=r.time) <= as_of for r in audit.records[:1])


def _holes(pull: Pull) -> list[str]:
    told = []
    if pull.gone:
        told.append(f"records {pull.start - pull.gone} to {pull.start - 1} gave way before the pull of {pull.at}")
    if pull.missing:
        told.append(f"{pull.missing} records were missing on the node at the pull of {pull.at}")
    return told
