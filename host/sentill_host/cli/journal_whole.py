"""`sentill journal verify`, `anchor`, `note`: whether journals are right, and whether all is there."""

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from sentill_host import user_files
from sentill_host.cli import journal_parts as parts
from sentill_host.cli.journal_parts import Folder, Gaps, Json, Which
from sentill_host.cli.keys import KeysOption, PasswordOption
from sentill_host.cli.output import err, fail_worst, out, print_json, print_table
from sentill_host.errors import UsageError, VerifyError
from sentill_host.fleet import plan
from sentill_host.journal import ledger
from sentill_host.journal.anchor import Anchor
from sentill_host.journal.completeness import Absence, Lack, lacking, unknown
from sentill_host.journal.coverage import Coverage, coverage
from sentill_host.journal.decode import when
from sentill_host.journal.ledger import Ledger, Reading, default_folder
from sentill_host.journal.ledger_history import Book, journal_id, terminal_of
from sentill_host.journal.store import Terminal, terminals
from sentill_host.journal.verify_terminal import Audit
from sentill_host.node import high_water_marks

FleetOption = Annotated[
    Path | None,
    typer.Option(
        "--fleet", help="fleet.toml or its folder: who must be there; else the one in the ledger, or here.",
        show_default=False,
    ),
]  # fmt: skip


def verify(
    which: Which = None,
    directory: Folder = None,
    gaps: Gaps = False,
    anchor: Annotated[
        list[str] | None,
        typer.Option(help="Code or file of `sentill journal anchor` to hold all against.", show_default=False),
    ] = None,
    as_of: Annotated[str, typer.Option(help="Tell what is covered until this date or time (UTC), and what not.")] = "",
    fleet: FleetOption = None,
    keys: KeysOption = None,
    password_file: PasswordOption = None,
    json: Json = False,
) -> None:
    """Prove journals record by record, and that none of what was pulled is gone.

    Faults of records: altered, missing, reordered, truncated, wrong device, forged after key theft. Without JOURNAL, or
    with device ids, files are held against ledger and roster: missing terminals, heads, tails, files and checkpoints
    are findings. An anchor tells when ledger, roster and files are gone together. Exit code 4 when anything is wrong;
    with --as-of also when a terminal is not covered until then.
    """
    day = _day(as_of) if as_of else None
    folder = directory or default_folder()
    anchors = [_anchor(text) for text in anchor or []]
    reading = Ledger(folder).read()
    members, gone = _roster(reading, fleet)
    book = Book(reading, members)
    named = frozenset(name.lower() for name in which or [] if not Path(name).is_file())
    all_there = not which and (reading.entries or reading.fault or anchors or members)
    held = terminals(folder)
    aside = [] if which else _aside(folder, book)
    audits = []
    if which or held or aside or not all_there:
        audits = list(parts.audits_of(which or [], folder, gaps, (keys, password_file), aside))
    found = [] if which else gone
    if not which or named or anchors:
        found = [*found, *lacking(folder, book, anchors, named)]
    notes = _notes(folder, book, held) if not which or named else []
    covered = coverage(folder, book, {audit.name: audit for audit in audits}, day) if day else []
    if json:
        head = {"path": str(Ledger(folder).path), "entries": reading.head.count, "chain": reading.head.chain}
        told = {"journals": [parts.row_of(audit) for audit in audits], "findings": [_told(one) for one in found]}
        rows = {"as_of": day.isoformat(), "coverage": [asdict(row) for row in covered]} if day else {}
        print_json({**told, "notes": notes, "ledger": head, **rows})
    else:
        _tell(audits, found, notes, book)
        if day:
            _tell_coverage(covered, day)
    bad = found or any(audit.finding for audit in audits) or not all(row.covered for row in covered)
    fail_worst([4 if bad else 0])


def _aside(folder: Path, book: Book) -> list[Terminal]:
    """Earlier lives of terminals of which something was pulled."""
    ended = ((history, life) for history in book.histories.values() for life in history.lives if life.ended)
    found = (terminal_of(folder, history, life) for history, life in ended if life.pulls)
    return [terminal for terminal in found if terminal.files() and terminal.folder.name != terminal.uid]


def _roster(reading: Reading, fleet: Path | None) -> tuple[dict[str, str] | None, list[Absence]]:
    """Unique ids and labels of who must be there, None when nobody says; and that the roster itself is gone."""
    entered = Book(reading).fleet
    path = fleet or (Path(entered) if entered else Path(plan.FILE))
    path = path / plan.FILE if path.is_dir() else path
    if not fleet and not path.exists():
        detail = f"{path}, which the ledger names, is not there; --fleet names another"
        return None, [Absence("", Lack.ROSTER, detail)] if entered else []
    return _members(path), []


def _members(path: Path) -> dict[str, str]:
    return {member.uid: member.label for member in plan.load(path).members}


def _notes(folder: Path, book: Book, held: list[Terminal]) -> list[str]:
    reading, notes = book.reading, []
    path = Ledger(folder).path
    if held and not reading.entries and not reading.fault:
        notes.append(f"no ledger {path}: nothing tells whether all is there")
    elif strangers := unknown(folder, book, held):
        notes.append("not in the ledger, so that nothing tells whether all is there: " + ", ".join(strangers))
    if reading.torn:
        notes.append(
            f"{path}: {reading.torn} bytes of a half-written entry at its end: this computer stopped while writing it; "
            "the next entry takes its place"
        )
    if healed := sum(entry.what == ledger.HEALED for entry in reading.entries):
        notes.append(f"{path}: in {healed} places an entry took the place of a half-written one")
    return notes


def _told(one: Absence) -> dict[str, str]:
    return {"uid": one.uid, "fault": str(one.lack), "detail": one.detail}


def _tell(audits: list[Audit], found: list[Absence], notes: list[str], book: Book) -> None:
    lacks = {one.uid: one.lack for one in reversed(found) if one.uid}
    table = Table("journal", "records", "from", "to", "result", box=None)
    for audit in audits:
        times = [when(audit.records[i]) for i in (0, -1)] if audit.records else ["", ""]
        fault = audit.finding.fault if audit.finding else lacks.get(audit.uid, "")
        result = f"[bold red]{fault}[/]" if fault else "[green]proven[/]" + parts.lost_note(audit.unrecorded)
        table.add_row(escape(audit.name), parts.span_of(audit), *times, result)
    if audits:
        print_table(table)
    for audit in audits:
        if audit.finding:
            parts.tell_finding(audit.name, parts.row_of(audit)["finding"])
    for one in found:
        label = book.histories[one.uid].label if one.uid in book.histories else ""
        who = f"{one.uid}{f' ({label})' if label else ''}: " if one.uid else ""
        err.print(f"[bold red]{escape(who)}{one.lack}[/]: {escape(one.detail)}")
    for note in notes:
        err.print(note, style="yellow", markup=False)
    for audit in audits:
        if audit.proof == "lab" and not audit.finding:
            err.print(f"{audit.name}: {parts.LAB_NOTE}", style="yellow")


def _tell_coverage(rows: list[Coverage], day: datetime) -> None:
    out.print(f"\nas of {day.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC", highlight=False)
    table = Table("terminal", "from", "covered until", "", box=None)
    for row in rows:
        name = f"{row.uid}-{row.life}" if row.life else row.uid
        result = "[green]yes[/]" if row.covered else "[bold red]no[/]"
        table.add_row(name, row.begin, row.until or "[bold red]nothing[/]", result)
    if rows:
        print_table(table)
    else:
        out.print("no terminal was known by then")
    for row in rows:
        name = f"{row.uid}{f' ({row.label})' if row.label else ''}"
        if row.first:
            out.print(f"{name}: not covered: records before {row.first}", markup=False)
        for hole in row.holes:
            out.print(f"{name}: not covered: {hole}", markup=False)
        if not row.covered:
            last = f"after its last whole pull, {row.last_pull}" if row.last_pull else "it was never pulled whole"
            out.print(f"{name}: not covered: {last}", markup=False)


def anchor(
    out_file: Annotated[
        Path | None, typer.Option("--out", "-o", help="Also write a page to print or mail.", show_default=False)
    ] = None,
    directory: Folder = None,
    fleet: FleetOption = None,
    json: Json = False,
) -> None:
    """Print a short code of all that the ledger holds now; keep it away from this computer.

    `sentill journal verify --anchor CODE` finds whether anything before it was changed, cut, put back or removed,
    ledger and roster included. The page names the terminals as well. Make one after each round of pulls.
    """
    folder = directory or default_folder()
    book = Ledger(folder)
    reading = book.read()
    if reading.fault:
        raise VerifyError(f"{book.path}: {reading.fault}", "`sentill journal verify` tells more; nothing was anchored")
    members, gone = _roster(reading, fleet)
    for one in gone:
        err.print(one.detail, style="yellow", markup=False)
    if members is not None:
        path = fleet or Path(Book(reading).fleet or plan.FILE)
        path = path / plan.FILE if path.is_dir() else path
        if news := Book(reading).news(path.absolute(), members):
            book.append(ledger.ROSTER, **news)
    elif not reading.entries:
        raise UsageError(f"nothing to anchor: no ledger {book.path}", "`sentill journal pull PORT` begins one")
    book.append(ledger.ANCHOR)
    reading = book.read()
    made = Anchor.of(reading.head, Book(reading).held())
    last = reading.entries[-1]
    if out_file is not None:
        title = f"Sentill anchor, {last.at}, by {last.who}\n{made.count} entries of {book.path}"
        user_files.save(out_file, made.text(title))
    if json:
        print_json({"code": made.code, "entries": made.count, "ledger": str(book.path), "at": last.at})
        return
    out.print(made.code)
    err.print(f"{made.count} entries, {len(made.terminals)} terminals; keep it away from this computer", markup=False)


def note(
    uid: Annotated[str, typer.Argument(metavar="UID", help="Unique id of the terminal.")],
    why: Annotated[str, typer.Option(help="Why, for who reads the ledger.")],
    anew: Annotated[bool, typer.Option("--anew", help="Its flash was erased on purpose.")] = False,
    retired: Annotated[bool, typer.Option("--retired", help="It was taken out of service.")] = False,
    directory: Folder = None,
) -> None:
    """Enter in the ledger what no board tells: that its flash was erased on purpose, or that it is no longer there.

    After --anew its journal may begin anew; what was pulled is put aside and stays under proof. A retired terminal is
    no longer expected in the roster; what was pulled of it is.
    """
    if anew == retired:
        raise UsageError("say what happened: either --anew or --retired")
    if not why.strip():
        raise UsageError("say why: --why TEXT")
    name, folder = journal_id(uid), directory or default_folder()
    memory = high_water_marks.Memory(folder)
    known = Terminal(folder, name).folder.exists() or any(memory.ledger.mentions(name)) or memory.of(name).at
    own = high_water_marks.Memory()
    if anew:
        if not known and not own.of(name).at:
            raise UsageError(f"nothing is known of {name} in {folder}", "`sentill journal list`")
        high_water_marks.begin_anew(name, why, memory)
        own.forget(name)
        out.print(f"{name}: may begin anew; what was pulled before is kept beside")
    else:
        memory.ledger.append(ledger.RETIRED, uid=name, why=why)
        out.print(f"{name}: retired")


def _day(text: str) -> datetime:
    day = parts.moment(text)
    if day > datetime.now(UTC):
        raise UsageError(f"{text} is still to come", "a date or time in the past")
    return day.astimezone(UTC)


def _anchor(text: str) -> Anchor:
    """The anchor of a code or a file."""
    path = Path(text)
    return Anchor.parse(user_files.read_text(path)) if path.is_file() else Anchor.read(text)
