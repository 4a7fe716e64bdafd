"""The forecast: exact on straight lines, robust against outliers, silent without a trend."""

from array import array

from sentill.health import remaining_life, trend_points
from support import no_alloc


def _filled(values, every_s=3600, start=1000):
    s = array("i", [0] * trend_points.STATE)
    for i, v in enumerate(values):
        trend_points.push(s, 0, v, start + i * every_s, every_s)
    return s


def test_points_come_back_oldest_first_and_thin_out():
    s = _filled(range(10))
    out = array("i", [0] * 16)
    n = trend_points.unpack(s, 0, out)
    assert list(out)[:n] == list(range(10)), list(out)
    s = _filled(range(0, 36 * 4, 4))
    n = trend_points.unpack(s, 0, out)
    assert n == 9, n  # 16 points of 2 have become 8 of 4
    assert list(out)[:n] == [6 + 16 * k for k in range(9)], list(out)
    t = remaining_life.Trend()
    assert t.fit(s, 0)
    assert t.every == 4, t.every


def test_both_halves_of_a_word_hold_the_whole_range():
    s = _filled([-16383, 16383] * 8)
    out = array("i", [0] * 16)
    trend_points.unpack(s, 0, out)
    assert list(out) == [-16383, 16383] * 8, list(out)


def test_a_straight_line_is_met_on_time():
    t = remaining_life.Trend()
    assert t.fit(_filled([1000 - 10 * i for i in range(16)]), 0)
    assert t.level == 850, t.level
    assert t.forecast(650)
    assert abs(t.left - 20 * 16) <= 2, t.left
    s = _filled([1000 - 10 * i for i in range(160)])
    assert t.fit(s, 0)
    assert t.forecast(-16000 // 10)
    assert t.every == 16, t.every
    ends = 159 + t.left * t.every // 16
    assert abs(ends - 260) <= 2, ends
    assert t.left_low <= t.left <= t.left_high, (t.left_low, t.left, t.left_high)


def test_three_outliers_do_not_move_it():
    values = [10 * i for i in range(16)]
    values[3], values[9], values[14] = 9000, -9000, 4000
    t = remaining_life.Trend()
    assert t.fit(_filled(values), 0)
    assert t.forecast(350)
    assert abs(t.left - 20 * 16) <= 16, t.left


def test_no_forecast_without_trend_points_or_reach():
    t = remaining_life.Trend()
    assert not t.fit(_filled([5, 6, 7]), 0)
    assert t.fit(_filled([100, 90, 110, 95, 105, 98, 102, 96] * 2), 0)
    assert not t.forecast(2000), (t.gentle, t.steep)
    assert t.fit(_filled(range(16)), 0)
    assert not t.forecast(-50), "a limit behind"
    assert not t.forecast(16000), t.left
    assert t.forecast(200), t.left


def test_gaps_are_filled_and_long_ones_start_anew():
    s = _filled([0, 10, 20])
    assert not trend_points.push(s, 0, 25, 1000 + 2 * 3600 + 3599, 3600)
    assert trend_points.push(s, 0, 60, 1000 + 4 * 3600, 3600)
    out = array("i", [0] * 16)
    n = trend_points.unpack(s, 0, out)
    assert list(out)[:n] == [0, 10, 20, 60, 60], list(out)
    assert trend_points.push(s, 0, 7, 1000 + 60 * 3600, 3600)
    assert trend_points.unpack(s, 0, out) == 1, trend_points.unpack(s, 0, out)
    assert trend_points.push(s, 0, 8, 5, 3600), "the clock went back"
    assert trend_points.unpack(s, 0, out) == 1, trend_points.unpack(s, 0, out)


def test_a_typical_life_steadies_a_short_history():
    s = _filled([1000, 970, 990, 990, 960, 910])
    t = remaining_life.Trend()
    assert t.fit(s, 0) and t.forecast(-1000)
    alone = t.left_high - t.left_low
    assert t.fit(s, 0, -2000, 110)
    assert t.forecast(-1000)
    assert 80 * 16 < t.left < 120 * 16, t.left
    assert 0 < t.left_low < t.left < t.left_high, (t.left_low, t.left, t.left_high)
    assert t.left_high - t.left_low < alone, (t.left_low, t.left_high, alone)


def test_a_typical_life_alone_is_no_forecast():
    s = _filled([1000, 1010, 990, 1005, 1000, 1010])
    t = remaining_life.Trend()
    assert t.fit(s, 0)
    assert not t.forecast(-1000), (t.gentle, t.steep)
    assert t.fit(s, 0, -2000, 100)
    assert not t.forecast(-1000), "the part shows nothing of it yet"


def _lives(bend, typical):
    """[(true end, low, high)] of parts that live for 200 hours, told from the quarter of their life on.

    They fall from 8000 to 0: straight on, or with a `bend` ever slower (below 0) or faster. The typical life told is
    `typical` hours, 0 for none. And how many forecasts were withheld.
    """
    told, withheld = [], 0
    t = remaining_life.Trend()
    for seed in range(1, 7):
        s = array("i", [0] * trend_points.STATE)
        dice = seed * 7919
        newest = 0
        for hour in range(196):
            dice = (dice * 16807 + 12345) % 65521
            wear = 40 * hour + bend * hour * (hour - 200) // 40
            if trend_points.push(s, 0, 8000 - wear + dice % 301 - 150, 1000 + hour * 3600, 3600):
                newest = hour
            if hour < 50 or hour % 5:
                continue
            if t.fit(s, 0, -8000, typical) and t.forecast(0):
                told.append((200, newest + t.left_low * t.every // 16, newest + t.left_high * t.every // 16))
            else:
                withheld += 1
    return told, withheld


def _share_covered(told):
    return sum([low <= end <= high for end, low, high in told]) * 100 // len(told)


def test_the_band_covers_a_part_that_ages_as_is_typical():
    told, withheld = _lives(0, 200)
    width = sum([high - low for _, low, high in told]) // len(told)
    assert withheld == 0 and _share_covered(told) >= 80 and width < 60, (withheld, _share_covered(told), width)


def test_a_typical_life_wrong_by_a_factor_of_2_widens_the_band():
    usual, _ = _lives(0, 200)
    for typical in (100, 400):
        told, withheld = _lives(0, typical)
        assert len(told) > withheld, (typical, len(told), withheld)
        assert _share_covered(told) >= 80, (typical, _share_covered(told))
        widths = [sum([high - low for _, low, high in rows]) // len(rows) for rows in (usual, told)]
        assert widths[1] > 2 * widths[0], (typical, widths)


def test_crooked_wear_widens_the_band():
    for bend in (-2, 2):  # a quarter slower or faster at the end than on the mean
        for typical in (0, 100, 400):
            told, withheld = _lives(bend, typical)
            assert _share_covered(told) >= 75, (bend, typical, _share_covered(told), withheld)


def test_a_typical_life_far_from_the_truth_is_no_forecast():
    t = remaining_life.Trend()
    s = _filled([1000 - 10 * i for i in range(16)])
    assert t.fit(s, 0, -1000, 100) and t.forecast(0)
    for life in (3, 5000):
        assert t.fit(s, 0, -1000, life)
        assert not t.forecast(0), (life, t.left_low, t.left_high)


def test_no_intermediate_needs_the_heap():
    s = _filled([-16383, 16383] * 8)
    t = remaining_life.Trend()

    def work():
        t.fit(s, 0)
        t.forecast(16383)
        trend_points.push(s, 0, 16383, 1 << 29, 3600)

    no_alloc(work, 1024)  # frames of the calls, given back on return; nothing is kept
