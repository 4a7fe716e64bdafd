"""The highest that each board has shown of what only grows: kept records, generation of keys, counters.

    FOLDER/seen/UID.json    beside the ledger, which stands in for it where it is lost

A flash that was put back whole is genuine in all it says, but older than what was seen. Every client of a node watches
for that in what it receives (`Watcher`), whoever asked. What a node says here is not signed: another device that poses
as a board can raise what is remembered of it, and so have the board itself looked into; it cannot lower it.
"""

import base64
import contextlib
import json
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import filelock

from sentill_host.errors import SentillHostError, UsageError, VerifyError
from sentill_host.journal import ledger
from sentill_host.journal.journal_file import read_head
from sentill_host.journal.ledger import Ledger
from sentill_host.journal.store import Terminal
from sentill_host.keys.key_file import device_id
from sentill_host.node.frames import Frame, Text

_MOST = 1 << 32
_AGAIN_S = 10.0  # after which what has grown meanwhile is written once more
_LOCK_S = 10.0


@dataclass(frozen=True)
class Seen:
    """Of one board: records kept so far, generation of keys, the next numbers it takes under these; when, by whom.

    0 records are those of a board without a journal, generation -1 is none that was told.
    """

    kept: int = 0
    generation: int = -1
    counters: dict[str, int] = field(default_factory=dict)
    at: str = ""
    who: str = ""

    def older_than(self, known: "Seen") -> str:
        """What shows that this is from before `known`, in words; "" when nothing does."""
        if 0 < self.kept < known.kept:
            return f"its journal ends at record {self.kept - 1}, but record {known.kept - 1} was seen before"
        if 0 <= self.generation < known.generation:
            return f"it has keys of generation {self.generation}, but {known.generation} was seen before"
        if self.generation == known.generation:
            for name, count in self.counters.items():
                if count < known.counters.get(name, 0):
                    return f"its counter {name} is at {count}, but {known.counters[name]} was seen before"
        return ""

    def and_then(self, later: "Seen") -> "Seen":
        """The highest of both; counters begin anew with a new generation. When and by whom are those of the higher."""
        counters = dict(self.counters if later.generation <= self.generation else {})
        if later.generation >= self.generation:
            for name, count in later.counters.items():
                counters[name] = max(count, counters.get(name, 0))
        kept, generation = max(self.kept, later.kept), max(self.generation, later.generation)
        source = later if (kept, generation) != (self.kept, self.generation) else self
        return Seen(kept, generation, counters, source.at, source.who)


class Memory:
    """What is remembered in `folder`, that of ledger and journals."""

    def __init__(self, folder: Path | None = None):
        self.ledger = Ledger(folder)
        self._folder = self.ledger.folder / "seen"

    def of(self, uid: str) -> Seen:
        """What is known of a board (16 hex digits); nothing when it was never seen."""
        try:
            told = json.loads((self._folder / f"{uid}.json").read_text(encoding="utf-8"))
            counters = {str(name): int(count) for name, count in told["counters"].items()}
            return Seen(int(told["kept"]), int(told["generation"]), counters, str(told["at"]), str(told["who"]))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return self._from_ledger(uid)

    def keep(self, uid: str, seen: Seen) -> Seen:
        """Add what was seen now; all that is known then. Raises OSError, filelock.Timeout."""
        at = datetime.now(UTC).isoformat("T", "seconds")
        with self._alone():
            known = self.of(uid).and_then(replace(seen, at=at, who=ledger.author()))
            self._write(uid, known)
        return known

    def forget(self, uid: str) -> None:
        """Know nothing of the board any more; the ledger says why."""
        with self._alone():
            self._write(uid, Seen())

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        self._folder.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(self._folder / "lock", timeout=_LOCK_S):
            yield

    def _write(self, uid: str, seen: Seen) -> None:
        path = self._folder / f"{uid}.json"
        beside = path.with_suffix(".new")
        beside.write_text(json.dumps(asdict(seen)), encoding="utf-8")
        os.replace(beside, path)

    def _from_ledger(self, uid: str) -> Seen:
        known = Seen()
        for entry in self.ledger.mentions(uid):
            fields = entry.fields
            if entry.what == ledger.ANEW:
                known = Seen()
            elif entry.what in (ledger.PULL, ledger.GIVEN):
                kept, generation = fields.get("next", 0), fields.get("generation", -1)
                if _number(kept) and type(generation) is int:
                    known = known.and_then(Seen(kept, generation, {}, entry.at, entry.who))
        return known


class Watcher:
    """Looks through what comes from a node at `port`. With `erased`, why it was, an older flash is as it should be."""

    def __init__(self, port: str, memory: Memory | None = None, erased: str = ""):
        self._port = port
        self._memory = memory or Memory()
        self._erased = erased
        self.forget()

    def forget(self) -> None:
        """Another board may be at the port now."""
        self._uid = ""
        self._now = self._known = Seen()
        self._again_s = 0.0

    def take(self, items: Iterable[Frame | Text]) -> None:
        """Look through frames. Raises VerifyError for a board that shows less than it did before."""
        for item in items:
            if isinstance(item, Frame):
                self._take(item.kind, item.fields)

    def _take(self, kind: str, fields: dict[str, Any]) -> None:
        if kind == "I":
            self._meet(_id(fields.get("uid")))
            # Where keys were erased none are shown.
            self._shown(generation=-1 if fields.get("tamper") else fields.get("gen"))
        elif kind == "R" and "head" in fields:  # of the journal
            self._meet(_device(fields["head"]))
            self._shown(kept=fields.get("next"))
        elif kind == "R" and "order" in fields and "line" in fields:  # to a challenge
            if not fields.get("tamper"):
                counters = {"order": fields["order"], str(fields["line"])[:8]: fields.get("next")}
                self._shown(generation=fields.get("gen"), counters=counters)
        elif kind in "RH" and "jk" in fields:
            self._shown(kept=fields["jk"])

    def _meet(self, uid: str) -> None:
        """The board at the port is this one; "" when it does not say."""
        if uid and uid != self._uid:
            if self._uid:
                self.forget()
            self._uid = uid
            self._known = self._memory.of(uid)

    def _shown(self, kept: Any = 0, generation: Any = -1, counters: dict[str, Any] | None = None) -> None:
        """The board shows these; what makes no sense is left to who asked for it."""
        numbers = {name: count for name, count in (counters or {}).items() if _number(count)}
        news = Seen(kept if _number(kept) else 0, generation if _number(generation) else -1, numbers)
        self._now = self._now.and_then(news)
        if not self._uid:
            return
        if why := self._now.older_than(self._known) or news.older_than(self._known):
            if not self._erased:
                raise VerifyError(f"{self._port}: {why}{self._when()}", _way_out(self._uid))
            begin_anew(self._uid, self._erased, self._memory)
            self._known, self._now = Seen(), news
        fresh = self._known.and_then(self._now)
        urgent = (fresh.generation, fresh.counters) != (self._known.generation, self._known.counters)
        late = fresh.kept > self._known.kept and time.monotonic() >= self._again_s
        if late:
            self._again_s = time.monotonic() + _AGAIN_S
        if urgent or late:
            # Where it cannot be kept, what the board says counts all the same.
            with contextlib.suppress(OSError, filelock.Timeout):
                fresh = self._memory.keep(self._uid, fresh)
            self._known = fresh

    def _when(self) -> str:
        return f" ({self._known.at} by {self._known.who})" if self._known.at else ""


def begin_anew(uid: str, why: str, memory: Memory | None = None) -> None:
    """A board's flash was erased on purpose: what was pulled of it is put aside as a life that ended.

    Raises UsageError when that was done already and nothing was pulled since, or cannot be done.
    """
    memory = memory or Memory()
    book = memory.ledger
    lives = sum(entry.what == ledger.ANEW for entry in book.mentions(uid))
    terminal = Terminal(book.folder, uid)
    book.append(ledger.ANEW, uid=uid, why=why, life=lives + 1)
    try:
        if terminal.folder.exists():
            os.rename(terminal.folder, Terminal(book.folder, uid, lives + 1).folder)
        memory.forget(uid)
    except (OSError, filelock.Timeout) as error:
        raise UsageError(f"cannot put {terminal.folder} aside: {error}") from None


def erased(uid: str, why: str) -> None:
    """As `begin_anew`, for a board that may not say who it is, or was never seen before."""
    name, memory = _id(uid), Memory()
    if name and (memory.of(name).at or Terminal(memory.ledger.folder, name).folder.exists()):
        begin_anew(name, why, memory)


def _way_out(uid: str) -> str:
    return (
        "its flash was put back to an older state, erased, or another device posed as it: inspect the terminal; where "
        f"it was erased on purpose: sentill journal note {uid} --anew --why TEXT"
    )


def _number(value: Any) -> bool:
    return type(value) is int and 0 <= value < _MOST


def _id(uid: Any) -> str:
    try:
        return device_id(str(uid or "")).hex()
    except SentillHostError:
        return ""


def _device(head: Any) -> str:
    try:
        return read_head(base64.b64decode(head)).device.hex()
    except (SentillHostError, ValueError, TypeError):
        return ""
