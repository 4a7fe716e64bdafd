"""Integer wear index: several sensors in, remaining life out, by weights trained on the host and shipped as data.

Two weighted sums of the inputs are smoothed, one quickly, one slowly; their total, read off a table of knots, is the
remaining life with a low and a high bound. The slow sum lets the index see the trend, not only the state.

File, little-endian: magic `STW1`; u8 inputs, u8 knots, u8 quick shift, u8 slow shift; u32 seconds per unit of life; per
input i32 offset, i16 quick mantissa, i16 slow mantissa, u8 quick exponent, u8 slow exponent; per knot i16 index, i16
life, i16 low, i16 high; CRC-32 of all before it.
"""

import struct
from array import array

from .compat import const, crc32
from .errors import ModelError

MAX_INPUTS = 16
STATE = 3  # words: quick mean, slow mean, samples seen

_MAGIC = b"STW1"
_HEAD = const(12)
_INPUT = const(10)
_KNOT = const(8)
_MOST = const(0x7FFF)  # inputs are clipped to ±32767 around their offset
_MANTISSA = const(0x1FFF)


class WearIndex:
    """An index parsed from the bytes of its file; raises ModelError when they are damaged or out of range."""

    def __init__(self, data):
        if len(data) < _HEAD + 4 or data[:4] != _MAGIC or crc32(data[:-4]) != _u32(data, len(data) - 4):
            raise ModelError("wear", "not an undamaged wear index")
        inputs, knots, self._quick, self._slow = data[4], data[5], data[6], data[7]
        self.unit_s = _u32(data, 8)
        if not 0 < inputs <= MAX_INPUTS or knots < 2 or len(data) != _HEAD + inputs * _INPUT + knots * _KNOT + 4:
            raise ModelError("wear", "wear index of a wrong size")
        if self._quick > 12 or self._slow > 12 or self.unit_s > 0x3FFFFFFF:
            raise ModelError("wear", "wear index out of range")
        self.inputs = inputs
        self._offset = array("i", [0] * inputs)
        self._a = array("h", [0] * inputs)
        self._b = array("h", [0] * inputs)
        self._shift = bytearray(2 * inputs)
        for k in range(inputs):
            offset, a, b, shift_a, shift_b = struct.unpack_from("<ihhBB", data, _HEAD + k * _INPUT)
            if abs(a) > _MANTISSA or abs(b) > _MANTISSA or shift_a > 26 or shift_b > 26 or abs(offset) > 1 << 29:
                raise ModelError("wear", "weight %d of the wear index is out of range" % k)
            self._offset[k], self._a[k], self._b[k] = offset, a, b
            self._shift[2 * k], self._shift[2 * k + 1] = shift_a, shift_b
        self._knots = array("h", [0] * (4 * knots))
        for k in range(knots):
            self._knots[4 * k : 4 * k + 4] = array(
                "h", struct.unpack_from("<hhhh", data, len(data) - 4 - (knots - k) * 8)
            )
            if k and self._knots[4 * k] <= self._knots[4 * k - 4]:
                raise ModelError("wear", "knots of the wear index do not rise")
        self.life = 0
        self.low = 0
        self.high = 0

    def update(self, s, base: int, x) -> int:
        """Take one set of inputs `x` (`inputs` integers within ±2^29) and return the remaining life in units.

        `s[base:]` are STATE words of the caller's `array('i')`, zero at first. Sets `life`, `low` and `high`.
        """
        a = b = 0
        for k in range(self.inputs):
            d = x[k] - self._offset[k]
            d = _MOST if d > _MOST else -_MOST if d < -_MOST else d
            a += d * self._a[k] >> self._shift[2 * k]
            b += d * self._b[k] >> self._shift[2 * k + 1]
        a = _clip(a)
        b = _clip(b)
        n = s[base + 2]
        if n < 4096:
            n += 1
            s[base + 2] = n
        quick = 1 << self._quick
        slow = 1 << self._slow
        s[base] += (a - s[base]) // (n if n < quick else quick)
        s[base + 1] += (b - s[base + 1]) // (n if n < slow else slow)
        self._read((s[base] + s[base + 1]) >> 4)
        return self.life

    def _read(self, h):
        # Linear between knots, flat outside.
        t = self._knots
        last = len(t) - 4
        k = 0
        while k < last and t[k + 4] <= h:
            k += 4
        if h <= t[0] or k == last:
            self.life, self.low, self.high = t[k + 1], t[k + 2], t[k + 3]
            return
        into = h - t[k]
        width = t[k + 4] - t[k]
        self.life = t[k + 1] + (t[k + 5] - t[k + 1]) * into // width
        self.low = t[k + 2] + (t[k + 6] - t[k + 2]) * into // width
        self.high = t[k + 3] + (t[k + 7] - t[k + 3]) * into // width


def _clip(v):
    return 0x3FFFFFF if v > 0x3FFFFFF else -0x3FFFFFF if v < -0x3FFFFFF else v


def _u32(data, at):
    return int.from_bytes(data[at : at + 4], "little")
