"""One virtual board: its interpreter's life from reset to reset, its console with Ctrl-C, its cables."""

import contextlib
import errno
import fcntl
import os
import random
import selectors
import signal
import struct
import termios
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sentill_host.virtual.child import MARK, NUDGE, Child, Starter, activity, catches_interrupts
from sentill_host.virtual.hardware import Hardware
from sentill_host.virtual.loop import Loop, Outlet, Timer
from sentill_host.virtual.onboard import page
from sentill_host.virtual.ports import Numbers, Openings, Port
from sentill_host.virtual.watchdog import Watchdog

BLOCK_BYTES = 4096
CAUSES = {1: "power", 2: "hard", 3: "watchdog", 4: "deepsleep", 5: "soft"}

_CTRL_A, _CTRL_C = b"\x01", b"\x03"
_RAW_BANNER = b"raw REPL; CTRL-B to exit\r\n"
_USB_BACK_S = 0.5
_SHORT_RUN_S = 0.2  # a program that resets itself faster than this is held back, to spare the computer
_CTRL_C_BUSY_TICKS = 10
_CTRL_C_AGAIN_S = 0.05
_NUDGE_S = 0.02
_WIRE_SLICE_S = 0.001  # 11 bytes at 115200 baud: less than a UART holds, so that none is lost for coming in a lump


@dataclass(frozen=True)
class Settings:
    """How a board is built. `usb`: "uart_bridge" keeps the port over resets (a serial chip between the board and the
    cable), "usb_cdc" loses it for half a second at a hard reset (the chip is its own USB device).

    `like` names the board it imitates, empty for none: then flash takes no time and the UART is a wire only when paced.
    `speed` is how many times as fast as that board they are. While the flash is busy a UART that is read by interrupts
    keeps `fifo_bytes` and loses what else comes in; 0: it loses nothing.
    """

    name: str
    heap_bytes: int
    flash_bytes: int
    usb: str = "uart_bridge"
    paced: bool = False
    raw_bytes: int = 0  # of the flash region beside the file system
    like: str = ""
    speed: float = 1.0
    program_bytes: int = 256  # least program of the file system
    erase_us: int = 0  # of a block, at speed 1
    program_us: int = 0  # of 256 bytes, at speed 1
    fifo_bytes: int = 0


class Noise:
    """A bad cable: about one in `every` bytes is changed, lost or doubled, `count` in all."""

    def __init__(self, every: int, count: int, seed: int):
        self._random = random.Random(seed)
        self._every = max(1, every)
        self._left = count

    def on(self, data: bytes) -> bytes:
        """What arrives of `data`."""
        out = bytearray()
        for byte in data:
            if self._left and self._random.randrange(self._every) == 0:
                self._left -= 1
                out += self._random.choice((bytes([byte ^ 1 << self._random.randrange(8)]), b"", bytes([byte, byte])))
            else:
                out.append(byte)
        return bytes(out)


def _chip_id(path: Path) -> bytes:
    """The 8 bytes in the file at `path`, made up when it is not there: a board made anew is another board."""
    if not path.exists():
        path.write_bytes(os.urandom(8))
    return path.read_bytes()


class VirtualBoard:
    """A board behind two ports, `usb` (its console) and `uart` (the terminal's line).

    States: off, starting, running, bootloader. `changed` is called when it changes.
    """

    def __init__(
        self,
        loop: Loop,
        openings: Openings,
        numbers: Numbers,
        starter: Starter,
        settings: Settings,
        directory: Path,
        changed: Callable[[], None],
    ):
        self._loop = loop
        self._starter = starter
        self._changed = changed
        self.settings = settings
        self.directory = directory
        directory.mkdir(exist_ok=True)
        self.image = directory / "flash.img"
        size = settings.flash_bytes + settings.raw_bytes
        if not self.image.exists() or self.image.stat().st_size != size:
            with open(self.image, "wb") as image:
                image.truncate(settings.flash_bytes)
                image.seek(settings.flash_bytes)
                image.write(b"\xff" * settings.raw_bytes)
        self.chip = directory / "chip"
        blocks = settings.flash_bytes // BLOCK_BYTES, settings.raw_bytes // BLOCK_BYTES
        self.hardware = Hardware(_chip_id(self.chip), *blocks, settings.program_bytes)
        erase_us, program_us = settings.erase_us / settings.speed, settings.program_us / settings.speed
        self.hardware.flash_times(round(erase_us), round(program_us))
        self.usb = Port(loop, openings, numbers, directory / "usb", self._from_usb, self._usb_room)
        self.uart = Port(loop, openings, numbers, directory / "uart", self._from_uart, self._uart_room)
        self.state = "off"
        self.boots = 0
        self.interrupts = 0
        self.last_event = ""
        self.at_prompt = False  # main.py has ended: the prompt is there, or what somebody runs from it
        self.fault = ""
        self._child: Child | None = None
        self._then: Callable[[], None] | None = None
        self._stdin: Outlet | None = None
        self._to_uart: Outlet | None = None
        self._early = bytearray()  # typed before the interpreter was ready
        self._tail = b""  # end of the output, tells how a program ended
        self._swallow = b""  # output is hidden until this appears
        self._hidden = b""
        self._told = b""
        self._started_s = 0.0
        self._interrupted: tuple[float, int] | None = None
        self._uart_held = False
        self._uart_baud = 115200
        self._uart_in = self._uart_lost = 0
        self._paced = settings.paced
        self._deaf_to = (-1, 0)  # flash operation, bytes that came in during it
        self._watchdog = Watchdog(
            loop, lambda: self.hardware.feeds, lambda: self.hard_reset(page.WDT_RESET, "watchdog")
        )
        self._timers: dict[int, Timer] = {}  # the program's own, see onboard/machine.py
        self._pending: Timer | None = None
        self._release: Timer | None = None
        self._retry: Timer | None = None
        self._reboot_after_cut: float | None = None
        self._noise: Noise | None = None

    # Power and resets

    def power_on(self) -> None:
        """Plug both cables and start."""
        self.usb.plug()
        self.uart.plug()
        self.pace(self.settings.paced)
        self._start(page.PWRON_RESET)

    def power_off(self, then: Callable[[], None] | None = None) -> None:
        """Kill the interpreter where it stands; then call `then`, or stay off."""
        self._cancel_pending()
        self._watchdog.stop()
        self._then = then or self._nothing
        if self._child:
            os.kill(self._child.pid, signal.SIGKILL)
        elif then:
            self._then = None
            then()
        self._set_state("off")

    def power_cycle(self, off_s: float = 0.5) -> None:
        """Off, and on again after `off_s`."""
        self._event("power cycle")
        self.power_off(lambda: self._later(off_s, lambda: self._start(page.PWRON_RESET)))

    def hard_reset(self, cause: int = page.HARD_RESET, event: str = "hard reset") -> None:
        """Reset the chip; a board that is its own USB device leaves the bus for a moment."""
        self._event(event)

        def restart() -> None:
            if self.settings.usb == "usb_cdc":
                self.usb.unplug()
                self._later(_USB_BACK_S, lambda: self._start(cause))
            else:
                self._later(0, lambda: self._start(cause))

        self.power_off(restart)

    def close(self) -> None:
        """End for good: interpreter, ports, page. Waits for the interpreter to be gone."""
        self._cancel_pending()
        for timer in (self._release, self._retry):
            if timer:
                timer.cancel()
        if self._child:
            os.kill(self._child.pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self._child.pid, 0)
            self._drop_child()
        self._watchdog.stop()
        self.usb.unplug()
        self.uart.unplug()
        self.hardware.close()

    def _nothing(self) -> None:
        """What follows a power-off without a plan."""

    def _start(self, cause: int, raw: bool = False) -> None:
        self._pending = None
        self._then = None
        self.usb.plug()
        self.at_prompt = False
        if cause != page.SOFT_RESET:
            self.hardware.power_up()
            self._watchdog.stop()
        self.hardware.boot(cause, skip_main=raw)
        child = self._starter.start(self.settings.heap_bytes, str(self.image), self.hardware.fd)
        self._child = child
        self._watchdog.follow(child.pid)
        self._stdin = Outlet(self._loop, child.stdin.fileno(), self._stdin_room)
        self._to_uart = Outlet(self._loop, child.uart.fileno(), self._to_uart_room)
        self._early.clear()
        self._tail = self._hidden = self._told = b""
        self._swallow = b""
        self._interrupted = None
        self.boots += 1
        self._started_s = time.monotonic()
        if raw:
            self._swallow = MARK.encode()
        self._loop.watch(child.control, selectors.EVENT_READ, self._control)
        self._loop.watch(child.pidfd, selectors.EVENT_READ, self._exited)
        self._watch_stdout(True)
        self._watch_child_uart(True)
        self._set_state("starting")

    def _exited(self) -> None:
        child = self._child
        if child is None:
            return
        _, status = os.waitpid(child.pid, 0)
        self._control()
        while self._read_stdout():
            pass
        self._read_child_uart()
        then, tail, state = self._then, self._tail, self.state
        lived_s = time.monotonic() - self._started_s
        self._drop_child()
        if then:
            self._then = None
            then()
            return
        if os.WIFSIGNALED(status):
            self._event(f"crash: {signal.Signals(os.WTERMSIG(status)).name}")
            self._set_state("off")
            self._later(_SHORT_RUN_S, lambda: self._start(page.PWRON_RESET))
            return
        if state == "starting":
            self.fault = f"the interpreter ended before it was ready: {tail[-400:].decode(errors='replace').strip()}"
            self._set_state("off")
            return
        # Ctrl-D at a prompt or SystemExit. The raw REPL ends with "OK" after its prompt, or after two end marks.
        raw = tail.endswith((b">OK\r\n", b"\x04\x04"))
        self._event("soft reset")
        self.usb.write(b"MPY: soft reboot\r\n")
        self._set_state("off")
        wait_s = _SHORT_RUN_S if lived_s < _SHORT_RUN_S and not raw else 0
        self._later(wait_s, lambda: self._start(page.SOFT_RESET, raw))

    def _drop_child(self) -> None:
        if self._child is None:
            return
        for outlet in (self._stdin, self._to_uart):
            if outlet:
                outlet.close()
        self._stdin = self._to_uart = None
        child, self._child = self._child, None
        for fd in (child.control, child.pidfd, child.stdout, child.uart.fileno(), child.stdin.fileno()):
            self._loop.forget(fd)
        child.close()
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        if self._retry:
            self._retry.cancel()
        self.usb.hold(False)
        self.uart.hold(self._uart_held)

    def _later(self, delay_s: float, call: Callable[[], None]) -> None:
        self._cancel_pending()
        self._pending = self._loop.after(delay_s, call)

    def _cancel_pending(self) -> None:
        if self._pending:
            self._pending.cancel()
            self._pending = None

    def _set_state(self, state: str) -> None:
        self.state = state
        self._changed()

    def _event(self, text: str) -> None:
        self.last_event = text

    # What the board tells its supervisor

    def _control(self) -> None:
        if self._child is None:
            return
        try:
            data = os.read(self._child.control, 4096)
        except BlockingIOError:
            return
        if not data:
            self._loop.forget(self._child.control)
            return
        *lines, self._told = (self._told + data).split(b"\n")
        for line in lines:
            word, *rest = line.decode("ascii", "replace").split(" ")
            numbers = [int(text) for text in rest if text.isdecimal()]
            self._told_line(word, numbers[0] if numbers else 0, *numbers[1:])

    def _told_line(self, word: str, number: int, *more: int) -> None:
        if self._then is not None:  # killed already; its last words count no more
            return
        if word == "ready":
            self._set_state("running")
            self._feed_early()
        elif word == "reset":
            self.hard_reset()
        elif word == "bootloader":
            self._event("bootloader")
            self.power_off(lambda: self._set_state("bootloader"))
        elif word == "deepsleep":
            self._event("deepsleep")
            self.power_off(
                lambda: self._later(number / 1000, lambda: self._start(page.DEEPSLEEP_RESET)) if number else None
            )
        elif word == "cut":
            self._event("power cut")
            self.hardware.cut_after(None)
            again = self._reboot_after_cut
            self.power_off(None if again is None else lambda: self._later(again, lambda: self._start(page.PWRON_RESET)))
        elif word == "repl":
            self.at_prompt = True
        elif word == "wdt":
            self._watchdog.start(number, self._child.pid if self._child else 0)
        elif word == "timer" and len(more) == 3:
            self._set_timer(number, *more)
        elif word == "baud":
            self._uart_baud = number or 115200
            self.pace(self._paced)

    def _set_timer(self, number: int, ms: int, again: int, resets: int) -> None:
        """Let the program's timer feed the watchdog, or reset the board, in `ms`; 0 ends it."""
        if number in self._timers:
            self._timers.pop(number).cancel()

        def due() -> None:
            if again:
                self._set_timer(number, ms, again, resets)
            self.hard_reset() if resets else self._watchdog.feed()

        if ms:
            self._timers[number] = self._loop.after(ms / 1000, due)

    # Console

    def _watch_stdout(self, wanted: bool) -> None:
        if self._child:
            self._loop.watch(self._child.stdout, selectors.EVENT_READ, self._stdout if wanted else None)

    def _stdout(self) -> None:
        if not self._read_stdout() or self.usb.full:
            self._watch_stdout(False)

    def _read_stdout(self) -> bool:
        """Pass on some output; False at its end."""
        if self._child is None:
            return False
        try:
            data = os.read(self._child.stdout, 4096)
        except BlockingIOError:
            return self._alive()
        if not data:
            return False
        if self._swallow:
            data = self._reveal(data)
        self._tail = (self._tail + data)[-512:]
        if self._noise:
            data = self._noise.on(data)
        self.usb.write(data)
        return True

    def _alive(self) -> bool:
        return self._child is not None and activity(self._child.pid)[0] not in "XZ"

    def _reveal(self, data: bytes) -> bytes:
        """Hide what lies between the end of boot.py and the raw REPL's banner: the friendly banner and prompt."""
        data, self._hidden = self._hidden + data, b""
        shown = b""
        if self._swallow == MARK.encode():
            shown, mark, data = data.partition(self._swallow)
            if not mark:
                keep = next((n for n in range(len(self._swallow) - 1, 0, -1) if shown.endswith(self._swallow[:n])), 0)
                self._hidden = shown[len(shown) - keep :]
                return shown[: len(shown) - keep]
            self._swallow = _RAW_BANNER
            if self._stdin:
                self._stdin.write(_CTRL_A)
            self._feed_early()
        _, banner, rest = data.partition(self._swallow)
        if not banner:
            self._hidden = data
            return shown
        self._swallow = b""
        return shown + banner + rest

    def _usb_room(self) -> None:
        if not self.usb.full:
            self._watch_stdout(True)

    def _from_usb(self, data: bytes) -> None:
        if self._noise:
            data = self._noise.on(data)
        if self.state == "running":
            self._feed(data)
        elif self.state == "starting":
            self._early += data

    def _feed(self, data: bytes) -> None:
        """Type `data`. Ctrl-C interrupts a program that wants that; at a prompt, or with kbd_intr(-1), it is a byte."""
        if self._stdin is None:
            return
        if self._swallow == MARK.encode():  # boot.py runs on the way to the raw REPL, which gets the rest
            if _CTRL_C not in data or not self._interrupt():
                self._early += data
            return
        head, ctrl_c, rest = data.partition(_CTRL_C)
        while ctrl_c:
            self._stdin.write(head)
            if not self._interrupt():
                self._stdin.write(_CTRL_C)
                if self.at_prompt:
                    self._watch_ctrl_c()
            head, ctrl_c, rest = rest.partition(_CTRL_C)
        self._stdin.write(head)
        self.usb.hold(self._stdin.waiting > 0)

    def _feed_early(self) -> None:
        early, self._early = bytes(self._early), bytearray()
        self._feed(early)

    def _stdin_room(self) -> None:
        self.usb.hold(False)

    def _interrupt(self) -> bool:
        """Interrupt the program if it wants that; False if it does not.

        An interpreter with a handler of its own (see child.INTERRUPT) dies of a second SIGINT too early.
        """
        if self._child is None:
            return False
        pid = self._child.pid
        if not catches_interrupts(pid):
            return False
        if self._interrupted is not None and self._starter.interrupt == signal.SIGINT:
            state, ticks = activity(pid)
            if state == "R" and ticks - self._interrupted[1] < _CTRL_C_BUSY_TICKS:
                return True  # the last one is still on its way: as on a chip, two are one
        # Stopped, the program cannot drop its handler between the look and the signal, which would then kill it.
        os.kill(pid, signal.SIGSTOP)
        deadline_s = time.monotonic() + 1.0
        while activity(pid)[0] not in "TXZ" and time.monotonic() < deadline_s:
            os.sched_yield()
        caught = catches_interrupts(pid)
        if caught:
            self._interrupted = (time.monotonic(), activity(pid)[1])
            self.interrupts += 1
            os.kill(pid, self._starter.interrupt)
        os.kill(pid, signal.SIGCONT)
        if caught and self._starter.interrupt != signal.SIGINT:
            self._loop.after(_NUDGE_S, lambda: self._nudge(pid))
        return caught

    def _nudge(self, pid: int) -> None:
        if self._child is not None and self._child.pid == pid:
            os.kill(pid, NUDGE)

    def _watch_ctrl_c(self) -> None:
        """A Ctrl-C typed ahead of a program that has just been sent reaches its prompt too late: interrupt, then."""
        if self._retry:
            self._retry.cancel()
        self._retry = self._loop.after(_CTRL_C_AGAIN_S, self._ctrl_c_again)

    def _ctrl_c_again(self) -> None:
        self._retry = None
        if self._child is None or self.state != "running":
            return
        unread = struct.unpack("i", fcntl.ioctl(self._child.stdin, termios.TIOCOUTQ, b"\0\0\0\0"))[0]
        if unread and not self._interrupt():
            self._watch_ctrl_c()

    # The terminal's line

    def pace(self, paced: bool) -> None:
        """Let both ports move bytes as slowly as their wires: 115200 baud, and what the program set for the UART.

        The UART of a board that imitates another is always as slow as that.
        """
        self._paced = paced
        self.usb.pace(11520 if paced else 0)
        if self.settings.like:
            self.uart.pace(self._uart_baud / 10 * self.settings.speed, _WIRE_SLICE_S)
        else:
            self.uart.pace(self._uart_baud / 10 if paced else 0)

    def uart_in(self, text: str) -> None:
        """Let these characters, one byte each, come in on the UART as if the terminal had sent them."""
        self._from_uart(text.encode("latin-1"))

    def hold_uart(self, duration_s: float | None) -> None:
        """Interrupt the UART's wires for `duration_s`, None: until held for 0 s. Bytes from the board are lost."""
        if self._release:
            self._release.cancel()
            self._release = None
        self._uart_held = duration_s is None or duration_s > 0
        self.uart.hold(self._uart_held)
        if duration_s:
            self._release = self._loop.after(duration_s, lambda: self.hold_uart(0))

    def _watch_child_uart(self, wanted: bool) -> None:
        if self._child:
            fd = self._child.uart.fileno()
            self._loop.watch(fd, selectors.EVENT_READ, self._child_uart if wanted else None)

    def _child_uart(self) -> None:
        if not self._read_child_uart() or self.uart.full:
            self._watch_child_uart(False)

    def _read_child_uart(self) -> bool:
        if self._child is None:
            return False
        try:
            data = self._child.uart.recv(4096)
        except BlockingIOError:
            return True
        except OSError as error:
            if error.errno != errno.ECONNRESET:
                raise
            return False
        if self._uart_held:
            self._uart_lost += len(data)
        else:
            self.uart.write(data)
        return bool(data)

    def _uart_room(self) -> None:
        if not self.uart.full:
            self._watch_child_uart(True)

    def _from_uart(self, data: bytes) -> None:
        self._uart_in += len(data)
        if self._to_uart is None:
            self._uart_lost += len(data)
            return
        if self.uart.bytes_per_s and self._to_uart.waiting:
            self._uart_lost += len(data)  # at a wire's speed nothing waits for a program that does not read
            return
        self._to_uart.write(self._heard(data))
        self.uart.hold(self._uart_held or self._to_uart.waiting > 0)

    def _heard(self, data: bytes) -> bytes:
        """What of `data` a chip hears: with interrupts off its UART holds no more than a few bytes."""
        busy_us, operation = self.hardware.flash_busy if self.settings.fifo_bytes else (0, 0)
        # What is over before the UART is full loses nothing, even when a slice of the line happens to end within it.
        if busy_us * self.uart.bytes_per_s <= self.settings.fifo_bytes * 1_000_000:
            return data
        held = self._deaf_to[1] if self._deaf_to[0] == operation else 0
        heard = data[: self.settings.fifo_bytes - held]
        self._deaf_to = operation, held + len(heard)
        self._uart_lost += len(data) - len(heard)
        return heard

    def _to_uart_room(self) -> None:
        self.uart.hold(self._uart_held)

    # Cable and faults

    def pull_cable(self, duration_s: float | None) -> None:
        """Take the USB cable out for `duration_s` (None: for good); the board keeps running on the terminal's power."""
        self._event("cable pulled")
        self.usb.unplug()
        if duration_s is not None:
            self._loop.after(duration_s, self.usb.plug)
        self._watch_stdout(True)

    def cut_flash(self, writes: int | None, torn: str, seed: int, reboot_s: float | None) -> None:
        """Let the power fail at a flash write, see Hardware.cut_after; on again after `reboot_s`, or not."""
        self._reboot_after_cut = reboot_s
        self.hardware.cut_after(writes, torn, seed)

    def garble(self, every: int, count: int, seed: int) -> None:
        """Damage about one in `every` bytes on the USB cable, both ways, `count` in all; 0 ends it."""
        self._noise = Noise(every, count, seed) if count else None

    def flood(self, data: bytes) -> None:
        """Put bytes on the console as if the program had printed them."""
        self.usb.write(data)

    def status(self) -> dict[str, Any]:
        """Everything there is to know, for people and tests."""
        child = self._child
        return {
            **{key: value for key, value in asdict(self.settings).items() if key != "usb"},
            "state": self.state,
            "usb": self.usb.name,
            "uart": self.uart.name,
            "usb_device": self.usb.path or None,
            "uart_device": self.uart.path or None,
            "usb_mode": self.settings.usb,
            "pid": child.pid if child else None,
            "busy": bool(child and self.state == "running" and catches_interrupts(child.pid)),
            "boots": self.boots,
            "reset_cause": CAUSES.get(self.hardware.cause, "unknown"),
            "last_event": self.last_event,
            "uptime_s": round(time.monotonic() - self._started_s, 3) if child else 0,
            "interrupts": self.interrupts,
            "at_prompt": self.at_prompt,
            "wdt_ms": self._watchdog.ms,
            "flash": self.hardware.counters(),
            "usb_clients": self.usb.clients,
            "uart_clients": self.uart.clients,
            "usb_lost_bytes": self.usb.lost,
            "uart_in_bytes": self._uart_in,
            "uart_lost_bytes": self.uart.lost + self._uart_lost,
        }
