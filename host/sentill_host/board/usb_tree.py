"""The USB tree of a Linux computer as sysfs shows it: what is plugged in, and which sockets are in trouble."""

from dataclasses import dataclass
from pathlib import Path

SYSFS = Path("/sys/bus/usb/devices")
_HUB_CLASS = "09"
# Where a port's device stays when it cannot be talked to: a bad cable or hub, or too little power.
_STUCK = {"powered", "default", "unauthenticated", "reconnecting"}


@dataclass(frozen=True)
class Device:
    """One USB device that is no hub. `drivers` serve its interfaces; `serial_port` says whether one is a tty."""

    socket: str
    vid: int
    pid: int
    name: str
    drivers: tuple[str, ...]
    serial_port: bool


@dataclass(frozen=True)
class Trouble:
    """A socket of a hub that reports overload, or where a device does not come up."""

    socket: str
    overloads: int
    state: str


def devices(root: Path = SYSFS) -> list[Device]:
    """Every device on the bus except hubs; empty where there is no sysfs."""
    found = []
    for folder in sorted(root.glob("[0-9]*-*")) if root.is_dir() else []:
        if ":" in folder.name or _text(folder / "bDeviceClass") == _HUB_CLASS or not (folder / "idVendor").exists():
            continue
        interfaces = list(folder.glob(f"{folder.name}:*"))
        drivers = sorted({_link(interface / "driver") for interface in interfaces} - {""})
        serial = any(next(interface.glob("tty*"), None) for interface in interfaces)
        name = " ".join(filter(None, (_text(folder / "manufacturer"), _text(folder / "product"))))
        vid, pid = int(_text(folder / "idVendor"), 16), int(_text(folder / "idProduct"), 16)
        found.append(Device(folder.name, vid, pid, name, tuple(drivers), serial))
    return found


def troubles(root: Path = SYSFS) -> list[Trouble]:
    """Sockets of all hubs that had an overload, or hold a device that does not answer."""
    found = []
    for port in sorted(root.glob("*/*-port[0-9]*")) if root.is_dir() else []:
        count = _text(port / "over_current_count")
        overloads = int(count) if count.isdigit() else 0
        state = _text(port / "state")
        if overloads or state in _STUCK:
            found.append(Trouble(port.name, overloads, state if state in _STUCK else ""))
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _link(path: Path) -> str:
    return path.resolve().name if path.exists() else ""
