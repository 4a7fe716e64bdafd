"""`sentill ports`: the serial ports of this computer and the boards they may be."""

import dataclasses
from typing import Annotated

import typer
from rich.table import Table

from sentill_host.board import port_lock
from sentill_host.board import ports as serial_ports
from sentill_host.cli.output import err, print_json, print_table


def ports(
    json: Annotated[bool, typer.Option("--json", help="One JSON object per port on stdout.")] = False,
) -> None:
    """List USB serial ports with the boards they may be, and who uses them.

    Every command takes the stable name in place of the port: it stays when the port gets another number.
    """
    found = serial_ports.found()
    if json:
        for info in found:
            print_json({**dataclasses.asdict(info), "stable": info.stable, "used_by": port_lock.holders(info.device)})
        return
    if not found:
        err.print("no USB serial port found; `sentill virtual up` starts a board that needs none")
        return
    table = Table("port", "may be", "description", "stable name", "socket", "used by", box=None)
    for info in found:
        users = ", ".join(port_lock.holders(info.device))
        guesses = " ".join(info.boards) or "-"
        table.add_row(info.device, guesses, info.description, info.stable, info.socket or "-", users)
    print_table(table)
