"""`sentill flash`: put MicroPython on a board."""

import dataclasses
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from sentill_host.board.catalogue import Board
from sentill_host.cli.keys import KeysOption, PasswordOption, ProfileOption, keys_at_hand, require_profile
from sentill_host.cli.output import ask, err, fail_worst, out, print_failure, print_json
from sentill_host.deploy import deploy as deployer
from sentill_host.errors import UsageError
from sentill_host.flash import procedure
from sentill_host.flash.backend import PATIENCE_S, Voice
from sentill_host.flash.procedure import Options, Result


def flash(
    port: Annotated[
        str,
        typer.Argument(
            metavar="PORT", help="Serial port; leave it out for an RP2 board in its boot loader.", show_default=False
        ),
    ] = "",
    board: Annotated[str, typer.Option(help="Board id, when the chip alone does not tell.")] = "",
    version: Annotated[str, typer.Option(help="MicroPython version to download, such as 1.26.1; the newest.")] = "",
    variant: Annotated[
        str, typer.Option(help="Build of the board's firmware, such as SPIRAM; PLAIN; without it that which runs.")
    ] = "",
    file: Annotated[
        Path | None, typer.Option(help="Firmware file of yours instead of a download.", show_default=False)
    ] = None,
    sha256: Annotated[str, typer.Option(help="SHA-256 the firmware must have.")] = "",
    ulab: Annotated[bool, typer.Option("--ulab", help="A build with ulab (spectra on the board).")] = False,
    site: Annotated[str, typer.Option(help="Base URL of a mirror of the download site.")] = "",
    drive: Annotated[
        Path | None, typer.Option(help="Boot drive of an RP2 board, when there are several.", show_default=False)
    ] = None,
    erase: Annotated[bool, typer.Option("--erase", help="Erase the whole flash first, files included.")] = False,
    tool: Annotated[str, typer.Option(help="For RP2 boards: drive or picotool; picotool where present.")] = "",
    patience: Annotated[float, typer.Option(min=0, help="Seconds you have to press keys on the board.")] = PATIENCE_S,
    deploy: Annotated[bool, typer.Option("--deploy", help="Deploy the node right after.")] = False,
    keys: KeysOption = None,
    password_file: PasswordOption = None,
    profile: ProfileOption = "service",
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Install MicroPython on a blank or old board, and see it answer.

    ESP32 boards are written by esptool, RP2040 and RP2350 by a copy to their boot drive or by picotool. The board is
    recognised by its chip and what runs on it; when that leaves a choice you are asked once, and the answer is kept.
    Downloads are kept, and must have the same SHA-256 ever after. A locked board is opened with the key file, which
    --deploy uses as `sentill deploy` does.
    """
    require_profile(profile)
    if not port and drive is None and not board:
        err.print("no port given: looking for an RP2 board in its boot loader")
    if tool not in ("", "drive", "picotool"):
        raise UsageError(f"no tool {tool!r}", "drive or picotool")
    opened = keys_at_hand(keys, password_file)
    options = Options(
        board, version, variant.upper(), file, sha256, ulab, site, drive, erase, tool, patience, keys=opened
    )
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bars:
        task = bars.add_task("starting", total=None)

        def choose(boards: list[Board], why: str) -> Board | None:
            if not err.is_terminal or json:
                return None
            bars.stop()
            chosen = _choose(boards, why)
            bars.start()
            return chosen

        voice = Voice(
            say=lambda step, done, total: bars.update(task, description=step, completed=done, total=total or None),
            instruct=lambda text: err.print(f"[bold yellow]now:[/] {text}"),
            choose=choose,
        )
        result = procedure.flash(port, options, voice)
    codes = [result.exit_code]
    if not json:
        _print(result)
    deployed = None
    if deploy and not result.error:
        deployed = deployer.deploy([result.port], result.board, keys=opened, profile=profile)[0]
        codes.append(deployed.exit_code)
        if not json and deployed.error:
            print_failure(deployed)
        elif not json:
            out.print(f"[green]deployed[/]  {deployed.port}: version {deployed.version}, node running")
    if json:
        extra = {"deploy": dataclasses.asdict(deployed)} if deployed is not None else {}
        print_json({**dataclasses.asdict(result), **extra})
    fail_worst(codes)


def _choose(boards: list[Board], why: str) -> Board | None:
    err.print(f"which board is it? {why}")
    for number, board in enumerate(boards, 1):
        err.print(f"  {number}  {board.name} ({board.id})", markup=False)
    number = ask("number (asked once; remembered by the chip's unique id)", type=int)
    if not 1 <= number <= len(boards):
        return None
    return boards[number - 1]


def _print(result: Result) -> None:
    if result.error:
        print_failure(result)
        return
    was = f" (was {result.before})" if result.before and result.before != result.version else ""
    ulab = f" with ulab {result.ulab}" if result.ulab else ""
    name = f"{result.port} {result.board} {result.uid}".strip()
    out.print(f"[green]flashed[/]   {name}: MicroPython {result.version}{ulab}{was}, {result.seconds:.1f} s")
    known = "as expected" if result.pinned else "not known before; pin it with --sha256"
    out.print(f"          {result.file} by {result.tool}, SHA-256 {result.sha256} ({known})", markup=False)
