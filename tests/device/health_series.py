"""Drives the anomaly detector over a piece of a series, in any interpreter: for tests and the benchmark."""

from array import array

from sentill.health import anomaly
from sentill.health.degradation import STATE, WearIndex


def strengths(state, samples, hours, learn):
    """Feed `samples` (int16, native order) taken at `hours` (a byte each); returns state and strengths in one.

    `state` is the first 4 * detector.STATE bytes of what the call before returned, or empty; the rest of that are the
    strengths, an int32 per sample.
    """
    s = array("i", state) if state else array("i", [0] * anomaly.STATE)
    f = array("i", [0] * 8)
    q = array("h", samples)
    out = array("i", [0] * len(q))
    for i in range(len(q)):
        out[i] = anomaly.update(s, f, q[i], hours[i], learn)
    return bytes(s) + bytes(out)


def lives(data, readings):
    """Remaining life [life, low, high] after each of `readings`, by the wear index `data`."""
    index = WearIndex(data)
    s = array("i", [0] * STATE)
    out = []
    for x in readings:
        index.update(s, 0, x)
        out.append([index.life, index.low, index.high])
    return out
