"""The forecast: exact on straight lines, robust against outliers, silent without a trend."""

from array import array

from sentill import rul
from support import no_alloc


def _filled(values, every_s=3600, start=1000):
    s = array("i", [0] * rul.STATE)
    for i, v in enumerate(values):
        rul.push(s, 0, v, start + i * every_s, every_s)
    return s


def test_points_come_back_oldest_first():
    s = _filled(range(-5, 20))
    out = array("i", [0] * 16)
    n = rul.unpack(s, 0, out)
    assert n == 16, n
    assert list(out) == list(range(4, 20)), list(out)


def test_both_halves_of_a_word_hold_the_whole_range():
    s = _filled([-16383, 16383] * 8)
    out = array("i", [0] * 16)
    rul.unpack(s, 0, out)
    assert list(out) == [-16383, 16383] * 8, list(out)


def test_a_straight_line_is_met_on_time():
    t = rul.Trend()
    assert t.fit(_filled([1000 - 10 * i for i in range(16)]), 0)
    assert t.level == 850, t.level
    assert t.forecast(650)
    assert abs(t.left - 20 * 16) <= 2, t.left
    assert t.left_low <= t.left <= t.left_high, (t.left_low, t.left, t.left_high)


def test_three_outliers_do_not_move_it():
    values = [10 * i for i in range(16)]
    values[3], values[9], values[14] = 9000, -9000, 4000
    t = rul.Trend()
    assert t.fit(_filled(values), 0)
    assert t.forecast(350)
    assert abs(t.left - 20 * 16) <= 16, t.left


def test_no_forecast_without_trend_points_or_reach():
    t = rul.Trend()
    assert not t.fit(_filled([5, 6, 7]), 0)
    assert t.fit(_filled([100, 90, 110, 95, 105, 98, 102, 96] * 2), 0)
    assert not t.forecast(2000), (t.gentle, t.steep)
    assert t.fit(_filled(range(16)), 0)
    assert not t.forecast(-50), "a limit behind"
    assert not t.forecast(16000), t.left
    assert t.forecast(200), t.left


def test_gaps_are_bridged_and_long_ones_start_anew():
    s = _filled([0, 10, 20])
    assert not rul.push(s, 0, 25, 1000 + 2 * 3600 + 3599, 3600)
    assert rul.push(s, 0, 60, 1000 + 6 * 3600, 3600)
    out = array("i", [0] * 16)
    n = rul.unpack(s, 0, out)
    assert list(out)[:n] == [0, 10, 20, 30, 40, 50, 60], list(out)
    assert rul.push(s, 0, 7, 1000 + 60 * 3600, 3600)
    assert rul.unpack(s, 0, out) == 1, rul.unpack(s, 0, out)
    assert rul.push(s, 0, 8, 5, 3600), "the clock went back"
    assert rul.unpack(s, 0, out) == 1, rul.unpack(s, 0, out)


def test_no_intermediate_needs_the_heap():
    s = _filled([-16383, 16383] * 8)
    t = rul.Trend()

    def work():
        t.fit(s, 0)
        t.forecast(16383)
        rul.push(s, 0, 16383, 1 << 29, 3600)

    no_alloc(work, 1024)  # frames of the calls, given back on return; nothing is kept
