"""What the commands of `sentill journal` share: options, opening keys, verifying what was named, and telling of it."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from sentill_host.cli.keys import keys_at_hand
from sentill_host.cli.output import err
from sentill_host.errors import UsageError
from sentill_host.journal.journal_file import generations
from sentill_host.journal.store import Terminal, read_file, terminals
from sentill_host.journal.verify import Root, lab_root
from sentill_host.journal.verify_terminal import Audit, verify_file, verify_terminal
from sentill_host.keys.key_file import PASSWORD, KeyFile

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


def audits_of(
    which: list[str],
    folder: Path,
    gaps: bool,
    keys: tuple[Path | None, Path | None],
    aside: Sequence[Terminal] = (),
) -> Iterator[Audit]:
    """Verify what `which` names, else all that is held, and what is put `aside`; `keys` are key and password file.

    Raises UsageError when it is not there.
    """
    held = {terminal.uid: terminal for terminal in terminals(folder)}
    if not which:  # of an emptied folder the ledger tells
        held = {uid: terminal for uid, terminal in held.items() if terminal.files() or terminal.checkpoints()}
    if not which and not held and not aside:
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
    files += [path for terminal in aside for path in terminal.files()]
    opened = open_keys_of(files, *keys)
    devices = {terminal.device for terminal in held.values()} | {read_file(path)[0].device for path in files}
    roots = roots_of(devices, opened)
    for name in names:
        if name.lower() in held:
            yield verify_terminal(held[name.lower()], roots, gaps)
        else:
            yield verify_file(Path(name), roots)
    for terminal in aside:
        yield replace(verify_terminal(terminal, roots, gaps), name=terminal.folder.name)


def open_keys_of(files: list[Path], keys: Path | None, password_file: Path | None) -> KeyFile | None:
    """The key file, when a journal needs it or it is named; nobody is asked for a password without need."""
    wanted = keys or password_file or os.environ.get(PASSWORD)
    if wanted or any(generation for path in files for generation in generations(read_file(path)[1])):
        return keys_at_hand(keys, password_file)
    return None


def roots_of(devices: Iterable[bytes], opened: KeyFile | None) -> dict[bytes, Root]:
    """Root keys of devices."""
    if opened is None:
        return dict.fromkeys(devices, lab_root)
    return {device: partial(opened.root, device.hex()) for device in devices}


def row_of(audit: Audit) -> dict[str, Any]:
    """What verifying brought, for machines."""
    records, finding = audit.records, audit.finding
    return {
        "journal": audit.name,
        "uid": audit.uid,
        "proven": len(records),
        "first": records[0].sequence if records else None,
        "last": records[-1].sequence if records else None,
        "proof": audit.proof,
        "unrecorded": audit.unrecorded,
        "finding": finding and asdict(finding) | {"fault": str(finding.fault), "file": str(audit.file)},
    }


def span_of(audit: Audit) -> str:
    """How many records are proven, and which, for people."""
    records = audit.records
    return f"{len(records)}: {records[0].sequence} to {records[-1].sequence}" if records else "0"


def lost_note(unrecorded: int) -> str:
    """What to add where a node could not record all it did."""
    return f", [bold red]{unrecorded} more NEVER RECORDED[/]" if unrecorded else ""


def lab_note(proof: str) -> str:
    """What to add where records are signed with the lab key."""
    return f", [yellow]{LAB_NOTE}[/]" if proof == "lab" else ""


def tell_finding(name: str, finding: dict[str, Any]) -> None:
    """Print a finding as `row_of` has it."""
    err.print(
        f"[bold red]{escape(name)}: record {finding['sequence']}: {finding['fault']}[/]: {escape(finding['detail'])} "
        f"(byte {finding['offset']} of {escape(finding['file'])})"
    )


def moment(text: str) -> datetime:
    """A date or time as typed, UTC where it names no zone. Raises UsageError."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{text!r} is no date or time", "such as 2026-03-01 or 2026-03-01T12:00") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
