"""Starts the interpreter of a virtual board: file descriptors, sandbox, then MicroPython's main()."""

import ctypes
import fcntl
import os
import signal
import socket
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from sentill_host.virtual.onboard import page
from sentill_host.virtual.sandbox import Sandbox

ONBOARD = Path(__file__).parent / "onboard"
_MODULES = ("bridge", "machine", "nor", "page")
# Sent by the board at the end of a boot that leads to the raw REPL; the supervisor takes it out of the output.
MARK = "\x1e\x1d*boot*\x1d\x1e"
# Heap the onboard modules take; on a real board they are in the firmware.
RESERVE_BYTES = 26 * 1024
# What Ctrl-C is where the interpreter is a library: a signal whose handler notes that the program is to be interrupted,
# as a chip's does. The Unix port's own handler of SIGINT jumps out of whatever runs: out of a garbage collection it
# leaves the heap locked for good, out of a flash write the file system in between.
INTERRUPT = signal.SIGUSR1
# Does nothing but end a wait that began in the moment between the last look for that note and the wait.
NUDGE = signal.SIGUSR2
_STDOUT_PIPE_BYTES = 4096
_SOCKET_BYTES = 16384  # the kernel counts hundreds of bytes for each small write


@dataclass
class Child:
    """A running interpreter, from the supervisor's side. All descriptors are non-blocking."""

    pid: int
    pidfd: int
    stdin: socket.socket
    stdout: int
    control: int
    uart: socket.socket

    def close(self) -> None:
        """Close the supervisor's ends."""
        self.stdin.close()
        self.uart.close()
        for fd in (self.pidfd, self.stdout, self.control):
            os.close(fd)


class Starter:
    """Starts boards' interpreters: by forking itself where the interpreter is a library, else by running `executable`.

    Made once, before the first board: what is imported and prepared here is shared by all of them.
    """

    def __init__(self, executable: str, empty_root: Path):
        self._executable = executable
        library = None if executable else import_module("micropython_run")
        self._run_main = library.run_main if library else None
        self._note_interrupt = _exported(str(library.__file__), "mp_sched_keyboard_interrupt") if library else 0
        self.interrupt = INTERRUPT if self._note_interrupt else signal.SIGINT
        self.sandbox = Sandbox(empty_root, executable)
        self._bootstrap = f"MARK = {MARK!r}\n" + (ONBOARD / "bootstrap.py").read_text(encoding="utf-8")
        self._onboard = _pack()

    def start(self, heap_bytes: int, flash: str, page_fd: int) -> Child:
        """Start an interpreter on the flash image at `flash`. Raises OSError when the computer has no room for it."""
        stdin, child_stdin = socket.socketpair()
        uart, child_uart = socket.socketpair()
        stdout, child_stdout = os.pipe()
        control, child_control = os.pipe()
        fcntl.fcntl(child_stdout, fcntl.F_SETPIPE_SZ, _STDOUT_PIPE_BYTES)
        for end in (stdin, uart, child_uart):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BYTES)
        child_uart.setblocking(False)
        for end in (stdin, uart):
            end.setblocking(False)
        for fd in (stdout, control):
            os.set_blocking(fd, False)
        arguments = ["micropython", "-X", f"heapsize={heap_bytes + RESERVE_BYTES}", "-i", "-c", self._bootstrap]
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            try:
                image = os.open(flash, os.O_RDWR | os.O_CLOEXEC)
                # Their own descriptions of the page and the modules: a shared file position would be a race.
                own_page = os.open(f"/proc/self/fd/{page_fd}", os.O_RDWR | os.O_CLOEXEC)
                onboard = os.open(f"/proc/self/fd/{self._onboard}", os.O_RDONLY | os.O_CLOEXEC)
                fds = [child_stdin.fileno(), child_stdout, child_stdout, child_control, child_uart.fileno()]
                self._become(arguments, [*fds, image, own_page, onboard], parent)
            finally:
                os._exit(127)
        for other in (child_stdin, child_uart):
            other.close()
        for fd in (child_stdout, child_control):
            os.close(fd)
        return Child(pid, os.pidfd_open(pid), stdin, stdout, control, uart)

    def _become(self, arguments: list[str], fds: list[int], parent: int) -> None:
        """In the child: arrange `fds` as 0, 1, 2, ..., close all others, enter the sandbox, run."""
        # Until the interpreter installs its own handler an interrupt means nothing.
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
        self.sandbox.enter()
        if os.getppid() != parent:
            return
        above = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 64) for fd in fds]
        for target, fd in enumerate(above):
            os.dup2(fd, target, inheritable=True)
        os.closerange(len(fds), 65536)
        environment = {"MICROPYPATH": ".frozen"}
        if self._run_main is None:
            try:
                os.execve(self._executable, arguments, environment)
            except OSError as error:
                os.write(1, f"{self._executable}: {error.strerror}".encode())
                return
        if self._note_interrupt:
            _handle(INTERRUPT, self._note_interrupt)
            _handle(NUDGE, _exported(None, "getpid"))
        os.environ.clear()
        _clear_environment()
        os.environ.update(environment)
        os._exit(self._run_main(arguments) or 0)


def _clear_environment() -> None:
    ctypes.CDLL(None).clearenv()


def _exported(library: str | None, name: str) -> int:
    """Address of a C function of a loaded library (None: of the C library); 0 when it exports none of that name."""
    function = getattr(ctypes.CDLL(library), name, None)
    return ctypes.cast(function, ctypes.c_void_p).value or 0 if function is not None else 0


def _handle(number: int, function: int) -> None:
    """Have the C function at this address called at a signal, which ends a system call that waits."""
    libc = ctypes.CDLL(None)
    libc.signal.argtypes = (ctypes.c_int, ctypes.c_void_p)
    libc.signal.restype = ctypes.c_void_p
    libc.signal(number, function)
    signal.siginterrupt(number, True)


def _pack() -> int:
    """The onboard modules in one memory file: a line with {"/.onboard/NAME.py" less the mount point: [start, size]}."""
    sources = {f"/{name}.py": (ONBOARD / f"{name}.py").read_bytes() for name in _MODULES}
    start, index = 1024, {}
    for name, source in sources.items():
        index[name] = (start, len(source))
        start += len(source)
    head = repr(index).encode() + b"\n"
    fd = os.memfd_create("onboard")
    os.write(fd, head.ljust(1024) + b"".join(sources.values()))
    return fd


def make_page() -> int:
    """A page of simulated hardware (see onboard/page.py), filled with zeros, as a memory file."""
    fd = os.memfd_create("page")
    os.ftruncate(fd, page.SIZE)
    return fd


def catches_interrupts(pid: int) -> bool:
    """Whether the process has a handler for SIGINT: MicroPython has one while a program runs and wants Ctrl-C."""
    try:
        with open(f"/proc/{pid}/status", "rb") as status:
            for line in status:
                if line.startswith(b"SigCgt:"):
                    return bool(int(line.split()[1], 16) >> (signal.SIGINT - 1) & 1)
    except (FileNotFoundError, ProcessLookupError):
        pass
    return False


def kept_waiting_s(pid: int) -> float:
    """Seconds that a process was ready to run and the computer was busy with others; 0 where that is not counted."""
    try:
        with open(f"/proc/{pid}/schedstat", "rb") as stat:
            return int(stat.read().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0


def activity(pid: int) -> tuple[str, int]:
    """State letter and processor time in clock ticks of a process, as in /proc/PID/stat; ("X", 0) when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            fields = stat.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return "X", 0
    return fields[0].decode(), int(fields[11]) + int(fields[12])
