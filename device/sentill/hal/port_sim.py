"""The virtual board: the Unix port of MicroPython with the `machine` that the supervisor gives it."""

import gc

import machine

from sentill.compat import const, ticks_add, ticks_us

from . import hardware

_TEMPERATURE = const(7)


class HAL(hardware.HAL):
    """A virtual board: USB and UART are pseudo-terminals that take a whole frame when they take a byte."""

    usb_chunk = 240
    uart_greedy = True

    def raw_flash(self):
        """Blocks of the flash image behind the file system's."""
        flash = machine.raw_flash
        return (flash, flash.ioctl(4, 0), 256) if flash else None

    def file_flash(self):
        """The blocks that the file system has."""
        flash = machine.file_flash
        return flash, flash.ioctl(4, 0), 256

    def wdt_release(self) -> None:
        """Stop the watchdog; the virtual one can be."""
        if self._wdt:
            self._wdt.deinit()
            self._wdt = None

    def uptime_s(self) -> int:
        """Seconds since power-on; a scenario can let them run faster."""
        super().uptime_s()
        return (self._uptime_s * 1000 + self._uptime_ms) * machine.warp() // 1000

    def can_sleep(self) -> bool:
        """A byte on the line wakes it, as the start bit does on a real one; the byte is lost."""
        return True

    def window(self, source: str, rate_hz: int, out, urgent):
        """By a clock of the converters' own, on which a look at it takes 10 us: a busy computer is no uneven board."""
        from .waveform_window import take

        us = ticks_us()

        def now():
            nonlocal us
            us = ticks_add(us, 10)
            return us

        gc.collect()  # these converters do take heap
        machine.clock_us = now
        try:
            return take(self, source, rate_hz, out, urgent, now)
        finally:
            machine.clock_us = ticks_us

    def chip_temp(self):
        """Analogue input 7: -50 to 150 degrees over its range."""
        return (machine.ADC(_TEMPERATURE).read_u16() >> 1) * 20_000 // 32_767 - 5_000
