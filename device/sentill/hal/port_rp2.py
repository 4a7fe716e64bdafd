"""RP2040 and RP2350 boards.

Written from the data sheets and MicroPython's documentation, not run on a chip by our tests.
"""

import sys

import machine
import rp2

from ..compat import const
from . import base

_TEMPERATURE = const(4)  # ADC channel
# Bits written here are cleared in the watchdog's CTRL: RP2040 data sheet 2.1.2 and 4.7.6, RP2350 2.1.3 and 12.9.7.
_WATCHDOG_CLEAR = const(0x4005B000)
_WATCHDOG_CLEAR_2350 = const(0x400DB000)
_ENABLE_BIT = const(30)
# What the last reset of the chip was: RP2040 data sheet 2.12.8, RP2350 6.4.
_CHIP_RESET = const(0x40064008)
_RUN_BIT = const(16)
_CHIP_RESET_2350 = const(0x4010002C)
_BROWNOUT_BIT_2350 = const(17)
_RUN_BIT_2350 = const(18)


def _wake(_pin):
    pass


def _rp2350():
    return "RP2350" in sys.implementation._machine


class HAL(base.HAL):
    """An RP2040 or RP2350.

    stdin and stdout are USB; a write may wait for a host that does not read, so bytes go out singly.
    """

    usb_chunk = 1
    inline_bytes = 448

    def file_flash(self):
        """All flash behind the firmware: MicroPython leaves none beside the file system."""
        flash = rp2.Flash()
        return flash, flash.ioctl(4, 0), 256

    def time_box(self, ms: int) -> None:
        """By a software timer."""
        self._box = machine.Timer(-1, period=ms, mode=machine.Timer.ONE_SHOT, callback=lambda _: machine.reset())

    def chip_temp(self):
        """RP2040 data sheet 4.9.5: T = 27 - (V - 0.706) / 0.001721, here in hundredths of a degree."""
        raw = machine.ADC(_TEMPERATURE).read_u16() >> 4
        microvolts = raw * 80_566 // 100
        return 2700 - (microvolts - 706_000) * 100 // 1721

    def can_sleep(self) -> bool:
        """A falling edge on a pin wakes it; the line of the terminal falls with every start bit."""
        return True

    def light_sleep(self, ms: int) -> None:
        """The interrupt must have a handler, and the sleep an end, to be left early."""
        pin = machine.Pin(self.board.UART["rx"]) if self.board.UART else None
        if pin:
            pin.irq(_wake, machine.Pin.IRQ_FALLING)
        machine.lightsleep(ms)
        if pin:
            pin.irq(None)

    def reset_cause(self) -> str:
        """The chip tells the RUN pin, an RP2350 also a brownout, from power-on; MicroPython does not."""
        cause = super().reset_cause()
        if cause != "power":
            return cause
        if not _rp2350():
            return "hard" if machine.mem32[_CHIP_RESET] >> _RUN_BIT & 1 else cause
        word = machine.mem32[_CHIP_RESET_2350]
        return "brownout" if word >> _BROWNOUT_BIT_2350 & 1 else "hard" if word >> _RUN_BIT_2350 & 1 else cause

    def wdt_release(self) -> None:
        """Stop the watchdog: `machine.WDT` has no way to, the register has."""
        if self._wdt:
            self._wdt.feed()
            machine.mem32[_WATCHDOG_CLEAR_2350 if _rp2350() else _WATCHDOG_CLEAR] = 1 << _ENABLE_BIT
            self._wdt = None
