"""Virtual boards from Python: start them, find them, end them."""

import contextlib
import importlib.util
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

import sentill_host
from sentill_host import errors, user_files
from sentill_host.board import catalogue as board_data
from sentill_host.errors import LinkError, PlatformError, UsageError
from sentill_host.virtual.board import BLOCK_BYTES, Settings
from sentill_host.virtual.control import request
from sentill_host.virtual.supervisor import RUNTIME, Config, process_start

MOST_BOARDS = 512
START_S = 60.0
STOP_S = 30.0
RAW = "344K"  # two blocks for keys, 84 for a journal of 5,000 records
FLASH = "1408K"  # what MicroPython leaves for files on a Raspberry Pi Pico
MOST_SPEED = 1000
_LEAST_HEAP, _LEAST_FLASH = 32 << 10, 64 << 10
_MAIN = "import sys; sys.path[:0] = [{!r}]; from sentill_host.virtual.supervisor import main; main()"


def default_directory() -> Path:
    """Where `sentill virtual up` keeps its state when not told: private to the user, gone with the session."""
    base = os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()
    return Path(base) / f"sentill-virtual-{os.getuid()}"


class Board:
    """A virtual board as its user sees it."""

    def __init__(self, directory: Path, name: str):
        self.name = name
        self._directory = directory

    @property
    def usb(self) -> str:
        """Name of the console port, for mpremote and every other program that opens serial ports.

        It stays the same; what it leads to is gone while the cable is out or the board is being reset. mpremote copies
        three times as fast by the device of the moment (os.path.realpath), which it knows for a pseudo-terminal.
        """
        return str(self._directory / self.name / "usb")

    @property
    def uart(self) -> str:
        """Name of the terminal's serial port."""
        return str(self._directory / self.name / "uart")

    def control(self, op: str, **arguments: Any) -> dict[str, Any]:
        """Carry out an operation of the control socket (supervisor.Operations) on this board.

        `board.control("set", values={"adc.26": 1200})`. Raises UsageError when it is refused, LinkError when the
        supervisor is gone.
        """
        return request(self._directory, op, self.name, **arguments)

    def status(self) -> dict[str, Any]:
        """State, ports, reset cause, wear: see VirtualBoard.status."""
        return self.control("status")

    def wait(self, state: str = "running", boots: int = 0, deadline_s: float = 60.0) -> dict[str, Any]:
        """Wait for a state, and at least `boots` starts; returns the status. Raises LinkError after `deadline_s`."""
        end_s = time.monotonic() + deadline_s
        while True:
            status = self.status()
            if status["state"] == state and status["boots"] >= boots:
                return status
            if time.monotonic() > end_s:
                raise LinkError(f"{self.name} is {status['state']} after {deadline_s:.0f} s, not {state}")
            time.sleep(0.02)

    def __repr__(self) -> str:
        return f"Board({self.name!r}, usb={self.usb!r})"


class VirtualBoards:
    """`n` virtual boards as a context: `with VirtualBoards(2) as boards: boards[0].usb`.

    `like` is the id of a board whose flash and UART they imitate, `speed` how many times as fast; `uart` is "fifo" (a
    UART that loses bytes while flash is busy) or "dma" (one that does not).

    A supervisor process runs them; it ends, and removes its files, when the context ends or this process dies, however
    that happens. Without `directory` everything is temporary; with one the flash images are kept in it and used again.
    `heap`, `flash` (of the file system) and `raw` (beside it) are sizes ("288K"); `usb` is "uart_bridge" or "usb_cdc"
    (see board.Settings); `scenario` is the path of a scenario file; `paced` makes the ports as slow as wires.

    Entering raises PlatformError where virtual boards cannot run, UsageError for wrong arguments or a directory in use.
    """

    def __init__(
        self,
        n: int = 1,
        dir: str | Path | None = None,
        board: str = "SIM",
        heap: str = "288K",
        scenario: str | Path | None = None,
        *,
        flash: str | None = None,
        raw: str | None = None,
        usb: str | None = None,
        paced: bool = False,
        like: str = "",
        speed: float = 1.0,
        uart: str = "fifo",
    ):
        self._settings = settings(n, board, heap, flash, usb, paced, raw, like, speed, uart)
        self._given = Path(dir).absolute() if dir is not None else None
        self._scenario = read_scenario(scenario)
        self._process: subprocess.Popen[bytes] | None = None
        self._directory: Path | None = None
        self.info: dict[str, Any] = {}

    def __enter__(self) -> list[Board]:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def start(self) -> list[Board]:
        """What entering the context does."""
        directory = self._given or Path(tempfile.mkdtemp(prefix="sentill-virtual-"))
        self._directory = directory
        try:
            own = self._given is None
            self._process = launch(directory, self._settings, self._scenario, temporary=own, keep=not own)
            self.info = await_ready(self._process)
        except BaseException:
            self.close()
            raise
        return [Board(directory, entry.name) for entry in self._settings]

    def close(self) -> None:
        """End the boards; harmless when they have ended."""
        process, self._process = self._process, None
        if process is not None:
            end(process)
        if self._given is None and self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)


def settings(
    n: int,
    board: str,
    heap: str,
    flash: str | None,
    usb: str | None,
    paced: bool,
    raw: str | None = None,
    like: str = "",
    speed: float = 1.0,
    uart: str = "fifo",
) -> list[Settings]:
    """Settings of boards sim0, sim1, ...; None takes what the board has that they imitate, or else the virtual board.

    Raises UsageError for what cannot be.
    """
    if not 1 <= n <= MOST_BOARDS:
        raise UsageError(f"cannot run {n} boards", f"1 to {MOST_BOARDS}")
    data = board_data.load(board)
    if data.port != "sim":
        raise UsageError(f"{data.name} cannot be a virtual board", "the virtual board is SIM")
    chip = _imitated(like)
    usb = usb or chip.get("usb", "uart_bridge")
    if usb not in ("uart_bridge", "usb_cdc"):
        raise UsageError(f"unknown kind of USB port {usb!r}", "uart_bridge or usb_cdc")
    if uart not in ("fifo", "dma"):
        raise UsageError(f"unknown kind of UART {uart!r}", "fifo or dma")
    if not 0 < speed <= MOST_SPEED:
        raise UsageError(f"cannot be {speed:g} times as fast", f"above 0, up to {MOST_SPEED}")
    heap_bytes = _size(heap, "heap", _LEAST_HEAP)
    flash_bytes = _size(flash or chip.get("files", FLASH), "flash", _LEAST_FLASH)
    raw_bytes = _size(raw or ("0" if like else RAW), "raw flash", 0)
    for size in (flash_bytes, raw_bytes):
        if size % BLOCK_BYTES:
            raise UsageError(f"flash of {size} bytes is not a multiple of {BLOCK_BYTES}")
    like = like.upper()
    times: dict[str, int] = {key: chip[key] for key in ("program_bytes", "erase_us", "program_us") if chip}
    fifo_bytes = chip["fifo_bytes"] if chip and uart == "fifo" else 0
    return [
        Settings(f"sim{i}", heap_bytes, flash_bytes, usb, paced, raw_bytes, like, speed, **times, fifo_bytes=fifo_bytes)
        for i in range(n)
    ]


def _imitated(board: str) -> dict[str, Any]:
    """What board.toml tells of a board for `--like`, nothing for none. Raises UsageError."""
    if not board:
        return {}
    data: dict[str, Any] = board_data.load(board).data.get("chip", {})
    if not data:
        known = [board.id for board in board_data.all_boards().values() if "chip" in board.data]
        raise UsageError(f"nothing is known of the flash of {board}", "of these: " + ", ".join(known))
    return data


def read_scenario(path: str | Path | None) -> str:
    """Text of a scenario file. Raises UsageError when it cannot be read."""
    if path is None:
        return ""
    return user_files.read_text(Path(path))


def launch(
    directory: Path,
    boards: list[Settings],
    scenario: str = "",
    *,
    temporary: bool = False,
    keep: bool = False,
    detached: bool = False,
) -> "subprocess.Popen[bytes]":
    """Start a supervisor, see its Config; await_ready() tells how it went. Raises PlatformError where it cannot run."""
    if not sys.platform.startswith("linux"):
        raise PlatformError(
            f"virtual boards need Linux; this is {sys.platform}", "a container or virtual machine works"
        )
    executable, path = _interpreter()
    made = not directory.exists()
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise UsageError(f"cannot use {directory}: {error.strerror}") from None
    if not os.access(directory, os.W_OK | os.X_OK):
        raise UsageError(f"cannot write to {directory}")
    config = Config(
        directory=str(directory),
        boards=[asdict(board) for board in boards],
        executable=executable,
        scenario=scenario,
        detached=detached,
        temporary=temporary,
        made=made,
        keep=keep,
        path=path,
    )
    host = str(Path(sentill_host.__file__).parents[1])
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _MAIN.format(host)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE if not detached else subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C in a terminal is for this process, which then ends the supervisor in order
    )
    if process.stdin:
        with contextlib.suppress(BrokenPipeError):  # await_ready() tells why
            process.stdin.write(json.dumps(asdict(config)).encode() + b"\n")
            process.stdin.flush()
    return process


def await_ready(process: "subprocess.Popen[bytes]") -> dict[str, Any]:
    """The supervisor's description of its boards once all run. Raises what it reports, or PlatformError."""
    if process.stdout is None:
        raise PlatformError("the supervisor has no stdout")
    line, end_s = b"", time.monotonic() + START_S
    while not line.endswith(b"\n"):
        left_s = end_s - time.monotonic()
        if left_s <= 0 or not select.select([process.stdout], [], [], left_s)[0]:
            raise PlatformError(f"the virtual boards did not start within {START_S:.0f} s", "fewer boards at once?")
        data = os.read(process.stdout.fileno(), 65536)
        if not data:
            reason = process.stderr.read().decode(errors="replace").strip() if process.stderr else ""
            raise PlatformError("the virtual boards did not start" + (f": {reason.splitlines()[-1]}" if reason else ""))
        line += data
    answer: dict[str, Any] = json.loads(line)
    if "error" in answer:
        kind = getattr(errors, answer["error"], PlatformError)
        raise kind(answer["message"], answer.get("hint", ""))
    return answer


def end(process: "subprocess.Popen[bytes]") -> None:
    """End a supervisor of this process in order, and kill it should it not listen."""
    process.terminate()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream:
            with contextlib.suppress(BrokenPipeError):
                stream.close()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def running(directory: Path) -> dict[str, Any] | None:
    """What the runtime file in `directory` says, when the process it names is alive and the same; else None."""
    try:
        info: dict[str, Any] = json.loads((directory / RUNTIME).read_text(encoding="utf-8"))
        alive = info["started"] and process_start(info["pid"]) == info["started"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return info if alive else None


def stop(directory: Path, keep: bool = False) -> bool:
    """End the boards of `directory` and remove their files; `keep` leaves the flash images. False: none ran.

    The recorded pid is used only while it is the recorded process.
    """
    info = running(directory)
    if info is None:
        return False
    try:
        request(directory, "stop", keep=keep)
    except LinkError:
        os.kill(info["pid"], signal.SIGTERM)
    end_s = time.monotonic() + STOP_S
    while process_start(info["pid"]) == info["started"]:
        if time.monotonic() > end_s:
            os.kill(info["pid"], signal.SIGKILL)
            break
        time.sleep(0.02)
    return True


def _interpreter() -> tuple[str, list[str]]:
    """Executable ("" for the library) and the sys.path entries the library needs."""
    chosen = os.environ.get("MICROPYTHON", "")
    if chosen:
        found = shutil.which(chosen)
        if not found:
            raise PlatformError(f"$MICROPYTHON names no program: {chosen}")
        return found, []
    spec = importlib.util.find_spec("micropython_run")
    if spec is not None and spec.origin:
        return "", [str(Path(spec.origin).parent)]
    found = shutil.which("micropython")
    if not found:
        raise PlatformError(
            "no MicroPython interpreter for this computer",
            "build MicroPython's Unix port and put `micropython` on PATH, or name it in $MICROPYTHON",
        )
    return found, []


def _size(text: str, what: str, least: int) -> int:
    """Bytes of "192K" or "1M"."""
    factor = {"K": 1 << 10, "M": 1 << 20}.get(text[-1:].upper(), 1)
    digits = text[:-1] if factor > 1 else text
    if not digits.isdecimal() or not least <= int(digits) * factor <= 1 << 30:
        raise UsageError(f"{what} of {text!r}", f"bytes, or like 192K or 2M; at least {least >> 10}K")
    return int(digits) * factor
