"""`sentill clock`: what time a node has, and setting it."""

from typing import Annotated

import typer

from sentill_host.board.link import Link
from sentill_host.cli.access import JsonOption, PortArgument
from sentill_host.cli.keys import KeysOption, PasswordOption, keys_at_hand
from sentill_host.cli.output import out, print_json
from sentill_host.node import clock as clocks
from sentill_host.node.client import NodeClient


def clock(
    port: PortArgument,
    adjust: Annotated[bool, typer.Option("--set", help="Set it by this computer's clock.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="With --set: also back, or far ahead; the journal records it.")
    ] = False,
    keys: KeysOption = None,
    password_file: PasswordOption = None,
    json: JsonOption = False,
) -> None:
    """Tell what time a node has, or set it by this computer's clock, in UTC.

    Boards without a battery for their clock count from power-on until somebody sets it; so do the dates of their
    journal. A node does not go back behind the latest time it knows, nor far ahead of it: then one of the two clocks is
    wrong. Where it is the node's, --force sets it. Forced back, the node begins a new epoch: its journal says so, dates
    before it are not comparable with those after, and the history that its risk model knows of the terminal starts
    anew.
    """
    opened = keys_at_hand(keys, password_file) if adjust else None
    with Link(port) as link:
        client = NodeClient(link)
        was = clocks.adjust(client, opened, force) if adjust else None
        now = clocks.read(client)
    if json:
        told = {"port": port, "uid": now.uid, "set": now.is_set, "time": clocks.spell(now.node_s) if now.is_set else ""}
        told |= {"ahead_s": now.ahead_s if now.is_set else None, "adjusted": was is not None}
        print_json({**told, "new_epoch": was is not None and was.new_epoch})
    elif was is not None:
        out.print(f"{port}: set to {clocks.spell(now.node_s)}; it was {_difference(was)}")
        if was.new_epoch:
            out.print("a new epoch began: earlier dates do not compare with later ones; the history is empty")
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
