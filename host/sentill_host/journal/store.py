"""The host's copies of journals: what has been pulled, and the checkpoints that later pulls and files must agree with.

    FOLDER/ledger.jsonl            an entry per pull, among others (ledger.py)
    FOLDER/UID/SEQUENCE.sjl        a journal file: head, then records as the node made them (sentill.journal.chain)
    FOLDER/UID/checkpoints.jsonl   a line per pull that brought records: the last one, its tag, the ledger's head then
    FOLDER/UID-N/                  the same of the terminal's Nth life, which ended when its flash was erased on purpose

A terminal has one file, and another for each time records gave way on the node before they were pulled. Records are
only ever appended. What a crash of this computer left of a half-written record or line is cut off at the next pull; a
shorter file than the last checkpoint says is a finding of the verifier. A pull is entered in the ledger after all it
brought is on the disk, so the ledger never speaks of what a crash took.
"""

import hashlib
import json
import os
import re
import struct
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sentill.journal import chain
from sentill_host import user_files
from sentill_host.errors import UsageError
from sentill_host.journal import ledger
from sentill_host.journal.journal_file import Head, read_head
from sentill_host.journal.ledger import Ledger
from sentill_host.journal.verify import Checkpoint

_UID = re.compile(r"[0-9a-f]{16}")
_FILE = re.compile(r"[0-9a-f]{8}\.sjl")
CHECKPOINTS = "checkpoints.jsonl"


@dataclass(frozen=True)
class Last:
    """The last record held: its sequence number and all its bytes."""

    sequence: int
    record: bytes

    @property
    def tag(self) -> bytes:
        """Its tag."""
        return self.record[-chain.TAG :]


class Terminal:
    """The journal of one terminal, `uid` its 8-byte id in hex; with `life` of one of its earlier lives, 1 the first."""

    def __init__(self, folder: Path, uid: str, life: int = 0):
        if not _UID.fullmatch(uid):
            raise UsageError(f"{uid!r} is no device id", "16 hex digits, as `sentill journal list` shows them")
        self.uid = uid
        self.ledger = Ledger(folder)
        self.folder = folder / (f"{uid}-{life}" if life else uid)

    @property
    def device(self) -> bytes:
        """The 8-byte id."""
        return bytes.fromhex(self.uid)

    def files(self) -> list[Path]:
        """The journal files, oldest records first."""
        if not self.folder.is_dir():
            return []
        return sorted(path for path in self.folder.iterdir() if _FILE.fullmatch(path.name))

    def last(self) -> Last | None:
        """The last whole record of the last file."""
        files = self.files()
        tail = deque(whole_records(files[-1].read_bytes()), maxlen=1) if files else ()
        return Last(*tail[0]) if tail else None

    def checkpoints(self) -> list[dict[str, Any]]:
        """What the pulls have noted, oldest first. Raises UsageError for a damaged file."""
        return read_checkpoints(self.folder / CHECKPOINTS)

    def note(self, last: Last, **more: Any) -> None:
        """Keep that the journal was pulled up to `last`: a checkpoint where that is new, and an entry of the ledger."""
        fields = {"sequence": last.sequence, "tag": last.tag.hex(), **more}
        noted = self.checkpoints()
        if not noted or noted[-1]["sequence"] != last.sequence:
            head = self.ledger.head()
            line = {**fields, "at": datetime.now(UTC).isoformat("T", "seconds")}
            _add_line(self.folder / CHECKPOINTS, {**line, "entries": head.count, "chain": head.chain})
            ledger.sync_folder(self.folder)
            ledger.sync_folder(self.folder.parent)
        file = self.files()[-1]
        with open(file, "rb") as opened:
            begin = head_digest(opened.read(chain.FILE_HEAD))
        self.ledger.append(ledger.PULL, uid=self.uid, **fields, file=file.name, head=begin)

    def append(self, head: bytes | None) -> "Appender":
        """Write records behind the last one, or to a new file that begins with `head`. Use as a context manager."""
        return Appender(self.files()[-1] if head is None else self.folder, head)


class Appender:
    """Appends records to a journal file; they are on the disk when `sync` returns, or the context ends."""

    def __init__(self, path: Path, head: bytes | None):
        self._path = path
        self._head = head
        self._file: Any = None

    def __enter__(self) -> Self:
        if self._head is None:
            self._file = open(self._path, "r+b")
            data = self._file.read()
            whole = chain.FILE_HEAD + sum(len(record) for _, record in whole_records(data))
            self._file.truncate(whole)
            self._file.seek(whole)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._file:
            self.sync()
            self._file.close()

    def add(self, sequence: int, record: bytes) -> None:
        """Append one record."""
        if self._file is None:
            # Made with its first record: a file of a head alone would tell nothing.
            user_files.make_folder(self._path)
            self._file = open(self._path / f"{sequence:08x}.sjl", "wb")  # noqa: SIM115  (closed by __exit__)
            self._file.write(self._head)
        self._file.write(record)

    def sync(self) -> None:
        """Wait until all is on the disk."""
        if self._file:
            self._file.flush()
            os.fsync(self._file.fileno())


def head_digest(head: bytes) -> str:
    """What the ledger keeps of the head of a file."""
    return hashlib.sha256(head).hexdigest()


def _add_line(path: Path, line: dict[str, Any]) -> None:
    """Append a line of JSON, in place of a half-written one where there is one."""
    with open(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b") as file:
        file.seek(file.read().rfind(b"\n") + 1)
        file.truncate()
        file.write(json.dumps(line).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def terminals(folder: Path) -> list[Terminal]:
    """All terminals with a journal in `folder`."""
    if not folder.is_dir():
        return []
    return [Terminal(folder, path.name) for path in sorted(folder.iterdir()) if _UID.fullmatch(path.name)]


def whole_records(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(sequence, bytes) of the records of a journal file, up to the first that is not whole or out of turn.

    Numbers may be missing: whatever the node has is kept, and the verifier finds the gap.
    """
    at, previous = chain.FILE_HEAD, -1
    while at + chain.HEAD + chain.TAG <= len(data):
        size, _, sequence = struct.unpack_from("<HBI", data, at)
        if not chain.HEAD + chain.TAG <= size <= min(chain.MAX, len(data) - at):
            return
        if sequence <= previous:
            return
        yield sequence, data[at : at + size]
        at, previous = at + size, sequence


def read_checkpoints(path: Path) -> list[dict[str, Any]]:
    """The lines of a checkpoint file; [] when there is none. Raises UsageError for a damaged one.

    What is behind the last line's end is what a computer left that stopped while writing it.
    """
    if not path.exists():
        return []
    lines = []
    try:
        for line in path.read_text(encoding="utf-8").split("\n")[:-1]:
            entry = json.loads(line)
            bytes.fromhex(entry["tag"])
            entry["sequence"] += 0
            lines.append(entry)
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} is no checkpoint file: {error}", "restore it from a backup") from None
    return lines


def as_checkpoints(lines: list[dict[str, Any]]) -> tuple[Checkpoint, ...]:
    """The checkpoints of the lines of a checkpoint file."""
    return tuple(Checkpoint(line["sequence"], bytes.fromhex(line["tag"])) for line in lines)


def read_file(path: Path) -> tuple[Head, bytes]:
    """(head, all bytes) of a journal file. Raises UsageError when it cannot be read or is none."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    return read_head(data), data
