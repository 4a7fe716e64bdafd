"""What a ledger tells of terminals: their lives, what was pulled of them, and who was in the roster."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sentill_host.errors import SentillHostError
from sentill_host.journal import ledger
from sentill_host.journal.anchor import Held
from sentill_host.journal.ledger import Entry, Reading
from sentill_host.journal.store import Terminal
from sentill_host.keys.key_file import device_id


@dataclass(frozen=True)
class Pull:
    """A pull as the ledger has it: when (UTC), up to which record and its tag, what the node kept (below `next`).

    The records from `start` on were new, `gone` before them had given way, `missing` among them the node did not have.
    They went to `file`, whose head has the digest `head`.
    """

    at: str
    sequence: int
    tag: str
    next: int
    start: int
    gone: int
    missing: int
    file: str
    head: str

    @classmethod
    def of(cls, entry: Entry) -> "Pull":
        """Raises KeyError, TypeError, ValueError for an entry that makes no sense."""
        numbers = [entry.fields[name] for name in ("sequence", "next", "start", "gone", "missing")]
        words = [entry.fields[name] for name in ("tag", "file", "head")]
        if any(type(n) is not int or n < 0 for n in numbers) or not all(isinstance(word, str) for word in words):
            raise ValueError("its numbers make no sense")
        sequence, after, start, gone, missing = numbers
        tag, file, head = words
        return cls(_told(entry).isoformat(" ", "seconds"), sequence, tag, after, start, gone, missing, file, head)

    @property
    def first(self) -> int:
        """The first record of the file."""
        return int(self.file.partition(".")[0], 16)

    @property
    def whole(self) -> bool:
        """Whether it brought all that the node kept."""
        return self.next == self.sequence + 1


@dataclass
class Life:
    """What the ledger tells of a terminal between two erasures of its flash on purpose; `number` 0 goes on."""

    number: int = 0
    pulls: list[Pull] = field(default_factory=list)
    ended: str = ""

    @property
    def last(self) -> Pull | None:
        """The last pull that brought all there was."""
        return next((pull for pull in reversed(self.pulls) if pull.whole), None)


@dataclass
class History:
    """Of one terminal: its lives, the last one goes on; what people call it; since when it is known, until when."""

    uid: str
    label: str = ""
    since: str = ""
    retired: str = ""
    lives: list[Life] = field(default_factory=lambda: [Life()])


class Book:
    """What a ledger and the roster (unique id to label, None when there is none) tell of terminals."""

    def __init__(self, reading: Reading, members: Mapping[str, str] | None = None):
        self.reading = reading
        self.histories: dict[str, History] = {}
        self.enrolled: dict[str, Entry] = {}  # uid to the entry that first had it in the roster
        self.fleet = ""  # the fleet.toml that was entered last
        self.fault = reading.fault
        for entry in reading.entries:
            try:
                self._take(entry)
            except (KeyError, TypeError, ValueError, AttributeError, SentillHostError) as error:
                self.fault = self.fault or f"entry {entry.n}, {entry.what!r}, makes no sense: {error}"
        self.members = None if members is None else {journal_id(uid): label for uid, label in members.items()}
        for uid, label in (self.members or {}).items():
            self._of(uid, "").label = label

    def _of(self, uid: str, at: str) -> History:
        history = self.histories.setdefault(uid, History(uid))
        history.since = history.since or at
        return history

    def _take(self, entry: Entry) -> None:
        fields = entry.fields
        if entry.what == ledger.ROSTER:
            self.fleet = str(fields["fleet"])
            for uid, label in fields["joined"].items():
                self._of(uid, entry.at).label = label
                self.enrolled.setdefault(uid, entry)
        if not entry.uid:
            return
        history = self._of(entry.uid, entry.at)
        if entry.what == ledger.PULL:
            history.lives[-1].pulls.append(Pull.of(entry))
            history.retired = ""
        elif entry.what == ledger.ANEW:
            history.lives[-1].number, history.lives[-1].ended = len(history.lives), entry.at
            history.lives.append(Life())
        elif entry.what == ledger.RETIRED:
            history.retired = entry.at

    def news(self, fleet: Path, members: Mapping[str, str]) -> dict[str, Any] | None:
        """What an entry of the roster would add to the ledger, None when nothing."""
        now = {journal_id(uid): label for uid, label in members.items()}
        joined = {
            uid: label
            for uid, label in now.items()
            if uid not in self.enrolled or self.histories[uid].label != label or self.histories[uid].retired
        }
        if not joined and str(fleet) == self.fleet:
            return None
        return {"fleet": str(fleet), "joined": joined}

    def held(self) -> list[Held]:
        """The terminals as a page of an anchor names them."""
        rows = []
        for history in self.histories.values():
            if pulls := history.lives[-1].pulls:
                last = max(pulls, key=lambda pull: pull.sequence)
                rows.append(Held(history.uid, last.sequence, last.tag, history.label))
        return sorted(rows, key=lambda row: row.uid)


def journal_id(uid: str) -> str:
    """The id under which a board's journal is kept, by its unique id, which may be shorter. Raises UsageError."""
    return device_id(uid).hex()


def terminal_of(folder: Path, history: History, life: Life) -> Terminal:
    """Where a life of a terminal is kept."""
    aside = Terminal(folder, history.uid, life.number)
    latest = history.lives[-1]
    if len(history.lives) > 1 and life is history.lives[-2] and not latest.pulls and not aside.folder.exists():
        # A computer that stopped in between has entered that a life ended, and not put it aside.
        return Terminal(folder, history.uid)
    return aside


def _told(entry: Entry) -> datetime:
    at = datetime.fromisoformat(entry.at)
    return at if at.tzinfo else at.replace(tzinfo=UTC)
