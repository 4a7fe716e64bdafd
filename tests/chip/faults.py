"""Faults of the emulator rp2040py 0.3.6 that stand in the way of stock MicroPython, mended on one chip.

UART: see uart.py. Flash: see flash.py. The others, one class each. `PATCHES` names the files whose content decides what
is measured.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rp2040py import sio
from rp2040py.peripherals.peripheral import BasePeripheral
from rp2040py.peripherals.watchdog import RPWatchdog
from rp2040py.usb.cdc import USBCDC

from tests.chip.flash import Flash
from tests.chip.uart import UART

PATCHES = [Path(__file__).with_name(name) for name in ("core.c", "core.py", "uart.py", "flash.py", "faults.py")]
MARK = 0x4F000000
"""Where nothing is on the chip: a write there of N marks the moment, see Mark."""

_FUNCTION_SIO = 5
_USB_GATHERS_NS = 20_000


class Watchdog(RPWatchdog):
    """Stock, it stays armed when it fires, and the chip resets for ever."""

    def __init__(self, rp2040: Any, name: str, on_reset: Callable[[], None]):
        super().__init__(rp2040, name)

        def fire() -> None:
            self._disarm()
            on_reset()
            self._disarm()

        self.on_watchdog_trigger = fire

    def _disarm(self) -> None:
        self._enable = self.timer.enable = self.alarm.enable = False


class SIO(sio.RPSIO):
    """Stock, a pin that is driven reads 0; here it reads the level that it has.

    The spin locks are those of the fast path, `native`, where there is one.
    """

    native: Any = None

    @property
    def spin_lock(self) -> int:
        """The locks that are taken, a bit each."""
        return int(self.native.spin_locks) if self.native else self._locks

    @spin_lock.setter
    def spin_lock(self, value: int) -> None:
        self._locks = value
        if self.native:
            self.native.spin_locks = value & 0xFFFFFFFF

    def read_uint32(self, offset: int) -> int | float:
        """A register."""
        value = super().read_uint32(offset)
        if offset == sio.GPIO_IN:
            driven = 0
            for i, pin in enumerate(self.rp2040.gpio):
                if self.gpio_output_enable >> i & 1 and pin.ctrl & 0x1F == _FUNCTION_SIO:
                    driven |= 1 << i
            value = int(value) & ~driven | self.gpio_value & driven
        return value


class ROSC(BasePeripheral):
    """The ring oscillator. Stock, its random bit is always 1, and all keys are alike; here it comes from a seed."""

    _STATUS, _RANDOM_BIT = 0x18, 0x1C

    def __init__(self, rp2040: Any, seed: int):
        super().__init__(rp2040, "ROSC")
        self._rng = random.Random(seed)
        self._written: dict[int, int] = {}

    def read_uint32(self, offset: int) -> int:
        """A register: the status says stable and enabled."""
        if offset == self._RANDOM_BIT:
            return self._rng.getrandbits(1)
        return 0x80001000 if offset == self._STATUS else self._written.get(offset, 0)

    def write_uint32(self, offset: int, value: int) -> None:
        """A register."""
        self._written[offset] = value


class Mark(BasePeripheral):
    """No part of the chip: code under test marks moments by `machine.mem32[0x4F000000] = n`.

    `marks` gets (n, cycles the core was at work, nanoseconds).
    """

    def __init__(self, rp2040: Any, cycles: Callable[[], int]):
        super().__init__(rp2040, "MARK")
        self.marks: list[tuple[int, int, float]] = []
        self._cycles = cycles

    def read_uint32(self, offset: int) -> int:
        """The low word of the cycle count."""
        return self._cycles() & 0xFFFFFFFF

    def write_uint32(self, offset: int, value: int) -> None:
        """A mark."""
        self.marks.append((value, self._cycles(), self.rp2040.clock.nanos))


class USB(USBCDC):
    """The computer's end of the USB cable.

    Stock, it answers each request for bytes at once with none, so the firmware asks again for ever, which takes three
    quarters of the chip; here a request waits until there are bytes, as on a real bus.
    """

    def __init__(self, usb: Any):
        super().__init__(usb)
        self._wanted = 0
        self._waiting = bytearray()
        self._alarm = usb.rp2040.clock.create_alarm(self._serve)
        stock = usb.on_endpoint_read

        def on_endpoint_read(endpoint: int, size: int) -> None:
            if endpoint and endpoint == self._out_endpoint:
                self._wanted = size
                if self._waiting:
                    self._alarm.schedule(_USB_GATHERS_NS)
            else:
                stock(endpoint, size)

        usb.on_endpoint_read = on_endpoint_read

    def write(self, data: bytes) -> None:
        """Send bytes to the chip, as fast as it takes them."""
        self._waiting += data
        if self._wanted:
            self._alarm.schedule(_USB_GATHERS_NS)

    @property
    def unsent(self) -> int:
        """Bytes that the chip has not taken yet."""
        return len(self._waiting)

    def _serve(self) -> None:
        if self._wanted and self._waiting:
            piece = self._waiting[: self._wanted]
            del self._waiting[: len(piece)]
            self._wanted = 0
            self.usb.endpoint_read_done(self._out_endpoint, piece)

    def _on_controller_reset(self) -> None:
        super()._on_controller_reset()
        self._wanted = 0
        self._waiting.clear()
        self._alarm.cancel()


@dataclass(frozen=True)
class Parts:
    """What took the place of the emulator's own."""

    flash: Flash
    sio: SIO
    uarts: list[UART]
    mark: Mark


def mend(rp2040: Any, uid: bytes, seed: int, cycles: Callable[[], int], on_reset: Callable[[], None]) -> Parts:
    """Put the parts above in place of the emulator's on a chip that has not run yet."""
    from rp2040py.irq import IRQ

    old = rp2040.ssi
    rp2040.qspi[1]._listeners.discard(old._on_cs_pin_changed)
    uarts = [UART(rp2040, f"UART{i}", irq, rp2040.uart[i].dreq) for i, irq in enumerate((IRQ.UART0, IRQ.UART1))]
    parts = Parts(Flash(rp2040, "SSI", uid), SIO(rp2040), uarts, Mark(rp2040, cycles))
    rp2040.ssi, rp2040.sio, rp2040.uart = parts.flash, parts.sio, uarts
    rp2040.watchdog = Watchdog(rp2040, "WATCHDOG", on_reset)
    rp2040.peripherals |= {
        0x18000: rp2040.ssi,
        0x40034: rp2040.uart[0],
        0x40038: rp2040.uart[1],
        0x40058: rp2040.watchdog,
        0x40060: ROSC(rp2040, seed),
        MARK >> 12 & ~3: parts.mark,
    }
    return parts
