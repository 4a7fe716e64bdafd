"""Windows of even readings: on a clock of their own, with what comes in between on a board."""

import gc
from array import array

from sentill.hal.waveform_window import take
from sentill.health import spectrum
from sentill.health.waveforms import Waves
from support import no_alloc

HZ = 1000
N = 64
TONE = 9  # cycles in a window


class Hal:
    """A sensor that tells a tone at the clock's moment. A reading takes 40 us, a look at the clock 5.

    `stall_us` comes before reading number `at` of a window, in it when `inside`.
    """

    def __init__(self, at=-1, stall_us=0, inside=False):
        self.us = 0
        self.count = 0
        self.at = at
        self.stall_us = stall_us
        self.inside = inside
        self.answers = True
        self._now = self.now

    def now(self):
        self.us += 5
        return self.us

    def read(self, source):
        k = self.count - 3  # one opens the sensor, two tell what a reading takes
        self.count += 1
        if k == self.at and not self.inside:
            self.us += self.stall_us
        turn = self.us % (N * 1_000_000 // HZ) * TONE // (N * 1_000_000 // HZ // 256)
        self.us += 40
        if k == self.at and self.inside:
            self.us += self.stall_us
        return 32768 + spectrum.sine(turn) * 8000 // 16384 if self.answers else None

    def window(self, source, rate_hz, out, urgent):
        self.count = 0
        return take(self, source, rate_hz, out, urgent, self._now)


def _window(hal, urgent=bool):
    out = array("i", bytes(4 * N))
    return hal.window("adc:4", HZ, out, urgent), out


def test_a_tone_is_told_within_three_percent():
    source = "wave:%d:%d:adc:4" % (HZ, TONE)
    got = Waves(Hal(), [source], bool).read(source)
    assert abs(got - 8000) < 240, got


def test_a_late_reading_drops_the_window():
    for inside in (False, True):
        for at in (0, 1, 20, N - 1):
            got = _window(Hal(at, 4_000, inside))[0]
            assert got is False, (at, inside, got)
            got = _window(Hal(at, 60, inside))[0]
            assert got is True, (at, inside, got)
    assert _window(Hal(20, 200))[0] is False


def test_the_tone_of_before_stands_while_windows_are_dropped():
    source = "wave:%d:%d:adc:4" % (HZ, TONE)
    hal = Hal()
    w = Waves(hal, [source], bool)
    before = w.read(source)
    hal.at, hal.stall_us = 30, 4_000
    w._found[source][0]._due -= 60_000
    assert w.read(source) == before
    assert hal.count < N, "it went on behind the late one"


def test_the_terminal_and_a_dead_sensor_end_a_window():
    assert _window(Hal(), lambda: True)[0] is False
    hal = Hal()
    hal.answers = False
    assert _window(hal)[0] is None


def test_nothing_is_collected_within_a_window():
    was = gc.isenabled()
    seen = []
    try:
        for wanted in (True, False):
            if wanted:
                gc.enable()
            else:
                gc.disable()
            was_so = gc.isenabled()  # an interpreter whose collector is broken leaves it off
            assert _window(Hal(), lambda: seen.append(gc.isenabled()))[0] is True
            assert gc.isenabled() is was_so
    finally:
        if was:
            gc.enable()
        else:
            gc.disable()
    assert len(seen) == 2 * N and not any(seen), seen


def test_a_full_heap_ends_a_window():
    def full():
        raise MemoryError

    was = gc.isenabled()
    assert _window(Hal(), full)[0] is False
    assert gc.isenabled() is was


def test_a_window_takes_no_heap():
    hal = Hal()
    out = array("i", bytes(4 * N))
    no_alloc(lambda: hal.window("adc:4", HZ, out, bool), 2048)
