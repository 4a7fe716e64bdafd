"""The ledger: what was done to which board, by whom and when. One line an entry, each bound to all before it.

    FOLDER/ledger.jsonl    {"n":7,"at":"2026-03-01T12:00:00+00:00","who":"ana@office","what":"pull",...,"chain":"HEX"}

`chain` is SHA-256 of the chain before (32 bytes, none before the first entry) and of the line's bytes up to its
`,"chain"`: no byte of an entry can be changed, and no entry dropped or moved, without all chains behind it. Who can
write the file can still write all of it anew, or cut its end: an anchor (anchor.py) that has left this computer tells.
Where an entry is to be signed by who made it, the signature is one field more, made in `_line` of the same bytes.

Entries are only appended, by one process at a time, and are on the disk when `append` returns. A line that is not whole
is what a computer leaves that stopped while writing; nobody was told that it was kept. The next entry takes its place,
and says so.
"""

import contextlib
import getpass
import hashlib
import json
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import filelock
import platformdirs

from sentill_host import user_files
from sentill_host.errors import UsageError

FOLDER = "SENTILL_JOURNALS"
FILE = "ledger.jsonl"
_LOCK_S = 30.0
_CHAIN = 64  # hex digits
_TAIL = b',"chain":"'
_MOST = 1 << 20  # bytes of a line
_OWN = ("n", "at", "who", "what", "chain")

# What entries tell of.
PULL, REFUSED, GIVING, GIVEN, ORDER = "pull", "pull refused", "giving keys", "keys given", "order"
ROSTER, ANCHOR, ANEW, RETIRED, HEALED = "roster", "anchor", "anew", "retired", "healed"


def default_folder() -> Path:
    """Where ledger and journals are when not told: $SENTILL_JOURNALS, or a folder per user."""
    return Path(os.environ.get(FOLDER) or Path(platformdirs.user_data_dir("sentill")) / "journals")


@dataclass(frozen=True)
class Entry:
    """One entry: its number from 0 on, when (UTC, ISO 8601), user@host, what was done, and what is told of that."""

    n: int
    at: str
    who: str
    what: str
    fields: dict[str, Any] = field(default_factory=dict)
    chain: str = ""

    @property
    def uid(self) -> str:
        """The board it is about, "" when about none."""
        return str(self.fields.get("uid", ""))


@dataclass(frozen=True)
class Head:
    """How many entries there are, and the chain of the last; two ledgers with the same head are the same."""

    count: int = 0
    chain: str = ""


@dataclass(frozen=True)
class Reading:
    """A ledger read: its entries up to the first that is wrong, what is wrong, and bytes of a half-written one."""

    entries: list[Entry]
    fault: str = ""
    torn: int = 0

    @property
    def head(self) -> Head:
        """Of the entries read."""
        return self.head_at(len(self.entries))

    def head_at(self, count: int) -> Head:
        """As it was with `count` entries, at most as many as there are."""
        return Head(count, self.entries[count - 1].chain) if count else Head()


class Ledger:
    """The ledger in `folder`, which need not be there yet."""

    def __init__(self, folder: Path | None = None):
        self.folder = default_folder() if folder is None else folder
        self.path = self.folder / FILE

    def append(self, what: str, **fields: Any) -> Entry:
        """Add an entry; it is on the disk then. Raises UsageError, PlatformError when that cannot be done."""
        user_files.make_folder(self.folder)
        try:
            with self._alone(), open(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666), "r+b") as file:
                head, torn = self._end(file)
                if torn:
                    lost = hashlib.sha256(file.read(torn)).hexdigest()
                    file.seek(-torn, os.SEEK_END)
                    file.truncate()
                    head = self._write(file, head, HEALED, {"bytes": torn, "sha256": lost})[1]
                entry, _ = self._write(file, head, what, fields)
            if not entry.n:
                sync_folder(self.folder)
        except OSError as error:
            raise user_files.failure(f"cannot write {self.path}", error) from None
        return entry

    def head(self) -> Head:
        """Its present end. Raises UsageError when that is damaged, or cannot be read."""
        if not self.path.exists():
            return Head()
        try:
            with open(self.path, "rb") as file:
                return self._end(file)[0]
        except OSError as error:
            raise UsageError(f"cannot read {self.path}: {error.strerror}") from None

    def read(self) -> Reading:
        """All of it, checked line by line; nothing when there is no file. Raises UsageError when it cannot be read."""
        if not self.path.exists():
            return Reading([])
        lines = user_files.read_bytes(self.path).split(b"\n")
        torn = lines.pop()
        entries: list[Entry] = []
        chain = Head().chain
        for n, line in enumerate(lines):
            try:
                entry = _parsed(line, n, chain)
            except ValueError as error:
                return Reading(entries, f"entry {n}: {error}", len(torn))
            entries.append(entry)
            chain = entry.chain
        return Reading(entries, torn=len(torn))

    def mentions(self, uid: str) -> Iterator[Entry]:
        """The entries about a board, whether the chain is right or not."""
        mark = f'"uid":"{uid}"'.encode()
        if not self.path.exists():
            return
        for line in user_files.read_bytes(self.path).split(b"\n"):
            if mark in line:
                with contextlib.suppress(ValueError):
                    yield _parsed(line)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        try:
            with filelock.FileLock(self.path.with_suffix(".lock"), timeout=_LOCK_S):
                yield
        except filelock.Timeout:
            raise UsageError(f"{self.path} is in use by another command", "run this again after it") from None

    def _end(self, file: Any) -> tuple[Head, int]:
        """(head, bytes of a half-written line behind it); the file is left where these begin."""
        size = file.seek(0, os.SEEK_END)
        begin = max(0, size - 2 * _MOST)
        file.seek(begin)
        data: bytes = file.read()
        whole = data.rfind(b"\n") + 1
        file.seek(begin + whole)
        if not whole:
            if begin:
                raise self._damaged("a line without end")
            return Head(), len(data)
        line = data[data.rfind(b"\n", 0, whole - 1) + 1 : whole - 1]
        try:
            entry = _parsed(line)
        except ValueError as error:
            raise self._damaged(str(error)) from None
        return Head(entry.n + 1, entry.chain), len(data) - whole

    def _damaged(self, why: str) -> UsageError:
        return UsageError(
            f"the last entry of {self.path} is damaged: {why}",
            "restore it from a backup; else keep it for whoever looks into this, and move it away: a new one begins",
        )

    def _write(self, file: Any, head: Head, what: str, fields: dict[str, Any]) -> tuple[Entry, Head]:
        """Write an entry behind `head`, where the file is; all of it or nothing."""
        at = datetime.now(UTC).isoformat("T", "seconds")
        line, chain = _line(head, {"at": at, "who": author(), "what": what, **fields})
        place = file.tell()
        try:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(file.fileno(), place)
            raise
        return _parsed(line[:-1]), Head(head.count + 1, chain)


def author() -> str:
    """Who runs this: user@host."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # no name is known for the number
        user = str(os.getuid()) if hasattr(os, "getuid") else "somebody"
    return f"{user}@{socket.gethostname()}"


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk; nothing where folders cannot be opened for that."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _line(head: Head, told: dict[str, Any]) -> tuple[bytes, str]:
    """The line of an entry behind `head`, and its chain."""
    body = json.dumps({"n": head.count, **told}, separators=(",", ":"))[:-1].encode()
    if len(body) > _MOST:
        raise UsageError(f"an entry of {len(body)} bytes is too long for the ledger", f"at most {_MOST}")
    chain = _chain(head.chain, body)
    return body + _TAIL + chain.encode() + b'"}\n', chain


def _chain(before: str, body: bytes) -> str:
    return hashlib.sha256(bytes.fromhex(before) + body).hexdigest()


def _parsed(line: bytes, n: int | None = None, before: str = "") -> Entry:
    """The entry on a line; with `n` held against that number and the chain before. Raises ValueError that says why."""
    at = len(line) - len(_TAIL) - _CHAIN - 2
    if at <= 0 or len(line) > _MOST + 100 or not line.startswith(_TAIL, at) or not line.endswith(b'"}'):
        raise ValueError("it is no entry")
    try:
        told = json.loads(line)
    except ValueError:
        raise ValueError("it is no entry") from None
    if not isinstance(told, dict) or type(told.get("n")) is not int:
        raise ValueError("it is no entry")
    if not all(isinstance(told.get(name), str) for name in _OWN[1:]):
        raise ValueError("it is no entry")
    if n is not None:
        if told["n"] != n:
            raise ValueError(f"number {told['n']} stands in its place")
        if told["chain"] != _chain(before, line[:at]):
            raise ValueError("it, or what stood before it, was changed")
    fields = {name: value for name, value in told.items() if name not in _OWN}
    return Entry(told["n"], told["at"], told["who"], told["what"], fields, told["chain"])
