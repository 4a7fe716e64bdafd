"""Where the commands print: results to stdout, progress and errors to stderr, colours only on a terminal."""

import json
import sys
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from sentill_host.deploy.job_result import JobResult

# soft_wrap keeps long paths and ports whole when the output is piped.
out = Console(soft_wrap=True, highlight=False)
err = Console(stderr=True, soft_wrap=True, highlight=False)

_PIPED = 240


def table_width() -> int:
    """Columns a table may take: those of the terminal; piped, nothing is cut to the width of a screen."""
    return out.width if out.is_terminal else _PIPED


def print_table(table: Table) -> None:
    """Write a table to stdout: whole where there is no terminal, with words folded, not cut, on a narrow one."""
    if out.is_terminal:
        for column in table.columns:
            column.overflow = "fold"
        out.print(table)
    else:
        Console(width=_PIPED, highlight=False).print(table)


def print_json(value: Any) -> None:
    """Write one JSON document as one line to stdout, for machines."""
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def ask(question: str, **options: Any) -> Any:
    """Ask a person at the terminal; `options` are those of typer.prompt. Ctrl-C there ends the command as elsewhere."""
    try:
        return typer.prompt(question, err=True, **options)
    except typer.Abort:
        raise KeyboardInterrupt from None


def print_failure(result: JobResult) -> None:
    """Tell on stdout what a job failed with, and what to do about it."""
    out.print("[red]failed[/]  ", end="")
    out.print(result.error, markup=False)
    for hint in filter(None, result.hint.splitlines()):
        out.print(f"        try: {hint}", markup=False)


def fail_worst(exit_codes: list[int]) -> None:
    """End the command with the highest of the exit codes unless all are 0."""
    worst = max(exit_codes, default=0)
    if worst:
        raise typer.Exit(worst)
