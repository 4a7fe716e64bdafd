"""Verify all that was pulled of a terminal: its journal files, one after the other, against the checkpoints."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sentill_host.errors import UsageError
from sentill_host.journal.decode import read, unrecorded
from sentill_host.journal.journal_file import Record
from sentill_host.journal.store import (
    CHECKPOINTS,
    Terminal,
    as_checkpoints,
    read_checkpoints,
    read_file,
    whole_records,
)
from sentill_host.journal.verify import Checkpoint, Fault, Finding, Root, verify


@dataclass(frozen=True)
class Audit:
    """What verifying brought: the proven records, and the first fault, with the file it is in."""

    name: str
    uid: str
    records: list[Record] = field(repr=False)
    finding: Finding | None = None
    file: Path | None = None

    @property
    def proof(self) -> str:
        """Whose keys the last proven record was signed with: "device", "lab", or "" when there is none."""
        return read(self.records[-1]).proof if self.records else ""

    @property
    def unrecorded(self) -> int:
        """How many records the node could not make, as those tell that are proven: nothing proves what it did then."""
        return sum(unrecorded(record) for record in self.records)


def verify_file(path: Path, roots: Mapping[bytes, Root], device: bytes | None = None) -> Audit:
    """Verify one journal file, against the checkpoints in its folder where there are some.

    Of those it answers for the ones up to the journal file behind it. Raises UsageError when it cannot be verified.
    """
    head, data = read_file(path)
    points = as_checkpoints(read_checkpoints(path.parent / CHECKPOINTS))
    first = next((number for number, _ in whole_records(data)), 0)
    later = [int(other.stem, 16) for other in path.parent.glob("*.sjl") if other.name > path.name] if points else []
    end = min(later, default=1 << 32)
    report = verify(data, roots, tuple(point for point in points if first <= point.sequence < end), device)
    return Audit(str(path), head.device.hex(), report.records, report.finding, path)


def verify_terminal(terminal: Terminal, roots: Mapping[bytes, Root], gaps: bool = False) -> Audit:
    """Verify everything held of a terminal. With `gaps` records that gave way before they were pulled are no fault.

    Raises UsageError when there is nothing to verify, or the root key is not at hand.
    """
    files = terminal.files()
    points = as_checkpoints(terminal.checkpoints())
    records: list[Record] = []
    if not files:
        if not points:
            raise UsageError(f"nothing was pulled of {terminal.uid}", "`sentill journal pull PORT`")
        return _lost(terminal, records, max(points, key=lambda point: point.sequence))
    for path in files:
        audit = verify_file(path, roots, terminal.device)
        finding = audit.finding
        if records and audit.records and audit.records[0].sequence != records[-1].sequence + 1 and not gaps:
            after, before = records[-1].sequence + 1, audit.records[0].sequence - 1
            detail = f"records {after} to {before} gave way on the node before they were pulled, or were removed"
            finding = Finding(after, 0, Fault.MISSING, detail)
            return Audit(terminal.uid, terminal.uid, records, finding, path)
        records += audit.records
        if finding:
            return Audit(terminal.uid, terminal.uid, records, finding, path)
    return Audit(terminal.uid, terminal.uid, records, None, files[-1])


def _lost(terminal: Terminal, records: list[Record], point: Checkpoint) -> Audit:
    detail = f"record {point.sequence} was pulled, and no journal file is left"
    return Audit(terminal.uid, terminal.uid, records, Finding(0, 0, Fault.TRUNCATED, detail), terminal.folder)
