"""RP2040 boards. Written from the data sheet and MicroPython's documentation, not run on a chip by our tests."""

import machine

from ..compat import const
from . import base

_TEMPERATURE = const(4)  # ADC channel
_WATCHDOG_CTRL_CLEAR = const(0x4005B000)  # RP2040 data sheet 2.1.2 and 4.7.6: bits written here are cleared in CTRL
_ENABLE_BIT = const(30)


class HAL(base.HAL):
    """An RP2040: stdin and stdout are USB; a write may wait for a host that does not read, so bytes go out singly."""

    usb_chunk = 1
    inline_bytes = 448

    def chip_temp(self):
        """RP2040 data sheet 4.9.5: T = 27 - (V - 0.706) / 0.001721, here in hundredths of a degree."""
        raw = machine.ADC(_TEMPERATURE).read_u16() >> 4
        microvolts = raw * 80_566 // 100
        return 2700 - (microvolts - 706_000) * 100 // 1721

    def wdt_release(self) -> None:
        """Stop the watchdog: `machine.WDT` has no way to, the register has."""
        if self._wdt:
            self._wdt.feed()
            machine.mem32[_WATCHDOG_CTRL_CLEAR] = 1 << _ENABLE_BIT
            self._wdt = None
