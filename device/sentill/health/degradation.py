"""Integer wear index: several channels in, remaining life out, by weights trained on the host and shipped as data.

Two weighted sums of the inputs are smoothed, one quickly, one slowly; their total, read off a table of knots, is the
remaining life with a low and a high bound. The slow sum lets the index see the trend, not only the state. A part whose
life does not run down a unit per unit of time ages otherwise than those of the training: its pace widens the band, and
where the life hardly falls at all there is no forecast. The file is described in degradation_file.py.
"""

from array import array

from sentill.compat import borrow, const
from sentill.errors import ModelError

from .channel import TREND

STATE = 5  # words: quick mean, slow mean, samples seen, one left to a LifeGauge, pace
_LAST = const(3)  # a LifeGauge's node time of the last sample
_PACE = const(4)  # once wear shows: the life told first | samples taken since << 15

_MOST = const(0x7FFF)  # inputs are clipped to ±32767 around their offset


class WearIndex:
    """An index parsed from the bytes of its file; raises ModelError when they are damaged or out of range.

    `names` are those of the input channels, empty when the file does not tell; `unit_s` the seconds per unit of life.
    """

    # Set by degradation_file.parse; declared for readers and type checkers, no code on the board.
    inputs: int
    unit_s: int
    id: int
    names: tuple
    _quick: int
    _slow: int
    _offset: array
    _a: array
    _b: array
    _shift: bytearray
    _knots: array

    def __init__(self, data):
        borrow("health", "degradation_file").parse(self, data)
        self.life = 0
        self.low = 0
        self.high = 0
        self.foretells = True

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
        life = self.look(s, base)
        pace = s[base + _PACE]
        if not self.shows():
            s[base + _PACE] = 0
        elif pace == 0:
            s[base + _PACE] = life
        elif pace >> 15 < 16383:
            s[base + _PACE] = pace + (1 << 15)
        return self.look(s, base)

    def shows(self) -> bool:
        """Whether wear shows in what was looked at last: the life is not simply as long as the index can tell."""
        return self.life * 8 < self.cap * 7

    def look(self, s, base: int) -> int:
        """The remaining life of the state at `s[base:]` as it is; sets `life`, `low`, `high` and `foretells`."""
        h = (s[base] + s[base + 1]) >> 4
        # Linear between knots, flat outside.
        t = self._knots
        last = len(t) - 4
        k = 0
        while k < last and t[k + 4] <= h:
            k += 4
        if h <= t[0] or k == last:
            self.life, self.low, self.high = t[k + 1], t[k + 2], t[k + 3]
        else:
            into = h - t[k]
            width = t[k + 4] - t[k]
            self.life = t[k + 1] + (t[k + 5] - t[k + 1]) * into // width
            self.low = t[k + 2] + (t[k + 6] - t[k + 2]) * into // width
            self.high = t[k + 3] + (t[k + 7] - t[k + 3]) * into // width
        self._widen(s[base + _PACE])
        return self.life

    def _widen(self, pace):
        # A life that has run down a quarter faster or slower than time moves that end of the band.
        taken = pace >> 15
        self.foretells = True
        if pace == 0 or taken << 4 < self.cap:
            return
        gone = (pace & 0x7FFF) - self.life
        if gone << 2 > taken * 5:
            self.low = self.low * taken // gone
        elif gone << 3 <= taken:
            self.foretells = False
        elif gone * 5 < taken << 2:
            self.high = self.high * taken // gone


class LifeGauge:
    """What the health channel `own` with the source `wear:FILE` shows: the remaining life that `index` tells.

    Once per unit of life the levels of the input channels, found by name among `channels`, go into the index. Its
    state lies in the STATE words of `own.s[base:]` that other channels use for their trend. Raises ModelError for an
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
                if late > 2 * index.unit_s:
                    s[base + _PACE] = 0  # no pace can be told over a gap
                index.update(s, base, x)
                s[base + _LAST] = now_s
        return index.look(s, base)

    def foresees(self) -> bool:
        """Whether wear shows, and at a pace that tells something. Sets the index's life and band."""
        s = self._own.s
        index = self.index
        if s[self._base + 2] == 0:
            return False
        index.look(s, self._base)
        return index.shows() and index.foretells


def attach(monitor, i: int, index: WearIndex) -> None:
    """Let channel `i` of `monitor` show the life that `index` tells; raises ModelError as LifeGauge."""
    own = monitor.channels[i]
    own.gauge = LifeGauge(index, own, TREND, monitor.channels)


def _clip(v):
    return 0x3FFFFFF if v > 0x3FFFFFF else -0x3FFFFFF if v < -0x3FFFFFF else v
