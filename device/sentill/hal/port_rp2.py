"""RP2040 and RP2350 boards.

Written from the data sheets and MicroPython's documentation; run on an emulated RP2040, the RP2350 was not.
"""

import io
import sys

import machine
import rp2
import uctypes

from sentill.compat import const, ticks_add, ticks_diff, ticks_ms, ticks_us

from . import hardware
from .stream import Stream

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
# UARTs: address of the first, distance to the second, DMA request of the first one's output, which those of its input
# and of the second one's output and input follow. RP2040 data sheet 2.5.3.1 and 4.2.8, RP2350 12.6.4.1 and 12.1.8.
_UARTS = (0x40034000, 0x4000, 20)
_UARTS_2350 = (0x40070000, 0x8000, 28)
_IMSC = const(0x38)  # which interrupts a UART raises
_DMACR = const(0x48)
_RING_BITS = const(10)
_RING = const(1024)  # bytes
_FRAME = const(256)  # more than a line
_POLL = const(3)  # what select asks a stream
_EINVAL = const(22)
_MOST_MS = const(8)  # that a line which is shorter than the one before may wait
_NEAR_US = const(2400)  # the end of a line, give or take some bytes: from here on it is waited for,
_EARLY_US = const(1400)  # until here slept,
_OVER_US = const(600)  # and so long beyond it the wait goes on
_LF = const(10)
_STILL_MS = const(100)  # without a byte: the rest of the line may come at any time
# USB: the words that control the endpoints, and 0x80 behind them their buffers. RP2040 data sheet 4.1.2.5, RP2350
# 12.7.3.
_DPRAM = const(0x50100000)
_BUFFERS = const(0x80)
_BULK = const(2)
_AVAILABLE_BIT = const(10)
_FIFO = const(256)  # bytes that MicroPython keeps for a host that is slow to read
_PACKET = const(64)


def _wake(_pin):
    pass


def _rp2350():
    return "RP2350" in sys.implementation._machine


class _Line(io.IOBase):
    """A UART served by DMA both ways; a stream.Stream to the node, and what asyncio waits for.

    What comes in goes to a ring by two channels that start each other after every turn: also during a collection, and
    while flash is erased, when no interrupt is served. The ring holds 89 ms at 115,200 baud.

    Nothing tells of a byte that DMA has moved. So the first falling edge of the pin, the start of a byte, wakes who
    waits, and then `rest_ms` tells when it is worth looking again, until the line is whole or still.
    """

    def __init__(self, wiring, baud: int):
        self.rx = self
        self._pin = machine.Pin(wiring["rx"])
        machine.UART(wiring["id"], baudrate=baud, rxbuf=32, txbuf=32, tx=machine.Pin(wiring["tx"]), rx=self._pin)
        uart, distance, request = _UARTS_2350 if _rp2350() else _UARTS
        uart += wiring["id"] * distance
        request += wiring["id"] * 2
        machine.mem32[uart + _IMSC] = 0
        machine.mem32[uart + _DMACR] = 3
        self._byte_us = 10_000_000 // baud
        buf = bytearray(2 * _RING)
        at = -uctypes.addressof(buf) % _RING
        self._ring = memoryview(buf)[at : at + _RING]  # DMA wants it at a multiple of its size
        at = 0 if at >= _FRAME else at + _RING
        self._frame = memoryview(buf)[at : at + _FRAME]  # what goes out
        self._at = 0  # read up to here
        self._in: list = [rp2.DMA(), rp2.DMA()]
        for i in range(2):
            to = self._in[1 - i].channel
            ctrl = self._in[i].pack_ctrl(
                size=0, inc_read=False, ring_sel=True, ring_size=_RING_BITS, treq_sel=request + 1, chain_to=to
            )
            self._in[i].config(read=uart, write=self._ring, count=_RING, ctrl=ctrl)
        self._in[0].active(1)
        self._out = rp2.DMA()
        self._out.config(write=uart, ctrl=self._out.pack_ctrl(size=0, inc_write=False, treq_sel=request))
        self._on_edge = self._edge
        self._heard = True  # an edge came, or none is waited for
        self._fresh = False  # bytes were read since `rest_ms`
        self._looked = False
        self._since = ticks_ms()
        self._end_us = -1  # when the end of a line was seen to come, until it is read
        self.came_us = self._read_us = self._edge_us = ticks_us()

    def close(self) -> None:
        """Give the channels and the pin back."""
        self._pin.irq(None)
        for channel in self._in + [self._out]:
            channel.close()

    def _edge(self, pin):
        # In an interrupt. One edge will do.
        pin.irq(None)
        self._heard = True
        self._edge_us = ticks_us()
        self.still()

    def still(self) -> None:
        """As Stream.still."""
        if not self.readable():
            self._read_us = ticks_us()

    def wake(self) -> None:
        """Look, as after an edge: the pin's interrupt was used otherwise."""
        self._heard = True

    def ioctl(self, request: int, argument: int) -> int:
        """What select and asyncio ask for."""
        if request != _POLL:
            return -_EINVAL
        return argument & 1 if self._heard or self.readable() else 0

    def readable(self) -> bool:
        """Whether a byte can be read now."""
        return self._come() != self._at

    def _come(self):
        # Where the next byte will go. The channel that rests is at the start of the ring.
        return (self._in[0].write | self._in[1].write) & _RING - 1

    def rest_ms(self, waiting: int, usual: int) -> int:
        """As Stream.rest_ms. Waits itself for the last bytes of a line: asyncio would take longer to come back."""
        now = ticks_ms()
        fresh = self._fresh
        if fresh:
            self._fresh = False
            self._since = now
        if waiting and ticks_diff(now, self._since) < _STILL_MS:
            us = (usual - waiting) * self._byte_us
            if us > _NEAR_US:
                return min((us - _EARLY_US) // 1000, _MOST_MS)
            return -1 if self._whole(us + _OVER_US) else 1 + (self._byte_us >> 10)
        if self._heard and not fresh and not self._looked:
            self._looked = True  # the line has begun
            us = usual * self._byte_us - ticks_diff(ticks_us(), self._edge_us)
            return max(1, min((us - _EARLY_US) // 1000, _MOST_MS))
        self._looked = self._heard = False
        self._pin.irq(self._on_edge, machine.Pin.IRQ_FALLING, hard=True)
        return 0

    def _whole(self, us):
        # Whether the end of a line came within so many microseconds.
        end = ticks_add(ticks_us(), max(us, 0))
        seen = -1  # it may have come before the first look
        while ticks_diff(end, ticks_us()) > 0:
            come = self._come()
            if come != self._at and self._ring[come - 1 & _RING - 1] == _LF:
                self._end_us = seen
                return True
            seen = ticks_us()  # type: ignore[assignment]
        return False

    def readinto(self, buf) -> int:
        """Read what is there, at most len(buf) bytes; returns the count."""
        n = self._come() - self._at & _RING - 1
        if n > len(buf):
            n = len(buf)
        if n:
            at = self._at
            end = at + n
            if end <= _RING:
                buf[:n] = self._ring[at:end]
            else:
                buf[: _RING - at] = self._ring[at:]
                buf[_RING - at : n] = self._ring[: end - _RING]
            self._at = end & _RING - 1
            self._fresh = True
        now = ticks_us()
        if self._end_us >= 0:
            self.came_us = self._end_us  # type: ignore[assignment]
            self._end_us = -1
        else:  # they came after the last look, so the latest did not come before this
            late = ticks_diff(now, self._read_us) - n * self._byte_us
            self.came_us = ticks_add(now, -late) if late > 0 else now
        self._read_us = now
        return n

    def write(self, view, at: int, end: int) -> int:
        """Write of view[at:end], a line or less, what goes out without waiting: all of it, or nothing."""
        if self._out.active():
            return 0
        n = end - at
        n = n if n < _FRAME else _FRAME
        self._frame[:n] = view[at : at + n]
        self._out.config(read=self._frame, count=n, trigger=True)
        return n


class _Console(Stream):
    """USB. MicroPython can tell that it takes a byte, not how many, and waits for the host when they are too many.

    So the bytes written are counted against what its queue holds. The queue is empty when the endpoint has nothing to
    send; that is looked up where the hardware keeps it. Where nobody has opened the port, the endpoint waits for ever,
    and the queue takes everything and keeps the latest.
    """

    def __init__(self):
        super().__init__(sys.stdin.buffer, sys.stdout.buffer, 1, False)
        self._buffer = 0  # address of what controls the endpoint's buffer
        self._room = 0  # bytes that the queue takes for sure
        self._deaf = False  # nobody has opened the port

    def write(self, view, at: int, end: int) -> int:
        """As Stream.write."""
        n = end - at
        if not self._buffer and not self._find():
            return self._tx.write(view, at, n) or 0  # no host, so nobody to wait for
        idle = self._idle()
        if not self.writable():
            self._deaf = False
            return 0
        if idle and self._idle():  # before and after MicroPython has done its part
            self._deaf = False
            # What goes out now leaves the queue at once, up to a packet.
            self._room = _FIFO + min(n, _PACKET)
        if not self._deaf:
            if self._room <= 0:
                # Somebody may be reading slowly. Where bytes fit in one by one until the queue must have filled up
                # again, nobody is.
                self._deaf = self._room < -_FIFO
                n = 1
            else:
                n = min(n, self._room, _FIFO)
            self._room -= n
        return self._tx.write(view, at, n) or 0

    def _idle(self):
        return not machine.mem16[self._buffer] >> _AVAILABLE_BIT & 1

    def _find(self):
        for at in range(_DPRAM + 8, _DPRAM + _BUFFERS, 8):
            word = machine.mem32[at]
            if word >> 31 & 1 and word >> 26 & 3 == _BULK:
                self._buffer = at + _BUFFERS
        return self._buffer


class HAL(hardware.HAL):
    """An RP2040 or RP2350. stdin and stdout are USB."""

    _line = None
    in_place = "hal.port_rp2_code"

    def open_usb(self):
        """USB, in portions that do not make the node wait."""
        return _Console()

    def open_uart(self, baud: int):
        """The serial port of the terminal, by DMA."""
        self._line = _Line(self.board.UART, baud)
        return self._line

    def file_flash(self):
        """All flash behind the firmware: MicroPython leaves none beside the file system."""
        flash = rp2.Flash()
        return flash, flash.ioctl(4, 0), 256

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
            if self._line:
                self._line.wake()

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
