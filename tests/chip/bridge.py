"""A chip behind pseudo-terminals, so that unmodified mpremote and `sentill` commands reach it.

    python -m tests.chip.bridge FIRMWARE.uf2 LINK [--files IMAGE]    # by hand: LINK is the USB port, LINK.uart the line

In a measurement the bridge and the command take turns by one clock, see host_clock.py: times come out as if the chip
and this computer both ran at their own speed, and no wait ends early because the emulation is slow.
"""

import argparse
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import time
import tty
from collections.abc import Callable
from pathlib import Path

from tests.chip.chip import Chip, Firmware, Stuck
from tests.chip.host_clock import NOBODY, ClockFile, Slot

_STEP_S = 0.002
_FRAME_NS = 500_000  # in which a computer's controller collects what comes over USB
_TURN_S = 0.003  # real time that a command gets to notice what was sent to it
_SILENT_S = 0.005  # real time without processor time and without a word: it waits for something else
_BURY_S = 0.02  # real time after which processes that died are looked for again
_MOST_WAITING = 1 << 16  # bytes kept for a command that does not read


class _Port:
    """One pseudo-terminal, at a link that is there while the device is."""

    def __init__(self, link: Path):
        self.link = link
        self.master = self.slave = -1
        self.out = bytearray()

    def up(self) -> None:
        self.down()
        self.master, self.slave = pty.openpty()
        tty.setraw(self.slave)
        os.set_blocking(self.master, False)
        fresh = self.link.with_name(self.link.name + ".new")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(os.ttyname(self.slave))
        fresh.replace(self.link)

    def down(self) -> None:
        if self.master >= 0:
            self.link.unlink(missing_ok=True)
            os.close(self.master)
            os.close(self.slave)
            self.master = self.slave = -1
            self.out.clear()

    def send(self) -> bool:
        """Hand on what waits; whether something went."""
        if self.master < 0 or not self.out:
            return False
        try:
            done = os.write(self.master, bytes(self.out[:4096]))
        except BlockingIOError:
            return False
        del self.out[:done]
        return True

    def take(self) -> bytes:
        """What was written to the port."""
        if self.master < 0 or not select.select([self.master], [], [], 0)[0]:
            return b""
        try:
            return os.read(self.master, 4096)
        except (BlockingIOError, OSError):
            return b""


class Bridge:
    """`chip` at the links `folder`/usb and `folder`/uart.

    `events` are what happened on the chip, with its time in seconds: "reset", and the type of each frame that began to
    leave on the UART.
    """

    def __init__(self, chip: Chip, folder: Path):
        folder.mkdir(parents=True, exist_ok=True)
        self.chip = chip
        self.usb = _Port(folder / "usb")
        self.uart = _Port(folder / "uart")
        self.clock_path = folder / "clock"
        # Of the user who gives the commands, without a memory of boards: the next bridge may put back an older flash.
        self.home = folder / "home"
        shutil.rmtree(self.home, ignore_errors=True)
        self._clock = ClockFile(str(self.clock_path), create=True)
        self._rung: dict[int, Slot] = {}
        self._threads: dict[int, tuple[int, int, float]] = {}
        self._budget_s = 0.0
        self._bury_at = 0.0
        self._looked = time.monotonic()
        self._pace = (time.monotonic(), chip.ns / 1e9)
        self.events: list[tuple[float, str]] = []
        self._line = bytearray()
        self._line_s = 0.0
        self._hands_on = False
        chip.on_console = self._on_console
        chip.on_sent = self._on_sent
        chip.on_reset = self._on_reset
        self.uart.up()
        if chip.connected:
            self.usb.up()

    def close(self) -> None:
        """Pull the cables."""
        self.usb.down()
        self.uart.down()

    def _on_console(self, data: bytes) -> None:
        if len(self.usb.out) < _MOST_WAITING:
            self.usb.out += data
        if not self._hands_on:
            self._hands_on = True
            self.chip.alarm(lambda: self.chip.stop("console")).schedule(_FRAME_NS)

    def _on_sent(self, byte: int, start_ns: float) -> None:
        self.uart.out.append(byte)
        if not self._line:
            self._line_s = start_ns / 1e9
        self._line.append(byte)
        if byte == 10:
            if self._line.startswith(b"#"):
                self.events.append((self._line_s, chr(self._line[1])))
            self._line.clear()

    def _on_reset(self) -> None:
        self.events.append((self.chip.ns / 1e9, "reset"))
        self._line.clear()
        self.usb.down()

    def last_start_s(self) -> float:
        """Seconds from the last reset that a node came up after to its identity frame. Raises Stuck."""
        reset = None
        took = None
        for at, what in self.events:
            if what == "reset":
                reset = at
            elif what == "I" and reset is not None:
                took, reset = at - reset, None
        if took is None:
            raise Stuck("no node came up after a reset")
        return took

    def sentill(self, *arguments: str, limit_s: float = 600.0, check: bool = True) -> str:
        """Run a `sentill` command that may name the links; its stdout. Raises RuntimeError with what it said."""
        return self.command(["sentill", *arguments], limit_s, check)

    def module(self, *arguments: str, limit_s: float = 600.0, check: bool = True) -> str:
        """Run `python -m ARGUMENTS`, as `sentill`."""
        return self.command(["-m", *arguments], limit_s, check)

    def command(
        self, arguments: list[str], limit_s: float, check: bool, environment: dict[str, str] | None = None
    ) -> str:
        """Run what host_clock.py takes; its stdout. `limit_s` is of the chip's time."""
        command = [sys.executable, "-m", "tests.chip.host_clock", str(self.clock_path), *arguments]
        root = Path(__file__).resolve().parents[2]
        environment = {
            **os.environ, **(environment or {}), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(root),
            "XDG_DATA_HOME": str(self.home / "data"), "XDG_CONFIG_HOME": str(self.home / "config"),
            "SENTILL_JOURNALS": str(self.home / "journals"),
        }  # fmt: skip
        pipe = subprocess.PIPE
        process = subprocess.Popen(
            command, stdout=pipe, stderr=pipe, stdin=subprocess.DEVNULL, env=environment, bufsize=0
        )
        assert process.stdout and process.stderr
        said = {process.stdout: b"", process.stderr: b""}
        os.set_blocking(process.stdout.fileno(), False)
        os.set_blocking(process.stderr.fileno(), False)

        def ended() -> bool:
            for stream in said:
                said[stream] += stream.read() or b""
            return process.poll() is not None

        try:
            self.serve(ended, limit_s)
        except Stuck as stuck:
            told = b"".join(said.values()).decode(errors="replace")
            raise Stuck(f"{' '.join(arguments)}: {stuck}; it said {told[-2000:]}") from None
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
            ended()
            process.stdout.close()
            process.stderr.close()
        output, error = (text.decode(errors="replace") for text in said.values())
        if check and process.returncode:
            raise RuntimeError(f"{' '.join(arguments)}: exit {process.returncode}\n{output}\n{error}")
        return output

    def serve(self, done: Callable[[], bool], limit_s: float) -> None:
        """Let chip and commands run until `done()`. Raises Stuck when that takes longer than `limit_s` of chip time."""
        end = self.chip.ns / 1e9 + limit_s
        while not done():
            allowed = self._allowed()
            if allowed > 0:
                self.chip.run(min(allowed, _STEP_S))
                self._clock.now_s = self.chip.ns / 1e9
                self._hands_on = False
            else:
                time.sleep(0.00005)
            self._move()
            if self.chip.ns / 1e9 > end:
                raise Stuck(f"the command did not end within {limit_s:g} s of the chip's time")

    def _move(self) -> None:
        if self.chip.connected and self.usb.master < 0:
            self.usb.up()
        if self.chip.usb.unsent < 4096 and (data := self.usb.take()):
            self.chip.usb.write(data)
        if data := self.uart.take():
            self.chip.feed(data)
        if not (self.usb.out or self.uart.out):
            return
        before = self._clock.slots()
        if self.usb.send() | self.uart.send() and any(slot.until_s for slot in before.values()):
            # The command's turn, if it waits for this.
            end = time.monotonic() + _TURN_S
            while time.monotonic() < end and self._clock.slots() == before:
                time.sleep(0.00005)

    def _allowed(self) -> float:
        """Seconds that the chip may run now."""
        now = self.chip.ns / 1e9
        slots = self._living()
        if not slots:
            return self._paced(now)
        self._pace = (time.monotonic(), now)
        horizon = min((slot.until_s for slot in slots.values() if slot.until_s), default=float("inf")) - now
        if horizon <= 0:
            for number, slot in slots.items():
                if 0 < slot.until_s <= now and self._rung.get(number) != slot:
                    self._rung[number] = slot
                    self._clock.ring(number)
            return 0.0
        waiting = {slot.pid for slot in slots.values() if slot.until_s}
        elapsed = time.monotonic() - self._looked
        self._looked += elapsed
        spent = [self._spent_s(slot, slot.pid in waiting, elapsed) for slot in slots.values() if not slot.until_s]
        if all(seconds is None for seconds in spent):  # nobody computes
            self._budget_s = 0.0
            return horizon
        self._budget_s += max(seconds for seconds in spent if seconds is not None)
        allowed = min(self._budget_s, horizon, _STEP_S)
        self._budget_s -= allowed
        return allowed

    def _spent_s(self, slot: Slot, others_wait: bool, elapsed_s: float) -> float | None:
        """Processor time that a thread which does not wait took since the last look.

        One that neither computes nor would if it were let waits for something that is not the chip: for another thread
        of its own, which waits for the chip (None: the chip need not wait for this one), or for a program, as long as
        that takes.
        """
        used, queued = _processor_ns(slot.thread)
        used_before, queued_before, since = self._threads.get(slot.thread, (0, 0, 0.0))
        now = time.monotonic()
        if (used, queued) != (used_before, queued_before) or _state(slot.thread) == "R":
            self._threads[slot.thread] = used, queued, now
            return (used - used_before) / 1e9 if since else 0.0
        if now - since < _SILENT_S:
            return 0.0
        return None if others_wait else elapsed_s

    def _living(self) -> dict[int, Slot]:
        slots = self._clock.slots()
        if time.monotonic() > self._bury_at:
            self._bury_at = time.monotonic() + _BURY_S
            for number in [number for number, slot in slots.items() if _state(slot.thread) in "ZX"]:
                self._clock.put(number, NOBODY)
                del slots[number]
        return slots

    def _paced(self, now: float) -> float:
        """Nobody lives by the clock: never faster than real time."""
        real, chip = self._pace
        ahead = (now - chip) - (time.monotonic() - real)
        if ahead < -0.05:
            self._pace = (time.monotonic(), now)
            return _STEP_S
        if ahead > 0:
            time.sleep(min(ahead, 0.005))
        return _STEP_S if ahead <= 0 else 0.0


def _processor_ns(thread: int) -> tuple[int, int]:
    """Nanoseconds that a thread had a processor, and that it waited for one."""
    try:
        used, queued, _ = Path(f"/proc/{thread}/schedstat").read_text().split()
    except (OSError, ValueError):
        return 0, 0
    return int(used), int(queued)


def _state(thread: int) -> str:
    """What /proc tells of a thread: R for one that runs or would, Z and X for one that has ended."""
    try:
        return Path(f"/proc/{thread}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return "X"


def main() -> None:
    """Serve until a signal, or for --seconds of real time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("firmware", type=Path)
    parser.add_argument("link", type=Path)
    parser.add_argument("--files", type=Path, help="image of the file system to begin with; written back at the end")
    parser.add_argument("--seconds", type=float, default=float("inf"))
    options = parser.parse_args()
    image = options.files.read_bytes() if options.files and options.files.exists() else None
    chip = Chip(Firmware(options.firmware), image)
    folder = options.link.with_name(options.link.name + ".d")
    bridge = Bridge(chip, folder)
    bridge.usb.link, bridge.uart.link = options.link, options.link.with_name(options.link.name + ".uart")
    bridge.uart.up()
    ends: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda got, _: ends.append(got))
    begun = time.monotonic()
    print(f"chip: {options.link}, its UART: {bridge.uart.link}, its clock: {bridge.clock_path}", flush=True)
    try:
        bridge.serve(lambda: bool(ends) or time.monotonic() - begun > options.seconds, float("inf"))
    finally:
        bridge.close()
        if options.files:
            options.files.write_bytes(chip.files())


if __name__ == "__main__":
    main()
