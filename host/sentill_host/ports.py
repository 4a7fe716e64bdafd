"""Serial ports of this computer: what they are, who uses them, why one does not open, and one lock for each."""

import errno
import os
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

import serial.tools.list_ports

from sentill_host import boards
from sentill_host.errors import LinkError


@dataclass(frozen=True)
class PortInfo:
    """A port found on this computer. `boards` are the ids it may be, judged by its USB vendor and product only."""

    device: str
    description: str
    serial_number: str
    location: str
    boards: tuple[str, ...]


def found() -> list[PortInfo]:
    """USB serial ports, sorted by name; ports without a USB identity (mainboard UARTs) are left out."""
    result = []
    for info in sorted(serial.tools.list_ports.comports()):
        if info.vid is None:
            continue
        ids = tuple(board.id for board in boards.guess(info.vid, info.pid))
        result.append(PortInfo(info.device, info.description or "", info.serial_number or "", info.location or "", ids))
    return result


class PortLock:
    """Held while this program uses a port, also while the port itself is away during a reset."""

    def __init__(self, handle: socket.socket | None):
        self._handle = handle

    def close(self) -> None:
        """Give the lock up. Closing twice is harmless."""
        if self._handle is not None:
            self._handle.close()
            self._handle = None


def lock(port: str) -> PortLock:
    """Lock `port` against other Sentill commands. Raises LinkError naming the holder.

    On Linux an abstract socket name is the lock: it leaves no file and dies with its process. Elsewhere, and against
    other programs, the exclusive open of the port has to do.
    """
    if not sys.platform.startswith("linux"):
        return PortLock(None)
    handle = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        handle.bind("\0sentill-port:" + os.path.realpath(port))
    except OSError as error:
        handle.close()
        if error.errno == errno.EADDRINUSE:
            raise _busy(port) from None
        raise
    return PortLock(handle)


def holders(port: str) -> list[str]:
    """Processes that have the port open, as "name (pid)"; those of other users may be invisible. Linux only."""
    target = os.path.realpath(port)
    found_holders = []
    for process in Path("/proc").glob("[0-9]*") if Path("/proc").is_dir() else []:
        if process.name == str(os.getpid()):
            continue
        try:
            if any(os.path.realpath(link) == target for link in (process / "fd").iterdir()):
                found_holders.append(f"{(process / 'comm').read_text().strip()} (pid {process.name})")
        except OSError:
            # The process ended meanwhile or belongs to someone else.
            continue
    return found_holders


def diagnose(port: str, error: Exception) -> LinkError:
    """A LinkError that says why `port` did not open and what to do about it."""
    if os.name == "posix" and not port.startswith(("socket:", "rfc2217:", "loop:")):
        if not os.path.exists(port):
            return LinkError(
                f"{port}: no such port",
                "plug the board in with a data cable; `sentill ports` lists what this computer sees",
            )
        if not os.access(port, os.R_OK | os.W_OK):
            group = _group_of(port)
            return LinkError(
                f"{port}: no permission",
                f"sudo usermod -aG {group} $USER, then log in again" if group else "ask the owner of the port",
            )
        if holders(port):
            return _busy(port)
    return LinkError(f"{port}: cannot be opened ({error})", "`sentill ports` lists the ports this computer sees")


def _busy(port: str) -> LinkError:
    users = holders(port)
    return LinkError(
        f"{port}: in use by {', '.join(users) if users else 'another program'}", "close that program or wait for it"
    )


def _group_of(port: str) -> str:
    try:
        import grp

        return grp.getgrgid(os.stat(port).st_gid).gr_name
    except (ImportError, KeyError, OSError):
        return ""
