"""`sentill ports`: the serial ports of this computer and the boards they may be."""

import dataclasses
from typing import Annotated

import typer
from rich.table import Table

from sentill_host import ports as serial_ports
from sentill_host.cli.output import err, out, print_json


def ports(
    json: Annotated[bool, typer.Option("--json", help="One JSON object per port on stdout.")] = False,
) -> None:
    """List USB serial ports with the boards they may be, and who uses them."""
    found = serial_ports.found()
    if json:
        for info in found:
            print_json({**dataclasses.asdict(info), "used_by": serial_ports.holders(info.device)})
        return
    if not found:
        err.print("no USB serial port found; `sentill virtual up` starts a board that needs none")
        return
    table = Table("port", "may be", "description", "serial number", "used by", box=None)
    for info in found:
        users = ", ".join(serial_ports.holders(info.device))
        table.add_row(info.device, " ".join(info.boards) or "-", info.description, info.serial_number, users)
    out.print(table)
