"""A PL011 as the RP2040 has it: FIFOs of 32, levels, the receive timeout, and bytes that take time on the line."""

from collections import deque
from collections.abc import Callable
from typing import Any

from rp2040py.peripherals.uart import RPUART

_DR, _RSR, _FR, _IBRD, _FBRD, _LCR_H, _CR, _IFLS = 0x00, 0x04, 0x18, 0x24, 0x28, 0x2C, 0x30, 0x34
_IMSC, _RIS, _MIS, _ICR, _DMACR = 0x38, 0x3C, 0x40, 0x44, 0x48
_TXFE, _RXFF, _TXFF, _RXFE, _BUSY = 1 << 7, 1 << 6, 1 << 5, 1 << 4, 1 << 3
_RX, _TX, _TIMEOUT, _OVERRUN = 1 << 4, 1 << 5, 1 << 6, 1 << 10
_OVERRUN_DATA = 1 << 11
_FIFOS = 1 << 4  # of LCR_H
_ENABLE, _TRANSMIT, _RECEIVE = 1 << 0, 1 << 8, 1 << 9  # of CR
_RX_DMA, _TX_DMA = 1 << 0, 1 << 1
_DEPTH = 32
_LEVELS = (4, 8, 16, 24, 28)  # by the fields of IFLS
_BITS = 10  # of a byte on the line: start, eight, stop
_TIMEOUT_BITS = 32


class UART(RPUART):
    """Replaces the emulator's UART, which knows no levels, raises its transmit interrupt at every touch of a register
    (so MicroPython never leaves its handler), sends in no time and raises no request for DMA.

    `on_start(byte)` is called when a byte begins to leave, `on_byte(byte)` when it has left. `lost` counts bytes that
    met a full FIFO.
    """

    def __init__(self, rp2040: Any, name: str, irq: int, dreq: Any):
        super().__init__(rp2040, name, irq, dreq)
        clock = rp2040.clock
        self.on_start: Callable[[int], None] | None = None
        self.lost = 0
        self._sent = clock.create_alarm(self._on_sent)
        self._silence = clock.create_alarm(self._on_silence)
        self._clear()

    def _clear(self) -> None:
        self._rx: deque[int] = deque()
        self._tx: deque[int] = deque()
        self._shifting = -1  # the byte on the line
        self._overran = False
        self._ifls = 0x12
        self._dmacr = 0
        self._status = 0
        self._mask = 0

    def reset(self) -> None:
        """Registers and FIFOs, back to power-on; the cable stays."""
        super().reset()
        self._sent.cancel()
        self._silence.cancel()
        self._clear()
        self._update()

    @property
    def byte_ns(self) -> float:
        """Nanoseconds of a byte on the line."""
        return _BITS * 1e9 / self.baud_rate

    @property
    def listening(self) -> bool:
        """Whether it receives."""
        return bool(self._ctrl_register & _ENABLE and self._ctrl_register & _RECEIVE and self._int_divisor)

    @property
    def _depth(self) -> int:
        return _DEPTH if self._line_ctrl_register & _FIFOS else 1

    def _level(self, shift: int) -> int:
        if self._depth == 1:
            return 1
        return _LEVELS[min(self._ifls >> shift & 7, 4)]

    def feed_byte(self, value: int) -> None:
        """A byte has arrived."""
        if not self.listening:
            return
        if len(self._rx) >= self._depth:
            self.lost += 1
            self._overran = True
            self._status |= _OVERRUN
        else:
            self._rx.append(value | (_OVERRUN_DATA if self._overran else 0))
            self._overran = False
            if len(self._rx) >= self._level(3):
                self._status |= _RX
        self._silence.schedule(_TIMEOUT_BITS * self.byte_ns / _BITS)
        self._update()

    def read_uint32(self, offset: int) -> int:
        """A register."""
        if offset == _DR:
            value = self._rx.popleft() if self._rx else 0
            if len(self._rx) < self._level(3):
                self._status &= ~_RX
            if not self._rx:
                self._status &= ~_TIMEOUT
                self._silence.cancel()
            self._update()
            return value
        if offset == _FR:
            sending = bool(self._tx) or self._shifting >= 0
            return (
                (0 if self._tx else _TXFE)
                | (_TXFF if len(self._tx) >= self._depth else 0)
                | (0 if self._rx else _RXFE)
                | (_RXFF if len(self._rx) >= self._depth else 0)
                | (_BUSY if sending else 0)
            )
        if offset == _RSR:
            return 8 if self._overran else 0
        if offset == _IFLS:
            return self._ifls
        if offset == _IMSC:
            return self._mask
        if offset == _RIS:
            return self._status
        if offset == _MIS:
            return self._status & self._mask
        if offset == _DMACR:
            return self._dmacr
        return int(super().read_uint32(offset))

    def write_uint32(self, offset: int, value: int) -> None:
        """A register."""
        if offset == _DR:
            if len(self._tx) < self._depth:
                self._tx.append(value & 0xFF)
            if self._shifting < 0:
                self._shift()
            if len(self._tx) > self._level(0):
                self._status &= ~_TX
        elif offset == _RSR:
            self._overran = False
        elif offset == _IFLS:
            self._ifls = value & 0x3F
        elif offset == _IMSC:
            self._mask = value & 0x7FF
        elif offset == _ICR:
            self._status &= ~self.raw_write_value
        elif offset == _DMACR:
            self._dmacr = value & 7
        elif offset == _CR:
            self._ctrl_register = value
        elif offset == _LCR_H and not value & _FIFOS:
            self._line_ctrl_register = value
            self._rx.clear()
        else:
            super().write_uint32(offset, value)
        self._update()

    def _shift(self) -> None:
        # The next byte begins to leave. The interrupt comes when the FIFO falls to its level, not while it is there.
        self._shifting = self._tx.popleft()
        if len(self._tx) == self._level(0) or (self._depth == 1 and not self._tx):
            self._status |= _TX
        self._sent.schedule(self.byte_ns)
        if self.on_start:
            self.on_start(self._shifting)

    def _on_sent(self) -> None:
        value, self._shifting = self._shifting, -1
        if self._tx:
            self._shift()
        if self.on_byte:
            self.on_byte(value)
        self._update()

    def _on_silence(self) -> None:
        if self._rx:
            self._status |= _TIMEOUT
            self._update()

    def _update(self) -> None:
        self.rp2040.set_interrupt(self.irq, bool(self._status & self._mask))
        dma = self.rp2040.dma
        for wanted, channel in (
            (self._dmacr & _RX_DMA and self._rx, self.dreq.rx),
            (self._dmacr & _TX_DMA and len(self._tx) < self._depth, self.dreq.tx),
        ):
            if wanted:
                dma.set_dreq(channel)
            else:
                dma.clear_dreq(channel)
