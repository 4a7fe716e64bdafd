"""`sentill virtual`: boards that need no hardware."""

import signal
from pathlib import Path
from typing import Annotated, Any

import typer

from sentill_host.cli.output import err, out, print_json
from sentill_host.errors import UsageError
from sentill_host.virtual import api
from sentill_host.virtual.control import request

app = typer.Typer(no_args_is_help=True, help="Virtual boards: MicroPython behind pseudo-terminals, no hardware needed.")

Directory = Annotated[
    Path | None, typer.Option("--dir", help="State directory; without it one per user.", show_default=False)
]
Json = Annotated[bool, typer.Option("--json", help="JSON on stdout.")]


@app.command()
def up(
    n: Annotated[int, typer.Option("-n", "--number", help="How many boards.")] = 1,
    directory: Directory = None,
    board: Annotated[str, typer.Option(help="Board id.")] = "SIM",
    heap: Annotated[str, typer.Option(help="Size of the heap.")] = "288K",
    flash: Annotated[
        str | None, typer.Option(help=f"Size of the flash file system: {api.FLASH}, or that of --like.")
    ] = None,
    raw: Annotated[
        str | None,
        typer.Option(help=f"Size of the flash beside it, for keys and journal: {api.RAW}, or with --like 0 as it has."),
    ] = None,
    like: Annotated[
        str,
        typer.Option(
            metavar="BOARD",
            help="Imitate this board: as much flash, as slow, and deaf on its UART while it writes.",
            show_default=False,
        ),
    ] = "",
    speed: Annotated[float, typer.Option(help="With --like: flash and UART are so many times as fast.")] = 1.0,
    uart: Annotated[
        str, typer.Option(help="With --like: fifo loses what comes in while flash is busy, dma does not.")
    ] = "fifo",
    scenario: Annotated[
        Path | None, typer.Option(help="TOML file of what happens to the hardware, and when.", show_default=False)
    ] = None,
    usb: Annotated[
        str | None,
        typer.Option(
            help="uart_bridge: the port stays over resets; usb_cdc: it goes for half a second. As --like has it."
        ),
    ] = None,
    paced: Annotated[bool, typer.Option("--paced", help="Ports as slow as wires: 115200 baud.")] = False,
    foreground: Annotated[bool, typer.Option("--foreground", help="Stay, and end the boards on Ctrl-C.")] = False,
    json: Json = False,
) -> None:
    """Start boards in the background and show their ports. Flash images left in the directory are used again."""
    where = (directory or api.default_directory()).absolute()
    settings = api.settings(n, board, heap, flash, usb, paced, raw, like, speed, uart)
    text = api.read_scenario(scenario)
    process = api.launch(where, settings, text, detached=not foreground)
    try:
        info = api.await_ready(process)
    except BaseException:
        api.end(process)
        raise
    if foreground:
        try:
            _show(info, json)
            err.print("Ctrl-C ends the boards")
            process.wait()
        except KeyboardInterrupt:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        finally:
            api.end(process)
        return
    _show(info, json)
    if not json:
        err.print(f"`sentill virtual down{f' --dir {directory}' if directory else ''}` ends them")


@app.command()
def down(
    directory: Directory = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the flash images for the next `up`.")] = False,
    json: Json = False,
) -> None:
    """End the boards of a directory and remove their files."""
    where = (directory or api.default_directory()).absolute()
    stopped = api.stop(where, keep)
    if json:
        print_json({"stopped": stopped, "directory": str(where)})
    else:
        err.print("stopped" if stopped else f"no virtual boards run in {where}")


@app.command(name="list")
def show(directory: Directory = None, json: Json = False) -> None:
    """Show the boards of a directory: ports, state, why they last started."""
    where = (directory or api.default_directory()).absolute()
    if api.running(where) is None:
        if json:
            print_json({"directory": str(where), "boards": []})
        else:
            err.print(f"no virtual boards run in {where}; `sentill virtual up` starts one")
        return
    _show(request(where, "status"), json)


@app.command()
def control(
    board: Annotated[str, typer.Argument(metavar="BOARD", help="Board, such as sim0.")],
    op: Annotated[str, typer.Argument(metavar="OPERATION", help="What happens, such as set; see above.")],
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="ARGUMENT", help="NAME=NUMBER, NAME=TEXT or NAME, as the operation takes them.", show_default=False
        ),
    ] = None,
    directory: Directory = None,
) -> None:
    """Change a board's world while it runs: `sentill virtual control sim0 set adc.1=40000 pin.5=1`.

    - sensors, called adc.N, pin.N or i2c.BUS.ADDRESS.REGISTER: set NAME=NUMBER, get NAME, ramp NAME=NUMBER over_ms=N,
      noise NAME=NUMBER; several names at once
    - power: power_cycle, power_off, power_on, reset, cut_flash writes=N [torn=half] [reboot_ms=N]
    - lines: pull_cable [ms=N], plug_cable, garble [every=N] [count=N], flood text=T, uart_in text=T, hold_uart [ms=N],
      pace [on=false]
    - status
    """
    where = (directory or api.default_directory()).absolute()
    if api.running(where) is None:
        raise UsageError(f"no virtual boards run in {where}", "`sentill virtual up` starts one")
    plain: dict[str, Any] = {}
    values: dict[str, Any] = {}
    names: list[str] = []
    for argument in arguments or []:
        name, equals, text = argument.partition("=")
        if not equals:
            names.append(name)
        else:
            (values if "." in name else plain)[name] = _value(text)
    request_arguments = {**plain, **({"values": values} if values else {}), **({"names": names} if names else {})}
    print_json(request(where, op, board, **request_arguments))


def _value(text: str) -> int | float | bool | str:
    for kind in (lambda: int(text, 0), lambda: float(text)):
        try:
            return kind()
        except ValueError:
            continue
    return {"true": True, "false": False}.get(text.lower(), text)


def _show(info: dict[str, Any], json: bool) -> None:
    if json:
        print_json(info)
        return
    for board in info["boards"]:
        out.print(f"[bold]{board['name']}[/]  {board['state']}, last start: {board['last_event'] or 'power'}")
        for port in ("usb", "uart"):
            where = f"{board[port]} -> {board[f'{port}_device']}" if board[port] else "not there now"
            out.print(f"  {port:4}  {where}", markup=False)
    if not info["sandbox"]:
        err.print("[yellow]this kernel cannot confine the boards: run only code you trust on them[/]")
    for problem in info["problems"]:
        err.print(f"[yellow]{problem}[/]")
