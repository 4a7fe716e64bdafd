"""Integer anomaly detector for one channel: how hard does this sample break the channel's own records?

Eight features of the sample stream (value, level, deviation, roughness, two seasonal residuals, two dispersions) each
keep a mean and a high and a low record; records leak back towards the mean. A feature that breaks a record adds `16 *
log2(1 + e / 8)` to the evidence, e being the excess in 1/256 of the distance from mean to record. The evidence leaks
by a sixteenth per sample; after an alarm a follow-up must be 2.5 times stronger for a fifth of the learning time.

The whole state of a channel is the first STATE words of an `array('i')` the caller owns. No floats, no allocation in
`update`, every intermediate within ±2^30 for samples within ±32767 (tests/host/test_detector_range.py measures it).
"""

from sentill.compat import const

QUIET = 0  # causes, as named in CAUSES
SPIKE = 1
LEVEL = 2
DRIFT = 3
STUCK = 4
SEASONAL = 5
DISPERSION = 6
CAUSES = ("", "spike", "level", "drift", "stuck", "seasonal", "dispersion")

STATE = 47  # words of state used by one channel
LEARN = 720  # samples before the first alarm is raised, unless the caller says otherwise
ALARM = 59  # strength of an alarm worth showing; LOUD where few false alarms matter more than missed ones
LOUD = 89

_FEATURES = const(8)
_MU = const(0)  # mean, high record and low record of each feature, Q8
_HI = const(8)
_LO = const(16)
_PROFILE = const(24)  # 24 hours of the day in 12 words of two 15-bit halves
_M4 = const(36)  # moving averages, Q8: value over 16, 64 and 128 samples
_M6 = const(37)
_M7 = const(38)
_V6 = const(39)  # step size over 64
_R4 = const(40)  # seasonal residual over 16
_D4 = const(41)  # dispersion over 16
_S3 = const(42)  # seasonal dispersion over 8
_AM = const(43)  # evidence | strength of the last alarm << 15
_NC = const(44)  # samples seen, from 16383 back to 8192 | samples left of the mask << 14
_SEEN = const(45)  # bit per hour of the day that has a profile
_PREV = const(46)  # previous sample + 32768 | cause that has contributed most to the evidence << 16 | its weight << 19

_PRE = const(32)  # samples before the records start
_LEAK = const(14)  # records move 2^-14 of their distance per sample
_MEAN = const(11)  # the mean follows with 2^-11 once grown up
_FLOOR = const(6)  # a record counts as at least 1/64 of the range off the mean
_SOFT = const(8)
_EVIDENCE = const(4)
_AGAIN = const(20)  # a follow-up alarm must exceed 20/8 of the last one
_HOLD = const(5)  # ... for a fifth of the samples learnt from, whatever the pace of the samples
_SEASON = const(6)  # the hourly profile follows with 2^-6
_CALM = const(4)  # a record broken with steps below 4 times the usual is a drift


def log16(excess: int) -> int:
    """16 * log2(1 + excess / 8), piecewise linear, for excess 0..16383 (0..176)."""
    z = excess + _SOFT
    total = 0
    top = _SOFT << 1
    while z >= top:
        z >>= 1
        total += 16
    return total + ((z - _SOFT) << 4) // _SOFT


def learning(s, learn: int = LEARN) -> int:
    """Samples still missing of the `learn` (at most 8191) before alarms can be raised; 0 when all were seen."""
    seen = s[_NC] & 0x3FFF
    return learn - seen if seen < learn else 0


def last(s) -> int:
    """The newest sample taken."""
    return (s[_PREV] & 0xFFFF) - 32768


def level(s) -> int:
    """The running level of the channel, in the unit of its samples: their moving average over 16."""
    return s[_M4] >> 8


def cause(s) -> int:
    """What has contributed most to the running evidence: one of SPIKE .. DISPERSION, QUIET when nothing has."""
    return s[_PREV] >> 16 & 7


def update(s, f, q: int, hour: int, learn: int = LEARN) -> int:
    """Take one sample and return the strength of the alarm it raises, 0 for none.

    `s` is the channel's state, `f` an `array('i')` of 8 words of scratch that all channels may share, `q` the sample
    within ±32767 (what is usual should cover ±2048 or more), `hour` the hour of the day, 0..23, `learn` the number of
    samples (33..8191) before the first alarm.
    """
    n = s[_NC] & 0x3FFF
    x = q << 8
    if n == 0:
        s[_M4] = s[_M6] = s[_M7] = x
        s[_PREV] = q + 32768
    dx = abs(q - last(s)) << 8
    s[_PREV] = s[_PREV] & ~0xFFFF | q + 32768
    s[_M4] += (x - s[_M4]) >> 4
    s[_M6] += (x - s[_M6]) >> 6
    s[_M7] += (x - s[_M7]) >> 7
    calm = dx <= s[_V6] * _CALM
    s[_V6] += (dx - s[_V6]) >> 6
    r = _residual(s, x, hour, n)
    s[_R4] += (r - s[_R4]) >> 4
    s[_S3] += (abs(r) - s[_S3]) >> 3
    s[_D4] += (abs(x - s[_M6]) - s[_D4]) >> 4
    f[0] = x
    f[1] = s[_M4]
    f[2] = x - s[_M7]
    f[3] = s[_V6]
    f[4] = r
    f[5] = s[_R4]
    f[6] = s[_D4]
    f[7] = s[_S3]
    s[_NC] += 1 if n < 16383 else -8191
    if n < _PRE:
        return 0
    if n == _PRE:
        for j in range(_FEATURES):
            s[_MU + j] = s[_HI + j] = s[_LO + j] = f[j]
    total = _break_records(s, f, n, calm)
    if n < learn:
        return 0
    return _alarm(s, total, learn)


def _residual(s, x, hour, n):
    # Distance of x from what this hour of the day usually brings, Q8; the profile then follows. A half word holds it in
    # steps of 2 sample units, so what is cut off is dithered: cut plainly, the profile would creep down.
    k = _PROFILE + (hour >> 1)
    shift = 15 if hour & 1 else 0
    word = s[k]
    if (s[_SEEN] >> hour) & 1:
        p = ((word >> shift & 0x7FFF) - 16384) << 9
    else:
        s[_SEEN] |= 1 << hour
        p = x
    r = x - p
    p = (p + (r >> _SEASON) + (n * 167 & 511) >> 9) + 16384
    s[k] = word & 0x7FFF << 15 - shift | (p if p < 0x7FFF else 0x7FFF) << shift
    return r


def _break_records(s, f, n, calm):
    # Compares the features with their records, moves the records, and returns the summed strength of the breaks.
    shift = 1
    while shift < _MEAN and (1 << shift) < n - _PRE + 1:
        shift += 1
    floor = ((s[_HI] - s[_LO]) >> _FLOOR) + 256
    total = 0
    best = why = moved = 0
    for j in range(_FEATURES):
        y = f[j]
        mu = s[_MU + j]
        hi = s[_HI + j]
        lo = s[_LO + j]
        e = 0
        if y > hi:
            e = ((y - hi) << 4) // ((hi - mu + floor) >> 4)
            hi = y
        else:
            hi -= (hi - mu) >> _LEAK
        if y < lo:
            e = ((lo - y) << 4) // ((mu - lo + floor) >> 4)
            lo = y
        else:
            lo += (mu - lo) >> _LEAK
        below = y < mu
        mu += (y - mu) >> shift
        s[_MU + j] = mu
        s[_HI + j] = hi if hi > mu else mu
        s[_LO + j] = lo if lo < mu else mu
        if e > 0:
            e = log16(e if e < 16383 else 16383)
            total += e
            if e > best:
                best = e
                why = 8 if below and (j == 3 or j > 5) else j
            if j < 3:
                moved = 1
            elif moved and (why == 4 or why == 5):
                why = 0  # unusual for the hour, but unusual at all as well
    _blame(s, best, 0 if moved and calm else why, calm)
    return total


def _blame(s, weight, feature, calm):
    # Keeps the cause with the greatest leaking weight. A record broken without an unusual step is a drift, or, right
    # after a jump, a level that has shifted; jump upon jump is dispersion.
    w = s[_PREV] >> 19
    was = s[_PREV] >> 16 & 7
    w -= (w + 15) >> 4
    if w <= 0:
        w = was = 0
    if weight:
        c = DISPERSION
        if feature == 8:
            c = STUCK
        elif was == SPIKE or was == LEVEL:
            c = LEVEL if calm else DISPERSION
        elif was != DISPERSION and feature < 3:
            c = DRIFT if calm else SPIKE
        elif was == DRIFT and calm and feature > 5:
            c = DRIFT  # its lag widens the dispersions, too
        elif feature == 4 or feature == 5:
            c = SEASONAL
        if weight >= w or was == SPIKE or (was == LEVEL and c == DISPERSION):
            was = c
            w = weight if weight > w else w
    s[_PREV] = s[_PREV] & 0xFFFF | was << 16 | w << 19


def _alarm(s, total, learn):
    # Leaky evidence, and a mask after an alarm. Few locals: the frame of more would come from the heap.
    evidence = s[_AM] & 0x7FFF
    mask = s[_AM] >> 15
    left = s[_NC] >> 14
    evidence += total - (evidence >> _EVIDENCE)
    if left:
        left -= 1
        if left == 0:
            mask = 0
    strength = 0
    if total > 0 and evidence * 8 > mask * _AGAIN:
        if evidence > mask:
            mask = evidence
        left = learn // _HOLD
        strength = evidence
    s[_AM] = evidence | mask << 15
    s[_NC] = s[_NC] & 0x3FFF | left << 14
    return strength
