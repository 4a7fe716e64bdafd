"""fleet.toml, how a fleet is to be treated, and its roster, who belongs to it: read, checked, and asked.

The roster is a table (CSV) with the columns uid, label, site, group, so that a spreadsheet can keep it.
"""

import csv
import datetime as dt
import io
import re
import tomllib
import zoneinfo
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sentill_host import user_files
from sentill_host.board import catalogue
from sentill_host.errors import UsageError

FILE = "fleet.toml"
COLUMNS = ("uid", "label", "site", "group")
_UID = re.compile(r"[0-9a-f]{4,64}")
_CLOCK = re.compile(r"([01]\d|2[0-3]):([0-5]\d)")

EXAMPLE = """\
# How this fleet is treated. Who belongs to it is in the roster: a table with uid,label,site,group.
name = "my terminals"
roster = "boards.csv"
ports = []                 # besides USB: names or patterns, such as "/dev/serial/by-path/*"

[policy]
canary = 1                 # boards that go first, alone: a number, or a list of labels
stop_at = "10%"            # so many failed boards stop the run: a number, or a share of the boards
attempts = 2               # how often one board is tried
at_once = 16               # boards worked on at the same time
# window = "22:00-05:00"   # when boards may be changed; without it always
# timezone = "Europe/Paris"
# config = "node.json"     # configuration for `fleet deploy`; without it boards keep theirs

# [firmware]
# version = "1.26.1"       # for `fleet flash`
# sha256 = {RPI_PICO = "..."}

# [groups.kiosks]          # of the roster's column `group`; what is not said here comes from [policy]
# window = "01:00-04:00"
# config = "kiosk.json"
"""


@dataclass(frozen=True)
class Window:
    """When boards may be changed, in minutes since midnight at `zone`; it may span midnight."""

    start: int
    end: int
    zone: str = ""

    def is_open(self, now: dt.datetime) -> bool:
        """Whether `now` (aware) is inside."""
        minute = self._minute(now)
        if self.start < self.end:
            return self.start <= minute < self.end
        return minute >= self.start or minute < self.end

    def wait(self, now: dt.datetime) -> dt.timedelta:
        """Time until it opens next; zero while it is open."""
        if self.is_open(now):
            return dt.timedelta()
        return dt.timedelta(minutes=(self.start - self._minute(now)) % 1440, seconds=-self._local(now).second)

    def _local(self, now: dt.datetime) -> dt.datetime:
        return now.astimezone(zoneinfo.ZoneInfo(self.zone) if self.zone else None)

    def _minute(self, now: dt.datetime) -> int:
        local = self._local(now)
        return local.hour * 60 + local.minute

    def __str__(self) -> str:
        clock = f"{self.start // 60:02}:{self.start % 60:02}-{self.end // 60:02}:{self.end % 60:02}"
        return f"{clock} {self.zone}".strip()


@dataclass(frozen=True)
class Policy:
    """How a run goes about its boards. `stop_at` counts boards, or is a share of them when below 1."""

    canary: int | tuple[str, ...] = 1
    stop_at: float = 0.1
    attempts: int = 2
    at_once: int = 16

    def tolerated(self, targets: int) -> int:
        """Failed boards among `targets` at which the run stops, at least one."""
        return max(1, round(self.stop_at * targets) if self.stop_at < 1 else int(self.stop_at))


@dataclass(frozen=True)
class Group:
    """What holds for the boards of one group."""

    window: Window | None = None
    config: Path | None = None


@dataclass(frozen=True)
class Member:
    """A board of the roster."""

    uid: str
    label: str
    site: str = ""
    group: str = ""


@dataclass(frozen=True)
class Fleet:
    """A fleet as its files describe it."""

    name: str
    folder: Path
    roster: Path
    members: tuple[Member, ...]
    ports: tuple[str, ...] = ()
    policy: Policy = Policy()
    default: Group = Group()
    groups: dict[str, Group] = field(default_factory=dict)
    firmware_version: str = ""
    firmware_sha256: dict[str, str] = field(default_factory=dict)

    def member(self, uid: str) -> Member | None:
        """The member with this unique id."""
        return next((member for member in self.members if member.uid == uid.lower()), None)

    def group_of(self, member: Member) -> Group:
        """What holds for a member."""
        return self.groups.get(member.group, self.default)

    def select(self, words: list[str]) -> list[Member]:
        """The members that `words` name: labels, unique ids, `group:NAME`, `site:NAME`; all without any.

        Raises UsageError for a word that names nobody. No label is another board's id: read_roster sees to it.
        """
        if not words:
            return list(self.members)
        chosen: dict[str, Member] = {}
        for word in words:
            kind, _, name = word.partition(":")
            if kind in ("group", "site"):
                fitting = [member for member in self.members if getattr(member, kind) == name]
            else:
                fitting = [member for member in self.members if word == member.label or word.lower() == member.uid]
            if not fitting:
                raise UsageError(f"no board of {self.name} is called {word!r}", "`sentill fleet status` lists them")
            chosen.update((member.uid, member) for member in fitting)
        return [member for member in self.members if member.uid in chosen]

    def canaries(self, targets: list[Member]) -> list[Member]:
        """The targets that go first."""
        canary = self.policy.canary
        if isinstance(canary, int):
            # A fleet that consists of canaries only has none.
            return targets[:canary] if canary < len(targets) else []
        return [member for member in targets if member.label in canary]


def load(path: Path) -> Fleet:
    """Read a fleet.toml and its roster. Raises UsageError naming file, key and what it must be."""
    if not path.exists():
        raise UsageError(f"no {path}", "`sentill fleet init` writes one to start from; --fleet names another")
    try:
        data = tomllib.loads(user_files.read_text(path))
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path} is no valid TOML: {error}") from None
    reader = _Reader(path, data)
    folder = path.parent
    policy = reader.table("policy")
    config = policy.text("config")
    default = Group(policy.window(), folder / config if config else None)
    groups = {}
    for name in reader.table("groups").names():
        table = reader.table("groups").table(name)
        config = table.text("config")
        groups[name] = Group(table.window() or default.window, folder / config if config else default.config)
        table.done()
    firmware = reader.table("firmware")
    roster = folder / reader.text("roster", "boards.csv")
    fleet = Fleet(
        reader.text("name", folder.absolute().name),
        folder,
        roster,
        read_roster(roster),
        tuple(reader.texts("ports")),
        Policy(
            policy.canary(),
            policy.share("stop_at", 0.1),
            policy.number("attempts", 2, 1, 10),
            policy.number("at_once", 16, 1, 128),
        ),
        default,
        groups,
        firmware.text("version"),
        {name: firmware.table("sha256").text(name) for name in firmware.table("sha256").names()},
    )
    policy.done()
    firmware.done()
    reader.done()
    for board_id in fleet.firmware_sha256:
        catalogue.load(board_id)
    _check(fleet, path)
    return fleet


def _check(fleet: Fleet, path: Path) -> None:
    for member in fleet.members:
        if member.group and fleet.groups and member.group not in fleet.groups:
            raise UsageError(
                f"{fleet.roster}: {member.label} is in group {member.group!r}, which {path} does not have",
                "groups: " + ", ".join(fleet.groups),
            )
    if isinstance(fleet.policy.canary, tuple):
        labels = {member.label for member in fleet.members}
        for label in fleet.policy.canary:
            if label not in labels:
                raise UsageError(f"{path}: canary {label!r} is no label of {fleet.roster}")


def read_roster(path: Path) -> tuple[Member, ...]:
    """The roster at `path`; empty when there is none. Raises UsageError naming the line."""
    return _members(user_files.read_text(path), path) if path.exists() else ()


def _members(text: str, path: Path) -> tuple[Member, ...]:
    rows = csv.DictReader(text.splitlines())
    if not {"uid", "label"} <= set(rows.fieldnames or ()):
        raise UsageError(f"{path}: the first line must name the columns", ",".join(COLUMNS))
    members: list[Member] = []
    seen: dict[str, int] = {}
    for row in rows:
        uid, label, site, group = ((row.get(column) or "").strip() for column in COLUMNS)
        uid = uid.lower()
        where = f"{path}, line {rows.line_num}"
        if not uid and not label:
            continue
        if not _UID.fullmatch(uid) or len(uid) % 2:
            raise UsageError(f"{where}: no unique id: {uid!r}", "hexadecimal, as `sentill fleet status` shows it")
        if not label or ":" in label or len(label) > 60:
            raise UsageError(f"{where}: no label: {label!r}", "1 to 60 characters without a colon")
        for name in (uid, label):
            if seen.setdefault(name, rows.line_num) != rows.line_num:
                raise UsageError(f"{where}: {name} is on line {seen[name]} already", "each board and label once")
        members.append(Member(uid, label, site, group))
    return tuple(members)


def add_to_roster(path: Path, member: Member) -> None:
    """Add a line to the roster; the file is made with its header when new. Raises UsageError and leaves the file as it
    is when the line would be wrong."""
    known = read_roster(path)
    other = next((other for other in known if member.uid == other.uid or member.label == other.label), None)
    if other is not None:
        raise UsageError(f"{path} has {other.label} ({other.uid}) already", "change its line there")
    old = path.read_bytes() if path.exists() else b""
    text = old.decode("utf-8-sig") or ",".join(COLUMNS) + "\n"
    header = next(csv.reader(text.splitlines()))
    values = {"uid": member.uid, "label": member.label, "site": member.site, "group": member.group}
    lacking = [name for name in values if values[name] and name not in header]
    if lacking:
        raise UsageError(f"{path} has no column {lacking[0]}", "add it to the first line")
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow([values.get(name, "") for name in header])
    # What stands there stays byte for byte: a spreadsheet's mark, its line ends.
    added = line.getvalue() if text.endswith("\n") else "\n" + line.getvalue()
    _members(text + added, path)
    user_files.save(path, (old or text.encode()) + added.encode())


class _Reader:
    """A table of a TOML file whose keys are asked for one by one; `done` refuses those nobody asked for."""

    def __init__(self, path: Path, data: dict[str, Any], where: str = ""):
        self._path = path
        self._data = data
        self._where = where
        self._asked: set[str] = set()

    def table(self, key: str) -> "_Reader":
        return _Reader(self._path, self._get(key, {}, dict, "a table"), f"{self._where}{key}.")

    def names(self) -> list[str]:
        return list(self._data)

    def text(self, key: str, default: str = "") -> str:
        return str(self._get(key, default, str, "a text"))

    def texts(self, key: str) -> list[str]:
        value = self._get(key, [], list, "a list of texts")
        if not all(isinstance(item, str) for item in value):
            raise self._wrong(key, "a list of texts")
        return list(value)

    def number(self, key: str, default: int, least: int, most: int) -> int:
        value = self._get(key, default, int, f"{least} to {most}")
        if isinstance(value, bool) or not least <= value <= most:
            raise self._wrong(key, f"{least} to {most}")
        return int(value)

    def share(self, key: str, default: float) -> float:
        value = self._get(key, default, (int, str, float), 'a number of boards or a share such as "10%"')
        if isinstance(value, str) and (match := re.fullmatch(r"(\d{1,3})\s*%", value)) and 0 < int(match[1]) < 100:
            return int(match[1]) / 100
        if value == default or (isinstance(value, int) and not isinstance(value, bool) and value >= 1):
            return float(value)
        raise self._wrong(key, 'a number of boards, at least 1, or a share such as "10%"')

    def canary(self) -> int | tuple[str, ...]:
        if isinstance(self._data.get("canary"), list):
            return tuple(self.texts("canary"))
        return self.number("canary", 1, 0, 1000)

    def window(self) -> Window | None:
        text, zone = self.text("window"), self.text("timezone")
        if zone:
            try:
                zoneinfo.ZoneInfo(zone)
            except (zoneinfo.ZoneInfoNotFoundError, ValueError):
                raise self._wrong("timezone", 'a time zone such as "Europe/Paris"') from None
        if not text:
            return None
        ends = [_CLOCK.fullmatch(part.strip()) for part in text.split("-")]
        if len(ends) != 2 or not ends[0] or not ends[1] or ends[0][0] == ends[1][0]:
            raise self._wrong("window", '"22:00-05:00"')
        start, end = (int(match[1]) * 60 + int(match[2]) for match in ends if match)
        return Window(start, end, zone)

    def done(self) -> None:
        for key in self._data:
            if key not in self._asked:
                known = ", ".join(sorted(self._asked))
                raise UsageError(f"{self._path}: unknown key {self._where}{key}", f"known here: {known}")

    def _get(self, key: str, default: Any, kinds: Any, must: str) -> Any:
        self._asked.add(key)
        value = self._data.get(key, default)
        if not isinstance(value, kinds):
            raise self._wrong(key, must)
        return value

    def _wrong(self, key: str, must: str) -> UsageError:
        return UsageError(f"{self._path}: {self._where}{key} is wrong", f"it must be {must}")
