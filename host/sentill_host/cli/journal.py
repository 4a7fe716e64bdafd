"""`sentill journal`: pull, verify, show and archive the audit trail of nodes."""

from collections import deque
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from sentill_host.board.link import Link
from sentill_host.cli import journal_whole as whole
from sentill_host.cli.journal_parts import (
    LAB_NOTE,
    Folder,
    Gaps,
    Json,
    Which,
    audits_of,
    lab_note,
    lost_note,
    moment,
    open_keys_of,
    roots_of,
    row_of,
    tell_finding,
)
from sentill_host.cli.keys import KeysOption, PasswordOption
from sentill_host.cli.output import err, fail_worst, out, print_json, print_table
from sentill_host.errors import SentillHostError, UsageError, VerifyError
from sentill_host.journal.decode import Entry, read, when
from sentill_host.journal.journal_file import KINDS
from sentill_host.journal.ledger import default_folder
from sentill_host.journal.store import Terminal, terminals, whole_records
from sentill_host.journal.verify import Fault, Finding
from sentill_host.journal.verify_terminal import verify_terminal
from sentill_host.keys.key_file import KeyFile
from sentill_host.node import journal_pull as puller
from sentill_host.node.client import NodeClient

app = typer.Typer(no_args_is_help=True, help="The audit trail of nodes: pull, verify, anchor, show, archive.")

AT_ONCE = 8


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
        open_keys_of([path for terminal in held for path in terminal.files()], keys, password_file) if verify else None
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
        audit = verify_terminal(terminal, roots_of([terminal.device], opened), gaps)
    except UsageError as error:
        return {"proven": None, "note": str(error)}
    given = opened.newest(terminal.uid) if opened else 0
    if audit.finding is None and audit.records and audit.records[-1].generation < given:
        last = audit.records[-1]
        detail = f"it is signed with keys of generation {last.generation}, and the device was given {given}"
        audit = replace(audit, finding=Finding(last.sequence, 0, Fault.FORGED, detail))
    row = row_of(audit)
    told = {key: row[key] for key in ("proven", "proof", "unrecorded", "finding")}
    return told | {"exit_code": 4 if audit.finding else 0}


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
        lost = f"{row['unkept']} record{'s' * (row['unkept'] > 1)} NOT KEPT by the node"
        err.print(
            f"[bold red]{lost}: nothing proves what it did then[/]; `sentill doctor {escape(row['port'])}` tells why"
        )
    if row.get("finding"):
        tell_finding(row["uid"], row["finding"])
    elif row.get("proven") is not None:
        proven = f"[green]proven[/]: all {row['proven']} records held"
        out.print(proven + lost_note(row["unrecorded"]) + lab_note(row["proof"]))
    elif "note" in row:
        err.print(f"[yellow]not verified: {escape(row['note'])}[/]")


app.command()(whole.verify)
app.command()(whole.anchor)
app.command()(whole.note)


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
    begin = moment(since) if since else None
    folder = directory or default_folder()
    if not which:
        held = terminals(folder)
        if len(held) != 1:
            names = ", ".join(terminal.uid for terminal in held) or "none"
            raise UsageError(f"name one journal; there are: {names}", "`sentill journal pull PORT` fetches one")
        which = held[0].uid
    (audit,) = audits_of([which], folder, True, (keys, password_file))
    chosen: deque[Entry] = deque(maxlen=last or None)
    for record in audit.records:
        if not kind or record.name in kind:
            entry = read(record)
            if begin is None or entry.at >= begin:
                chosen.append(entry)
    for entry in chosen:
        _print_entry(entry, json)
    if audit.finding:
        tell_finding(audit.name, row_of(audit)["finding"])
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
    from sentill_host.journal.parquet_archive import archive as write_archive  # pyarrow takes its time to load

    folder = directory or default_folder()
    target = to or folder / "archive"
    rows, codes = [], []
    for audit in audits_of(which or [], folder, True, (keys, password_file)):
        added = write_archive(target, audit.uid, audit.records)
        codes.append(4 if audit.finding else 0)
        rows.append(row_of(audit) | {"added": added, "archive": str(target)})
        if not json:
            out.print(f"{audit.uid}: {added} records added to {escape(str(target))}")
            if audit.finding:
                tell_finding(audit.name, rows[-1]["finding"])
    if json:
        print_json(rows)
    fail_worst(codes)


def _print_entry(entry: Entry, json: bool) -> None:
    record = entry.record
    if json:
        row = {"sequence": record.sequence, "time": entry.at.isoformat(), "kind": record.name, "text": entry.text}
        more = {"fields": entry.fields} if entry.fields else {}
        print_json(row | more | (asdict(entry.verdict) if entry.verdict else {}) | {"proof": entry.proof})
    else:
        out.print(f"{record.sequence:>8} {when(record):<19} {record.name:<10} {entry.text}", markup=False)
