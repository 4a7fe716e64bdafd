"""`sentill deploy`: bring boards to this version of the node."""

import dataclasses
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from sentill_host import deploy as deployer
from sentill_host.cli.output import err, fail_worst, out, print_json
from sentill_host.errors import UsageError


def deploy(
    ports: Annotated[list[str], typer.Argument(metavar="PORT...", help="Serial ports of the boards (USB).")],
    board: Annotated[str, typer.Option(help="Board id, when the board cannot tell it itself.")] = "",
    config: Annotated[
        Path | None, typer.Option(help="Configuration to write; without it the board keeps its own.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object per port on stdout.")] = False,
) -> None:
    """Copy the node to boards, verify every file there and see the node come up.

    Only what differs is copied; a second run copies nothing. Several boards are served at once. Exit code 0 when all
    succeeded, else that of the worst failure: 1 board error, 2 wrong request, 3 not reachable, 4 verification failed.
    """
    text = None
    if config is not None:
        try:
            text = deployer.read_config(config.read_text(encoding="utf-8"), str(config))
        except OSError as error:
            raise UsageError(f"{config}: {error.strerror}") from None
    columns = (
        TextColumn("{task.fields[port]}", style="bold"),
        TextColumn("{task.description}", table_column=None),
        BarColumn(bar_width=24),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bars:
        tasks = {port: bars.add_task("waiting", port=port, total=None) for port in ports}

        def show(port: str, step: str, done: int, total: int) -> None:
            bars.update(tasks[port], description=step, completed=done, total=total or None)

        results = deployer.deploy(ports, board, text, show)
    for result in results:
        if json:
            print_json({**dataclasses.asdict(result), "unchanged": result.unchanged})
        else:
            _print(result)
    fail_worst([result.exit_code for result in results])


def _print(result: deployer.Result) -> None:
    if result.error:
        out.print("[red]failed[/]  ", end="")
        out.print(result.error, markup=False)
        if result.hint:
            out.print(f"        try: {result.hint}", markup=False)
        return
    name = f"{result.port} {result.board} {result.uid}".strip()
    if result.unchanged:
        out.print(f"[green]unchanged[/] {name}: version {result.version} was there, nothing copied, node running")
        return
    was = f" (was {result.before})" if result.before and result.before != result.version else ""
    removed = f", {len(result.removed)} removed" if result.removed else ""
    resent = f", {result.resent} sent again" if result.resent else ""
    out.print(
        f"[green]deployed[/]  {name}: version {result.version}{was}, {len(result.copied)} files "
        f"({result.copied_bytes / 1024:.1f} KB) copied and verified{removed}{resent}, node running, "
        f"{result.seconds:.1f} s"
    )
