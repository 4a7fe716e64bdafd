"""Waveforms as health sources: `wave:RATE:WHAT:SOURCE`, a spectral feature of a window of another source.

WHAT is `rms`, `range` or a bin 2..30: whole cycles within the window, so bin k is the amplitude at k * RATE / 64 Hz.
RATE is 250..4000 readings per second. All features of one SOURCE at one rate come from the same windows, in the raw
unit of SOURCE. A window is taken once in 10 seconds; it keeps the node busy for 64 readings, and is given up as soon
as the terminal asks for something. What it gave before then stands, for a while.
"""

from array import array

from sentill.compat import const, ticks_add, ticks_diff, ticks_ms
from sentill.errors import ConfigError

from .spectrum import BINS, RANGE, RMS, Spectrum

N = 64
_EVERY_MS = const(10_000)
_RETRY_MS = const(1_000)
_LOST = const(20)  # windows given up or distorted in a row, after which there is no reading any more


class Waves:
    """The windows of all `sources` that begin with `wave:`, taken by `hal.window`; `urgent()` tells to give way."""

    def __init__(self, hal, sources, urgent):
        self._hal = hal
        self._urgent = urgent
        self._sources = sources
        self._found: dict = {}

    def read(self, source: str):
        """The feature that `source` names; None when its sensor does not answer or the source is none."""
        entry = self._found.get(source)
        if entry is None:
            try:
                self._open(source)
            except (ConfigError, ValueError, IndexError):
                self._found[source] = (None, 0)
            entry = self._found[source]
        window, at = entry
        return None if window is None else window.feature(at, self._hal, self._urgent)

    def _open(self, source):
        # All features of this window at once: the spectrum wants to know its bins.
        key = _key(source)
        kin = [other for other in self._sources if other.startswith("wave:") and _key(other) == key]
        places = {"rms": RMS, "range": RANGE}
        bins = []
        for other in kin:
            what = other.split(":")[2]
            if what not in places:
                places[what] = BINS + len(bins)
                bins.append(int(what))
        window = Window(key[1], int(key[0]), bins)
        for other in kin:
            self._found[other] = (window, places[other.split(":")[2]])


class Window:
    """Features of `source` at `rate_hz` with these `bins`. Raises ConfigError for a rate or bin that cannot be."""

    def __init__(self, source: str, rate_hz: int, bins):
        if not 250 <= rate_hz <= 4000 or any([not 2 <= k <= N // 2 - 2 for k in bins]):
            raise ConfigError("range", "a wave has a rate of 250..4000 Hz and bins 2..30")
        self._source = source
        self._rate_hz = rate_hz
        self._spectrum = Spectrum(N, bins)
        self._samples = array("i", [0] * N)
        self._features = array("i", [0] * (BINS + len(bins)))
        self._wide = source.startswith("adc:") or "16" in source.split(":")[-1]  # readings of 16 bits
        self._middle = 32768 if source.startswith("adc:") or ":u16" in source else 0
        self._due = ticks_ms()
        self._lost = _LOST  # there is no reading before the first window

    def feature(self, at: int, hal, urgent):
        """Feature number `at`, from a new window if it is time for one."""
        if ticks_diff(ticks_ms(), self._due) >= 0:
            self._take(hal, urgent)
        if self._lost >= _LOST:
            return None
        # The spectrum tells sixteenths; samples of 16 bits went in as sixteenths of theirs.
        return self._features[at] if self._wide else self._features[at] >> 4

    def _take(self, hal, urgent):
        samples = self._samples
        taken = hal.window(self._source, self._rate_hz, samples, urgent)
        self._due = ticks_add(ticks_ms(), _EVERY_MS if taken else _RETRY_MS)
        if taken:
            if self._wide:
                for i in range(N):
                    samples[i] = samples[i] - self._middle >> 4
            self._spectrum.features(samples, self._features)
            self._lost = 0
        elif taken is None:
            self._lost = _LOST
        elif self._lost < _LOST:
            self._lost += 1


def _key(source):
    parts = source.split(":", 3)
    return parts[1], parts[3]
