"""One health channel: readings in, a state out.

A channel turns raw readings into engineering units, watches hard limits at every sample, feeds the mean of every
`step_s` seconds to the anomaly detector (anomaly.py) and one level per `trend_s` seconds to the points
(trend_points.py) that the forecast is made of (remaining_life.py).
Out of these comes a state, ok / watch / warn / fail, that rises after `confirm` samples and falls one step per
`hold_s` seconds, with hysteresis at the limits. A reading that is missing, or electrically impossible, is itself a
finding. The memory of a channel is one `array('i')` of WORDS words (256 bytes).
"""

from array import array

from sentill.compat import borrow, const

from . import anomaly, trend_points

OK = 0
WATCH = 1
WARN = 2
FAIL = 3
STATES = ("ok", "watch", "warn", "fail")

# Causes beyond the detector's own (detector.CAUSES, 0..6).
LIMIT = 7
FORECAST = 8
SILENT = 9
RANGE = 10
CAUSES = anomaly.CAUSES + ("limit", "forecast", "silent", "range")

NO_FORECAST = -1
NOT_ASKED = -2

WORDS = 64  # words 0..46 belong to the detector, 47..57 to the forecast
TREND = anomaly.STATE
_SUM = const(58)  # sum of the running step's samples in detector scale; counters: of increments
_CNT = const(59)  # their number | consecutive missing readings << 15
_TIME = const(60)  # node time of the last sample
_FLAGS = const(61)  # state | cause<<2 | confirm<<6 | forecast<<12 | worst<<14 | started<<21 | trend<<22 | same<<24
_HOLD = const(62)  # node time from which the state may fall by one
_VALUE = const(63)  # last value in units; counters: the last raw count

_NONE = const(0x3FFFFFFF)
_MOST = const(0x7FFF)


class Channel:
    """A channel made from its `spec` (a dict, see channel_spec.KEYS; and name, unit, source, advice). ConfigError."""

    # Set from KEYS; declared for readers and type checkers, no code on the board.
    num: int
    den: int
    offset: int
    min: int
    max: int
    lo_fail: int
    lo_warn: int
    hi_warn: int
    hi_fail: int
    good: int
    hyst: int
    confirm: int
    hold_s: int
    gap_s: int
    step_s: int
    learn: int
    watch_at: int
    warn_at: int
    stuck: int
    trend_s: int
    thin: int
    horizon_s: int
    life_s: int
    per_s: int
    s: array
    ahead: array  # seconds until the fail limit and their band; the first is NO_FORECAST, or NOT_ASKED yet
    _mid: int
    _shift: int
    _span: int
    _life: int
    _drop: int

    # A wear.LifeGauge that delivers the readings and uses the forecast's words; here, to spare the heap of the others.
    gauge = None

    def __init__(self, spec: dict):
        borrow("health", "channel_spec").fill(self, spec)

    def scaled(self, value: int) -> int:
        """`value` in units as the detector sees it: min..max becomes ±16383, beyond is clipped."""
        value = self.max if value > self.max else self.min if value < self.min else value
        return ((value - self._mid) >> self._shift) * 32766 // self._span

    def unscaled(self, q: int) -> int:
        """The inverse of `scaled`, to its resolution."""
        return self._mid + ((q * self._span >> 15) << self._shift)

    @property
    def state(self) -> int:
        """OK, WATCH, WARN or FAIL."""
        return self.s[_FLAGS] & 3

    @property
    def cause(self) -> int:
        """Index into CAUSES of what has raised the state, 0 when it is OK."""
        return self.s[_FLAGS] >> 2 & 15

    @property
    def trend(self) -> int:
        """1 rising, -1 falling, 0 neither, as of the newest forecast."""
        way = self.s[_FLAGS] >> 22 & 3
        return -1 if way == 3 else way

    @property
    def worst(self) -> int:
        """The lowest health value (0..100) seen so far."""
        return self.s[_FLAGS] >> 14 & 127

    @property
    def missing(self) -> int:
        """Consecutive readings that were missing or impossible."""
        return self.s[_CNT] >> 15

    @property
    def value(self) -> int:
        """The last value in units; for a counter the increments per `per_s` of the last step, or of this if more."""
        if not self.per_s:
            return self.s[_VALUE]
        rate = self._running()
        last = self.unscaled(anomaly.last(self.s))
        return rate if last < rate <= self.max else last

    @property
    def started(self) -> bool:
        """Whether there was ever a reading, or none where there should have been one."""
        return self.s[_FLAGS] >> 21 & 1 == 1

    def level(self):
        """The running mean over the last 16 steps in units, None before the first step has ended."""
        return None if anomaly.learning(self.s, 1) else self.unscaled(anomaly.level(self.s))

    def learning(self) -> int:
        """Steps the detector still has to see before it raises alarms; 0 when it has learnt the channel."""
        return anomaly.learning(self.s, self.learn)

    def health(self, value: int) -> int:
        """`value` in units as health, 100 (as good as it gets) down to 0 (at a fail limit or beyond)."""
        high = self.limit_ahead(1)
        low = self.limit_ahead(-1)
        good = self.good
        if high < _NONE and value > good:
            left, span = high - value, high - good
        elif low > -_NONE and value < good:
            left, span = value - low, good - low
        else:
            return 100
        while span > 1 << 22:
            left >>= 1
            span >>= 1
        return 0 if left <= 0 or span <= 0 else 100 if left > span else left * 100 // span

    def threshold(self) -> int:
        """The health at which the state warns: that of the warn limits; 0 without any."""
        worst = 0
        if self.hi_warn < _NONE:
            worst = self.health(self.hi_warn)
        if self.lo_warn > -_NONE:
            low = self.health(self.lo_warn)
            worst = low if low > worst else worst
        return worst

    def sample(self, raw, now_s: int, f, trends) -> bool:
        """Take a raw reading (None: the sensor did not answer) at `now_s`; True when the state has changed.

        `f` is the detector's scratch (8 words), shared by all channels. `trends()` gives a rul.Trend: asked for when a
        point is complete. Nothing else is allocated.
        """
        s = self.s
        flags = s[_FLAGS]
        started = flags >> 21 & 1
        late = now_s - s[_TIME]
        s[_FLAGS] = flags | 1 << 21
        if started and not self.per_s and (late < 0 or late > self.gap_s):
            s[_SUM] = 0
            s[_CNT] &= ~_MOST
        level = cause = 0
        strength = -1
        if started and late and now_s // self.step_s != s[_TIME] // self.step_s and s[_CNT] & _MOST:
            strength = self._close(s[_TIME], f, trends)
        s[_TIME] = now_s
        if raw is not None:
            value = raw * self.num // self.den + self.offset
            if self.per_s:
                raw, value = value, value - s[_VALUE]
                s[_VALUE] = raw
                if value < 0 or not started:
                    value = 0
                s[_SUM] = s[_SUM] + value if value < 65535 - s[_SUM] else 65535
                self._count()
                cause = LIMIT
                if strength >= 0:
                    level = self._limit(self.unscaled(anomaly.last(s)), flags)
                elif value:  # what is too much already will not get less
                    rate = self._running()
                    level = FAIL if rate >= self.hi_fail else WARN if rate >= self.hi_warn else OK
            elif self.min <= value <= self.max:
                s[_VALUE] = value
                s[_SUM] += self.scaled(value)
                self._count()
                level = self._limit(value, flags)
                cause = LIMIT
            else:
                raw = None
                cause = RANGE
        else:
            cause = SILENT
        if raw is None:
            level = self._missing()
        elif not self.per_s or strength >= 0:
            health = self.health(self.value)
            if health < self.worst:
                s[_FLAGS] = s[_FLAGS] & ~(127 << 14) | health << 14
        return self._settle(level, cause, strength, now_s)

    def _running(self):
        # The rate of a counter if nothing more happens in the running step.
        return _rate(self.s[_SUM], self.per_s, self.step_s)

    def _count(self):
        # One more sample in the running step; nothing is missing any more.
        n = self.s[_CNT] & _MOST
        if n == _MOST:  # a long step: all its samples so far count half from here on
            n >>= 1
            if not self.per_s:
                self.s[_SUM] >>= 1
        self.s[_CNT] = n + 1

    def _close(self, time_s, f, trends):
        # Ends a step: its mean goes to the detector, the level to the forecast. Returns the alarm's strength.
        s = self.s
        if self.per_s:
            q = self.scaled(self._running())
        else:
            q = s[_SUM] // (s[_CNT] & _MOST)
        s[_SUM] = 0
        s[_CNT] &= ~_MOST
        same = s[_FLAGS] >> 24
        same = 0 if q != anomaly.last(s) else same + 1 if same < 63 else 63
        s[_FLAGS] = s[_FLAGS] & 0xFFFFFF | same << 24
        strength = anomaly.update(s, f, q, time_s // 3600 % 24, self.learn)
        if self.trend_s >= 16 * self.step_s:
            q = anomaly.level(s)
        if self.trend_s and trend_points.push(s, TREND, q, time_s, self.trend_s, self.thin):
            self._foresee(trends())
        return strength

    def limit_ahead(self, direction: int) -> int:
        """The limit in units that a trend in `direction` (1 up, -1 down) would meet, or ±0x3fffffff for none."""
        if direction > 0:
            return self.hi_fail if self.hi_fail < _NONE else self.hi_warn
        return self.lo_fail if self.lo_fail > -_NONE else self.lo_warn

    def forecast(self, trend) -> bool:
        """Fit `trend` to this channel's points; True when a limit lies ahead, at the times in `trend` and `ahead`."""
        if not self.trend_s:
            return False
        ahead = self.ahead
        ahead[0] = NO_FORECAST
        if not self._fit(trend):
            return False
        every_s = self.trend_s * trend.every
        ahead[0] = _seconds(trend.left, every_s)
        ahead[1] = _seconds(trend.left_low, every_s)
        ahead[2] = _seconds(trend.left_high, every_s)
        return True

    def _fit(self, trend):
        if not trend.fit(self.s, TREND, self._drop, self._life):
            return False
        way = trend.rising()
        limit = self.limit_ahead(way)
        return way != 0 and -_NONE < limit < _NONE and trend.forecast(self.scaled(limit))

    def _foresee(self, trend):
        level = 0
        if self.forecast(trend):
            horizon = _sixteenths(self.horizon_s, self.trend_s * trend.every)
            level = WARN if trend.left <= horizon else WATCH if trend.left <= horizon << 1 else OK
        way = trend.rising() if trend.points >= trend_points.MIN_POINTS else 0
        self.s[_FLAGS] = self.s[_FLAGS] & ~(3 << 12 | 3 << 22) | level << 12 | (way & 3) << 22

    def _missing(self):
        s = self.s
        missing = s[_CNT] >> 15
        if missing < _MOST - 1:
            s[_CNT] += 1 << 15
        return OK if missing + 1 < self.confirm else WATCH if missing + 1 < 20 * self.confirm else WARN

    def _limit(self, value, flags):
        # The level of the hard limits; a limit already passed must be cleared by `hyst` to be left.
        hyst = self.hyst if (flags & 3) >= WARN and (flags >> 2 & 15) == LIMIT else 0
        if value >= self.hi_fail - (hyst if flags & 3 == FAIL else 0):
            return FAIL
        if value <= self.lo_fail + (hyst if flags & 3 == FAIL else 0):
            return FAIL
        if value >= self.hi_warn - hyst or value <= self.lo_warn + hyst:
            return WARN
        return OK

    def _settle(self, level, cause, strength, now_s):
        # The state machine. `level` from limits and missing readings has to last, anomalies and forecasts do not.
        s = self.s
        flags = s[_FLAGS]
        state = was = flags & 3
        why = flags >> 2 & 15
        confirm = flags >> 6 & 63
        if level > state and cause == LIMIT and not self.per_s:
            confirm += 1
            if confirm < self.confirm:
                level = state
        else:
            confirm = 0
        if strength > 0 and self.watch_at and strength >= self.watch_at:
            alarm = WARN if self.warn_at and strength >= self.warn_at else WATCH
            if alarm > level:
                level = alarm
                cause = anomaly.cause(s)
        if strength >= 0 and (why == anomaly.SPIKE or why == anomaly.SEASONAL) and anomaly.cause(s):
            why = anomaly.cause(s)  # what follows tells a spike from a new level
        if (flags >> 12 & 3) > level:
            level = flags >> 12 & 3
            cause = FORECAST
        if self.stuck and level < WARN and flags >> 24 >= self.stuck:
            level = WARN
            cause = anomaly.STUCK
        if level > state:
            state = level
            why = cause
            confirm = 0
        if level >= state or s[_HOLD] > now_s + self.hold_s:
            s[_HOLD] = now_s + self.hold_s
        elif now_s >= s[_HOLD]:
            state -= 1
            s[_HOLD] = now_s + self.hold_s
        if state == OK:
            why = 0
        s[_FLAGS] = flags & ~0xFFF | state | why << 2 | confirm << 6
        return state != was


def _rate(count, per_s, step_s):
    # count * per_s // step_s, for counts of 16 and per_s of 17 bits, without leaving 30.
    if count <= 0x3FFFFFFF // per_s:
        return count * per_s // step_s
    rate = (count >> 3) * per_s // step_s
    return rate << 3 if rate < 1 << 26 else 1 << 29


def _sixteenths(span_s, every_s):
    # span_s in sixteenths of every_s, without leaving 30 bits.
    return (span_s << 4) // every_s if span_s < 1 << 25 else (span_s // every_s) << 4


def _seconds(sixteenths, every_s):
    # Sixteenths of an interval in seconds, capped at 2^30 - 1.
    if sixteenths >= 0x3FFFFFFF // every_s:
        return (sixteenths >> 4) * every_s if sixteenths >> 4 < 0x3FFFFFFF // every_s else 0x3FFFFFFF
    return sixteenths * every_s >> 4
