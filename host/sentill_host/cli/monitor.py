"""`sentill monitor`: watch a node live."""

import dataclasses
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.rule import Rule
from rich.text import Text as Words

from sentill_host.board.link import Link
from sentill_host.cli.health import STATE_STYLES, notes, table
from sentill_host.cli.output import err, out, print_json
from sentill_host.errors import PortGone
from sentill_host.node.client import NO_NODE, START_IT, NodeClient
from sentill_host.node.frames import Decoder, Frame, Text
from sentill_host.node.health_table import STATES, troubles
from sentill_host.node.view import NodeView, as_json, clock, event, identity, summary, words

_REOPEN_S = 30.0


def monitor(
    port: Annotated[str, typer.Argument(metavar="PORT", help="Serial port of the board (USB or UART).")],
    seconds: Annotated[float, typer.Option(min=0, help="Stop after so long; 0 is never.")] = 0.0,
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
            told = False
            for item in _items(client, end, lambda: None):
                if client.decoder.at_prompt and not told:
                    err.print(f"{port}: {NO_NODE}: {START_IT}", style="yellow", markup=False)
                told = client.decoder.at_prompt
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
                        live.update(_screen(port, view, client.decoder, *out.size), refresh=True)
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
    # Flushed line by line: whoever pipes it watches it.
    sys.stdout.write(f"{item.line if isinstance(item, Text) else words(item)}\n")
    sys.stdout.flush()


def _screen(port: str, view: NodeView, decoder: Decoder, width: int, height: int) -> Group:
    """What a terminal of this size shows: who it is, the channels, the worst first where not all fit, what happened."""
    state, link = view.worst(), decoder.health
    top = [Words.assemble((f"{port}  ", "bold"), (state or "nothing heard yet", STATE_STYLES.get(state, "")))]
    if decoder.at_prompt:
        top.append(Words(f"{NO_NODE}: {START_IT}", style="yellow"))
    if view.identity:
        top.append(Words(identity(view.identity), style="bold red" if view.identity.get("faults") else ""))
    if view.summary:
        top.append(Words(summary(view.summary), style="bold red" if troubles(view.summary) else ""))
    if view.verdicts:
        top.append(Words("seen here: " + ", ".join(f"{count:,} {name}" for name, count in view.verdicts.items())))
    rows = sorted(view.channels.values(), key=lambda row: int(row.get("ch", 0)))
    advice = [Words(line, overflow="ellipsis", no_wrap=True) for line in notes(rows)]
    errors = (
        f"link: {link.frames:,} frames, {link.crc_errors} damaged, {link.malformed} malformed, {link.missed} missing, "
        f"{link.restarts} restarts"
    )
    bottom = Words(f"q quit, i identify, c clear    {errors}", style="dim", overflow="ellipsis", no_wrap=True)
    # The lines that must be: those above, the table's head, the events' and the last.
    room = height - sum(len(line.wrap(out, width)) for line in top) - len(advice) - 3
    least = 4 if view.console else 2  # of what happened
    fit = max(room - least, 3)
    left_out = len(rows) - fit + 1 if len(rows) > fit else 0
    if left_out:
        worst_first = sorted(rows, key=lambda row: -STATES.index(row["st"]) if row.get("st") in STATES else 0)
        rows = sorted(worst_first[: len(rows) - left_out], key=lambda row: int(row.get("ch", 0)))
    room = max(room - len(rows) - bool(left_out), least)
    parts: list[RenderableType] = [*top, table(rows, width)]
    if left_out:
        parts.append(Words(f" and {left_out} more; a taller window shows them", style="dim"))
    parts += [*advice, Rule("events", align="left", style="dim")]
    most = max((room - 1) // 2, 1) if view.console else room
    happened = [f"{clock(fields.get('t')):>12}  {event(fields)}" for fields in list(view.events)[-most:]]
    parts += [Words(line, overflow="ellipsis", no_wrap=True) for line in happened or ["none since you watch"]]
    if view.console:
        parts.append(Rule("console", align="left", style="dim"))
        most = room - 1 - max(len(happened), 1)
        parts += [Words(line, overflow="ellipsis", no_wrap=True) for line in list(view.console)[-most:]]
    return Group(*parts, bottom)


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
