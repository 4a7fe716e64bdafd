"""Remaining useful life: a robust trend through 16 points, and the time until it meets a threshold.

The points (trend_points.py) span at least the newer half of the channel's life. The trend is Theil and Sen's: the
median of the slopes of all pairs, the level the median of what the newest eight points predict for now. The band, meant
to hold the truth in 80 of 100 cases, comes from the quartiles of slopes and levels, from a slope that goes on changing
as it did from the first half of the points to the second, and is never narrower than wear is crooked.

Where the typical life is known (a data sheet, other units), its slope counts as much as a quarter of a life of own
points, and the band may be narrow. A part that ages otherwise widens it: one that outlasts the typical life may last
twice as long as its own trend says, one that wears faster may last half of that, and hardly longer than is typical.

"No forecast" is an answer: too few points, no slope that stands out of the noise, a threshold too far away, or a band
that has become too wide to tell anything. Times are relative to the newest point, so that every intermediate stays
within ±2^30.
"""

from array import array

from sentill.compat import const

from .trend_points import MIN_POINTS, POINTS, spacing, unpack

_Q = const(14)  # slopes are Q14 per interval
_FAR = const(512)  # intervals: a threshold farther away than this is no forecast
_FOREVER = const(1 << 16)  # intervals: the longest typical life to be told apart
_PAIRS = const(120)
_BEND = const(4)  # wear is rarely quite straight: the band is at least 4/16 of the time wide on either side
_ALONE_LOW = const(10)  # ... and from 10/16 to 26/16 of the time where no typical life steadies it
_ALONE_HIGH = const(26)
_LONGER = const(18)  # own points and trend tell of more than 18/16 of the typical life: the part ages otherwise
_FASTER = const(20)  # own trend tells of less than 16/20 of the typical time: likewise
_VAGUE = const(20)  # such a part's forecast tells nothing when its band ends 20 times later than it begins
_STEEP = const(1 << 28)  # a slope beyond that is a jump and tells nothing of those to come


class Trend:
    """Scratch and result of a forecast. Borrowed for each: a channel makes one in `trend_s` seconds at most.

    After `fit`: `points`, `every` (values per point), `slope` (Q14 per interval between points) with `gentle` and
    `steep` around it, `level` (fitted value at the newest point) and its `spread`. After `forecast` returned True:
    `left`, `left_low`, `left_high` in sixteenths of an interval after the newest point.
    """

    def __init__(self):
        self._v = array("i", [0] * POINTS)
        self._slopes = array("i", [0] * _PAIRS)
        self.points = 0
        self.every = 1
        self.slope = 0
        self.steep = 0
        self.gentle = 0
        self.level = 0
        self.spread = 0
        self._shift = 0
        self._own = 0
        self._typical = 0
        self._life = 0
        self.left = 0
        self.left_low = 0
        self.left_high = 0

    def fit(self, s, base: int, drop: int = 0, life: int = 0) -> bool:
        """Fit the points kept at `s[base:]`; False when there are fewer than MIN_POINTS.

        `drop` (±32767) is how far a typical unit falls or rises in its `life`, counted in values; life 0: not known.
        """
        v = self._v
        n = unpack(s, base, v)
        self.points = n
        if n < MIN_POINTS:
            return False
        shift = self._shift = spacing(s, base)
        self.every = 1 << shift
        self._slope(n)
        life = (life + self.every - 1) >> shift
        life = self._life = life if life < _FOREVER else _FOREVER
        if life:
            self._blend((drop << _Q) // life, life >> 2 or 1, n - 1)
        if abs(self.gentle) > abs(self.steep):
            self.gentle, self.steep = self.steep, self.gentle
        k = n - 8 if n > 8 else 0
        for i in range(k, n):
            v[i - k] = v[i] + (self.slope * (n - 1 - i) >> _Q)
        _sort(v, n - k)
        n -= k
        self.level = (v[n >> 1] + v[(n - 1) >> 1]) >> 1
        self.spread = (v[n - 1 - (n >> 2)] - v[n >> 2]) >> 1
        return True

    def _slope(self, n):
        # The trend of all points with its quartiles, and what it becomes if it goes on changing as it did.
        first = self._theil_sen(0, n >> 1)
        second = self._theil_sen(n >> 1, n)
        own = self._own = self.slope = self._theil_sen(0, n)
        first -= second
        if n >= 8 and abs(first) < _STEEP and abs(second) < _STEEP:
            second -= first
            if (second > 0) == (own > 0):
                if second < self.gentle:
                    self.gentle = second
                elif second > self.steep:
                    self.steep = second

    def _theil_sen(self, begin, end):
        # The median of the slopes of all pairs of these points; sets the quartiles.
        v = self._v
        slopes = self._slopes
        k = 0
        for j in range(begin + 1, end):
            for i in range(begin, j):
                slopes[k] = ((v[j] - v[i]) << _Q) // (j - i)
                k += 1
        _sort(slopes, k)
        self.gentle = slopes[k >> 2]
        self.steep = slopes[k - 1 - (k >> 2)]
        return (slopes[k >> 1] + slopes[(k - 1) >> 1]) >> 1

    def _blend(self, typical, weight, span):
        # Pulls the slopes towards a typical one, which counts `weight` intervals against `span` measured.
        self._typical = typical
        part = (weight << 8) // (weight + span)
        self.slope = _between(self.slope, typical, part)
        self.gentle = _between(self.gentle, typical, part)
        self.steep = _between(self.steep, typical, part)

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
        way = abs(way)
        late = 8 - (8 >> self._shift)  # a point stands for the middle of its values
        time = _time(way, self.slope)
        low = _time(way - self.spread if way > self.spread else 0, self.steep)
        high = _time(way + self.spread, self.gentle)
        if self._life:
            bend = (time >> 4) * _BEND
            least, most = time - bend, time + bend
        else:
            least, most = time * _ALONE_LOW >> 4, time * _ALONE_HIGH >> 4
        self.left = time - late if time > late else 0
        self._band(low if low < least else least, high if high > most else most, late)
        return time < _FAR << 4 and self._agrees(way, late)

    def _band(self, low, high, late):
        self.left_low = low - late if low > late else 0
        self.left_high = high - late if high > late else 0

    def _agrees(self, way, late):
        # Widens the band of a part that ages otherwise than its typical life; False when it tells nothing any more.
        typical = self._typical
        if self._life == 0 or (typical > 0) != (self.slope > 0):
            return True
        usual = _time(way, typical)
        own = _time(way, self._own) if (self._own > 0) == (typical > 0) else _FAR << 4
        if (self.points - 1 << 4) + own > self._life * _LONGER:
            usual, own = own << 1, usual
        elif own * _FASTER >= usual << 4:
            return True
        low, high = self.left_low + late, self.left_high + late
        self._band(own >> 1 if own >> 1 < low else low, usual if usual > high else high, late)
        return self.left_high <= _VAGUE * self.left_low + 16


def _between(a, b, part):
    # a moved towards b by part/256; the products stay below 2^30.
    d = b - a
    return a + (d * part >> 8) if -(1 << 21) < d < 1 << 21 else a + (d >> 8) * part


def _time(way, slope):
    # way / slope in sixteenths of an interval, capped.
    slope = abs(slope)
    if slope == 0 or (way << 5) // slope >= (_FAR << 9) >> (_Q - 1):
        return _FAR << 4
    return (way << _Q) // ((slope + 15) >> 4 or 1)


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
