"""The hardware of a board as the node sees it, on top of MicroPython's `machine`.

Only the files of this folder import machine, esp32 or rp2. Sensors answer None instead of raising: a broken sensor is a
finding. Temperatures are in hundredths of a degree Celsius.
"""

import os
import sys
from binascii import hexlify

import machine
import micropython

from sentill.compat import const, ticks_diff, ticks_ms

from .stream import Stream

_MAX_TIME = const(0x3FFFFFFF)
_I2C_HZ = const(100_000)
_TX_BYTES = const(1024)
_BITE_MS = const(8000)
_FEED_MS = const(1000)

# Names of machine's reset causes, in this order; a port has some of them.
_CAUSES = (
    ("WDT_RESET", "watchdog"),
    ("PWRON_RESET", "power"),
    ("HARD_RESET", "hard"),
    ("DEEPSLEEP_RESET", "deepsleep"),
    ("SOFT_RESET", "soft"),
)

_kept: list = []  # timers that somebody at the prompt must not lose: one that nothing refers to may be collected


class HAL:
    """Hardware of `board`, a module or object with ID, PORT, UART and perhaps I2C (see boards/).

    `root` is the folder of the node's own files, with its slash; `home` that of the version it runs: what sentill_start
    has mounted, or `root`.
    """

    root = "/"
    usb_chunk = 16  # what a USB or UART write takes at once without waiting, about a millisecond at 115200 baud
    uart_chunk = 240
    uart_rx_bytes = 1024  # that may come in on the terminal's line while the node does not read
    in_place = ""  # the module whose `settle` takes code that is in flash out of the heap, where there is a way
    uart_greedy = False  # whether a UART's readinto takes only what is there

    def __init__(self, board):
        self.board = board
        folder = getattr(board, "__file__", "").rpartition("/")[0]
        self.home = folder + "/" if folder == "/app" else self.root
        self.usb = self.open_usb()
        self._ticks = ticks_ms()
        self._uptime_ms = 0  # within the running second
        self._uptime_s = 0
        self._epoch = 0
        self.clock_set = False
        self.keys = None  # its open key store, see location
        self._wdt = None
        self._timer = None
        self._i2c = None
        self._sensors: dict = {}

    # Streams and identity

    def open_usb(self) -> Stream:
        """The port to people: where the REPL is."""
        return Stream(sys.stdin.buffer, sys.stdout.buffer, self.usb_chunk, False)

    def open_uart(self, baud: int) -> Stream:
        """The serial port of the terminal, at `baud` bits per second, 8N1."""
        uart = self.uart_pins(self.board.UART)
        port = machine.UART(uart.pop("id"), baudrate=baud, rxbuf=self.uart_rx_bytes, txbuf=_TX_BYTES, timeout=0, **uart)
        return Stream(port, port, self.uart_chunk, self.uart_greedy, not self.uart_greedy)

    def uart_pins(self, wiring: dict) -> dict:
        """The arguments of machine.UART for the board's `wiring` {"id": n, "tx": pin, "rx": pin}."""
        return {key: value if key == "id" else machine.Pin(value) for key, value in wiring.items()}

    def light(self):
        """The board's own light as a pin, None when it has none."""
        pin = getattr(self.board, "LIGHT", None)
        return None if pin is None else machine.Pin(pin, machine.Pin.OUT)

    def uid(self) -> str:
        """The chip's unique id in hex."""
        return hexlify(machine.unique_id()).decode()

    def firmware(self) -> str:
        """Version of MicroPython."""
        return ".".join([str(part) for part in sys.implementation.version[:3]])

    def mpy(self) -> int:
        """What .mpy files this firmware loads, `sys.implementation._mpy`; 0 for none."""
        return getattr(sys.implementation, "_mpy", 0)

    def urandom(self, n: int) -> bytes:
        """`n` random bytes of the chip."""
        return os.urandom(n)

    def remove(self, path: str) -> None:
        """Remove a file. Raises OSError."""
        os.remove(path)

    def raw_flash(self):
        """Flash that no file system uses: (block device, its 4096-byte blocks, least bytes of a program), or None."""
        return None

    def file_flash(self):
        """The same of the flash that the file system of `root` lies on."""
        return None

    # Time

    def uptime_s(self) -> int:
        """Seconds since power-on, also across the wrap of the ticks; must be called once a day at least."""
        now = ticks_ms()
        ms = self._uptime_ms + ticks_diff(now, self._ticks)
        self._ticks = now
        if ms >= 1000:
            self._uptime_s += ms // 1000
            ms %= 1000
        self._uptime_ms = ms
        return self._uptime_s

    def now_s(self) -> int:
        """Node time: seconds since 2024-01-01 UTC, or the uptime until `set_now_s` was called."""
        now = self._epoch + self.uptime_s()
        return now if now < _MAX_TIME else _MAX_TIME

    def set_now_s(self, t: int) -> None:
        """Set the clock to `t`, seconds since 2024-01-01 UTC. It is kept in RAM: a reset forgets it."""
        self._epoch = t - self.uptime_s()
        self.clock_set = True

    # Reset and watchdog

    def reset(self) -> None:
        """Restart the board."""
        machine.reset()

    def reset_cause(self) -> str:
        """Why the board started: power, hard, watchdog, deepsleep, soft, unknown, or brownout where the chip tells."""
        cause = machine.reset_cause()
        for constant, word in _CAUSES:
            if getattr(machine, constant, None) == cause:
                return word
        return "unknown"

    def wdt_start(self, ms: int) -> None:
        """Arm the watchdog: `wdt_feed` must now be called at least every `ms` milliseconds, or the board resets."""
        self._wdt = machine.WDT(timeout=ms)

    def wdt_feed(self) -> None:
        """Tell the watchdog that all is well."""
        if self._wdt:
            self._wdt.feed()

    def wdt_release(self) -> None:
        """Leave the board to a person at the REPL: stop the watchdog, or where it cannot be stopped feed it by a timer.

        A timer ends with a soft reset; what takes longer than the watchdog after one needs maintenance mode. For a time
        that is limited there is `time_box`.
        """
        wdt = self._wdt
        if wdt:
            wdt.feed()
            self._timer = machine.Timer(0, period=1000, mode=machine.Timer.PERIODIC, callback=lambda _: wdt.feed())

    # Light sleep

    def can_sleep(self) -> bool:
        """Whether the chip may sleep between readings: what comes in from the terminal must be able to wake it."""
        return self.board.UART is None

    def light_sleep(self, ms: int) -> None:
        """Stop the chip's clocks for `ms`, or until something wakes it. Bytes that arrive meanwhile are lost."""
        machine.lightsleep(ms)

    def time_box(self, ms: int) -> None:
        """Reset the board in `ms` milliseconds, whatever runs then.

        Until then a timer feeds the watchdog. A soft reset ends all timers, and the watchdog resets the board in
        _BITE_MS.
        """
        wdt = machine.WDT(timeout=_BITE_MS)
        timer = machine.Timer
        _kept[:] = (
            timer(-1, period=_FEED_MS, mode=timer.PERIODIC, callback=lambda _: wdt.feed()),
            timer(-1, period=ms, mode=timer.ONE_SHOT, callback=lambda _: machine.reset()),
        )

    def hold_ctrl_c(self, hold: bool) -> None:
        """Whether Ctrl-C is just a byte for now (True), or interrupts the program (False, as after power-on)."""
        micropython.kbd_intr(-1 if hold else 3)

    # Sensors

    def read(self, source: str):
        """An integer reading of `source`, or None when the sensor does not answer or there is none.

        Sources: `adc:PIN` 0..65535; `pin:PIN` 0 or 1, with `:up` or `:down` behind it pulled there; `chip_temp`
        hundredths of a degree; `i2c:ADDRESS:REGISTER:TYPE` with TYPE one of u8, s8, u16be, s16be, u16le, s16le; those
        of chips.py. Hexadecimal numbers begin 0x.
        """
        try:
            sensor = self._sensors.get(source)
            if sensor is None:
                sensor = self._sensors[source] = self._sensor(source)
            return sensor()
        except (OSError, ValueError, TypeError, IndexError, KeyError, AttributeError):
            return None

    def _sensor(self, source):
        parts = source.split(":")
        kind = parts[0]
        if kind == "adc":
            return self.adc(int(parts[1], 0)).read_u16
        if kind == "pin":
            pull = {"up": machine.Pin.PULL_UP, "down": machine.Pin.PULL_DOWN}[parts[2]] if len(parts) > 2 else None
            return machine.Pin(int(parts[1], 0), machine.Pin.IN, pull).value
        if kind == "chip_temp":
            return self.chip_temp
        if kind == "i2c":
            from .i2c_register import reader  # for boards that have such sensors

            return reader(self.i2c(), int(parts[1], 0), int(parts[2], 0), parts[3])
        from .i2c_sensors import open_chip  # for boards that have such chips

        return open_chip(kind, self.i2c(), int(parts[1], 0), parts[2])

    def window(self, source: str, rate_hz: int, out, urgent):
        """Fill `out` with readings of `source` at `rate_hz`: True when it is full and each was taken in time.

        False when `urgent()` said meanwhile that something else is to be done, or a reading came late; None when the
        sensor does not answer.
        """
        from .waveform_window import take  # for boards that listen to waveforms

        return take(self, source, rate_hz, out, urgent)

    def adc(self, pin: int):
        """The analogue input at `pin`, for 0..65535 over the chip's full range."""
        return machine.ADC(pin)

    def i2c(self):
        """The I2C bus of the sensors."""
        if self._i2c is None:
            wiring = self.board.I2C
            bus = wiring["id"]
            if "scl" in wiring:
                self._i2c = machine.I2C(
                    bus, scl=machine.Pin(wiring["scl"]), sda=machine.Pin(wiring["sda"]), freq=_I2C_HZ
                )
            else:
                self._i2c = machine.I2C(bus, freq=_I2C_HZ)
        return self._i2c

    def chip_temp(self):
        """The chip's own temperature in hundredths of a degree Celsius, None where it has no such sensor."""
        return None
