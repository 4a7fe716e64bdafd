"""`sentill health`: the attribute table of a node's hardware."""

from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text as Words

from sentill_host import access
from sentill_host.attributes import STATES, collect, life, remaining, worst
from sentill_host.cli.keys import KeysOption, PasswordOption, open_keys
from sentill_host.cli.output import out, print_json
from sentill_host.client import NodeClient
from sentill_host.link import Link

STATE_STYLES = {"ok": "green", "watch": "cyan", "warn": "yellow", "fail": "bold red"}
TRENDS = {1: "rising", -1: "falling", 0: ""}


def health(
    port: Annotated[str, typer.Argument(help="Serial port of the board (USB or UART).")],
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
        if opened:
            access.attach(client, opened)
        rows = collect(client, timeout)
        vitals = client.command("vitals")
    if json:
        vitals = {key: value for key, value in vitals.items() if key not in ("q", "re", "ok")}
        print_json({"port": port, "worst": worst(rows), "channels": rows, "node": vitals})
        return
    out.print(table(rows))
    out.print(life(vitals), soft_wrap=True)
    for line in notes(rows):
        out.print(line, soft_wrap=True)


def table(rows: list[dict[str, Any]]) -> Table:
    """The attribute table for people."""
    view = Table("id", "channel", "raw", "health", "worst", "warns", "state", "trend", "left", "cause", box=None)
    for row in rows:
        state = str(row.get("st", ""))
        view.add_row(
            str(row.get("ch", "")), str(row.get("name", "")), f"{row.get('raw', '')} {row.get('u', '')}".strip(),
            str(row.get("v", "")), str(row.get("w", "")), str(row.get("th", "")),
            Words(state, style=STATE_STYLES.get(state, "")), TRENDS.get(int(row.get("tr", 0)), ""),
            remaining(row), str(row.get("why", "")),
        )  # fmt: skip
    return view


def notes(rows: list[dict[str, Any]]) -> list[str]:
    """What to do about the channels that are not well, worst first, and which ones still learn what is usual."""
    ill = sorted((row for row in rows if row.get("adv")), key=lambda row: -STATES.index(row["st"]))
    lines = [f"{row['name']}: {row['adv']}" for row in ill]
    for steps in sorted({int(row["lrn"]) for row in rows if row.get("lrn")}):
        names = ", ".join(str(row["name"]) for row in rows if row.get("lrn") == steps)
        lines.append(f"still learning what is usual, {steps} step{'s' * (steps > 1)} to go: {names}")
    return lines
