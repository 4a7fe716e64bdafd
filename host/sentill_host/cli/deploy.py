"""`sentill deploy` and `sentill rollback`: bring boards to a version of the node."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from sentill_host import user_files
from sentill_host.cli.keys import KeysOption, PasswordOption, ProfileOption, keys_at_hand, require_profile
from sentill_host.cli.output import err, fail_worst, out, print_failure, print_json
from sentill_host.deploy import deploy as deployer
from sentill_host.errors import UsageError

Ports = Annotated[list[str], typer.Argument(metavar="PORT", help="Serial ports of the boards (USB).")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object per port on stdout.")]


def deploy(
    ports: Ports,
    board: Annotated[str, typer.Option(help="Board id, when the board cannot tell it itself.")] = "",
    config: Annotated[
        Path | None, typer.Option(help="Configuration to write; without it the board keeps its own.")
    ] = None,
    bundle: Annotated[
        list[Path] | None,
        typer.Option(help="Bundle file to deploy instead of this version; once per kind of board."),
    ] = None,
    model: Annotated[
        list[Path] | None,
        typer.Option(help="Model (.stm) or wear index (.stw), or a folder of them, beside the shipped or instead."),
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read every file back even where the node that runs is the one wanted.")
    ] = False,
    remove_foreign: Annotated[
        bool, typer.Option("--remove-foreign", help="Remove code on the board that is not the node's, such as boot.py.")
    ] = False,
    keys: KeysOption = None,
    password_file: PasswordOption = None,
    profile: ProfileOption = "service",
    json: Json = False,
) -> None:
    """Bring the node to boards: only what differs, every file verified there, the version before kept beside it.

    The new version goes to the slot that does not run and has three boots to prove itself; if it does not, the board
    returns to the old one by itself. A second run copies nothing. Several boards are served at once.

    With a key file at hand, boards without keys are given their first, locked boards are opened for the time of the
    deploy, and what they shall run is signed for each of them: a board with keys runs nothing else. A board with other
    code beside the node's gets no first keys until --remove-foreign has removed that.

    Exit code 0 when all succeeded, else that of the worst failure: 1 board error, 2 wrong request, 3 not reachable, 4
    verification.
    """
    require_profile(profile)
    if bundle and model:
        raise UsageError("a bundle has its models", "give them to `sentill bundle build --model`")
    text = None
    if config is not None:
        text = deployer.read_config(user_files.read_text(config), str(config))
    opened = keys_at_hand(keys, password_file)
    _carry_out(
        ports,
        json,
        lambda show: deployer.deploy(ports, board, text, show, bundle, model, verify, opened, profile, remove_foreign),
    )


def rollback(ports: Ports, keys: KeysOption = None, password_file: PasswordOption = None, json: Json = False) -> None:
    """Return boards to the version in their other slot, on trial as after a deploy. Nothing is copied."""
    opened = keys_at_hand(keys, password_file)
    _carry_out(ports, json, lambda show: deployer.roll_back(ports, show, opened))


def _carry_out(ports: list[str], json: bool, work: Callable[[deployer.Progress], list[deployer.Result]]) -> None:
    columns = (
        TextColumn("{task.fields[port]}", style="bold"),
        TextColumn("{task.description}", table_column=None),
        BarColumn(bar_width=24),
        TimeElapsedColumn(),
    )
    # Without a thread of its own: the workers are forked from this process.
    with Progress(*columns, console=err, transient=True, auto_refresh=False, disable=not err.is_terminal) as bars:
        tasks = {port: bars.add_task("waiting", port=port, total=None) for port in ports}

        def show(port: str, step: str, done: int, total: int) -> None:
            bars.update(tasks[port], description=step, completed=done, total=total or None, refresh=True)

        try:
            results = work(show)
        except KeyboardInterrupt:
            bars.stop()
            err.print(
                "each board runs its old version or the new one, whole; run this again, it goes on where it stopped"
            )
            raise
    for result in results:
        if json:
            print_json(dataclasses.asdict(result))
        else:
            _print(result)
    fail_worst([result.exit_code for result in results])


def _print(result: deployer.Result) -> None:
    if result.error:
        print_failure(result)
        return
    name = f"{result.port} {result.board} {result.uid}".strip()
    given = f"; has its first keys (generation {result.keys})" if result.keys_given else ""
    if result.unchanged:
        was_there = f"version {result.version} was there, nothing copied, node running{given}"
        removed = f"; removed {', '.join(result.removed)}" if result.removed else ""
        out.print(f"[green]unchanged[/] {name}: {was_there}{escape(removed)}")
        _warn(result)
        return
    was = f" (was {result.before})" if result.before and result.before != result.version else ""
    reused = f", {result.reused} there already" if result.reused else ""
    removed = f", {len(result.removed)} removed" if result.removed else ""
    resent = f", {result.resent} requests sent again" if result.resent else ""
    copied = (
        f"{len(result.copied)} files ({result.copied_bytes / 1024:.1f} KB) copied"
        if result.copied
        else "no file copied"
    )
    out.print(
        f"[green]deployed[/]  {name}: version {result.version}{was} in slot {result.slot}, {copied}{reused}{removed}"
        f"{resent}; verified after {result.verified_s:.1f} s, proven {result.restart_s:.1f} s after the restart{given}"
    )
    _warn(result)


def _warn(result: deployer.Result) -> None:
    if result.warning:
        out.print("[yellow]but[/]       ", end="")
        out.print(f"{result.warning}; `sentill doctor {result.port}` says what to do", markup=False)
