"""`sentill health`: the attribute table of a node's hardware."""

from typing import Annotated, Any, Literal

import typer
from rich.table import Column, Table
from rich.text import Text as Words

from sentill_host.board.link import Link
from sentill_host.cli.keys import KeysOption, PasswordOption, open_keys
from sentill_host.cli.output import out, print_json, print_table, table_width
from sentill_host.node import access
from sentill_host.node.client import NodeClient
from sentill_host.node.health_table import STATES, collect, life, reading, remaining, troubles, worst
from sentill_host.node.view import TRENDS

STATE_STYLES = {"ok": "green", "watch": "cyan", "warn": "yellow", "fail": "bold red"}
_WIDE, _USUAL = 96, 78  # columns of a terminal that can show everything, and nearly so
_JUSTIFY: dict[str, Literal["right"]] = dict.fromkeys(("reading", "health", "worst", "warns at"), "right")


def health(
    port: Annotated[str, typer.Argument(metavar="PORT", help="Serial port of the board (USB or UART).")],
    baudrate: Annotated[int, typer.Option(help="Speed, where the port is a UART.")] = 115_200,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for the whole table.")] = 10.0,
    keys: KeysOption = None,
    password_file: PasswordOption = None,
    json: Annotated[bool, typer.Option("--json", help="The table as one JSON document on stdout.")] = False,
) -> None:
    """Show the health of a terminal's hardware: value, worst, threshold, state, trend, time left, cause and advice.

    And of the node itself: how long it has been up, why it started so far, the wear of its flash. A board with keys is
    read at its own pace, a row per report; with --keys it hurries.
    """
    opened = open_keys(keys, password_file) if keys or password_file else None
    with Link(port, baudrate) as link:
        client = NodeClient(link)
        access.attach(client, opened) if opened else access.identity(client)  # who it is, and that it is not older
        rows = collect(client, timeout)
        vitals = client.command("vitals")
        ails = troubles(client.command("status"))
    if json:
        vitals = {key: value for key, value in vitals.items() if key not in ("q", "re", "ok")}
        print_json({"port": port, "worst": worst(rows), "channels": rows, "node": vitals, "troubles": ails})
        return
    out.print(Words.assemble((f"{port}  ", "bold"), headline(rows)))
    print_table(table(rows, table_width()))
    for line in ails:
        out.print(line, soft_wrap=True, markup=False, style=STATE_STYLES["fail"])
    for line in [*notes(rows), life(vitals)]:
        out.print(line, soft_wrap=True, markup=False)


def table(rows: list[dict[str, Any]], width: int) -> Table:
    """The attribute table for people, in `width` columns: the narrower, the fewer details."""
    wide, usual = width >= _WIDE, width >= _USUAL
    columns = ["channel", "state", "reading", "health", *["worst", "warns at"] * wide]
    columns += [*["trend"] * usual, "time left", *["cause"] * usual]
    view = Table(*(Column(name, no_wrap=True, justify=_JUSTIFY.get(name, "left")) for name in columns), box=None)
    for row in rows:
        state = str(row.get("st", ""))
        cells: dict[str, str | Words] = {
            "channel": str(row.get("name", row.get("ch", ""))),
            "state": Words(state, style=STATE_STYLES.get(state, "")), "reading": reading(row),
            "health": str(row.get("v", "")), "worst": str(row.get("w", "")),
            "warns at": str(row.get("th", "")), "trend": TRENDS.get(int(row.get("tr", 0)), ""),
            "time left": remaining(row), "cause": str(row.get("why", "")),
        }  # fmt: skip
        view.add_row(*(cells[name] for name in columns))
    return view


def headline(rows: list[dict[str, Any]]) -> Words:
    """How it stands in one line."""
    state = worst(rows)
    ill = sum(row.get("st") != "ok" for row in rows)
    text = f": {ill} of {len(rows)} channels" if ill else f": all {len(rows)} channels"
    return Words.assemble((state, STATE_STYLES.get(state, "")), text)


def notes(rows: list[dict[str, Any]]) -> list[str]:
    """What to do about the channels that are not well, worst first, and which ones still learn what is usual."""
    ill = sorted((row for row in rows if row.get("adv")), key=lambda row: -STATES.index(row["st"]))
    lines = [f"{row['name']}: {row['adv']}" for row in ill]
    steps = sorted(int(row["lrn"]) for row in rows if row.get("lrn"))
    if steps:
        names = ", ".join(str(row["name"]) for row in rows if row.get("lrn"))
        count = f"{steps[0]} to {steps[-1]}" if steps[0] != steps[-1] else str(steps[0])
        lines.append(f"still learning what is usual, {count} step{'s' * (steps[-1] > 1)} to go: {names}")
    return lines
