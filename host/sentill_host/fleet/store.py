"""What was seen and done, in one SQLite file beside fleet.toml: the inventory, and a journal of every run.

Each entry is on the disk before the next step begins, so a run goes on where it was when the computer dies.
"""

import datetime as dt
import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock

from sentill_host.errors import UsageError

FILE = "fleet.db"
_VERSION = 1
_SCHEMA = """
create table seen (
    uid text primary key, board text not null default '', firmware text not null default '',
    software text not null default '', model text not null default '', port text not null default '',
    last_seen text not null default '', last_result text not null default ''
);
create table runs (
    id integer primary key, verb text not null, options text not null, started text not null,
    finished text not null default '', state text not null, why text not null default ''
);
create table jobs (
    run integer not null references runs, uid text not null, label text not null, wave integer not null,
    state text not null default 'waiting', port text not null default '', attempts integer not null default 0,
    step text not null default '', error text not null default '', hint text not null default '',
    exit_code integer not null default 0, seconds real not null default 0, result text not null default '{}',
    primary key (run, uid)
);
"""

# A job: waiting -> running -> done or failed; held: not started, for the reason in `error`.
WAITING, RUNNING, DONE, FAILED, HELD = "waiting", "running", "done", "failed", "held"
# A run: running -> finished or stopped (threshold, canary); what is still "running" without a process was interrupted.
FINISHED, STOPPED = "finished", "stopped"


@dataclass(frozen=True)
class Run:
    """One request to the fleet."""

    id: int
    verb: str
    options: dict[str, Any]
    started: str
    finished: str
    state: str
    why: str  # it was stopped


@dataclass(frozen=True)
class Job:
    """One board's part of a run."""

    run: int
    uid: str
    label: str
    wave: int
    state: str
    port: str
    attempts: int
    step: str
    error: str
    hint: str
    exit_code: int
    seconds: float
    result: dict[str, Any]


class Store:
    """The file. Use as a context manager; one process at a time may change a fleet (`lock`)."""

    def __init__(self, folder: Path):
        self.path = folder / FILE
        self._lock = filelock.FileLock(folder / f"{FILE}.lock")
        try:
            self._db = sqlite3.connect(self.path, isolation_level=None, timeout=10)
            self._db.row_factory = sqlite3.Row
            self._db.execute("pragma journal_mode = wal")
            self._db.execute("pragma synchronous = full")
            (version,) = self._db.execute("pragma user_version").fetchone()
            if version == 0:
                self._db.executescript(f"begin; {_SCHEMA} pragma user_version = {_VERSION}; commit;")
        except sqlite3.DatabaseError as error:
            raise UsageError(f"{self.path}: {error}", "move it away; a new one is made, its past is lost") from None
        if version > _VERSION:
            raise UsageError(f"{self.path} is of a newer Sentill", "update this one")

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Be the one process that works on this fleet. Raises UsageError while another does."""
        try:
            self._lock.acquire(timeout=0)
        except filelock.Timeout:
            raise UsageError(f"another command works on the fleet in {self.path.parent}", "wait for it") from None
        try:
            yield
        finally:
            self._lock.release()

    # Inventory

    def saw(self, uid: str, **facts: str) -> None:
        """A board was seen now; `facts` (board, firmware, software, model, port) replace those known, unless empty."""
        known = {name: value for name, value in facts.items() if value}
        known["last_seen"] = now()
        columns = ", ".join(["uid", *known])
        places = ", ".join("?" * (len(known) + 1))
        updates = ", ".join(f"{name} = excluded.{name}" for name in known)
        self._db.execute(
            f"insert into seen ({columns}) values ({places}) on conflict (uid) do update set {updates}",
            (uid, *known.values()),
        )

    def resulted(self, uid: str, result: str) -> None:
        """Keep the result of the last run in words."""
        self._db.execute(
            "insert into seen (uid, last_result) values (?, ?) on conflict (uid) do update set last_result = ?",
            (uid, result, result),
        )

    def inventory(self) -> dict[str, dict[str, str]]:
        """What is known of each board, by unique id."""
        return {row["uid"]: dict(row) for row in self._db.execute("select * from seen order by uid")}

    # Runs

    def begin(self, verb: str, options: dict[str, Any], jobs: list[tuple[str, str, int]]) -> Run:
        """A new run over `jobs` (unique id, label, wave), all waiting."""
        self._db.execute("begin")
        cursor = self._db.execute(
            "insert into runs (verb, options, started, state) values (?, ?, ?, ?)",
            (verb, json.dumps(options), now(), RUNNING),
        )
        self._db.executemany(
            "insert into jobs (run, uid, label, wave) values (?, ?, ?, ?)", [(cursor.lastrowid, *job) for job in jobs]
        )
        self._db.execute("commit")
        return self.run(cursor.lastrowid or 0)

    def run(self, number: int = 0) -> Run:
        """A run by number; the last one without. Raises UsageError when there is none."""
        query = "select * from runs where id = ?" if number else "select * from runs order by id desc limit 1"
        row = self._db.execute(query, (number,) if number else ()).fetchone()
        if row is None:
            raise UsageError(f"there is no run {number or 'yet'}", "`sentill fleet report --list` shows them")
        return Run(**{**dict(row), "options": json.loads(row["options"])})

    def runs(self) -> list[Run]:
        """All runs, the newest first."""
        return [self.run(row["id"]) for row in self._db.execute("select id from runs order by id desc")]

    def end(self, run: int, state: str, why: str = "") -> None:
        """A run is over; `why` it was stopped."""
        self._db.execute("update runs set state = ?, why = ?, finished = ? where id = ?", (state, why, now(), run))

    def reopen(self, run: int) -> None:
        """A run goes on: what was being worked on when it was interrupted waits again."""
        self._db.execute("begin")
        self._db.execute("update runs set state = ?, why = '', finished = '' where id = ?", (RUNNING, run))
        self._db.execute("update jobs set state = ? where run = ? and state = ?", (WAITING, run, RUNNING))
        self._db.execute("commit")

    def retry(self, run: int) -> int:
        """What failed or was held back waits again, its attempts forgotten; how many boards that are."""
        cursor = self._db.execute(
            "update jobs set state = ?, attempts = 0, error = '', hint = '', exit_code = 0"
            " where run = ? and state in (?, ?)",
            (WAITING, run, FAILED, HELD),
        )
        return cursor.rowcount

    def update(self, run: int, uid: str, **changes: Any) -> None:
        """Change columns of a job."""
        if "result" in changes:
            changes["result"] = json.dumps(changes["result"])
        assignments = ", ".join(f"{name} = ?" for name in changes)
        self._db.execute(f"update jobs set {assignments} where run = ? and uid = ?", (*changes.values(), run, uid))

    def jobs(self, run: int) -> list[Job]:
        """The jobs of a run, canaries first, then by label."""
        rows = self._db.execute("select * from jobs where run = ? order by wave, label", (run,))
        return [Job(**{**dict(row), "result": json.loads(row["result"])}) for row in rows]


def now() -> str:
    """The time as it is kept: UTC, to the second."""
    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
