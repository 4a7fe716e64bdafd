"""Where the commands print: results to stdout, progress and errors to stderr, colours only on a terminal."""

import json
import sys
from typing import Any

import typer
from rich.console import Console

# soft_wrap keeps long paths and ports whole when the output is piped.
out = Console(soft_wrap=True, highlight=False)
err = Console(stderr=True, soft_wrap=True, highlight=False)


def print_json(value: Any) -> None:
    """Write one JSON document as one line to stdout, for machines."""
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def fail_worst(exit_codes: list[int]) -> None:
    """End the command with the highest of the exit codes unless all are 0."""
    worst = max(exit_codes, default=0)
    if worst:
        raise typer.Exit(worst)
