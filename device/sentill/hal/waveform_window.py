"""A window of readings at even distances, for waveforms."""

import gc

from sentill.compat import ticks_add, ticks_diff, ticks_us


def take(hal, source: str, rate_hz: int, out, urgent, now=ticks_us):
    """What base.HAL.window says, on `hal`; `now()` tells microseconds.

    Nothing here takes heap. Large frames do for a moment, which may bring a collection on: not between two readings.
    """
    if hal.read(source) is None:  # opens the sensor, which takes heap
        return None
    collecting = gc.isenabled()
    gc.disable()
    try:
        return _take(hal, source, 1_000_000 // rate_hz, out, urgent, now)
    except MemoryError:  # a collection was due
        return False
    finally:
        if collecting:
            gc.enable()


def _take(hal, source, period_us, out, urgent, now):
    late_us = (period_us >> 3) + min(_cost(hal, source, now), _cost(hal, source, now))
    due = ticks_add(now(), period_us)
    for i in range(len(out)):
        if urgent():
            return False
        while ticks_diff(due, now()) > 0:
            pass
        raw = hal.read(source)
        if raw is None:
            return None
        if ticks_diff(now(), due) > late_us:
            return False
        out[i] = raw
        due = ticks_add(due, period_us)
    return True


def _cost(hal, source, now):
    # Microseconds that a reading takes.
    start = now()
    hal.read(source)
    return ticks_diff(now(), start)
