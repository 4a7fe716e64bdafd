"""Who uses a serial port: one lock for each among Sentill's own commands, who else holds it, why it does not open."""

import errno
import hashlib
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import filelock

from sentill_host.errors import LinkError

_LONGEST_KEY = 80  # an abstract name has 107 bytes
_LSOF_S = 5.0
_MOST_NAMED = 4


class PortLock:
    """Held while this program uses a port, also while the port itself is away during a reset."""

    def __init__(self, handle: socket.socket | filelock.BaseFileLock | None):
        self._handle = handle

    def close(self) -> None:
        """Give the lock up. Closing twice is harmless."""
        handle, self._handle = self._handle, None
        if isinstance(handle, filelock.BaseFileLock):
            handle.release()
        elif handle is not None:
            handle.close()


def lock(port: str, key: str = "", platform: str = sys.platform) -> PortLock:
    """Lock `port` against other Sentill commands under `key` (`ports.Address.key`). Raises LinkError naming the holder.

    On Linux an abstract socket name is the lock: it leaves no file and dies with its process. Elsewhere a locked file
    in the temporary folder, which the system frees with its process as well.
    """
    key = key or os.path.realpath(port)
    if len(os.fsencode(key)) > _LONGEST_KEY:
        key = hashlib.sha256(os.fsencode(key)).hexdigest()
    if platform.startswith("linux"):
        handle = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            handle.bind("\0sentill-port:" + key)
        except OSError as error:
            handle.close()
            if error.errno == errno.EADDRINUSE:
                raise _busy(port) from None
            raise
        return PortLock(handle)
    name = "".join(c if c.isalnum() else "-" for c in key).strip("-")
    held = filelock.FileLock(Path(tempfile.gettempdir()) / f"sentill-port-{name}.lock")
    try:
        held.acquire(timeout=0)
    except filelock.Timeout:
        raise _busy(port) from None
    return PortLock(held)


def holders(port: str, platform: str = sys.platform) -> list[str]:
    """Processes that have the port open, as "name (pid)"; those of other users may be invisible. Not on Windows.

    Behind a pseudo-terminal is a process that plays the device; it is none of them.
    """
    if platform == "darwin":
        return _lsof_holders(port)
    target = os.path.realpath(port)
    found_holders = []
    for process in Path("/proc").glob("[0-9]*") if Path("/proc").is_dir() else []:
        if process.name == str(os.getpid()):
            continue
        try:
            opened = {os.path.realpath(link): link for link in (process / "fd").iterdir()}
            if target in opened and not _plays(process, target):
                found_holders.append(f"{(process / 'comm').read_text().strip()} (pid {process.name})")
        except OSError:
            # The process ended meanwhile or belongs to someone else.
            continue
    return found_holders


def _plays(process: Path, device: str) -> bool:
    """Whether the process holds the other end of this pseudo-terminal."""
    head, _, number = device.rpartition("/")
    if head != "/dev/pts":
        return False
    masters = [link.name for link in (process / "fd").iterdir() if os.readlink(link).endswith("/ptmx")]
    return any(f"tty-index:\t{number}\n" in (process / "fdinfo" / fd).read_text() for fd in masters)


def _lsof_holders(port: str) -> list[str]:
    # A call-out device (cu.*) and its call-in twin (tty.*) are one line.
    twins = [port, port.replace("/cu.", "/tty.")]
    try:
        done = subprocess.run(["lsof", "-F", "pc", *dict.fromkeys(twins)], capture_output=True, timeout=_LSOF_S)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return parse_lsof(done.stdout.decode("utf-8", "replace"))


def parse_lsof(text: str) -> list[str]:
    """ "name (pid)" of each process in the output of `lsof -F pc`, without this one."""
    users, pid = [], ""
    for line in text.splitlines():
        if line.startswith("p"):
            pid = line[1:]
        elif line.startswith("c") and pid != str(os.getpid()):
            users.append(f"{line[1:]} (pid {pid})")
    return list(dict.fromkeys(users))


def diagnose(port: str, error: Exception, platform: str = sys.platform) -> LinkError:
    """A LinkError that says why `port` did not open and what to do about it."""
    absent = LinkError(
        f"{port}: no such port", "plug the board in with a data cable; `sentill ports` lists what this computer sees"
    )
    if platform == "win32":
        # pyserial wraps the Windows error into the text of its own.
        text = str(error)
        if "FileNotFoundError" in text:
            return absent
        if "PermissionError" in text or "Access is denied" in text:
            return _busy(port)
        if "A device attached to the system is not functioning" in text or "semaphore timeout" in text.lower():
            return LinkError(f"{port}: the driver does not answer", "unplug the board, wait a second, plug it in again")
    elif not port.startswith(("socket:", "rfc2217:", "loop:")):
        if port.startswith("/") and not os.path.exists(port):
            return absent
        if not os.access(port, os.R_OK | os.W_OK) and os.path.exists(port):
            return LinkError(f"{port}: no permission", admission(port, "$USER"))
        if os.path.exists(port) and not _is_terminal(port):
            return LinkError(f"{port}: no serial port", "`sentill ports` lists the ports this computer sees")
        if _code(error) == errno.EBUSY or "busy" in str(error).lower() or holders(port, platform):
            return _busy(port)
    return LinkError(f"{port}: cannot be opened ({error})", "`sentill ports` lists the ports this computer sees")


def admission(port: str, user: str) -> str:
    """What lets `user` open a port: its group, unless that is root's, which gives far more than a port."""
    group = group_of(port)
    if group and group != "root":
        return f"sudo usermod -aG {group} {user}, then log in again; or `sentill doctor --udev` prints rules that do it"
    return "`sentill doctor --udev` prints rules that give it to the people who sit here; else ask its owner"


def _is_terminal(port: str) -> bool:
    try:
        handle = os.open(port, os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK)
    except OSError:
        return True  # it may be one that is busy
    try:
        return os.isatty(handle)
    finally:
        os.close(handle)


def _code(error: Exception) -> int | None:
    code = getattr(error, "errno", None)
    return code if isinstance(code, int) else None


def _busy(port: str) -> LinkError:
    users = holders(port)
    named = ", ".join(users[:_MOST_NAMED]) + (f" and {len(users) - _MOST_NAMED} more" if users[_MOST_NAMED:] else "")
    return LinkError(f"{port}: in use by {named or 'another program'}", "close that program or wait for it")


def group_of(port: str) -> str:
    """Name of the group that owns the port, "" where there are no groups."""
    try:
        import grp

        return grp.getgrgid(os.stat(port).st_gid).gr_name
    except (ImportError, KeyError, OSError):
        return ""
