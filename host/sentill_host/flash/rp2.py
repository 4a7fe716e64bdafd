"""RP2040 and RP2350: the chip's own boot loader shows a USB drive; a UF2 file copied there is written and started.

picotool, where installed, does the same without a mounted drive.
"""

import contextlib
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from sentill_host.board import port_lock
from sentill_host.errors import LinkError, PlatformError, UsageError, VerifyError
from sentill_host.flash import uf2
from sentill_host.flash.backend import Context

INFO = "INFO_UF2.TXT"
# The board id in INFO_UF2.TXT.
_DRIVES = {"RPI-RP2": "rp2040", "RP2350": "rp2350"}
_LABELS = ("RPI-RP2", "RP2350")
_PIECE = 1 << 16
_POLL_S = 0.25
_LOCK = "bootsel"
_SHOW_UP_S = 10.0
_TOOL_S = 120.0
_COPY_S = 120.0

BOOTSEL_KEYS = "hold the BOOTSEL key while you plug the board in, then let it go"


@dataclass(frozen=True)
class Drive:
    """A mounted boot drive. `socket` is the USB socket of its board ("1-1.4"), "" where the system does not tell."""

    path: Path
    chip: str
    socket: str = ""


def read_drive(path: Path) -> Drive | None:
    """The boot drive mounted at `path`, None when it is none."""
    try:
        text = (path / INFO).read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    match = re.search(r"^Board-ID:\s*(\S+)", text, re.MULTILINE)
    chip = _DRIVES.get(match[1], "") if match else ""
    return Drive(path, chip) if chip else None


def drives() -> list[Drive]:
    """Every boot drive this computer has mounted."""
    found = []
    for part in psutil.disk_partitions(all=False):
        if part.fstype and not part.fstype.lower().startswith(("vfat", "fat", "msdos")):
            continue
        drive = read_drive(Path(part.mountpoint))
        if drive is not None:
            found.append(Drive(drive.path, drive.chip, _socket_of(part.device)))
    return found


def _socket_of(device: str, sysfs: Path = Path("/sys/class/block")) -> str:
    """USB socket of a block device, as serial ports name it: the last "1-1.4" in its place in the device tree."""
    try:
        place = (sysfs / Path(device).name).resolve(strict=True).parts
    except OSError:
        return ""
    return next((part for part in reversed(place) if re.fullmatch(r"\d+-\d+(\.\d+)*", part)), "")


class Uf2Drive:
    """The backend that copies to the boot drive."""

    name = "UF2 drive"
    chips = frozenset({"rp2040", "rp2350"})

    def missing(self) -> str:
        """Nothing: every system can copy a file."""
        return ""

    def flash(self, context: Context) -> None:
        """Copy the image to the one boot drive that is this board's; the board starts it by itself."""
        chip = context.board.data["firmware"]["chip"]
        uf2.check(context.image.data, chip, context.image.path.name)
        drive = await_drive(context)
        if drive.chip != chip:
            raise UsageError(
                f"the board at {drive.path} has an {drive.chip.upper()}, {context.board.name} an {chip.upper()}",
                "name the right board with --board",
            )
        if context.erase:
            raise UsageError(
                "a boot drive cannot erase the rest of the flash", "install picotool, or leave --erase out"
            )
        copy(drive, context)


def await_drive(context: Context, list_drives: Callable[[], list[Drive]] | None = None) -> Drive:
    """The boot drive of this board: the named one, the one in its USB socket, or the only one there is.

    Tells a person what to press when none shows up. Raises LinkError when none does in time, UsageError when several
    could be it.
    """
    if context.drive is not None:
        drive = read_drive(context.drive)
        if drive is None:
            raise UsageError(f"{context.drive} is no boot drive: it has no {INFO}", BOOTSEL_KEYS)
        return drive
    start = time.monotonic()
    told = asked = False
    while True:
        context.voice.check_stop()
        fitting = (list_drives or drives)()
        if context.socket:
            fitting = [drive for drive in fitting if drive.socket in (context.socket, "")]
            fitting = [drive for drive in fitting if drive.socket] or fitting
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            raise UsageError(
                "several boot drives: " + ", ".join(str(drive.path) for drive in fitting),
                "name the one with --drive, or leave only one board in its boot loader",
            )
        waited = time.monotonic() - start
        if waited > 2.0 and not asked:
            _mount()
            asked = True
        if waited > _SHOW_UP_S and not told:
            context.voice.instruct(f"{context.port or 'no boot drive yet'}: {BOOTSEL_KEYS}")
            told = True
        if waited > _SHOW_UP_S + context.patience_s:
            raise LinkError("no boot drive shows up", f"{BOOTSEL_KEYS}; without a desktop mount it, or use --drive")
        context.voice.say("waiting for the boot drive", 0, 0)
        time.sleep(_POLL_S)


def _mount() -> None:
    """Linux without a desktop mounts nothing by itself; udisks does it for those who are allowed to."""
    tool = shutil.which("udisksctl")
    for label in _LABELS:
        device = Path("/dev/disk/by-label") / label
        if tool and device.exists():
            with contextlib.suppress(subprocess.TimeoutExpired):  # then a person has to
                subprocess.run(
                    [tool, "mount", "--no-user-interaction", "-b", str(device)],
                    capture_output=True,
                    timeout=20,
                    check=False,
                )


def copy(drive: Drive, context: Context) -> None:
    """Write the image onto the drive. The board leaves with its drive once the last block is there: no error then.

    Raises LinkError when the drive goes before all was sent.
    """
    data, sent = context.image.data, 0
    end = time.monotonic() + _COPY_S
    try:
        with open(drive.path / context.image.path.name, "wb", buffering=0) as file:
            while sent < len(data):
                context.voice.check_stop()
                if time.monotonic() > end:
                    raise LinkError(f"{drive.path}: copying takes longer than {_COPY_S:g} s", "flash it again")
                sent += file.write(data[sent : sent + _PIECE])
                context.voice.say("copying", sent, len(data))
            # The board may be gone before the system has written the directory.
            with contextlib.suppress(OSError):
                os.fsync(file.fileno())
    except OSError as error:
        if sent < len(data):
            raise LinkError(
                f"{drive.path}: the drive went after {sent} of {len(data)} bytes ({error.strerror})",
                f"{BOOTSEL_KEYS}; flash it again",
            ) from None
    while (drive.path / INFO).exists():
        if time.monotonic() > end:
            raise VerifyError(
                f"{drive.path}: the board does not start the firmware; its loader refused it",
                "is this the firmware for exactly this board?",
            )
        context.voice.say("waiting for the board to start", len(data), len(data))
        time.sleep(_POLL_S)


class Picotool:
    """The backend for computers that have picotool; needs no mounted drive, and can erase."""

    name = "picotool"
    chips = Uf2Drive.chips

    def missing(self) -> str:
        """What this computer lacks."""
        return "" if shutil.which("picotool") else "picotool"

    def flash(self, context: Context) -> None:
        """Have picotool write, verify and start the image on the one board in its boot loader."""
        uf2.check(context.image.data, context.board.data["firmware"]["chip"], context.image.path.name)
        end = time.monotonic() + _SHOW_UP_S + context.patience_s
        told = False
        while not self._run(context, "info").startswith("ok"):
            if time.monotonic() > end:
                raise LinkError("no board in its boot loader", f"{BOOTSEL_KEYS}; run this again")
            if time.monotonic() > end - context.patience_s and not told:
                context.voice.instruct(f"{context.port or 'no board in its boot loader yet'}: {BOOTSEL_KEYS}")
                told = True
            time.sleep(_POLL_S)
        if context.erase:
            context.voice.say("erasing", 0, 0)
            self._done(context, self._run(context, "erase", "-a"))
        context.voice.say("writing", 0, len(context.image.data))
        self._done(context, self._run(context, "load", "-v", "-x", str(context.image.path)))

    def _run(self, context: Context, *arguments: str) -> str:
        context.voice.check_stop()
        try:
            done = subprocess.run(
                ["picotool", *arguments], capture_output=True, text=True, timeout=_TOOL_S, check=False
            )
        except FileNotFoundError:
            raise PlatformError("picotool is not installed", "install it, or use the boot drive") from None
        except subprocess.TimeoutExpired:
            raise LinkError(f"picotool {arguments[0]} takes longer than {_TOOL_S:g} s", "flash it again") from None
        words = (done.stdout + done.stderr).strip().splitlines()
        return "ok" if done.returncode == 0 else words[-1] if words else f"exit code {done.returncode}"

    def _done(self, context: Context, answer: str) -> None:
        if answer != "ok":
            raise VerifyError(f"picotool: {answer}", f"{BOOTSEL_KEYS}; flash it again")


def bootsel_lock(patience_s: float, say: Callable[[str, int, int], None]) -> port_lock.PortLock:
    """Held while a board without a known USB socket is in its boot loader: their drives cannot be told apart."""
    end = time.monotonic() + patience_s
    while True:
        try:
            return port_lock.lock("the boot drive", _LOCK)
        except LinkError:
            if time.monotonic() > end:
                raise LinkError("another board is being flashed", "run this again when it is done") from None
        say("waiting for another board's boot drive", 0, 0)
        time.sleep(_POLL_S)
