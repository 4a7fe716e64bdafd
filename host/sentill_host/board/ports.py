"""Serial ports of this computer: what they are, and the way back to a board whose port got another name.

A name like COM7 or /dev/ttyACM0 belongs to whatever was plugged in last. What stays is the USB serial number and the
socket: `serial:E6605838834C2A34` and `at:1-1.4` name a board by them wherever a port is asked for.
"""

import contextlib
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import serial.tools.list_ports

from sentill_host.board import catalogue as boards
from sentill_host.errors import LinkError, UsageError

_BY_SERIAL, _BY_SOCKET = "serial:", "at:"
_TRIES = 5
_AGAIN_S = 0.05


@dataclass(frozen=True)
class PortInfo:
    """A port found on this computer. `boards` are the ids it may be, judged by its USB vendor and product only."""

    device: str
    description: str
    serial_number: str
    location: str
    boards: tuple[str, ...]
    vid: int = 0
    pid: int = 0

    @property
    def socket(self) -> str:
        """The USB socket without the interface: "1-1.4" of "1-1.4:1.0"; "" where the driver hides it."""
        return self.location.partition(":")[0]

    @property
    def place(self) -> str:
        """A name for whatever is in this socket, as `resolve` takes it; the device where the socket is hidden."""
        return _BY_SOCKET + self.location if self.location else self.device

    @property
    def stable(self) -> str:
        """A name that survives a reset and another order of plugging in, as `resolve` takes it."""
        return _BY_SERIAL + self.serial_number if self.serial_number else self.place


def found() -> list[PortInfo]:
    """USB serial ports in the order a person counts; ports without a USB identity (mainboard UARTs) are left out."""
    result = []
    for info in _listed():
        # macOS names each port twice; opening tty.* waits for a carrier that no board gives.
        if info.vid is None or "/tty." in info.device:
            continue
        ids = tuple(board.id for board in boards.guess(info.vid, info.pid))
        description = info.description if info.description not in (None, "n/a") else info.product
        result.append(
            PortInfo(
                info.device,
                description or "",
                info.serial_number or "",
                info.location or "",
                ids,
                info.vid,
                info.pid or 0,
            )
        )
    return sorted(result, key=lambda port: _natural(port.device))


def _listed() -> list[Any]:
    """What pyserial finds, which fails over a board that leaves the bus while it reads of it: then it looks anew."""
    for _ in range(_TRIES):
        try:
            return list(serial.tools.list_ports.comports())
        except (TypeError, ValueError, OSError):
            time.sleep(_AGAIN_S)
    raise LinkError("the list of serial ports changes all the time", "is a board starting again and again?")


def resolve(name: str, listing: list[PortInfo] | None = None) -> str:
    """The device that `serial:NUMBER` or `at:LOCATION` names now; any other name is returned as it is.

    `at:` takes a socket ("1-1.4") or one interface of it ("1-1.4:1.2"). Raises LinkError when nothing is there,
    UsageError when several ports fit.
    """
    if not name.startswith((_BY_SERIAL, _BY_SOCKET)):
        return name
    listing = found() if listing is None else listing
    kind, _, wanted = name.partition(":")
    wanted = wanted.strip().casefold()
    if kind + ":" == _BY_SERIAL:
        fitting = [port for port in listing if port.serial_number.casefold() == wanted]
    else:
        fitting = [port for port in listing if wanted in (port.location.casefold(), port.socket.casefold())]
    if not wanted or not fitting:
        raise LinkError(f"{name}: no such board is plugged in", "`sentill ports` lists what this computer sees")
    if len(fitting) > 1:
        devices = ", ".join(port.device for port in fitting)
        raise UsageError(f"{name} fits several ports: {devices}", "name the port itself, or at:LOCATION of one of them")
    return fitting[0].device


class Address:
    """A port's name as given, followed through resets: the board may come back as another device.

    What it is (serial number and socket) is learned when it is first seen. Afterwards only the same board in the same
    socket is accepted: after two boards have been reset at once, a bare device name may mean the other one.
    """

    def __init__(self, name: str, listing: Callable[[], list[PortInfo]] = found):
        self.name = name
        self._listing = listing
        self._seen: PortInfo | None = None
        self._first = ""  # the pseudo-terminal that was opened first, by a name that a later one may get

    def device(self) -> str:
        """The device to open now. Raises LinkError while the board is away, UsageError when the name is ambiguous."""
        listing = self._listing()
        if self._seen is None:
            device = resolve(self.name, listing)
            real = _real(device)
            self._seen = next((port for port in listing if real in (port.device, _real(port.device))), None)
            instance = _instance(real)
            if instance != real and not os.path.islink(self.name):
                self._first = self._first or instance
                if instance != self._first:
                    raise LinkError(f"{self.name}: gone; another port has got its number", "look for the board anew")
            return real
        seen = self._seen
        same = [port for port in listing if (port.socket, port.serial_number) == (seen.socket, seen.serial_number)]
        if len(same) > 1:
            same = [port for port in same if port.location == seen.location] or same
        if len(same) == 1:
            return same[0].device
        if same:
            raise UsageError(f"{self.name}: several ports look the same", "unplug the others")
        other = next((port for port in listing if seen.socket and port.socket == seen.socket), None)
        if other is not None:
            raise LinkError(
                f"{self.name}: another board is in its socket now ({other.serial_number or other.device})",
                "plug the right one in and run this again",
            )
        raise LinkError(f"{self.name}: no such port", "the board is off the bus; check cable and power")

    def spoken(self, device: str) -> str:
        """How to name `device` to people: as they did, unless they named the board."""
        return device if self.name.startswith((_BY_SERIAL, _BY_SOCKET)) else self.name

    @property
    def key(self) -> str:
        """What the lock of this port is bound to: the socket where it is known, else link or device; after device().

        Not what a link leads to, which may be nothing for a while; two names of one device meet when they open it.
        """
        seen = self._seen
        if seen is not None:
            return f"usb:{seen.location}" if seen.location else seen.device
        return os.path.abspath(self.name) if os.path.islink(self.name) else _instance(self.name)


def _real(device: str) -> str:
    return os.path.realpath(device) if os.path.exists(device) else device


def _instance(device: str) -> str:
    """The device, and of a pseudo-terminal when it was made: the number of one that is gone is given to the next."""
    real = _real(device)
    if real.startswith("/dev/pts/"):
        with contextlib.suppress(OSError):  # it has gone
            return f"{real}@{os.stat(real).st_ctime_ns}"
    return real


def _natural(name: str) -> list[tuple[int, str]]:
    """Sorts COM9 before COM10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]
