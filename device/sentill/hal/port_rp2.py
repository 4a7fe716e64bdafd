"""RP2040 boards. Written from the data sheet and MicroPython's documentation, not run on a chip by our tests."""

import machine

from ..compat import const
from . import base

_TEMPERATURE = const(4)  # ADC channel
_WATCHDOG_CTRL_CLEAR = const(0x4005B000)  # RP2040 data sheet 2.1.2 and 4.7.6: bits written here are cleared in CTRL
_ENABLE_BIT = const(30)
_CHIP_RESET = const(0x40064008)  # RP2040 data sheet 2.12.8
_HAD_RUN_BIT = const(16)


def _wake(_pin):
    pass


class HAL(base.HAL):
    """An RP2040: stdin and stdout are USB; a write may wait for a host that does not read, so bytes go out singly."""

    usb_chunk = 1
    inline_bytes = 448

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
        """The RUN pin is told from power-on by the chip, not by MicroPython."""
        cause = super().reset_cause()
        return "hard" if cause == "power" and machine.mem32[_CHIP_RESET] >> _HAD_RUN_BIT & 1 else cause

    def wdt_release(self) -> None:
        """Stop the watchdog: `machine.WDT` has no way to, the register has."""
        if self._wdt:
            self._wdt.feed()
            machine.mem32[_WATCHDOG_CTRL_CLEAR] = 1 << _ENABLE_BIT
            self._wdt = None
