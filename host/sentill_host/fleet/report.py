"""What became of a run: as CSV, as JSON, and as one HTML page that needs nothing else."""

import csv
import dataclasses
import datetime as dt
import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

import jinja2

from sentill import __version__
from sentill_host.fleet import store as states
from sentill_host.fleet.campaign import describe
from sentill_host.fleet.plan import Fleet
from sentill_host.fleet.store import Job, Run, Store

COLUMNS = (
    "label", "uid", "site", "group", "board", "firmware", "software", "state", "attempts", "seconds", "port", "step",
    "error", "hint",
)  # fmt: skip
_ORDER = (states.FAILED, states.RUNNING, states.HELD, states.WAITING, states.DONE)


@dataclasses.dataclass(frozen=True)
class Report:
    """A run with all it takes to tell of it; `rows` have COLUMNS and `told`, the result in words."""

    fleet: str
    run: Run
    rows: list[dict[str, Any]]
    counts: dict[str, int]

    @property
    def ok(self) -> bool:
        """Whether every board was done."""
        return set(self.counts) <= {states.DONE}


def make(fleet: Fleet, store: Store, number: int = 0) -> Report:
    """The report of a run, the last one without a number. Raises UsageError when there is none."""
    run = store.run(number)
    inventory = store.inventory()
    jobs = store.jobs(run.id)
    rows = [_row(fleet, run, job, inventory.get(job.uid, {})) for job in jobs]
    rows.sort(key=lambda row: (_ORDER.index(row["state"]), row["label"]))
    counts = Counter(row["state"] for row in rows)
    return Report(fleet.name, run, rows, {state: counts[state] for state in _ORDER if counts[state]})


def _row(fleet: Fleet, run: Run, job: Job, seen: dict[str, str]) -> dict[str, Any]:
    member = fleet.member(job.uid)
    row: dict[str, Any] = {name: getattr(job, name) for name in COLUMNS if hasattr(job, name)}
    row |= {"site": member.site if member else "", "group": member.group if member else ""}
    row |= {name: seen.get(name, "") for name in ("board", "firmware", "software")}
    row["wave"] = job.wave
    row["told"] = describe(run.verb, job.result) if job.state == states.DONE else job.error
    return row


def as_csv(report: Report) -> str:
    """A table with a line per board."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    # A cell that a spreadsheet would take for a formula is told as text.
    for row in report.rows:
        writer.writerow({name: _plain(value) for name, value in row.items()})
    return text.getvalue()


def _plain(value: Any) -> Any:
    return "'" + value if isinstance(value, str) and value[:1] in ("=", "+", "-", "@") else value


def document(report: Report) -> dict[str, Any]:
    """The report as values for JSON."""
    run = report.run
    return {
        "fleet": report.fleet, "run": run.id, "verb": run.verb, "state": run.state,
        "started": run.started, "finished": run.finished, "why": run.why, "counts": report.counts,
        "boards": report.rows,
    }  # fmt: skip


def as_json(report: Report) -> str:
    """One JSON document."""
    return json.dumps(document(report), indent=1) + "\n"


def as_html(report: Report) -> str:
    """One page; colours carry nothing that words do not."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
    )
    seconds = [row["seconds"] for row in report.rows if row["seconds"]]
    return environment.get_template("report.html.j2").render(
        report=report,
        run=report.run,
        rows=report.rows,
        counts=report.counts,
        total=len(report.rows),
        longest=max(seconds, default=1.0),
        sum_s=sum(seconds),
        started=_clock(report.run.started),
        took=_took(report.run),
        versions=Counter(row["software"] or "none" for row in report.rows).most_common(),
        firmwares=Counter(
            f"{row['board']} {row['firmware']}".strip() or "unknown" for row in report.rows
        ).most_common(),
        made=_clock(states.now()),
        sentill=__version__,
    )


def _firmware(row: dict[str, Any]) -> str:
    return f"{row['board']} {row['firmware']}".strip() or "unknown"


def _took(run: Run) -> str:
    if not run.finished:
        return "not finished"
    seconds = (dt.datetime.fromisoformat(run.finished) - dt.datetime.fromisoformat(run.started)).total_seconds()
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _clock(kept: str) -> str:
    """A kept time for people; it stays in UTC, since a fleet has many places."""
    return f"{dt.datetime.fromisoformat(kept):%Y-%m-%d %H:%M} UTC"
