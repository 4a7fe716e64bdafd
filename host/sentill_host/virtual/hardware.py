"""The supervisor's side of a board's simulated hardware: the page of onboard/page.py, by names people write.

Names: `adc.N` (0..65535), `pin.N` (0 or 1), `i2c.BUS.ADDRESS.REGISTER` (0..255, or 0..65535 for devices with 16-bit
registers, stored high byte first); `tone.N` the amplitude (0..65535) and `tone_hz.N` the frequency of a sine on top of
`adc.N`; numbers in decimal or 0x hexadecimal. An I2C device appears when it is first set.
"""

import mmap
import os
import struct

from sentill_host.errors import UsageError
from sentill_host.virtual.child import make_page
from sentill_host.virtual.onboard import page

_TONES = {"tone": 0, "tone_hz": 2}  # offsets within a tone of the page
TORN = ("none", "half", "random")


class Hardware:
    """One board's page."""

    def __init__(self, uid: bytes, flash_blocks: int, raw_blocks: int = 0, program_bytes: int = 256):
        self.fd = make_page()
        self._page = mmap.mmap(self.fd, page.SIZE)
        self._put("I", page.MAGIC, page.MAGIC_VALUE)
        self._put("I", page.FLASH_BLOCKS, flash_blocks)
        self._put("I", page.RAW_BLOCKS, raw_blocks)
        self._put("I", page.PROGRAM_BYTES, program_bytes)
        self._put("I", page.CUT_LEFT, page.CUT_OFF)
        self._page[page.UID : page.UID + 8] = uid
        self.power_up()
        for n in range(page.CHANNELS):
            self.set(f"adc.{n}", 0x8000)

    def close(self) -> None:
        """Give the page up."""
        self._page.close()
        os.close(self.fd)

    def boot(self, cause: int, skip_main: bool) -> None:
        """Note for the next start: the reset cause and whether main.py is skipped."""
        self._put("I", page.RESET_CAUSE, cause)
        self._put("I", page.BOOT_FLAGS, page.SKIP_MAIN if skip_main else 0)
        self._put("I", page.FLASH_BUSY, 0)

    def power_up(self) -> None:
        """All pins float, as after any reset of the chip."""
        self._page[page.PIN_OUT : page.PIN_OUT + page.CHANNELS] = bytes([page.PIN_FLOATS]) * page.CHANNELS

    def warp(self, factor: int) -> None:
        """Let node time run `factor` times as fast as the clock."""
        self._put("I", page.WARP, factor)

    def flash_times(self, erase_us: int, program_us: int) -> None:
        """How long the flash takes for a block and a page, from the next start on; 0: no time."""
        self._put("I", page.ERASE_US, erase_us)
        self._put("I", page.PROGRAM_US, program_us)

    @property
    def flash_busy(self) -> tuple[int, int]:
        """How long the flash operation under way takes, in us, 0 without one; and a number that is its own."""
        return self._get("I", page.FLASH_BUSY), self._get("I", page.ERASES) + self._get("I", page.PROGRAMS)

    def cut_after(self, writes: int | None, torn: str = "none", seed: int = 0) -> None:
        """Let the power fail at the write after `writes` more flash programs or erases; None takes it back."""
        if torn not in TORN:
            raise UsageError(f"unknown torn mode {torn!r}", "one of " + ", ".join(TORN))
        if writes is not None and not 0 <= writes < page.CUT_OFF:
            raise UsageError(f"cannot cut after {writes} writes")
        self._put("I", page.CUT_TORN, TORN.index(torn))
        self._put("I", page.CUT_SEED, seed & 0x7FFFFFFF)
        self._put("I", page.CUT_LEFT, page.CUT_OFF if writes is None else writes)

    @property
    def cause(self) -> int:
        """The last reset cause."""
        return self._get("I", page.RESET_CAUSE)

    @property
    def feeds(self) -> int:
        """Feeds of the watchdog so far."""
        return self._get("I", page.WDT_FEEDS)

    def counters(self) -> dict[str, int]:
        """Wear of the flash so far, in all and of the block most often erased."""
        wear = struct.unpack_from(f"<{page.WEAR_BLOCKS}H", self._page, page.WEAR)
        return {
            "programs": self._get("I", page.PROGRAMS),
            "programmed_bytes": self._get("I", page.PROGRAMMED),
            "erases": self._get("I", page.ERASES),
            "most_erased": max(wear),
            "formats": self._get("I", page.FORMATS),
        }

    def get(self, name: str) -> int:
        """The value behind `name`; for a pin the level the board drives, or else its input. Raises UsageError."""
        kind, numbers = self._parse(name)
        if kind == "adc":
            return self._get("H", page.ADC + 2 * numbers[0])
        if kind in _TONES:
            return self._get("H", page.TONE + 4 * numbers[0] + _TONES[kind])
        if kind == "pin":
            driven = self._page[page.PIN_OUT + numbers[0]]
            return self._page[page.PIN_IN + numbers[0]] if driven == page.PIN_FLOATS else driven
        slot = self._slot(numbers[0], numbers[1], 0)
        width = self._page[slot + 3]
        at = slot + page.SLOT_REGISTERS + numbers[2] * width
        return int.from_bytes(self._page[at : at + width], "big")

    def set(self, name: str, value: int, width: int = 0) -> None:
        """Set the value behind `name`; `width` (bytes per register, 1 or 2) applies to a new I2C device.

        Raises UsageError for an unknown name or a value out of range.
        """
        kind, numbers = self._parse(name)
        top = {"adc": 0xFFFF, "pin": 1}.get(kind, 0xFFFF)
        if not isinstance(value, int) or not 0 <= value <= top:
            raise UsageError(f"{name} cannot be {value!r}", f"a whole number, 0..{top}")
        if kind == "adc":
            self._put("H", page.ADC + 2 * numbers[0], value)
        elif kind in _TONES:
            self._put("H", page.TONE + 4 * numbers[0] + _TONES[kind], value)
        elif kind == "pin":
            self._page[page.PIN_IN + numbers[0]] = value
        else:
            slot = self._slot(numbers[0], numbers[1], width or 1)
            width = self._page[slot + 3]
            at = slot + page.SLOT_REGISTERS + numbers[2] * width
            if value >> 8 * width:
                raise UsageError(f"{name} cannot be {value}", f"its registers have {width} byte")
            self._page[at : at + width] = value.to_bytes(width, "big")

    @classmethod
    def check(cls, name: str) -> None:
        """Raise UsageError unless `name` can be set."""
        cls._parse(name)

    def _slot(self, bus: int, address: int, width: int) -> int:
        """Offset of an I2C device; with a `width` it is made when missing."""
        free = -1
        for at in range(page.I2C, page.I2C + page.SLOTS * page.SLOT_BYTES, page.SLOT_BYTES):
            if self._page[at] and self._page[at + 1] == bus and self._page[at + 2] == address:
                return at
            if not self._page[at] and free < 0:
                free = at
        if not width:
            raise UsageError(f"no I2C device at bus {bus}, address {address:#x}", "it appears when it is first set")
        if free < 0:
            raise UsageError(f"no more than {page.SLOTS} I2C devices")
        self._page[free : free + 4] = bytes((1, bus, address, width))
        return free

    @staticmethod
    def _parse(name: str) -> tuple[str, list[int]]:
        kind, *rest = name.split(".")
        try:
            numbers = [int(part, 0) for part in rest]
        except ValueError:
            numbers = []
        one = [page.CHANNELS]
        limits = {"adc": one, "pin": one, "tone": one, "tone_hz": one, "i2c": [4, 128, 256]}.get(kind, [])
        if (
            not limits
            or len(numbers) != len(limits)
            or not all(0 <= n < k for n, k in zip(numbers, limits, strict=True))
        ):
            hint = "adc.N, tone.N, tone_hz.N, pin.N or i2c.BUS.ADDRESS.REGISTER"
            raise UsageError(f"no such hardware: {name!r}", hint)
        return kind, numbers

    def _get(self, form: str, offset: int) -> int:
        value: int = struct.unpack_from("<" + form, self._page, offset)[0]
        return value

    def _put(self, form: str, offset: int, value: int) -> None:
        struct.pack_into("<" + form, self._page, offset, value)
