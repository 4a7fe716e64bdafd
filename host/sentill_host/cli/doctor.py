"""`sentill doctor`: what is wrong, and what to do about it."""

import dataclasses
import sys
from typing import Annotated

import typer
from rich.markup import escape

from sentill_host import doctor as examination
from sentill_host.cli.keys import KeysOption, PasswordOption, keys_at_hand
from sentill_host.cli.output import err, out, print_json
from sentill_host.doctor import FAIL, LEVELS, NOTE, OK, WARN, Computer

_MARKS = {OK: "[green]ok[/]  ", NOTE: "[cyan]note[/]", WARN: "[yellow]warn[/]", FAIL: "[red]fail[/]"}


def doctor(
    port: Annotated[
        list[str] | None, typer.Argument(metavar="PORT", help="Ports to examine; all USB ports without.")
    ] = None,
    deep: Annotated[
        bool, typer.Option("--deep", help="Stop a running node for a moment to look at its flash as well.")
    ] = False,
    keys: KeysOption = None,
    password_file: PasswordOption = None,
    udev: Annotated[bool, typer.Option("--udev", help="Print udev rules for all known boards, nothing else.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object per finding on stdout.")] = False,
) -> None:
    """Find out why a board cannot be reached or does not work: cables, hubs, permissions, other programs, firmware.

    A running node is asked undisturbed; where the board is locked, --deep takes the key file. Any other program is
    interrupted for the questions and started again.
    Exit code 0 when nothing is in the way, 1 when something is.
    """
    if udev:
        sys.stdout.write(examination.udev_rules())
        return
    opened = keys_at_hand(keys, password_file) if deep else None
    computer = Computer()
    findings = examination.examine_computer(computer)
    if port:
        # The named ports are what matters, even where no USB port is seen.
        findings = [finding for finding in findings if finding.level != FAIL]
    names = port or [info.device for info in computer.listing]
    for name in names:
        with err.status(f"{name}: looking") if err.is_terminal else _Silent() as status:
            say = lambda step: status.update(f"{name}: {step}")  # noqa: B023, E731
            findings += examination.examine_port(name, deep, say, opened)
    for finding in findings:
        if json:
            print_json(dataclasses.asdict(finding))
            continue
        out.print(f"{_MARKS[finding.level]} {escape(finding.about)}: {escape(finding.text)}")
        if finding.fix:
            out.print(f"     try: {finding.fix}", markup=False)
    worst = max((LEVELS.index(finding.level) for finding in findings), default=0)
    if LEVELS[worst] == FAIL:
        raise typer.Exit(1)


class _Silent:
    """Stands in for a spinner where there is no terminal."""

    def __enter__(self) -> "_Silent":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def update(self, text: str) -> None:
        """Say nothing."""
