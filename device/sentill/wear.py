"""Integer wear index: several channels in, remaining life out, by weights trained on the host and shipped as data.

Two weighted sums of the inputs are smoothed, one quickly, one slowly; their total, read off a table of knots, is the
remaining life with a low and a high bound. The slow sum lets the index see the trend, not only the state.

File, little-endian: magic `STW1`; u8 inputs, u8 knots, u8 quick shift, u8 slow shift; u32 seconds per unit of life; per
input i32 offset, i16 quick mantissa, i16 slow mantissa, u8 quick exponent, u8 slow exponent; per knot i16 index, i16
life, i16 low, i16 high; u16 length of the names, then the names of the channels that are the inputs, in ASCII with
commas between, perhaps none; CRC-32 of all before it.
"""

import struct
from array import array

from .channel import TREND
from .compat import const, crc32
from .errors import ModelError

MAX_INPUTS = 16
STATE = 3  # words: quick mean, slow mean, samples seen
GAUGE = 4  # words of a LifeGauge: those, and the node time of the last sample
_LAST = const(3)

_MAGIC = b"STW1"
_HEAD = const(12)
_INPUT = const(10)
_KNOT = const(8)
_MAX_BYTES = const(4096)
_MOST = const(0x7FFF)  # inputs are clipped to ±32767 around their offset
_MANTISSA = const(0x1FFF)


class WearIndex:
    """An index parsed from the bytes of its file; raises ModelError when they are damaged or out of range.

    `names` are those of the input channels, empty when the file does not tell; `unit_s` the seconds per unit of life.
    """

    def __init__(self, data):
        size = len(data)
        if not _HEAD + 6 <= size <= _MAX_BYTES or data[:4] != _MAGIC or crc32(data[:-4]) != _u32(data, size - 4):
            raise ModelError("wear", "not an undamaged wear index")
        inputs, knots, self._quick, self._slow = data[4], data[5], data[6], data[7]
        self.unit_s = _u32(data, 8)
        self.id = _u32(data, size - 4)
        table = _HEAD + inputs * _INPUT
        at = table + knots * _KNOT
        if not 0 < inputs <= MAX_INPUTS or knots < 2 or at + 6 > size:
            raise ModelError("wear", "wear index of a wrong size")
        if at + 6 + (data[at] | data[at + 1] << 8) != size:
            raise ModelError("wear", "wear index of a wrong size")
        if self._quick > 12 or self._slow > 12 or not 0 < self.unit_s <= 0x3FFFFFF:
            raise ModelError("wear", "wear index out of range")
        self.inputs = inputs
        self._offset = array("i", [0] * inputs)
        self._a = array("h", [0] * inputs)
        self._b = array("h", [0] * inputs)
        self._shift = bytearray(2 * inputs)
        for k in range(inputs):
            offset, a, b, shift_a, shift_b = struct.unpack_from("<ihhBB", data, _HEAD + k * _INPUT)
            if abs(a) > _MANTISSA or abs(b) > _MANTISSA or shift_a > 26 or shift_b > 26 or abs(offset) >= 1 << 29:
                raise ModelError("wear", "weight %d of the wear index is out of range" % k)
            self._offset[k], self._a[k], self._b[k] = offset, a, b
            self._shift[2 * k], self._shift[2 * k + 1] = shift_a, shift_b
        self._knots = array("h", [0] * (4 * knots))
        for k in range(knots):
            self._knots[4 * k : 4 * k + 4] = array("h", struct.unpack_from("<hhhh", data, table + k * _KNOT))
            if k and self._knots[4 * k] <= self._knots[4 * k - 4]:
                raise ModelError("wear", "knots of the wear index do not rise")
            _, life, low, high = self._knots[4 * k : 4 * k + 4]
            if not 0 <= low <= life <= high or high * self.unit_s > 0x3FFFFFFF:
                raise ModelError("wear", "knot %d of the wear index is out of range" % k)
        self.names = _names(data[at + 2 : size - 4])
        if self.names and len(self.names) != inputs:
            raise ModelError("wear", "wear index with %d inputs and %d names" % (inputs, len(self.names)))
        self.life = 0
        self.low = 0
        self.high = 0

    @property
    def cap(self) -> int:
        """The longest life it can tell: wear does not show before."""
        return self._knots[len(self._knots) - 3]

    def update(self, s, base: int, x) -> int:
        """Take one set of inputs `x` (`inputs` integers within ±2^29) and return the remaining life in units.

        `s[base:]` are STATE words of the caller's `array('i')`, zero at first. Sets `life`, `low` and `high`.
        """
        a = b = 0
        for k in range(self.inputs):
            d = x[k] - self._offset[k]
            d = _MOST if d > _MOST else -_MOST if d < -_MOST else d
            a = _clip(a + (d * self._a[k] >> self._shift[2 * k]))
            b = _clip(b + (d * self._b[k] >> self._shift[2 * k + 1]))
        n = s[base + 2]
        if n < 4096:
            n += 1
            s[base + 2] = n
        quick = 1 << self._quick
        slow = 1 << self._slow
        s[base] += (a - s[base]) // (n if n < quick else quick)
        s[base + 1] += (b - s[base + 1]) // (n if n < slow else slow)
        return self.look(s, base)

    def look(self, s, base: int) -> int:
        """The remaining life of the state at `s[base:]` as it is; sets `life`, `low` and `high`."""
        h = (s[base] + s[base + 1]) >> 4
        # Linear between knots, flat outside.
        t = self._knots
        last = len(t) - 4
        k = 0
        while k < last and t[k + 4] <= h:
            k += 4
        if h <= t[0] or k == last:
            self.life, self.low, self.high = t[k + 1], t[k + 2], t[k + 3]
            return self.life
        into = h - t[k]
        width = t[k + 4] - t[k]
        self.life = t[k + 1] + (t[k + 5] - t[k + 1]) * into // width
        self.low = t[k + 2] + (t[k + 6] - t[k + 2]) * into // width
        self.high = t[k + 3] + (t[k + 7] - t[k + 3]) * into // width
        return self.life


class LifeGauge:
    """What the health channel `own` with the source `wear:FILE` shows: the remaining life that `index` tells.

    Once per unit of life the levels of the input channels, found by name among `channels`, go into the index. Its
    state lies in the GAUGE words of `own.s[base:]` that other channels use for their trend. Raises ModelError for an
    input that is no channel here.
    """

    def __init__(self, index: WearIndex, own, base: int, channels):
        if not index.names:
            raise ModelError("wear", "the wear index does not name its inputs")
        if own.trend_s or own.per_s:
            raise ModelError("wear", "channel %s: a wear index leaves no room for trend_s or per_s" % own.name)
        self.index = index
        self._own = own
        self._base = base
        self._inputs = []
        for name in index.names:
            found = [c for c in channels if c.name == name and c is not own]
            if not found:
                raise ModelError("wear", "no channel %s, which the wear index needs" % name)
            self._inputs.append(found[0])
        self._x = array("i", [0] * index.inputs)

    def read(self, now_s: int):
        """The remaining life in units; None when an input has been missing for long, -1 before there is any."""
        s = self._own.s
        base = self._base
        index = self.index
        fresh = s[base + 2] == 0
        late = now_s - s[base + _LAST]
        if fresh or late < 0 or late >= index.unit_s:
            x = self._x
            for k in range(len(x)):
                c = self._inputs[k]
                level = c.level()
                if c.missing:
                    if fresh or late > 2 * index.unit_s:
                        return None
                    break
                if level is None:
                    return -1
                x[k] = level
            else:
                index.update(s, base, x)
                s[base + _LAST] = now_s
        return index.look(s, base)

    def foresees(self) -> bool:
        """Whether wear shows: the life is not simply as long as the index can tell. Sets the index's life and band."""
        s = self._own.s
        return s[self._base + 2] > 0 and self.index.look(s, self._base) * 8 < self.index.cap * 7


def attach(monitor, i: int, index: WearIndex) -> None:
    """Let channel `i` of `monitor` show the life that `index` tells; raises ModelError as LifeGauge."""
    own = monitor.channels[i]
    own.gauge = LifeGauge(index, own, TREND, monitor.channels)


def _names(data):
    try:
        text = str(data, "ascii")
    except UnicodeError:
        raise ModelError("wear", "names of the wear index are not ASCII")
    return tuple(text.split(",")) if text else ()


def _clip(v):
    return 0x3FFFFFF if v > 0x3FFFFFF else -0x3FFFFFF if v < -0x3FFFFFF else v


def _u32(data, at):
    return int.from_bytes(data[at : at + 4], "little")
