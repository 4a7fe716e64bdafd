"""`sentill monitor`: watch a node live."""

import dataclasses
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text as Words

from sentill_host.cli.output import err, out, print_json
from sentill_host.client import NodeClient
from sentill_host.errors import PortGone
from sentill_host.link import Link
from sentill_host.monitor import NodeView, as_json, details
from sentill_host.telemetry import Frame, LinkHealth, Text

STATE_STYLES = {"ok": "green", "watch": "cyan", "warn": "yellow", "fail": "bold red"}
_REOPEN_S = 30.0


def monitor(
    port: Annotated[str, typer.Argument(help="Serial port of the board (USB or UART).")],
    seconds: Annotated[float, typer.Option(help="Stop after so long; 0 is never.")] = 0.0,
    baudrate: Annotated[int, typer.Option(help="Speed, where the port is a UART.")] = 115_200,
    json: Annotated[bool, typer.Option("--json", help="One JSON object per frame on stdout.")] = False,
) -> None:
    """Show what a node reports, live; the node keeps running. Keys: i identify, c clear, q quit.

    Text that is no frame is shown as console log; checksum errors and missing frames count as link health. Survives
    resets of the board. Not on a terminal, it prints one line per frame.
    """
    end = time.monotonic() + seconds if seconds else float("inf")
    view = NodeView()
    with Link(port, baudrate) as link:
        client = NodeClient(link)
        if json or not out.is_terminal:
            for item in _items(client, end, lambda: None):
                if item is not None:
                    print_json(as_json(item)) if json else _print_line(item)
            if json:
                print_json({"kind": "link", **dataclasses.asdict(client.decoder.health)})
            return
        with _keys() as key, Live(console=out, screen=True, auto_refresh=False) as live:
            drawn = 0.0

            def pressed() -> None:
                letter = key()
                if letter == "q":
                    raise _Quit
                if letter == "i":
                    client.send("C", [("cmd", "identify")])
                if letter == "c":
                    view.events.clear()
                    view.console.clear()

            try:
                for item in _items(client, end, pressed):
                    if item is not None:
                        view.take(item)
                    if time.monotonic() - drawn > 0.2:
                        drawn = time.monotonic()
                        live.update(_screen(port, view, client.decoder.health, out.size.height), refresh=True)
            except _Quit:
                return


class _Quit(Exception):
    """The q key."""


def _items(client: NodeClient, end: float, tick: Callable[[], None]) -> Iterator[Frame | Text | None]:
    """Everything that arrives until `end`; None at least every 100 ms. Waits for a port that went away to come back."""
    ask = True
    while (left := end - time.monotonic()) > 0:
        tick()
        try:
            if ask:
                # Whoever attaches late has missed the identity frame of the boot.
                client.send("C", [("cmd", "identify")])
                ask = False
            yield client.receive(min(left, 0.1))
        except PortGone:
            err.print("the port went away, waiting for it to come back", style="yellow")
            client.reopen(min(_REOPEN_S, left))
            ask = True


def _print_line(item: Frame | Text) -> None:
    if isinstance(item, Text):
        out.print(item.line, markup=False)
    else:
        out.print(f"{item.fields.get('t', '-'):>10} {item.kind} {details(item.fields)}", markup=False)


def _screen(port: str, view: NodeView, health: LinkHealth, height: int) -> Group:
    identity = details(view.identity) or "no identity frame yet"
    worst = view.worst()
    head = Words.assemble((f"{port}  ", "bold"), identity, "  ", (worst, STATE_STYLES.get(worst, "")))
    parts: list[Panel | Table | Words] = [head]
    if view.summary:
        parts.append(Words(details(view.summary)))
    if view.verdicts:
        parts.append(Words("verdicts " + ", ".join(f"{name} {count}" for name, count in view.verdicts.items())))
    parts.append(channel_table(view))
    room = max((height - len(view.channels) - 10) // 2, 2)
    events = [f"{e.get('t', '')} {e.get('ev', '?')} {details(e, ('ev',))}" for e in list(view.events)[-room:]]
    parts.append(Panel("\n".join(events) or "none yet", title="events", title_align="left"))
    parts.append(Panel(Words("\n".join(list(view.console)[-room:])), title="console", title_align="left"))
    parts.append(
        Words(
            f"link: {health.frames} frames, {health.crc_errors} checksum errors, {health.malformed} malformed, "
            f"{health.missed} missing, {health.restarts} restarts, {health.bytes} bytes    q quit, i identify, c clear",
            style="dim",
        )
    )
    return Group(*parts)


def channel_table(view: NodeView) -> Table:
    """The node's attribute table, a row per health channel."""
    table = Table("channel", "state", "health", "worst", "reading", "trend", "time left", "cause", "advice", box=None)
    for name, row in sorted(view.channels.items()):
        state = str(row.get("st", ""))
        left = f"{row['left_h']} h" if "left_h" in row else ""
        learning = f"learning, {row['lrn']} steps left" if "lrn" in row else ""
        table.add_row(
            name,
            Words(state, style=STATE_STYLES.get(state, "")),
            str(row.get("v", "")),
            str(row.get("w", "")),
            f"{row.get('raw', '')} {row.get('u', '')}",
            {1: "rising", -1: "falling"}.get(row.get("tr", 0), ""),
            left,
            str(row.get("why", "")),
            str(row.get("adv", learning)),
        )
    return table


@contextmanager
def _keys() -> Iterator[Callable[[], str]]:
    """Single key presses while the block runs; "" when none. Only where the terminal can do it."""
    if os.name != "posix" or not sys.stdin.isatty():
        yield lambda: ""
        return
    import select
    import termios
    import tty

    before = termios.tcgetattr(sys.stdin)
    tty.setcbreak(sys.stdin)
    try:
        yield lambda: os.read(sys.stdin.fileno(), 1).decode("ascii", "replace") if _ready(select.select) else ""
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _ready(select: Callable[..., tuple[list[object], list[object], list[object]]]) -> bool:
    return bool(select([sys.stdin], [], [], 0)[0])
