"""Measures the health engine inside an interpreter: microseconds per sample, heap of 16 channels; for the benchmark."""

import gc
from array import array

from sentill.compat import ticks_diff, ticks_us
from sentill.health.monitor import Monitor
from sentill.health.spectrum import Spectrum


def _specs(step_s):
    return [
        {
            "name": "c%d" % k,
            "min": 0,
            "max": 8000,
            "lo_fail": 1000,
            "hi_fail": 7000,
            "step_s": step_s,
            "trend_s": 60,
            "thin": 8,
        }
        for k in range(16)
    ]


def _alloc():
    gc.collect()
    return gc.mem_alloc() if hasattr(gc, "mem_alloc") else 0


def measure(rounds, step_s):
    """Sample 16 channels at 1 Hz for `rounds` seconds; returns [nanoseconds per sample, heap bytes, state bytes]."""
    before = _alloc()
    monitor = Monitor(_specs(step_s))
    heap = _alloc() - before
    sample = monitor.sample
    for t in range(40):
        for k in range(16):
            sample(k, 4000 + (t * 37 + k * 11) % 23, 1000 + t)
    gc.collect()
    start = ticks_us()
    for t in range(40, 40 + rounds):
        for k in range(16):
            sample(k, 4000 + (t * 37 + k * 11) % 23, 1000 + t)
    took = ticks_diff(ticks_us(), start)
    return [took * 1000 // (rounds * 16), heap, sum([len(bytes(c.s)) for c in monitor.channels])]


def _sum30(words):
    total = 0
    for k in range(30):
        total += words[k]
    return total


def loop_ns(rounds):
    """Nanoseconds for summing 30 words: the loop by which one chip's speed is compared with another's."""
    words = array("i", range(30))
    start = ticks_us()
    for _ in range(rounds):
        _sum30(words)
    return ticks_diff(ticks_us(), start) * 1000 // rounds


def window_ns(rounds):
    """Nanoseconds for the features of a window: 64 samples, root mean square, range and two bins."""
    spectrum = Spectrum(64, (9, 20))
    samples = array("i", [(i * 7919 % 401) - 200 for i in range(64)])
    out = array("i", [0] * 4)
    start = ticks_us()
    for _ in range(rounds):
        spectrum.features(samples, out)
    return ticks_diff(ticks_us(), start) * 1000 // rounds
