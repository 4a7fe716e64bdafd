"""The points that a forecast is made of: up to 16 levels of a channel, evenly spaced, over the newer half of its life.

A channel keeps them in STATE words of its `array('i')`, two 15-bit halves to a word. They begin `every_s` seconds
apart; when all 16 are taken, neighbours are averaged and the spacing doubles. remaining_life.py makes the forecast.
"""

from sentill.compat import const

STATE = 11
POINTS = 16
MIN_POINTS = 6
MOST_SHIFT = 8

_DUE = const(8)  # node time of the newest value
_SHAPE = const(9)  # points held, 0..16 | log2 of values per point << 5 | values in the running mean << 9
_MEAN = const(10)  # mean of the values since the newest point, Q8
_HALF = const(0x7FFF)
_BIAS = const(16384)


def spacing(s, base: int) -> int:
    """The log2 of the values that make a point."""
    return s[base + _SHAPE] >> 5 & 15


def push(s, base: int, value: int, now_s: int, every_s: int, most_shift: int = MOST_SHIFT) -> bool:
    """Keep `value` (±16383) if `every_s` seconds have passed since the last one; True when a point was completed.

    The spacing of the points doubles at most `most_shift` (0..MOST_SHIFT) times, then the oldest makes room: 0 for the
    newest 16 values, the most for the whole history. A gap of up to 16 points is filled with the new value; after a
    longer one, or when the clock has gone back, the points start anew.
    """
    late = now_s - s[base + _DUE]
    if s[base + _SHAPE] == 0 or late < 0 or late >> (s[base + _SHAPE] >> 5 & 15) > 16 * every_s:
        s[base + _SHAPE] = 0
        s[base + _DUE] = now_s
        return _take(s, base, value, most_shift)
    if late < every_s:
        return False
    done = False
    while late >= every_s:
        done = _take(s, base, value, most_shift) or done
        s[base + _DUE] += every_s
        late -= every_s
    return done


def unpack(s, base: int, out) -> int:
    """Copy the points, oldest first, to `out` (16 words) and return their number."""
    count = s[base + _SHAPE] & 31
    for k in range(count):
        out[k] = _get(s, base, k)
    return count


def _take(s, base, value, most_shift):
    # One more value for the running mean; True when it completes a point.
    shape = s[base + _SHAPE]
    count = shape & 31
    shift = shape >> 5 & 15
    held = (shape >> 9) + 1
    mean = s[base + _MEAN] if held > 1 else 0
    mean += ((value << 8) - mean) // held
    s[base + _MEAN] = mean
    if held < 1 << shift:
        s[base + _SHAPE] = count | shift << 5 | held << 9
        return False
    if count == POINTS:
        if shift < most_shift:
            for k in range(8):
                _put(s, base, k, (_get(s, base, 2 * k) + _get(s, base, 2 * k + 1)) >> 1)
            s[base + _SHAPE] = 8 | (shift + 1) << 5 | held << 9
            return False
        for k in range(POINTS - 1):
            _put(s, base, k, _get(s, base, k + 1))
        count -= 1
    _put(s, base, count, mean >> 8)
    s[base + _SHAPE] = count + 1 | shift << 5
    return True


def _get(s, base, k):
    word = s[base + (k >> 1)]
    return (word >> 15 if k & 1 else word & _HALF) - _BIAS


def _put(s, base, k, value):
    word = s[base + (k >> 1)]
    if k & 1:
        s[base + (k >> 1)] = word & _HALF | (value + _BIAS) << 15
    else:
        s[base + (k >> 1)] = word & ~_HALF | value + _BIAS
