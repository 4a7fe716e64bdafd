"""The process behind virtual boards: runs them all in one event loop and takes orders on a control socket.

It is started with `python -I -S`, reads its Config as one line of JSON from stdin, writes one line of JSON to stdout
when every board runs (or why not), and ends on SIGTERM, SIGINT, the operation `stop`, or, unless detached, when its
stdin is closed: it never outlives the process that holds the other end.

Control socket: `control.sock` in the boards' directory, lines of JSON. Request {"op": NAME, "board": NAME, ...}, reply
{"ok": true, ...} or {"ok": false, "error": TEXT, "hint": TEXT}. The operations are the methods `op_...` of Operations.
"""

import contextlib
import fcntl
import inspect
import json
import os
import selectors
import shutil
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sentill_host.errors import SentillHostError, UsageError
from sentill_host.virtual import scenario
from sentill_host.virtual.board import Settings, VirtualBoard
from sentill_host.virtual.child import Starter
from sentill_host.virtual.loop import Loop, Outlet
from sentill_host.virtual.ports import Numbers, Openings

RUNTIME = "runtime.json"
SOCKET = "control.sock"
LOG = "supervisor.log"
ROOT = "empty-root"
_LONGEST_REQUEST = 1 << 20


@dataclass(frozen=True)
class Config:
    """What the supervisor is asked to run. `executable` empty: the interpreter is the library micropython_run."""

    directory: str
    boards: list[dict[str, Any]]
    executable: str = ""
    scenario: str = ""
    detached: bool = False
    temporary: bool = False  # remove the directory with all that is in it at the end
    made: bool = False  # the directory was made for this: remove it at the end if nothing is left in it
    keep: bool = False  # leave the flash images at the end
    path: list[str] = field(default_factory=list)


class Supervisor:
    """All boards of one directory."""

    def __init__(self, config: Config):
        self.config = config
        self.directory = Path(config.directory)
        self.loop = Loop()
        self.ready = False
        self.keep = config.keep
        self.problems: list[str] = []
        self._lock = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                f"{self.directory} is in use by other virtual boards",
                f"`sentill virtual down --dir {self.directory}` stops them; or choose another --dir",
            ) from None
        root = self.directory / ROOT
        root.mkdir(exist_ok=True)
        self.starter = Starter(config.executable, root)
        openings, numbers = Openings(self.loop), Numbers()
        self.boards: dict[str, VirtualBoard] = {}
        for entry in config.boards:
            settings = Settings(**entry)
            self.boards[settings.name] = VirtualBoard(
                self.loop, openings, numbers, self.starter, settings, self.directory / settings.name, self._changed
            )
        seed, events = scenario.parse(config.scenario, self.boards)
        self.warp(scenario.warp(config.scenario))
        self.values = {
            name: scenario.Values(self.loop, board.hardware, seed + number)
            for number, (name, board) in enumerate(self.boards.items())
        }
        self.operations = Operations(self)
        self._events = events
        self.scenario: scenario.Scenario | None = None

    def run(self) -> None:
        """Start the boards and serve until told to end; then remove what was made."""
        listener = socket.socket(socket.AF_UNIX)
        address = f"/proc/self/fd/{self._lock}/{SOCKET}"  # short, however long the directory's path
        (self.directory / SOCKET).unlink(missing_ok=True)
        listener.bind(address)
        listener.listen(64)
        listener.setblocking(False)
        self.loop.watch(listener.fileno(), selectors.EVENT_READ, lambda: Client(self, listener).serve())
        try:
            for board in self.boards.values():
                board.power_on()
            self.loop.run()
        finally:
            listener.close()
            self.close()

    def warp(self, factor: int) -> None:
        """Let the node time of every board run this many times as fast as the clock."""
        for board in self.boards.values():
            board.hardware.warp(factor)

    def play(self, events: list[scenario.Event]) -> None:
        """Start a scenario in place of the one that runs."""
        if self.scenario:
            self.scenario.stop()
        for values in self.values.values():
            values.stop()
        self.scenario = scenario.Scenario(self.loop, events, self.values, self.operations.perform, self.problems.append)

    def close(self) -> None:
        """End the boards and remove the files."""
        for board in self.boards.values():
            board.close()
            if not self.keep:
                for path in (board.image, board.chip):
                    path.unlink(missing_ok=True)
                with contextlib.suppress(OSError):
                    board.directory.rmdir()
        for name in (RUNTIME, SOCKET, LOG):
            (self.directory / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            (self.directory / ROOT).rmdir()
        if self.config.temporary:
            shutil.rmtree(self.directory, ignore_errors=True)
        elif self.config.made:
            with contextlib.suppress(OSError):
                self.directory.rmdir()

    def describe(self) -> dict[str, Any]:
        """The supervisor and its boards, as written to the runtime file."""
        return {
            "pid": os.getpid(),
            "started": process_start(os.getpid()),
            "directory": str(self.directory),
            "interpreter": self.config.executable or "micropython_run",
            "sandbox": self.starter.sandbox.means,
            "boards": [board.status() for board in self.boards.values()],
            "problems": self.problems[-20:],
        }

    def _changed(self) -> None:
        if self.ready:
            return
        for board in self.boards.values():
            if board.fault:
                say({"error": "PlatformError", "message": f"{board.settings.name}: {board.fault}"})
                self.loop.stop()
                return
        if all(board.state == "running" for board in self.boards.values()):
            self.ready = True
            beside = self.directory / (RUNTIME + ".new")
            beside.write_text(json.dumps(self.describe()), encoding="utf-8")
            os.replace(beside, self.directory / RUNTIME)
            self.play(self._events)
            say(self.describe())


class Client:
    """One connection to the control socket."""

    def __init__(self, supervisor: Supervisor, listener: socket.socket):
        self._supervisor = supervisor
        self._socket, _ = listener.accept()
        self._socket.setblocking(False)
        self._outlet = Outlet(supervisor.loop, self._socket.fileno())
        self._data = b""

    def serve(self) -> None:
        """Answer requests until the other side closes."""
        self._supervisor.loop.watch(self._socket.fileno(), selectors.EVENT_READ, self._read)

    def _read(self) -> None:
        try:
            data = self._socket.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._data += data
        *lines, self._data = self._data.split(b"\n")
        for line in lines:
            self._outlet.write(json.dumps(self._supervisor.operations.answer(line)).encode() + b"\n")
        if not data or len(self._data) > _LONGEST_REQUEST:
            self._outlet.close()
            self._supervisor.loop.forget(self._socket.fileno())
            self._socket.close()


def _usage(op: str, method: Callable[..., Any]) -> str:
    """How an operation is written behind `sentill virtual control BOARD`."""
    words = [op]
    for parameter in list(inspect.signature(method).parameters.values())[1:]:
        word = {"values": "NAME=NUMBER...", "names": "NAME..."}.get(parameter.name, f"{parameter.name}=...")
        words.append(word if parameter.default is parameter.empty else f"[{word}]")
    return " ".join(words)


class Operations:
    """What the control socket offers. Times are in milliseconds."""

    def __init__(self, supervisor: Supervisor):
        self._supervisor = supervisor

    def answer(self, line: bytes) -> dict[str, Any]:
        """Carry out one request; never raises for a bad one."""
        try:
            request = json.loads(line)
            op, board = request.pop("op"), request.pop("board", None)
        except (ValueError, AttributeError, KeyError, TypeError):
            return {"ok": False, "error": "not a request", "hint": '{"op": "status"}'}
        try:
            return {"ok": True, **(self.perform(board, op, request) or {})}
        except SentillHostError as error:
            return {"ok": False, "error": str(error), "hint": error.hint}

    def perform(self, board: str | None, op: str, arguments: dict[str, Any]) -> dict[str, Any] | None:
        """Carry out `op`. Raises UsageError for what does not exist or has wrong arguments."""
        method = getattr(self, f"op_{op}", None)
        if method is None:
            names = sorted(name[3:] for name in dir(self) if name.startswith("op_"))
            raise UsageError(f"unknown operation {op!r}", "known: " + ", ".join(names))
        boards = self._supervisor.boards
        if board is None and op not in ("status", "stop", "scenario"):
            board = next(iter(boards)) if len(boards) == 1 else None
        if board is not None and board not in boards:
            raise UsageError(f"unknown board {board!r}", "known: " + ", ".join(boards))
        try:
            inspect.signature(method).bind(board, **arguments)
        except TypeError:
            raise UsageError(f"{op} does not take {' '.join(arguments) or 'nothing'}", _usage(op, method)) from None
        try:
            if op in ("status", "stop", "scenario"):
                return method(board, **arguments)
            if board is None:
                raise UsageError("which board?", "known: " + ", ".join(boards))
            return method(boards[board], **arguments)
        except (TypeError, ValueError) as error:
            raise UsageError(f"{op}: {error}") from None

    def op_status(self, board: str | None) -> dict[str, Any]:
        """One board, or the supervisor and all boards."""
        supervisor = self._supervisor
        return supervisor.describe() if board is None else supervisor.boards[board].status()

    def op_stop(self, board: str | None, keep: bool = False) -> None:
        """End all boards; `keep` leaves their flash images."""
        self._supervisor.keep = bool(keep)
        self._supervisor.loop.after(0.05, self._supervisor.loop.stop)  # after the reply has left

    def op_scenario(self, board: str | None, text: str) -> None:
        """Play the scenario in `text` (TOML) in place of the one that runs."""
        events = scenario.parse(text, self._supervisor.boards)[1]
        self._supervisor.warp(scenario.warp(text))
        self._supervisor.play(events)

    def op_set(self, board: VirtualBoard, values: dict[str, int], width: int = 0) -> None:
        """Set hardware values, {"adc.26": 1200}; `width` is the bytes per register of a new I2C device."""
        self._values(board).set(values, width)

    def op_get(self, board: VirtualBoard, names: list[str]) -> dict[str, Any]:
        """Hardware values; of pins the board drives, what it drives."""
        return {"values": {name: board.hardware.get(name) for name in names}}

    def op_ramp(self, board: VirtualBoard, values: dict[str, int], over_ms: float) -> None:
        """Move values evenly to these within `over_ms`."""
        self._values(board).ramp(values, over_ms / 1000)

    def op_noise(self, board: VirtualBoard, values: dict[str, int]) -> None:
        """Noise of these amplitudes on values; 0 ends it."""
        self._values(board).noise(values)

    def op_cut_flash(
        self, board: VirtualBoard, writes: int | None, torn: str = "none", seed: int = 0, reboot_ms: float | None = None
    ) -> None:
        """Let the power fail at the flash write after `writes` more, see Hardware.cut_after; on again after a while."""
        board.cut_flash(writes, torn, seed, None if reboot_ms is None else reboot_ms / 1000)

    def op_pull_cable(self, board: VirtualBoard, ms: float | None = None) -> None:
        """Take the USB cable out for `ms`, or until plug_cable."""
        board.pull_cable(None if ms is None else ms / 1000)

    def op_plug_cable(self, board: VirtualBoard) -> None:
        """Put the USB cable in."""
        board.usb.plug()

    def op_uart_in(self, board: VirtualBoard, text: str) -> None:
        """Let these characters come in on the UART as if the terminal had sent them."""
        board.uart_in(text)

    def op_garble(self, board: VirtualBoard, every: int = 1000, count: int = 1, seed: int = 0) -> None:
        """Damage about one in `every` bytes on the USB cable, both ways, `count` in all; a count of 0 ends it."""
        board.garble(int(every), int(count), int(seed))

    def op_flood(self, board: VirtualBoard, text: str) -> None:
        """Put text on the console as if the program had printed it."""
        board.flood(text.encode())

    def op_hold_uart(self, board: VirtualBoard, ms: float | None = None) -> None:
        """Interrupt the UART for `ms`, or until held for 0."""
        board.hold_uart(None if ms is None else ms / 1000)

    def op_pace(self, board: VirtualBoard, on: bool = True) -> None:
        """Make both ports as slow as their wires, or not."""
        board.pace(bool(on))

    def op_power_cycle(self, board: VirtualBoard, ms: float = 500) -> None:
        """Power off for `ms`."""
        board.power_cycle(ms / 1000)

    def op_power_off(self, board: VirtualBoard) -> None:
        """Power off until power_on or another reset."""
        board.power_off()

    def op_power_on(self, board: VirtualBoard) -> None:
        """Power on a board that is off."""
        board.power_cycle(0)

    def op_reset(self, board: VirtualBoard) -> None:
        """Press the reset button."""
        board.hard_reset()

    def _values(self, board: VirtualBoard) -> scenario.Values:
        return self._supervisor.values[board.settings.name]


def say(answer: dict[str, Any]) -> None:
    """Answer the starting process, once."""
    with contextlib.suppress(OSError):
        os.write(1, json.dumps(answer).encode() + b"\n")


def process_start(pid: int) -> int:
    """Start time of a process in clock ticks since boot: with the pid it names a process for good. 0: it has ended."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            fields = stat.read().rpartition(b")")[2].split()
            return 0 if fields[0] in (b"Z", b"X") else int(fields[19])
    except (FileNotFoundError, ProcessLookupError):
        return 0


def main() -> None:
    """Body of the supervisor process."""
    config = Config(**json.loads(_first_line()))
    sys.path += config.path
    wake, signalled = os.pipe()
    os.set_blocking(signalled, False)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    signal.set_wakeup_fd(signalled)
    os.umask(0o077)
    try:
        supervisor = Supervisor(config)
    except SentillHostError as error:
        say({"error": type(error).__name__, "message": str(error), "hint": error.hint})
        return
    except OSError as error:
        hint = "look at its permissions and at the space on the disk"
        say(
            {
                "error": "PlatformError",
                "message": f"{error.filename or config.directory}: {error.strerror}",
                "hint": hint,
            }
        )
        return
    supervisor.loop.watch(wake, selectors.EVENT_READ, supervisor.loop.stop)
    if not config.detached:
        supervisor.loop.watch(0, selectors.EVENT_READ, supervisor.loop.stop)
    supervisor.run()


def _first_line() -> bytes:
    """The first line of stdin, byte by byte: nothing is read ahead, so the end of stdin still shows."""
    line = b""
    while not line.endswith(b"\n") and (byte := os.read(0, 1)):
        line += byte
    return line
