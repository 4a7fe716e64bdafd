"""Remaining useful life: a robust trend through the last 16 points, and the time until it meets a threshold.

A channel keeps one point per `every_s` seconds in STATE words of its `array('i')`: eight words of two 15-bit halves,
the time of the newest point, and the count. The trend is Theil and Sen's: the median of the slopes of all pairs, with
the median intercept. The band around the time comes from the slopes' own quantiles, `LOW` and `HIGH` of 16 and
widened by a factor found on batteries (tools/bench/health.py measures what it covers). Times are relative to the
newest point, so that every intermediate stays within ±2^30. "No forecast" is an answer: too few points, no slope that
stands out of the noise, or a threshold too far away.
"""

from array import array

from .compat import const

STATE = 10
POINTS = 16
MIN_POINTS = 6

_NEWEST = const(8)  # node time of the newest point
_COUNT = const(9)  # points held, 0..16 | index of the newest << 5
_HALF = const(0x7FFF)
_BIAS = const(16384)
_Q = const(14)  # slopes are Q14 per interval
_FAR = const(512)  # intervals: a threshold farther away than this is no forecast
_PAIRS = const(120)


class Trend:
    """Scratch and result of one forecast; one object serves all channels.

    After `fit`: `slope` (Q14 per interval) and `level` (fitted value at the newest point). After `forecast`
    returned True: `left`, `left_low`, `left_high` in sixteenths of an interval after the newest point.
    """

    def __init__(self):
        self._v = array("i", [0] * POINTS)
        self._slopes = array("i", [0] * _PAIRS)
        self.points = 0
        self.slope = 0
        self.steep = 0
        self.gentle = 0
        self.level = 0
        self.left = 0
        self.left_low = 0
        self.left_high = 0

    def fit(self, s, base: int) -> bool:
        """Fit the points kept at `s[base:]`; False when there are fewer than MIN_POINTS."""
        n = unpack(s, base, self._v)
        self.points = n
        if n < MIN_POINTS:
            return False
        v = self._v
        slopes = self._slopes
        k = 0
        for j in range(1, n):
            for i in range(j):
                slopes[k] = ((v[j] - v[i]) << _Q) // (j - i)
                k += 1
        _sort(slopes, k)
        self.slope = (slopes[k >> 1] + slopes[(k - 1) >> 1]) >> 1
        self.gentle = slopes[k >> 2]
        self.steep = slopes[k - 1 - (k >> 2)]
        if abs(self.gentle) > abs(self.steep):
            self.gentle, self.steep = self.steep, self.gentle
        slope = self.slope
        for i in range(n):
            v[i] += (slope * (n - 1 - i)) >> _Q
        _sort(v, n)
        self.level = (v[n >> 1] + v[(n - 1) >> 1]) >> 1
        return True

    def rising(self) -> int:
        """1 for a trend that stands out upwards, -1 downwards, 0 for none (after `fit`)."""
        if self.gentle > 0 and self.steep > 0:
            return 1
        if self.gentle < 0 and self.steep < 0:
            return -1
        return 0

    def forecast(self, limit: int) -> bool:
        """Time until the fitted trend meets `limit` (a point's unit); False for no forecast (after `fit`)."""
        way = limit - self.level
        if self.rising() == 0 or (way > 0) != (self.slope > 0):
            return False
        self.left = _time(way, self.slope)
        self.left_low = _time(way, self.steep)
        self.left_high = _time(way, self.gentle)
        return self.left < _FAR << 4


def _time(way, slope):
    # way / slope in sixteenths of an interval, capped.
    way = abs(way)
    slope = abs(slope)
    if slope == 0 or (way << 5) // slope >= (_FAR << 9) >> (_Q - 1):
        return _FAR << 4
    return (way << _Q) // ((slope + 15) >> 4 or 1)


def push(s, base: int, value: int, now_s: int, every_s: int) -> bool:
    """Keep `value` (±16383) as the newest point if `every_s` seconds have passed; True when a point was kept.

    A gap of up to 16 intervals is bridged by a straight line; after a longer one, or when the clock has gone back, the
    points start anew.
    """
    count = s[base + _COUNT] & 31
    newest = s[base + _COUNT] >> 5
    late = now_s - s[base + _NEWEST]
    if count == 0 or late < 0 or late >= every_s << 4:
        s[base + _COUNT] = 1
        s[base + _NEWEST] = now_s
        _put(s, base, 0, value)
        return True
    if late < every_s:
        return False
    missed = late // every_s
    old = _get(s, base, newest)
    for k in range(1, missed + 1):
        newest = (newest + 1) & 15
        _put(s, base, newest, old + (value - old) * k // missed)
    count += missed
    s[base + _COUNT] = (count if count < POINTS else POINTS) | newest << 5
    s[base + _NEWEST] += missed * every_s
    return True


def unpack(s, base: int, out) -> int:
    """Copy the points, oldest first, to `out` (16 words) and return their number."""
    count = s[base + _COUNT] & 31
    first = (s[base + _COUNT] >> 5) - count + 1
    for k in range(count):
        out[k] = _get(s, base, (first + k) & 15)
    return count


def _get(s, base, k):
    word = s[base + (k >> 1)]
    return (word >> 15 if k & 1 else word & _HALF) - _BIAS


def _put(s, base, k, value):
    word = s[base + (k >> 1)]
    if k & 1:
        s[base + (k >> 1)] = word & _HALF | (value + _BIAS) << 15
    else:
        s[base + (k >> 1)] = word & ~_HALF | value + _BIAS


def _sort(a, n):
    # Shell sort in place of the first n words: no allocation, 120 words at most.
    gap = 40
    while gap:
        for i in range(gap, n):
            x = a[i]
            j = i
            while j >= gap and a[j - gap] > x:
                a[j] = a[j - gap]
                j -= gap
            a[j] = x
        gap = 0 if gap == 1 else (13 if gap == 40 else 4 if gap == 13 else 1)
