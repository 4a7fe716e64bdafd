"""`sentill journal`: pull, verify, show and archive the audit trail of nodes."""

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from sentill_host import pull as puller
from sentill_host.audit import Audit, verify_file, verify_terminal
from sentill_host.cli.keys import KeysOption, PasswordOption, keys_at_hand
from sentill_host.cli.output import err, fail_worst, out, print_json, print_table
from sentill_host.client import NodeClient
from sentill_host.entries import Entry, read, when
from sentill_host.errors import SentillHostError, UsageError, VerifyError
from sentill_host.journals import Terminal, read_file, terminals, whole_records
from sentill_host.keys import PASSWORD, KeyFile
from sentill_host.ledger import default_folder
from sentill_host.link import Link
from sentill_host.verify import KINDS, Fault, Finding, Root, generations, lab_root

app = typer.Typer(no_args_is_help=True, help="The audit trail of nodes: pull, verify, show, archive.")

AT_ONCE = 8
LAB_NOTE = "signed with the lab key: shows damage, proves nothing about who wrote it"

Folder = Annotated[
    Path | None, typer.Option("--dir", help="Where pulled journals are kept; else one per user.", show_default=False)
]
Json = Annotated[bool, typer.Option("--json", help="JSON on stdout.")]
Gaps = Annotated[bool, typer.Option("--gaps", help="Records that gave way before they were pulled are no fault.")]
Which = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="JOURNAL", help="Device ids or journal files; without any, all that was pulled.", show_default=False
    ),
]


@app.command()
def pull(
    port: Annotated[list[str], typer.Argument(metavar="PORT", help="Serial ports of boards (USB).")],
    device: Annotated[str, typer.Option(help="Device id the board must have.")] = "",
    directory: Folder = None,
    verify: Annotated[bool, typer.Option("--verify/--no-verify", help="Verify what is held afterwards.")] = True,
    gaps: Gaps = False,
    baudrate: Annotated[int, typer.Option(help="Speed, where the port is a UART.")] = 115_200,
    keys: KeysOption = None,
    password_file: PasswordOption = None,
    json: Json = False,
) -> None:
    """Fetch the records that were not pulled before, verify them, and note a checkpoint.

    Safe to interrupt: what came is kept, the next pull goes on behind it. Exit code 4 when the node's journal does not
    go on from what was pulled before (tail cut, past rewritten, another board); what is held stays as it is.
    """
    folder = directory or default_folder()
    device = device.lower()
    if device:
        Terminal(folder, device)
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn(), TimeRemainingColumn())
    with (
        Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bars,
        ThreadPoolExecutor(min(AT_ONCE, len(port))) as pool,
    ):

        def one(name: str) -> dict[str, Any]:
            task = bars.add_task(name, total=None)
            try:
                return _pull(
                    name, baudrate, device, folder, lambda done, of: bars.update(task, completed=done, total=of)
                )
            finally:
                bars.remove_task(task)

        rows = [done.result() for done in as_completed([pool.submit(_reported, one, name) for name in port])]
    held = [Terminal(folder, row["uid"]) for row in rows if "uid" in row]
    opened = (
        _open_keys([path for terminal in held for path in terminal.files()], keys, password_file) if verify else None
    )
    for row in rows:
        if verify and "uid" in row:
            row |= _verified(Terminal(folder, row["uid"]), gaps, opened)
        print_json(row) if json else _tell_pull(row)
    fail_worst([row["exit_code"] for row in rows])


def _reported(function: Any, name: str) -> dict[str, Any]:
    """The row of a port, its failure included: other ports go on."""
    try:
        return {"port": name, **function(name), "exit_code": 0}
    except SentillHostError as error:
        return {"port": name, **error.told()}


def _pull(name: str, baudrate: int, device: str, folder: Path, progress: puller.Progress) -> dict[str, Any]:
    with Link(name, baudrate) as link:
        client = NodeClient(link)
        uid = puller.identify(client)
        if device and uid != device:
            raise VerifyError(
                f"{name}: wrong device: the board there is {uid}, not {device}",
                "plug in the right board, or leave --device out",
            )
        terminal = Terminal(folder, uid)
        pulled = puller.pull(client, terminal, progress)
        unkept = int(client.command("status").get("miss", 0))
    return {**asdict(pulled), "count": pulled.count, "unkept": unkept, "folder": str(terminal.folder)}


def _verified(terminal: Terminal, gaps: bool, opened: KeyFile | None) -> dict[str, Any]:
    """What verifying adds to the row of a pull."""
    try:
        audit = verify_terminal(terminal, _roots([terminal.device], opened), gaps)
    except UsageError as error:
        return {"proven": None, "note": str(error)}
    given = opened.newest(terminal.uid) if opened else 0
    if audit.finding is None and audit.records and audit.records[-1].generation < given:
        last = audit.records[-1]
        detail = f"it is signed with keys of generation {last.generation}, and the device was given {given}"
        audit = replace(audit, finding=Finding(last.sequence, 0, Fault.FORGED, detail))
    row = _row(audit)
    return {key: row[key] for key in ("proven", "proof", "finding")} | {"exit_code": 4 if audit.finding else 0}


def _tell_pull(row: dict[str, Any]) -> None:
    if "error" in row:
        err.print(f"[bold red]error:[/] {escape(row['error'])}")
        if row["hint"]:
            err.print(f"[bold]try:[/] {escape(row['hint'])}")
        return
    new = f"{row['count']} new records, {row['start']} to {row['end'] - 1}" if row["count"] else "nothing new"
    out.print(f"{row['uid']}: {new}; in {escape(row['folder'])}")
    if row["gone"]:
        err.print(f"[yellow]{row['gone']} records gave way on the node before they were pulled: pull more often[/]")
    if row["unkept"]:
        lost = f"{row['unkept']} record{'s' * (row['unkept'] > 1)} NOT KEPT by the node since it started"
        err.print(
            f"[bold red]{lost}: nothing proves what it did then[/]; `sentill doctor {escape(row['port'])}` tells why"
        )
    if row.get("finding"):
        _tell_finding(row["uid"], row["finding"])
    elif row.get("proven") is not None:
        out.print(f"[green]proven[/]: all {row['proven']} records held" + _lab(row["proof"]))
    elif "note" in row:
        err.print(f"[yellow]not verified: {escape(row['note'])}[/]")


@app.command()
def verify(
    which: Which = None,
    directory: Folder = None,
    gaps: Gaps = False,
    keys: KeysOption = None,
    password_file: PasswordOption = None,
    json: Json = False,
) -> None:
    """Prove journals record by record, or name the first bad one and what is wrong with it.

    Faults: altered, missing, reordered, truncated, wrong device, forged after key theft. Cut tails are found against
    the checkpoints that each pull leaves beside the journal. Exit code 4 when a journal is bad.
    """
    audits = list(_audits(which or [], directory or default_folder(), gaps, (keys, password_file)))
    if json:
        print_json([_row(audit) for audit in audits])
    else:
        table = Table("journal", "records", "from", "to", "result", box=None)
        for audit in audits:
            times = [when(audit.records[i]) for i in (0, -1)] if audit.records else ["", ""]
            result = f"[bold red]{audit.finding.fault}[/]" if audit.finding else "[green]proven[/]"
            table.add_row(escape(audit.name), _span(audit), *times, result)
        print_table(table)
        for audit in audits:
            if audit.finding:
                _tell_finding(audit.name, _row(audit)["finding"])
            elif audit.proof == "lab":
                err.print(f"{audit.name}: {LAB_NOTE}", style="yellow")
    fail_worst([4 if audit.finding else 0 for audit in audits])


@app.command(name="list")
def show_list(directory: Folder = None, json: Json = False) -> None:
    """Show of which terminals journals were pulled, and when last."""
    folder = directory or default_folder()
    rows = []
    for terminal in terminals(folder):
        last, files, noted = terminal.last(), terminal.files(), terminal.checkpoints()
        count = sum(1 for path in files for _ in whole_records(path.read_bytes()))
        pulled = noted[-1]["at"] if noted else ""
        rows.append({"uid": terminal.uid, "records": count, "last": last.sequence if last else None, "pulled": pulled})
    if json:
        print_json(rows)
        return
    if not rows:
        err.print(f"no journals in {folder}; `sentill journal pull PORT` fetches one")
        return
    table = Table("device", "records", "last", "pulled", box=None)
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    print_table(table)


@app.command()
def show(
    which: Annotated[
        str,
        typer.Argument(metavar="JOURNAL", help="Device id or journal file; the only one pulled.", show_default=False),
    ] = "",
    directory: Folder = None,
    kind: Annotated[list[str] | None, typer.Option(help="Only records of these kinds.", show_default=False)] = None,
    since: Annotated[str, typer.Option(help="Only records from this date or time on (UTC), such as 2026-03-01.")] = "",
    last: Annotated[int, typer.Option(min=0, help="Only so many, the newest; 0 is all.")] = 0,
    keys: KeysOption = None,
    password_file: PasswordOption = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object per record on stdout.")] = False,
) -> None:
    """Print records, oldest first: those that are proven. What stands behind a bad one is not shown; exit code 4."""
    for name in kind or []:
        if name not in KINDS.values():
            raise UsageError(f"no kind of record is called {name!r}", "kinds: " + ", ".join(KINDS.values()))
    begin = _time(since) if since else None
    folder = directory or default_folder()
    if not which:
        held = terminals(folder)
        if len(held) != 1:
            names = ", ".join(terminal.uid for terminal in held) or "none"
            raise UsageError(f"name one journal; there are: {names}", "`sentill journal pull PORT` fetches one")
        which = held[0].uid
    (audit,) = _audits([which], folder, True, (keys, password_file))
    chosen: deque[Entry] = deque(maxlen=last or None)
    for record in audit.records:
        if not kind or record.name in kind:
            entry = read(record)
            if begin is None or entry.at >= begin:
                chosen.append(entry)
    for entry in chosen:
        _print_entry(entry, json)
    if audit.finding:
        _tell_finding(audit.name, _row(audit)["finding"])
    elif audit.proof == "lab":
        err.print(LAB_NOTE, style="yellow")
    fail_worst([4 if audit.finding else 0])


@app.command()
def archive(
    which: Which = None,
    to: Annotated[Path | None, typer.Option(help="Folder of the archive; `archive` beside the journals.")] = None,
    directory: Folder = None,
    keys: KeysOption = None,
    password_file: PasswordOption = None,
    json: Json = False,
) -> None:
    """Add proven records to a Parquet archive, partitioned by terminal and date, for DuckDB, Polars or Spark.

    Only what is new is written. Of a bad journal the proven part goes in; exit code 4 then. See docs/journal.md for
    queries.
    """
    from sentill_host.archive import archive as write_archive  # pyarrow takes its time to load

    folder = directory or default_folder()
    target = to or folder / "archive"
    rows, codes = [], []
    for audit in _audits(which or [], folder, True, (keys, password_file)):
        added = write_archive(target, audit.uid, audit.records)
        codes.append(4 if audit.finding else 0)
        rows.append(_row(audit) | {"added": added, "archive": str(target)})
        if not json:
            out.print(f"{audit.uid}: {added} records added to {escape(str(target))}")
            if audit.finding:
                _tell_finding(audit.name, rows[-1]["finding"])
    if json:
        print_json(rows)
    fail_worst(codes)


def _audits(which: list[str], folder: Path, gaps: bool, keys: tuple[Path | None, Path | None]) -> Iterator[Audit]:
    """Verify what `which` names; `keys` are key file and password file. Raises UsageError when it is not there."""
    held = {terminal.uid: terminal for terminal in terminals(folder)}
    if not which and not held:
        raise UsageError(f"no journals in {folder}", "`sentill journal pull PORT` fetches one; name files, or --dir")
    names = which or list(held)
    files: list[Path] = []
    for name in names:
        if name.lower() in held:
            files += held[name.lower()].files()
        elif Path(name).is_file():
            files.append(Path(name))
        else:
            raise UsageError(f"{name} is neither a journal file nor a device in {folder}", "`sentill journal list`")
    opened = _open_keys(files, *keys)
    devices = {terminal.device for terminal in held.values()} | {read_file(path)[0].device for path in files}
    roots = _roots(devices, opened)
    for name in names:
        if name.lower() in held:
            yield verify_terminal(held[name.lower()], roots, gaps)
        else:
            yield verify_file(Path(name), roots)


def _open_keys(files: list[Path], keys: Path | None, password_file: Path | None) -> KeyFile | None:
    """The key file, when a journal needs it or it is named; nobody is asked for a password without need."""
    wanted = keys or password_file or os.environ.get(PASSWORD)
    if wanted or any(generation for path in files for generation in generations(read_file(path)[1])):
        return keys_at_hand(keys, password_file)
    return None


def _roots(devices: Iterable[bytes], opened: KeyFile | None) -> dict[bytes, Root]:
    """Root keys of devices."""
    if opened is None:
        return dict.fromkeys(devices, lab_root)
    return {device: partial(opened.root, device.hex()) for device in devices}


def _row(audit: Audit) -> dict[str, Any]:
    records, finding = audit.records, audit.finding
    return {
        "journal": audit.name,
        "uid": audit.uid,
        "proven": len(records),
        "first": records[0].sequence if records else None,
        "last": records[-1].sequence if records else None,
        "proof": audit.proof,
        "finding": finding and asdict(finding) | {"fault": str(finding.fault), "file": str(audit.file)},
    }


def _span(audit: Audit) -> str:
    records = audit.records
    return f"{len(records)}: {records[0].sequence} to {records[-1].sequence}" if records else "0"


def _lab(proof: str) -> str:
    return f", [yellow]{LAB_NOTE}[/]" if proof == "lab" else ""


def _tell_finding(name: str, finding: dict[str, Any]) -> None:
    err.print(
        f"[bold red]{escape(name)}: record {finding['sequence']}: {finding['fault']}[/]: {escape(finding['detail'])} "
        f"(byte {finding['offset']} of {escape(finding['file'])})"
    )


def _print_entry(entry: Entry, json: bool) -> None:
    record = entry.record
    if json:
        row = {"sequence": record.sequence, "time": entry.at.isoformat(), "kind": record.name, "text": entry.text}
        more = {"fields": entry.fields} if entry.fields else {}
        print_json(row | more | (asdict(entry.verdict) if entry.verdict else {}) | {"proof": entry.proof})
    else:
        out.print(f"{record.sequence:>8} {when(record):<19} {record.name:<10} {entry.text}", markup=False)


def _time(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{text!r} is no date or time", "such as 2026-03-01 or 2026-03-01T12:00") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
