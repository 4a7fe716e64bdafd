"""Waveform sources: what they tell of a known wave, giving way, failing sensors, wrong names."""

from sentill.health import spectrum
from sentill.health.waveforms import Waves
from support import no_alloc

RMS = "wave:1000:rms:adc:4"
SPAN = "wave:1000:range:adc:4"
BIN = "wave:1000:8:adc:4"
OTHER = "wave:1000:rms:lis3dh:0x18:z"


class Hal:
    """Windows of a wave of 8 cycles around mid-scale; `answer` is what taking one returns."""

    def __init__(self, size, middle):
        self.size = size
        self.middle = middle
        self.taken = 0
        self.answer = True

    def window(self, source, rate_hz, out, urgent):
        self.taken += 1
        if urgent():
            return False
        for i in range(len(out)):
            out[i] = self.middle + self.size * spectrum.sine(i * 8 * 256 // 64) // 16384
        return self.answer


def _late(w, source):
    # The next reading is due for a new window.
    window, _ = w._found[source]
    window._due = window._due - 60_000 & 0x3FFFFFFF


def test_features_are_in_the_unit_of_the_source():
    hal = Hal(8000, 32768)
    w = Waves(hal, [RMS, SPAN, BIN], bool)
    got = [w.read(source) for source in (RMS, SPAN, BIN)]
    assert abs(got[0] - 5657) < 60 and abs(got[1] - 16000) < 160 and abs(got[2] - 8000) < 160, got
    assert hal.taken == 1, "one window serves all its features"
    narrow = Hal(400, 1000)
    w = Waves(narrow, [OTHER], bool)
    assert abs(w.read(OTHER) - 283) < 4, w.read(OTHER)


def test_a_window_is_taken_anew_when_it_is_old():
    hal = Hal(8000, 32768)
    w = Waves(hal, [RMS], bool)
    w.read(RMS)
    hal.size = 4000
    assert w.read(RMS) > 5000, "still the old one"
    _late(w, RMS)
    assert abs(w.read(RMS) - 2828) < 40, w.read(RMS)


def test_the_terminal_comes_first_and_the_old_features_stand_for_a_while():
    hal = Hal(8000, 32768)
    busy = [False]
    w = Waves(hal, [RMS], lambda: busy[0])
    assert w.read(RMS) > 5000
    busy[0] = True
    for k in range(19):
        _late(w, RMS)
        assert w.read(RMS) > 5000, k
    _late(w, RMS)
    assert w.read(RMS) is None, "not for ever"
    busy[0] = False
    _late(w, RMS)
    assert w.read(RMS) > 5000, "and back again"


def test_a_sensor_that_does_not_answer_is_no_reading():
    hal = Hal(8000, 32768)
    w = Waves(hal, [RMS], bool)
    assert w.read(RMS) > 5000
    hal.answer = None
    _late(w, RMS)
    assert w.read(RMS) is None


def test_names_that_make_no_wave_are_no_reading():
    for source in ("wave:", "wave:1000", "wave:1000:rms", "wave:10:rms:adc:4", "wave:1000:31:adc:4", "wave:x:rms:adc:4",
                   "wave:1000:loud:adc:4"):  # fmt: skip
        assert Waves(Hal(1, 0), [source], bool).read(source) is None, source


def test_reading_needs_no_heap():
    w = Waves(Hal(8000, 32768), [RMS, BIN], bool)
    assert w.read(BIN) > 0

    def some():
        _late(w, BIN)
        w.read(RMS)
        w.read(BIN)

    no_alloc(some, 4096)
