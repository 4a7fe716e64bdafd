"""A window of readings at even distances, for waveforms."""

from time import sleep_us

from ..compat import ticks_add, ticks_diff, ticks_us


def take(hal, source: str, rate_hz: int, out, urgent):
    """What base.HAL.window says, on `hal`."""
    period_us = 1_000_000 // rate_hz
    start = due = ticks_us()
    for i in range(len(out)):
        if urgent():
            return False
        left = ticks_diff(due, ticks_us())
        if left > 0:
            sleep_us(left)
        raw = hal.read(source)
        if raw is None:
            return None
        out[i] = raw
        due = ticks_add(due, period_us)
    # Late as a whole is late in parts: a quarter is more than jitter.
    return ticks_diff(ticks_us(), start) < (len(out) + (len(out) >> 2)) * period_us
