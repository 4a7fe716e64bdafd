"""What keeps this computer from a board, and what ails the board: findings, each with what to do about it.

Looking changes nothing: a running node answers undisturbed. A board that runs something else, or `deep`, is interrupted
for the questions and started again.
"""

import getpass
import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from sentill_host.board import catalogue, port_lock, ports, usb_tree
from sentill_host.board.catalogue import Board
from sentill_host.board.link import Link
from sentill_host.bundle import build as bundle
from sentill_host.deploy import prompt
from sentill_host.deploy.session import Session
from sentill_host.deploy.signing import Signer
from sentill_host.errors import LinkError, SentillHostError
from sentill_host.flash import procedure, rp2
from sentill_host.keys.key_file import KeyFile
from sentill_host.node import access, client, foreign_code, health_table

OK, NOTE, WARN, FAIL = "ok", "note", "warn", "fail"
LEVELS = (OK, NOTE, WARN, FAIL)

_HEALTH_S = 15.0
_LOW_HEAP = 100 << 10
_LOW_FLASH = 200 << 10
_RULES = (
    Path("/etc/udev/rules.d"),
    Path("/run/udev/rules.d"),
    Path("/usr/lib/udev/rules.d"),
    Path("/lib/udev/rules.d"),
)
_RUNGS = {
    "interrupt": (OK, "it stopped at the first Ctrl-C", ""),
    "insist": (NOTE, "the program catches Ctrl-C; it took many to stop it", "have it let KeyboardInterrupt pass"),
    "reset": (
        WARN,
        "the program did not yield to Ctrl-C; the reset line and Ctrl-C during the start did it",
        "its main.py leaves no way in: replace it with `sentill deploy`",
    ),
}
_UNKEPT = "stop it (Ctrl-C), remove files that are not part of the node (`mpremote fs ls`), and restart it"
_SPACE = """\
import os, gc, json
gc.collect()
try:
 s = os.statvfs('/')
 r = [s[0] * s[3] if 0 <= s[3] <= s[2] else 0, s[0] * s[2]]
except OSError:
 r = [0, 0]
try:
 n = os.listdir('/')
except OSError:
 n = []
print(json.dumps({'free': r[0], 'size': r[1], 'heap': gc.mem_free(), 'files': n[:40]}))
"""


@dataclass(frozen=True)
class Finding:
    """One thing found: how bad it is, about what ("computer", or a port), in words, and what to do."""

    level: str
    about: str
    text: str
    fix: str = ""


@dataclass
class Computer:
    """This computer as the checks see it; tests give another one."""

    platform: str = sys.platform
    usb: Path = usb_tree.SYSFS
    rules: tuple[Path, ...] = _RULES
    listing: list[ports.PortInfo] = field(default_factory=ports.found)
    programs: frozenset[str] = field(default_factory=lambda: running_programs())
    drives: list[rp2.Drive] = field(default_factory=rp2.drives)

    @property
    def linux(self) -> bool:
        """Whether sysfs and udev are there."""
        return self.platform.startswith("linux")


def running_programs() -> frozenset[str]:
    """Names of all running programs."""
    return frozenset(process.info["name"] or "" for process in psutil.process_iter(["name"]))


def udev_rules(group: str = "dialout") -> str:
    """Rules for every board Sentill knows: access for the group and whoever is at the screen, no ModemManager."""
    lines = ["# Sentill: sensor nodes over USB. Goes to /etc/udev/rules.d/60-sentill.rules, then:"]
    lines += ["#   sudo udevadm control --reload && sudo udevadm trigger"]
    vendors = sorted({vid for board in catalogue.all_boards().values() for vid, _ in board.usb_ids})
    for vid in vendors:
        lines.append(_rule(vid, group))
    # The boot loader of RP2 chips and Espressif's own port are used by picotool and esptool.
    lines.append(f'SUBSYSTEM=="usb", ATTRS{{idVendor}}=="2e8a", MODE="0660", GROUP="{group}", TAG+="uaccess"')
    return "\n".join(lines) + "\n"


def _rule(vid: int, group: str) -> str:
    return (
        f'SUBSYSTEM=="tty", ATTRS{{idVendor}}=="{vid:04x}", MODE="0660", GROUP="{group}", TAG+="uaccess", '
        'ENV{ID_MM_DEVICE_IGNORE}="1"'
    )


def examine_computer(computer: Computer) -> list[Finding]:
    """What the computer as a whole has to say: the bus, the programs that get in the way."""
    found: list[Finding] = []
    here = "computer"
    if computer.listing:
        names = ", ".join(port.device for port in computer.listing)
        found.append(Finding(OK, here, f"{len(computer.listing)} USB serial port(s): {names}"))
    for drive in computer.drives:
        found.append(
            Finding(NOTE, here, f"an {drive.chip.upper()} waits in its boot loader ({drive.path})", "sentill flash")
        )
    if computer.linux:
        found += _bus(computer)
    if not computer.listing and not computer.drives:
        found.append(
            Finding(
                FAIL, here, "no board is visible on USB",
                "most often the cable carries power only: try one that carries data; then another socket, without a "
                "hub; a bare RP2 board needs BOOTSEL held while it is plugged in",
            )
        )  # fmt: skip
    if "ModemManager" in computer.programs and not _modemmanager_told_off(computer):
        found.append(
            Finding(
                WARN, here, "ModemManager runs and sends modem commands to new serial ports",
                "`sentill doctor --udev | sudo tee /etc/udev/rules.d/60-sentill.rules` keeps it away from boards",
            )
        )  # fmt: skip
    if "brltty" in computer.programs and computer.linux:
        found.append(
            Finding(WARN, here, "brltty runs and takes CH340 ports for braille displays", "sudo apt remove brltty")
        )
    return found


def _bus(computer: Computer) -> Iterable[Finding]:
    known = {usb_id: board for board in catalogue.all_boards().values() for usb_id in board.usb_ids}
    listed = {port.socket for port in computer.listing}
    for device in usb_tree.devices(computer.usb):
        if device.socket in listed or device.serial_port or (device.vid, device.pid) not in known:
            continue
        name = known[device.vid, device.pid].name
        if not device.drivers:
            yield Finding(
                FAIL, "computer", f"at USB {device.socket} is a {name} ({device.name}) that no driver serves",
                "sudo modprobe cdc_acm cp210x ch341 ftdi_sio; some small kernels lack them",
            )  # fmt: skip
        else:
            yield Finding(
                WARN, "computer",
                f"at USB {device.socket} is a {name} held by {', '.join(device.drivers)} instead of a serial port",
                "unplug it and plug it in again; see the notes on brltty",
            )  # fmt: skip
    for trouble in usb_tree.troubles(computer.usb):
        if trouble.overloads:
            yield Finding(
                WARN, "computer", f"socket {trouble.socket} cut its power {trouble.overloads} time(s) for overload",
                "use a hub with its own power supply; look for a short circuit",
            )  # fmt: skip
        if trouble.state:
            yield Finding(
                FAIL, "computer", f"what is plugged into {trouble.socket} does not come up (state {trouble.state})",
                "bad cable, dead hub or too little power: try another cable, then another socket",
            )  # fmt: skip


def _modemmanager_told_off(computer: Computer) -> bool:
    vendors = {f"{port.vid:04x}" for port in computer.listing}
    told: set[str] = set()
    for folder in computer.rules:
        for path in sorted(folder.glob("*.rules")) if folder.is_dir() else []:
            text = path.read_text(encoding="utf-8", errors="replace").lower()
            for line in text.splitlines():
                if "id_mm_device_ignore" in line and not line.lstrip().startswith("#"):
                    told |= {vendor for vendor in vendors if vendor in line}
    return vendors <= told


def examine_port(
    name: str, deep: bool = False, say: Callable[[str], None] = lambda _: None, keys: KeyFile | None = None
) -> list[Finding]:
    """Everything about one port and the board behind it.

    `deep` stops a running node for a moment to look closer, where the board is locked with the help of `keys`.
    """
    found: list[Finding] = []
    try:
        device = ports.resolve(name)
    except SentillHostError as error:
        return [Finding(FAIL, name, _said(name, error), error.hint)]
    if trouble := _access(name, device):
        return [trouble]
    say("opening")
    try:
        with Link(name) as link:
            found.append(_shared(name, device))
            found += _talk(name, link, deep, say, keys)
    except SentillHostError as error:
        found.append(Finding(FAIL, name, _said(name, error), error.hint))
    return found


def _said(name: str, error: SentillHostError) -> str:
    """The error without the port's name, which the finding tells anyway."""
    return str(error).removeprefix(f"{name}: ")


def _access(name: str, device: str) -> Finding | None:
    """Why the port cannot be opened, as far as that shows without opening it."""
    if os.name != "posix" or not device.startswith("/"):
        return None
    if not os.path.exists(device):
        return Finding(FAIL, name, "no such port", "plug the board in with a data cable; `sentill ports` lists ports")
    if not os.access(device, os.R_OK | os.W_OK):
        group = port_lock.group_of(device)
        port = next((port for port in ports.found() if port.device == device), None)
        rule = f"\n  or this udev rule:\n  {_rule(port.vid, group)}" if port and group else ""
        return Finding(
            FAIL, name, f"{getpass.getuser()} may not open it; the group {group or '(none)'} may",
            port_lock.admission(device, getpass.getuser()) + rule,
        )  # fmt: skip
    return None


def _shared(name: str, device: str) -> Finding:
    """Whether another program has the open port open as well, and takes what the board says from under us."""
    if users := port_lock.holders(device):
        return Finding(WARN, name, f"open in {', '.join(users)} as well, which takes what the board says", "close it")
    return Finding(OK, name, "opens; nobody else uses it")


def _talk(name: str, link: Link, deep: bool, say: Callable[[str], None], keys: KeyFile | None) -> list[Finding]:
    say("listening for a node")
    node = client.NodeClient(link)
    there = client.look(node)
    identity = there.identity
    found: list[Finding] = []
    if identity is not None:
        shut = _enter(name, node, identity, deep, keys)
        found += _node(name, node, identity)
        found += _start(name, identity, there.frozen)
        if not deep or shut:
            return found + shut
        client.request_maintenance(node, box_s=prompt.BOX_S)
    say("entering MicroPython's raw REPL")
    try:
        rung = link.enter_repl()
    except LinkError as error:
        words = f"; it printed: {there.console[-1]}" if there.console else ", and prints nothing"
        return [*found, Finding(FAIL, name, f"no raw REPL{words}", error.hint)]
    level, text, fix = _RUNGS[rung]
    if identity is None:
        found.append(Finding(level, name, f"raw REPL entered: {text}", fix))
    session = None
    try:
        prompt.fresh(link)
        space = link.exec_json(_SPACE)
        found += _micropython(name, procedure.ask(link), space, identity is not None)
        if any(file.startswith("slot_") for file in space["files"]):
            say("reading its flash")
            session = Session(link, bundle.agent_code())
            found += _flash(name, session, bool(identity and identity.get("gen")))
    finally:
        prompt.back(link, session)
    return found


def _flash(name: str, session: Session, keys: bool) -> Iterable[Finding]:
    """What is on the flash, by hash: the version, main.py and its start; and what else is code there."""
    if planted := session.about["foreign"]:
        yield Finding(FAIL if keys else NOTE, name, foreign_code.words(planted), foreign_code.fix(name))
    slot = str(session.about["pointer"])[-1:]
    fault = session.call("check", slot=slot)["fault"] if slot in ("a", "b") else "nothing says which version runs"
    if fault:
        yield Finding(FAIL, name, f"its version is not as it was deployed: {fault}", f"sentill deploy {name} --verify")
    else:
        yield Finding(OK, name, "its version, main.py and start code are as they were deployed")


def _enter(
    name: str, node: client.NodeClient, identity: dict[str, Any], deep: bool, keys: KeyFile | None
) -> list[Finding]:
    """Have the node listen to signed commands, and `deep` be stopped; what keeps it from that."""
    uid = str(identity.get("uid", ""))
    try:
        if deep:
            Signer(name, keys).enter(node, uid)
        elif keys is not None and identity.get("gen"):
            access.sign(node, keys, access.challenge(node, uid))
    except SentillHostError as error:
        if deep:
            return [Finding(NOTE, name, f"its flash was not looked at: {error}", error.hint)]
    return []  # unsigned, it is listened to at its own pace


def _node(name: str, node: client.NodeClient, identity: dict[str, Any]) -> list[Finding]:
    board = catalogue.all_boards().get(str(identity.get("board", "")))
    found = [
        Finding(OK, name, f"a node runs: version {identity.get('sw')}, {identity.get('board')} {identity.get('uid')}"),
        _firmware(name, str(identity.get("fw", "")), board),
    ]
    if identity.get("tamper"):
        text = f"it was tampered with ({identity['tamper']}) and refuses its work"
        found.append(Finding(FAIL, name, text, "inspect the terminal; `sentill provision` gives it new keys"))
    elif identity.get("gen"):
        found.append(Finding(OK, name, f"it has keys of generation {identity['gen']}, profile {identity.get('prof')}"))
    faults = [part for part in str(identity.get("faults") or "").split(",") if part]
    if "foreign" in faults:
        faults.remove("foreign")
        told = "on its flash is code that is not the node's; `--deep` and its journal name it"
        found.append(Finding(FAIL, name, told, foreign_code.fix(name)))
    if faults:
        told = f"it started without: {','.join(faults)}"
        found.append(Finding(WARN, name, told, "`sentill health` and its console tell more"))
    try:
        status = node.command("status")
        rows = health_table.collect(node, _HEALTH_S)
    except LinkError as error:
        return [*found, Finding(WARN, name, _said(name, error), error.hint)]
    for trouble in health_table.troubles(status | {"foreign": False}):  # told above, from its faults
        found.append(Finding(FAIL, name, trouble, _UNKEPT))
    if status.get("crash"):
        found.append(
            Finding(WARN, name, f"{status['crash']} of its tasks crashed since the start", "look at `sentill monitor`")
        )
    # Free heap counts only after a collection, which the node's own channel waits for.
    ill = [row for row in rows if row.get("st") in ("warn", "fail")]
    for row in ill:
        value = f"{row.get('raw', '')} {row.get('u', '')}".strip()
        text = f"its channel {row.get('name')} is at {row['st']}: {value}"
        found.append(Finding(WARN, name, text, str(row.get("adv", "")) or "`sentill health` tells more"))
    if not ill:
        found.append(Finding(OK, name, f"{len(rows)} health channels, none at warn or fail"))
    return found


def _start(name: str, identity: dict[str, Any], frozen: bool) -> Iterable[Finding]:
    """Which start a board with keys has."""
    if frozen:
        yield Finding(OK, name, "its start is frozen: nothing on the flash runs before it, and no Ctrl-C stops it")
    elif identity.get("prof") == "sealed":
        yield Finding(WARN, name, f"it is sealed, but {access.NOT_FROZEN}", access.FREEZE)
    elif identity.get("gen"):
        yield Finding(OK, name, access.NOT_FROZEN)


def _micropython(name: str, about: dict[str, Any], space: dict[str, Any], node: bool) -> list[Finding]:
    board = catalogue.recognise(about["build"], about["machine"], about["platform"])
    what = about["machine"] or about["platform"]
    found = []
    if board is None:
        known = ", ".join(catalogue.all_boards())
        found.append(Finding(WARN, name, f"an unknown board: {what}", f"name it with --board; known: {known}"))
    elif not node:
        found.append(Finding(OK, name, f"{board.name} {about['uid']}"))
    if not node:
        found.append(_firmware(name, about["version"], board))
    if not space["size"]:
        found.append(Finding(FAIL, name, "no file system", "`sentill flash` anew; MicroPython's first start makes one"))
    elif space["free"] < _LOW_FLASH:
        found.append(
            Finding(
                WARN, name, f"flash is nearly full: {space['free'] >> 10} of {space['size'] >> 10} KB free",
                "remove files that are not part of the node: `mpremote fs ls`",
            )
        )  # fmt: skip
    else:
        found.append(Finding(OK, name, f"flash: {space['free'] >> 10} of {space['size'] >> 10} KB free"))
    found.append(_heap(name, space["heap"]))
    if not node and "main.py" not in space["files"]:
        found.append(Finding(NOTE, name, "nothing is installed", f"sentill deploy {name}"))
    elif not node:
        found.append(Finding(WARN, name, "a main.py is there, but no node answers", f"sentill deploy {name}"))
    return found


def _firmware(name: str, version: str, board: Board | None) -> Finding:
    least = str(board.data.get("min_firmware", "0")) if board else "0"
    if board and _numbers(version) < _numbers(least):
        return Finding(WARN, name, f"MicroPython {version} is too old, {least} is needed", f"sentill flash {name}")
    return Finding(OK, name, f"MicroPython {version or 'of unknown version'}")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("-")[0].split(".") if part.isdigit())


def _heap(name: str, free: int) -> Finding:
    """Free heap at the prompt, where the node is not loaded."""
    if free < _LOW_HEAP:
        fix = "the node does not fit: choose firmware for a board with more memory"
        return Finding(WARN, name, f"little memory: {free >> 10} KB of heap free at the prompt", fix)
    return Finding(OK, name, f"heap: {free >> 10} KB free at the prompt")
