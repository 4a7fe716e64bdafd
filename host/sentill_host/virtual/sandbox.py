"""Keeps a virtual board away from the computer it runs on, by means of the operating system.

The board's interpreter has no way to its host's files once `/` is the flash image, but programs can mount the host
again (`vfs.VfsPosix`) or call a shell (`os.system`). Landlock denies them every file, TCP, and signals or abstract
sockets outside, as far as the kernel's version goes; a root directory that is empty hides even the names.
"""

import ctypes
import os
import signal
import struct
from pathlib import Path

_CREATE_RULESET = 444  # the same number on every architecture
_ADD_RULE = 445
_RESTRICT_SELF = 446
_RULE_PATH_BENEATH = 1
_CREATE_RULESET_VERSION = 1
_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38
_CLONE_NEWUSER = 0x10000000

# Access rights known to each version of Landlock's interface, `linux/landlock.h`.
_FILE_RIGHTS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
_EXECUTE, _READ_FILE, _READ_DIR = 1, 4, 8
_TCP_RIGHTS = 3
_SCOPES = 3

_libc = ctypes.CDLL(None, use_errno=True)


class Sandbox:
    """What this computer offers, prepared once; each board enters it after the fork.

    With an `executable` (an interpreter that is started, not forked) that file and the system's libraries stay
    readable. `root` is an empty directory.
    """

    def __init__(self, root: Path, executable: str = ""):
        self._root = root
        self._executable = bool(executable)
        self._ruleset = self._make_ruleset(executable)
        self.means: list[str] = []
        if self._ruleset >= 0:
            self.means.append("landlock, libraries readable" if executable else "landlock")
        self._chroot = not executable and self._try_chroot()
        if self._chroot:
            self.means.append("empty root")

    def only(self, *means: str) -> None:
        """Do without all but these means."""
        self._chroot &= "empty root" in means
        if "landlock" not in means:
            self._ruleset = -1

    def enter(self) -> None:
        """Confine the calling process for good. Called in the child; also ties its life to its parent's."""
        if self._chroot:
            self._change_root()
        if self._ruleset >= 0:
            _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
            if _libc.syscall(_RESTRICT_SELF, self._ruleset, 0):
                os._exit(126)
        # Last: a change of credentials, as with the root directory, would clear it.
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)

    def _change_root(self) -> None:
        if os.geteuid() != 0 and _libc.unshare(_CLONE_NEWUSER):
            raise OSError(ctypes.get_errno(), "unshare")
        os.chroot(self._root)
        os.chdir("/")

    def _try_chroot(self) -> bool:
        pid = os.fork()
        if pid == 0:
            try:
                self._change_root()
            except OSError:
                os._exit(1)
            os._exit(0)
        return os.waitpid(pid, 0)[1] == 0

    @staticmethod
    def _make_ruleset(executable: str) -> int:
        version = _libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _CREATE_RULESET_VERSION)
        if version < 1:
            return -1
        files = max(rights for since, rights in _FILE_RIGHTS.items() if since <= version)
        words = [files] + ([_TCP_RIGHTS] if version >= 4 else []) + ([_SCOPES] if version >= 6 else [])
        attributes = struct.pack(f"{len(words)}Q", *words)
        ruleset: int = _libc.syscall(_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0)
        if ruleset < 0 or not executable:
            return ruleset
        for path in {os.path.realpath(executable), "/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache"}:
            try:
                fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
            except FileNotFoundError:
                continue
            rights = _EXECUTE | _READ_FILE | (_READ_DIR if os.path.isdir(path) else 0)
            rule = struct.pack("=Qi", rights, fd)
            _libc.syscall(_ADD_RULE, ruleset, _RULE_PATH_BENEATH, rule, 0)
            os.close(fd)
        return ruleset
