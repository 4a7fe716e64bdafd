"""`machine` of the virtual board: simulated hardware in place of the Unix port's module, which has no pins."""

import io
import math
import select
import time

import bridge
import page
from umachine import Signal, idle, mem8, mem16, mem32, time_pulse_us  # noqa: F401  (part of the module)

PWRON_RESET = page.PWRON_RESET
HARD_RESET = page.HARD_RESET
WDT_RESET = page.WDT_RESET
DEEPSLEEP_RESET = page.DEEPSLEEP_RESET
SOFT_RESET = page.SOFT_RESET

raw_flash = None
"""A block device over the flash blocks beside the file system, as `esp32.Partition` is; set at power-on."""

file_flash = None
"""One over those of the file system, as `rp2.Flash()` is; set at power-on."""

_frequency_hz = 125_000_000


_tried = None  # a list while a Timer tries its callback: what that would do


def reset() -> None:
    """Reset as the reset pin would: everything in RAM is lost, a USB board leaves the bus for a moment."""
    if _tried is None:
        bridge.perish("reset")
    _tried.append(1)


def soft_reset() -> None:
    """Restart the interpreter, as Ctrl-D at the prompt does."""
    raise SystemExit


def bootloader(_timeout_ms: int = 0) -> None:
    """Enter the bootloader: no REPL until the supervisor resets or power-cycles the board."""
    bridge.perish("bootloader")


def deepsleep(time_ms: int = 0) -> None:
    """Switch off and start over after `time_ms`; 0 sleeps until a power cycle."""
    bridge.perish("deepsleep %d" % time_ms)


def lightsleep(time_ms: int) -> None:
    """Pause for `time_ms`, keeping RAM, or until a byte comes in on the UART. As on a chip whose clocks stand still,
    that byte is lost, and with it what follows within 2 ms."""
    if _ready.poll(time_ms):
        time.sleep_ms(2)
        while _ready.poll(0) and _uart.read(64):
            pass


def warp() -> int:
    """How many times as fast as the clock node time is to run."""
    return bridge.u32(page.WARP) or 1


def reset_cause() -> int:
    """Why the board last started: PWRON_RESET and so on."""
    return bridge.u32(page.RESET_CAUSE)


def unique_id() -> bytes:
    """8 bytes, the same for the same name of the board."""
    uid = bytearray(8)
    bridge.load(page.UID, uid)
    return bytes(uid)


def freq(hz=None):
    """The clock in Hz; setting it changes only what is returned."""
    global _frequency_hz
    if hz is None:
        return _frequency_hz
    _frequency_hz = hz


def disable_irq() -> int:
    """Does nothing: no interrupts are simulated."""
    return 0


def enable_irq(_state: int) -> None:
    """Does nothing: no interrupts are simulated."""


class Pin:
    """A pin. Inputs read the level the supervisor set; outputs are visible to the supervisor."""

    IN = 0
    OUT = 1
    OPEN_DRAIN = 2
    PULL_UP = 1
    PULL_DOWN = 2

    def __init__(self, id, mode=-1, pull=-1, *, value=None) -> None:
        if not 0 <= id < page.CHANNELS:
            raise ValueError("invalid pin")
        self._id = id
        self.init(mode, pull, value=value)

    def init(self, mode=-1, pull=-1, *, value=None) -> None:
        """Set the direction; -1 leaves it."""
        if mode == Pin.IN:
            bridge.set_u8(page.PIN_OUT + self._id, page.PIN_FLOATS)
        elif mode != -1 and bridge.u8(page.PIN_OUT + self._id) == page.PIN_FLOATS:
            bridge.set_u8(page.PIN_OUT + self._id, 0)
        if value is not None:
            self.value(value)

    def value(self, level=None):
        """The level, or set it."""
        if level is not None:
            bridge.set_u8(page.PIN_OUT + self._id, 1 if level else 0)
            return None
        driven = bridge.u8(page.PIN_OUT + self._id)
        return bridge.u8(page.PIN_IN + self._id) if driven == page.PIN_FLOATS else driven

    __call__ = value

    def on(self) -> None:
        """Drive high."""
        self.value(1)

    def off(self) -> None:
        """Drive low."""
        self.value(0)

    high = on
    low = off

    def toggle(self) -> None:
        """Drive the other level."""
        self.value(not self.value())

    def __repr__(self) -> str:
        return "Pin(%d)" % self._id


clock_us = time.ticks_us  # by which the tones go


class ADC:
    """A converter by its number or its Pin."""

    CORE_TEMP = 4

    def __init__(self, id) -> None:
        number = id._id if isinstance(id, Pin) else id
        if not 0 <= number < page.CHANNELS:
            raise ValueError("invalid ADC")
        self._offset = page.ADC + 2 * number
        self._tone = page.TONE + 4 * number

    def read_u16(self) -> int:
        """Reading, 0..65535, with the tone as it is at this moment."""
        value = bridge.u16(self._offset)
        amplitude = bridge.u16(self._tone)
        if amplitude:
            turn = clock_us() * bridge.u16(self._tone + 2) % 1_000_000
            value += int(amplitude * math.sin(2 * math.pi * turn / 1_000_000))
        return min(max(value, 0), 65535)


class Timer:
    """A timer, kept outside the interpreter. A soft reset ends it, and deinit().

    No interrupts are simulated, so its callback may do one of two things: feed a watchdog, or reset the board. Which
    one is found out by calling it once, with nothing happening.
    """

    ONE_SHOT = 0
    PERIODIC = 1
    _made = 0

    def __init__(self, id: int = -1, **settings) -> None:
        Timer._made += 1
        self._number = Timer._made
        if settings:
            self.init(**settings)

    def init(self, *, mode: int = PERIODIC, period: int = -1, callback=None) -> None:
        """Call `callback(timer)` in `period` ms, and with PERIODIC again and again."""
        global _tried
        _tried = does = []
        try:
            callback(self)
        finally:
            _tried = None
        if len(does) != 1 or period < 1:
            raise ValueError("a virtual board's timer feeds the watchdog, or resets")
        bridge.tell("timer %d %d %d %d" % (self._number, period, mode, does[0]))

    def deinit(self) -> None:
        """Stop it."""
        bridge.tell("timer %d 0 0 0" % self._number)


class WDT:
    """Watchdog, enforced from outside the interpreter. It outlives the program and its soft reset; a reset of the chip
    ends it, and deinit()."""

    def __init__(self, id: int = 0, timeout: int = 5000) -> None:
        if timeout < 1:
            raise ValueError("timeout")
        bridge.tell("wdt %d" % timeout)

    def feed(self) -> None:
        """Put the reset off by another timeout."""
        if _tried is None:
            bridge.add_u32(page.WDT_FEEDS, 1)
        else:
            _tried.append(0)

    def deinit(self) -> None:
        """Stop it. Other boards have no such method, some a register that does the same."""
        bridge.tell("wdt 0")


_uart = open(page.FD_UART, "r+b")
_ready = select.poll()
_ready.register(_uart, select.POLLIN)


class UART(io.IOBase):
    """The terminal's serial port. Only UART(1) is wired. Non-blocking: None means no data, or no room to write."""

    def __init__(self, id: int, baudrate: int = 115200, **_wiring) -> None:
        if id != 1:
            raise ValueError("only UART(1) is wired")
        self.init(baudrate)

    def init(self, baudrate: int = 115200, **_wiring) -> None:
        """Set the speed; it matters when the supervisor paces the line."""
        bridge.tell("baud %d" % baudrate)

    def deinit(self) -> None:
        """Does nothing."""

    def any(self) -> int:
        """1 when there is something to read, else 0."""
        return 1 if _ready.poll(0) else 0

    def read(self, size: int = -1):
        """Up to `size` bytes (without a size: what is there), or None."""
        return _uart.read(size if size >= 0 else 256)

    def readinto(self, buffer, size=None):
        """Fill `buffer` with what is there; the number of bytes, or None."""
        return _uart.readinto(buffer) if size is None else _uart.readinto(buffer, size)

    def readline(self):
        """A line, or the part of it that has arrived, or None."""
        return _uart.readline()

    def write(self, data, *part):
        """Send; the number of bytes taken, or None when there is no room. `part`: how many, or from where how many."""
        return _uart.write(data, *part)

    def flush(self) -> None:
        """Does nothing: writing hands the bytes over."""

    def txdone(self) -> bool:
        """Always true: writing hands the bytes over."""
        return True

    def ioctl(self, request: int, argument: int) -> int:
        # 10 asks for the file descriptor: with it select.poll() and asyncio wait in the kernel instead of polling.
        return page.FD_UART if request == 10 else -1


class I2C:
    """A bus of simulated register files."""

    def __init__(self, id: int = 0, *, scl=None, sda=None, freq: int = 400_000, timeout: int = 50_000) -> None:
        self._bus = id

    def _find(self, address: int):
        head = bytearray(4)
        for slot in range(page.SLOTS):
            bridge.load(page.I2C + slot * page.SLOT_BYTES, head)
            if head[0] and head[1] == self._bus and head[2] == address:
                return page.I2C + slot * page.SLOT_BYTES + page.SLOT_REGISTERS, head[3]
        raise OSError(19)  # ENODEV, what a bus without an acknowledge raises on a board

    def _span(self, address: int, register: int, length: int) -> int:
        start, width = self._find(address)
        position = register * width
        if position + length > page.REGISTERS_BYTES:
            raise OSError(5)  # EIO
        return start + position

    def scan(self) -> list:
        """Addresses that answer, in ascending order."""
        head = bytearray(4)
        found = []
        for slot in range(page.SLOTS):
            bridge.load(page.I2C + slot * page.SLOT_BYTES, head)
            if head[0] and head[1] == self._bus:
                found.append(head[2])
        return sorted(found)

    def readfrom_mem(self, addr: int, memaddr: int, nbytes: int, *, addrsize: int = 8) -> bytes:
        """`nbytes` from register `memaddr` on."""
        buffer = bytearray(nbytes)
        self.readfrom_mem_into(addr, memaddr, buffer)
        return bytes(buffer)

    def readfrom_mem_into(self, addr: int, memaddr: int, buf, *, addrsize: int = 8) -> None:
        """Fill `buf` from register `memaddr` on."""
        bridge.load(self._span(addr, memaddr, len(buf)), buf)

    def writeto_mem(self, addr: int, memaddr: int, buf, *, addrsize: int = 8) -> None:
        """Write `buf` to register `memaddr` and on."""
        bridge.store(self._span(addr, memaddr, len(buf)), buf)


SoftI2C = I2C


class RTC:
    """The calendar clock. It starts with the computer's time and forgets what was set at every reset."""

    _offset_s = 0

    def __init__(self, id: int = 0) -> None:
        pass

    def datetime(self, value=None):
        """(year, month, day, weekday, hour, minute, second, 0), or set it."""
        if value is None:
            now = time.gmtime(time.time() + RTC._offset_s)
            return (now[0], now[1], now[2], now[6], now[3], now[4], now[5], 0)
        wanted = time.mktime((value[0], value[1], value[2], value[4], value[5], value[6], 0, 0))
        RTC._offset_s = int(wanted - time.time())
        return None
