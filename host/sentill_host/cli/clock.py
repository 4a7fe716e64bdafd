"""`sentill clock`: what time a node has, and setting it."""

from typing import Annotated

import typer

from sentill_host import clock as clocks
from sentill_host.cli.access import JsonOption, PortArgument
from sentill_host.cli.keys import KeysOption, PasswordOption, keys_at_hand
from sentill_host.cli.output import out, print_json
from sentill_host.client import NodeClient
from sentill_host.link import Link


def clock(
    port: PortArgument,
    adjust: Annotated[bool, typer.Option("--set", help="Set it by this computer's clock.")] = False,
    keys: KeysOption = None,
    password_file: PasswordOption = None,
    json: JsonOption = False,
) -> None:
    """Tell what time a node has, or set it by this computer's clock, in UTC.

    Boards without a battery for their clock count from power-on until somebody sets it; so do the dates of their
    journal. Look at this computer's clock first: a board with keys takes a clock set back by more than ten minutes for
    tampering.
    """
    opened = keys_at_hand(keys, password_file) if adjust else None
    with Link(port) as link:
        client = NodeClient(link)
        was = clocks.adjust(client, opened) if adjust else None
        now = clocks.read(client)
    if json:
        told = {"port": port, "uid": now.uid, "set": now.is_set, "time": clocks.spell(now.node_s) if now.is_set else ""}
        print_json({**told, "ahead_s": now.ahead_s if now.is_set else None, "adjusted": was is not None})
    elif was is not None:
        out.print(f"{port}: set to {clocks.spell(now.node_s)}; it was {_difference(was)}")
    elif now.is_set:
        out.print(f"{port}: {clocks.spell(now.node_s)}, {_difference(now)}")
    else:
        out.print(f"{port}: {_difference(now)}; `sentill clock {port} --set` sets it")


def _difference(told: clocks.Clock) -> str:
    if not told.is_set:
        return f"not set, {told.node_s} s since power-on"
    if abs(told.ahead_s) < 2:
        return "as this computer's"
    return f"{abs(told.ahead_s)} s {'ahead of' if told.ahead_s > 0 else 'behind'} this computer's"
