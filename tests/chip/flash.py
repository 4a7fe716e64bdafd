"""The flash chip beside the RP2040: how long it is busy, what it did, and what a power cut leaves half done."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rp2040py.peripherals import ssi

ERASE_MS = 45.0
PROGRAM_MS = 0.4
BLOCK_ERASE_MS = 150.0
"""Typical times of a W25Q16JV: erase of 4 KB, program of a page of 256 bytes, erase of 64 KB."""

_UNIQUE_ID = 0x4B
_UNIQUE_ID_AT = 5  # after the command and four bytes of nothing
_SIZES = {ssi.CMD_SECTOR_ERASE: 4096, ssi.CMD_BLOCK_ERASE: 65536}
_MS = {ssi.CMD_SECTOR_ERASE: ERASE_MS, ssi.CMD_BLOCK_ERASE: BLOCK_ERASE_MS, ssi.CMD_PAGE_PROGRAM: PROGRAM_MS}


@dataclass
class Operation:
    """An erase or program: of `size` bytes at `address`, busy from `start_ns` to `end_ns`."""

    erase: bool
    address: int
    size: int
    start_ns: float
    end_ns: float
    before: bytes = b""
    """What was there, to tear the operation; kept while the flash is busy."""


class Flash(ssi.RPSSI):
    """Replaces the emulator's flash, where erasing takes no time and the unique id is all ones.

    While it is busy the chip polls its status with interrupts off: the clock goes on at such a poll, so that bytes
    arrive, DMA moves them and a power cut comes in the middle. `log` is what it did since it was made.
    """

    def __init__(self, rp2040: Any, name: str, uid: bytes, size: int = 2 << 20, scale: float = 1.0):
        super().__init__(rp2040, name)
        self._size = size
        self.log: list[Operation] = []
        self.on_operation: Callable[[Operation], None] | None = None
        self._uid = uid
        self._scale = scale  # 0 for a flash that takes no time

    def _apply_command(self) -> None:
        sent = self._tx_buffer
        command = sent[0] if sent else 0
        done = None
        if command in _MS and len(sent) >= 4 and self._write_enabled:
            address = self._address_from_buffer()
            size = _SIZES.get(command, len(sent) - 4)
            address -= address % size if command in _SIZES else 0
            now = self.rp2040.clock.nanos
            before = bytes(self.rp2040.flash[address : address + size])
            end = now + _MS[command] * 1e6 * self._scale
            done = Operation(command != ssi.CMD_PAGE_PROGRAM, address, size, now, end, before)
        super()._apply_command()
        if done:
            if self.log:
                self.log[-1].before = b""
            self.log.append(done)
            if self.on_operation:
                self.on_operation(done)

    def _shift_byte(self, byte_out: int) -> int:
        if self._tx_buffer and self._tx_buffer[0] == _UNIQUE_ID:
            self._tx_buffer.append(byte_out)
            at = len(self._tx_buffer) - 1 - _UNIQUE_ID_AT
            return self._uid[at] if 0 <= at < len(self._uid) else 0xFF
        value = int(super()._shift_byte(byte_out))
        if len(self._tx_buffer) == 2 and self._tx_buffer[0] == ssi.CMD_READ_STATUS_1 and self.log:
            clock = self.rp2040.clock
            left = self.log[-1].end_ns - clock.nanos
            if left > 0:
                clock.tick(left)
        return value

    def busy(self) -> Operation | None:
        """The operation that goes on now."""
        last = self.log[-1] if self.log else None
        return last if last and last.end_ns > self.rp2040.clock.nanos else None

    def remains(self, rng: random.Random) -> tuple[bytearray, Operation | None]:
        """What a power cut now would leave of the flash; the operation that it would leave half done, torn by `rng`."""
        left = bytearray(self.rp2040.flash[: self._size])
        going = self.busy()
        if going:
            share = (self.rp2040.clock.nanos - going.start_ns) / (going.end_ns - going.start_ns)
            place = slice(going.address, going.address + going.size)
            left[place] = torn(going.before, bytes(left[place]), share, rng)
        return left, going


def torn(before: bytes, after: bytes, share: float, rng: random.Random) -> bytes:
    """Bytes of which a `share` has reached `after`, bit by bit: cells change at their own pace, in no order.

    A cut at the very end can leave a byte or two that read right today; one at the start changes little. So one time
    in four each, the operation had all but begun or all but ended.
    """
    share = rng.choice((0.02, share, share, 0.98))
    mixed = bytearray(len(before))
    for i, (old, new) in enumerate(zip(before, after, strict=True)):
        changed = old ^ new
        if changed:
            mask = 0
            for bit in range(8):
                if rng.random() < share:
                    mask |= 1 << bit
            new = old ^ (changed & mask)
        mixed[i] = new
    return bytes(mixed)
