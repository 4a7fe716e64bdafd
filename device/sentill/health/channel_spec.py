"""What a health channel is made of: the keys of its spec, their ranges, their defaults. Borrowed at the start."""

from array import array

from sentill.compat import const
from sentill.errors import ConfigError

from . import trend_points
from .channel import NOT_ASKED, WORDS

_NONE = const(0x3FFFFFFF)
_FLAGS = const(61)

# name: (default, lowest, highest); limits default to "none".
KEYS = {
    "num": (1, 1, 16384),  # raw readings of 16 bits stay below 2^30
    "den": (1, 1, 1 << 29),
    "offset": (0, -(1 << 29), 1 << 29),
    "min": (0, -(1 << 28), 1 << 28),  # what the sensor can deliver at all, in units; it also sets the scale
    "max": (65535, -(1 << 28), 1 << 28),
    "lo_fail": (-_NONE, -_NONE, _NONE),
    "lo_warn": (-_NONE, -_NONE, _NONE),
    "hi_warn": (_NONE, -_NONE, _NONE),
    "hi_fail": (_NONE, -_NONE, _NONE),
    "good": (_NONE, -_NONE, _NONE),  # the value that counts as health 100; default: as far from the limits as it gets
    "hyst": (-1, -1, 1 << 28),  # -1: 1/64 of the span from min to max
    "confirm": (3, 1, 60),  # samples a limit must be passed before the state rises
    "hold_s": (3600, 1, 30 * 86400),
    "gap_s": (600, 1, 30 * 86400),  # a pause longer than this drops the running step of a gauge
    "step_s": (60, 1, 86400),
    "learn": (720, 33, 8191),  # steps
    "watch_at": (59, 0, 32767),  # strength of an anomaly that makes the state watch, warn; 0: never
    "warn_at": (0, 0, 32767),
    "stuck": (0, 0, 63),  # steps with the very same mean that make the state warn; 0: never
    "trend_s": (0, 0, 30 * 86400),  # 0: no forecast
    # 0: the trend of the newest 16 values, 8: of the whole history, for slow wear
    "thin": (0, 0, trend_points.MOST_SHIFT),
    "horizon_s": (0, 0, 1 << 29),  # a fail limit closer than this makes the state warn, than twice this watch
    "life_s": (0, 0, 1 << 29),  # typical time from `good` to the fail limit, 0: not known
    "per_s": (0, 0, 86400),  # 0: a gauge; else a counter, shown as increments per this many seconds
}


def fill(channel, spec: dict) -> None:
    """Set the attributes of `channel` from its `spec`; raises ConfigError."""
    channel.name = spec["name"]
    channel.unit = spec.get("unit", "")
    channel.source = spec.get("source", "")
    channel.advice = spec.get("advice", "")
    for key in KEYS:
        default, low, high = KEYS[key]
        value = spec.get(key, default)
        if not isinstance(value, int) or not low <= value <= high:
            raise ConfigError("range", "channel %s: %s must be %d..%d" % (channel.name, key, low, high))
        _set(channel, key, value, default)
    if channel.min >= channel.max:
        raise ConfigError("range", "channel %s: min must be below max" % channel.name)
    if channel.lo_warn == -_NONE:
        _set(channel, "lo_warn", channel.lo_fail, -_NONE)
    if channel.hi_warn == _NONE:
        _set(channel, "hi_warn", channel.hi_fail, _NONE)
    if not channel.lo_fail <= channel.lo_warn < channel.hi_warn <= channel.hi_fail:
        raise ConfigError("range", "channel %s: limits must rise from lo_fail to hi_fail" % channel.name)
    span = channel.max - channel.min
    channel._mid = channel.min + (span >> 1)
    shift = 0
    while span >> shift > 0x7FFF:
        shift += 1
    _set(channel, "_shift", shift, 0)
    channel._span = span >> shift or 1
    if channel.hyst < 0:
        channel.hyst = span >> 6
    if channel.good == _NONE:
        channel.good = _middle(channel, channel.limit_ahead(-1), channel.limit_ahead(1))
    life = channel.life_s // channel.trend_s if channel.trend_s else 0
    limit = channel.lo_fail if channel.lo_fail > -_NONE else channel.hi_fail
    _set(channel, "_life", life, 0)
    _set(channel, "_drop", channel.scaled(limit) - channel.scaled(channel.good) if life else 0, 0)
    channel.s = array("i", [0] * WORDS)
    channel.s[_FLAGS] = 100 << 14
    if channel.trend_s:
        channel.ahead = array("i", [NOT_ASKED, 0, 0])


def _set(channel, key, value, default):
    # Defaults belong to the class: with 13 channels on 32 bits that saves 3 KB of heap.
    setattr(type(channel) if value == default else channel, key, value)


def _middle(channel, low, high):
    # The best value there is, when the spec does not say: between the limits, or away from the only one.
    if high < _NONE and low > -_NONE:
        return low + ((high - low) >> 1)
    return channel.max if low > -_NONE else channel.min
