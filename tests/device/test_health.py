"""Channels and the monitor: states, hysteresis, hold, gaps, failing sensors, rows, saving."""

import support
from sentill.errors import ConfigError, ModelError, StorageError
from sentill.health import remaining_life
from sentill.health.degradation import WearIndex, attach
from sentill.health.monitor import FAIL, OK, WARN, WATCH, Monitor
from support import no_alloc, raises

SPEC = {
    "name": "supply",
    "unit": "mV",
    "min": 0,
    "max": 8000,
    "lo_fail": 4500,
    "lo_warn": 4700,
    "hi_warn": 5300,
    "hi_fail": 5500,
    "hyst": 50,
    "confirm": 3,
    "hold_s": 100,
    "watch_at": 0,
    "advice": "Check the power supply",
}


def _with(**changes):
    spec = dict(SPEC)
    spec.update(changes)
    return Monitor([spec])


def _feed(m, values, start=1000, i=0):
    states = []
    for k, v in enumerate(values):
        m.sample(i, v, start + k)
        states.append(m.state(i))
    return states


def _fields(m, i=0):
    return dict(m.row(i))


def test_a_limit_must_last_to_count():
    m = _with()
    assert _feed(m, [5000, 5400, 5400, 5000, 5400, 5400]) == [OK] * 6, _fields(m)
    assert _feed(m, [5400, 5600, 5600, 5600], 1006) == [WARN, WARN, WARN, FAIL], _fields(m)


def test_a_fail_limit_alone_is_enough():
    m = Monitor([{"name": "x", "min": 0, "max": 100, "hi_fail": 80, "watch_at": 0}])
    assert _feed(m, [50, 81, 81, 81])[-1] == FAIL, _fields(m)


def test_falling_back_takes_the_hold_and_the_hysteresis():
    m = _with()
    _feed(m, [5400] * 3)
    states = _feed(m, [5260] * 300, 1003)
    assert states == [WARN] * 300, "inside the hysteresis"
    states = _feed(m, [5000] * 300, 1303)
    assert states.index(WATCH) == 99, states.index(WATCH)
    assert states.index(OK) == 199, states.index(OK)


def test_a_silent_sensor_is_a_finding_and_recovers():
    m = _with()
    states = _feed(m, [5000, 5000] + [None] * 80)
    assert states[3] == OK and states[4] == WATCH and states[-1] == WARN, states
    row = _fields(m)
    assert row["why"] == "silent" and row["miss"] == 80, row
    states = _feed(m, [5000] * 250, 1082)
    assert states[-1] == OK and _fields(m).get("miss") is None, _fields(m)


def test_an_impossible_reading_is_a_finding():
    m = _with()
    states = _feed(m, [5000] + [9000] * 5)
    assert states[-1] == WATCH, states
    assert _fields(m)["why"] == "range", _fields(m)


def test_state_changes_are_told_once():
    m = _with()
    told = [m.sample(0, 5400, 1000 + k) for k in range(6)]
    assert told == [False, False, True, False, False, False], told


def test_the_clock_may_jump_either_way():
    m = _with(trend_s=60, watch_at=60, learn=33)
    for start in (5, 800000000, 1000, 0x3FFFFFF0 - 40):
        states = _feed(m, [5000] * 30, start)
        assert states == [OK] * 30, (start, states)
    _feed(m, [5400] * 3, 500)
    states = _feed(m, [5000] * 300, 503)
    assert states[-1] == OK, "a hold from before the jump must not last for ever"


def test_a_trend_warns_ahead_of_the_limit():
    m = _with(trend_s=60, step_s=10, horizon_s=4500)
    at = 0
    for t in range(0, 6000):
        value = 5000 - t // 15
        if m.sample(0, value, 1000 + t) and m.state(0) == WARN:
            at = value
            row = _fields(m)
            break
    assert 4780 < at < 4820, at  # 4800 is 4500 s from the fail limit
    assert row["why"] == "forecast" and row["tr"] == -1, row
    assert row["lo_h"] <= row["left_h"] <= row["hi_h"], row
    assert row["adv"].startswith("Check the power supply within"), row


def test_an_anomaly_is_watched_and_named():
    m = _with(watch_at=60, learn=100, step_s=1)
    _feed(m, [5000 + k * 7919 % 1009 % 21 for k in range(400)])
    assert m.state(0) == OK, _fields(m)
    _feed(m, [5200 + k * 7919 % 1009 % 21 for k in range(20)], 1400)
    row = _fields(m)
    assert row["st"] == "watch" and row["why"] == "level", row


def test_a_value_that_never_moves_is_a_finding():
    m = _with(step_s=10, stuck=12)
    states = _feed(m, [5000 + k * 7919 % 1009 % 21 for k in range(500)])
    assert states == [OK] * 500, "a living sensor"
    states = _feed(m, [5004] * 200, 1500)
    assert 120 < states.index(WARN) < 150, states.index(WARN)
    assert _fields(m)["why"] == "stuck", _fields(m)


def test_a_counter_is_a_rate():
    m = _with(min=0, max=600, lo_fail=-1000, lo_warn=-1, hi_warn=60, hi_fail=120, per_s=3600, step_s=600, hyst=5)
    count = 100000
    for t in range(1800):
        count += 1 if t % 100 == 0 else 0
        m.sample(0, count, 6000 + t)
    assert m.state(0) == OK, _fields(m)
    for t in range(1800, 3060):
        count += 1 if t % 20 == 0 else 0
        m.sample(0, count, 6000 + t)
    assert m.state(0) == FAIL, _fields(m)
    assert abs(_fields(m)["raw"] - 180) <= 1, _fields(m)
    m.sample(0, 3, 9060)
    m.sample(0, 3, 9660)
    assert _fields(m)["raw"] <= 30, "a counter that restarts is not an event"


def test_a_counter_warns_within_the_step_and_over_restarts():
    spec = {"min": 0, "max": 600, "lo_fail": -1000, "lo_warn": -1, "hi_warn": 8, "hi_fail": 40, "hyst": 1}
    spec.update(per_s=86400, step_s=21600, good=0)
    m = _with(**spec)
    for starts in range(1, 4):  # the clock begins at 0 with every start
        fresh = _with(**spec)
        if starts > 1:
            support.restored(fresh, support.saved(m))
        m = fresh
        states = _feed(m, [starts] * 60, 5)
        assert states[-1] == (OK if starts < 3 else WARN), (starts, states[-1], _fields(m))
    row = _fields(m)
    assert row["raw"] == 8 and row["why"] == "limit", row


def test_a_step_of_very_many_samples_keeps_its_mean():
    m = _with(step_s=86400, gap_s=86400)
    for k in range(70000):
        m.sample(0, 7000, 86400 + k)
    m.sample(0, 7000, 2 * 86400)
    assert abs(m.channels[0].level() - 7000) <= 1, m.channels[0].level()


def test_a_rate_per_day_does_not_overflow():
    m = _with(min=0, max=1 << 28, lo_fail=-1000, lo_warn=-1, hi_warn=1 << 27, hi_fail=1 << 28, per_s=86400, step_s=60)
    for wanted, events in ((2880, 2), (86400 * 1000, 60_000), (1 << 28, 2_000_000)):
        count = 0
        for t in range(0, 300, 60):
            m.sample(0, count, 60000 + t)
            count += events
        raw = _fields(m)["raw"]
        assert abs(raw - min(wanted, 65535 * 1440)) <= 1 << 14, (raw, wanted)


def test_worst_and_threshold_are_on_the_scale_of_the_value():
    m = _with()
    _feed(m, [5000, 5100, 5250, 5000])
    row = _fields(m)
    assert row["v"] == 100 and row["w"] == 50 and row["th"] == 40, row
    assert m.worst() == OK, m.worst()


def test_state_survives_a_reboot():
    m = _with(trend_s=60, step_s=10)
    _feed(m, [5000 - k // 8 for k in range(1500)])
    saved = support.saved(m)
    fresh = _with(trend_s=60, step_s=10)
    assert support.restored(fresh, saved) == 1
    assert fresh.row(0) == m.row(0), (fresh.row(0), m.row(0))
    assert support.restored(_with(max=9000), saved) == 0, "another scale is another channel"
    for bad in (b"", saved[:-1], b"?" + saved[1:], saved + bytes(4)):
        error = raises(StorageError, support.restored, fresh, bad)
        assert error.code == "health", error
    assert fresh.row(0) == m.row(0), "a damaged save changes nothing"


def test_bad_specs_are_refused_by_name():
    for change in ({"min": 9000}, {"confirm": 0}, {"num": "1"}, {"lo_warn": 5300}, {"step_s": -1}):
        spec = dict(SPEC)
        spec.update(change)
        error = raises(ConfigError, Monitor, [spec])
        assert "supply" in error.message, error.message
    error = raises(ConfigError, Monitor, [SPEC] * 17)
    assert "16" in error.message, error.message


def test_16_channels_hold_4_kb_and_rows_fit_a_frame():
    m = Monitor([dict(SPEC, name="a_longish_name%02d" % k, trend_s=60) for k in range(16)])
    size = sum([len(bytes(c.s)) for c in m.channels])
    assert size <= 4096, size
    _feed(m, [5000 - k // 8 for k in range(1500)])
    text = ", ".join(["%s:%s" % (k, v) for k, v in m.row(0)])
    assert len(text) + 4 * len(m.row(0)) < 215, text


def test_sampling_needs_no_heap():
    m = _with(trend_s=60, step_s=1, watch_at=60, learn=100)
    _feed(m, [5000 + k * 7919 % 1009 % 21 for k in range(300)])
    clock = [1300]
    trend = remaining_life.Trend()  # a monitor borrows one for each forecast; this shows that nothing else is taken
    scratch = m._scratch

    def trends():
        return trend

    def some():
        for k in range(130):
            clock[0] += 1
            m.channels[0].sample(None if k % 50 == 0 else 4900 + k * 7919 % 600, clock[0], scratch, trends)

    no_alloc(some, 130 * 2000)  # frames of the calls, given back on return; nothing is kept


def _index(names=b"a,b", unit_s=3600):
    # Life falls with the first input: -1/16 life per 1/16 unit; knots at 0 and 640 (index of an input 100 above 500).
    import struct

    from sentill.compat import crc32

    data = struct.pack("<4sBBBBI", b"STW1", 2, 2, 0, 0, unit_s)
    data += struct.pack("<ihhBB", 500, -1024, 0, 0, 0) + struct.pack("<ihhBB", 0, 0, 0, 0, 0)
    data += struct.pack("<hhhh", -6400, 0, 0, 4) + struct.pack("<hhhh", 0, 100, 80, 110)
    data += struct.pack("<H", len(names)) + names
    return WearIndex(data + struct.pack("<I", crc32(data)))


def _worn():
    inputs = [{"name": name, "min": 0, "max": 1000, "step_s": 60, "watch_at": 0} for name in ("a", "b")]
    life = {"name": "life", "min": 0, "max": 200, "lo_warn": 20, "lo_fail": 5, "good": 100, "watch_at": 0}
    life["advice"] = "Replace the printer head"
    m = Monitor(inputs + [dict(life, source="wear:models/x.stw", confirm=1)])
    attach(m, 2, _index())
    return m


def _hours(m, value, hours, start):
    for k in range(hours * 60):
        for i in range(3):
            m.sample(i, value if i < 2 else None, start + k * 60)
    return start + hours * 3600


def test_a_wear_index_is_a_channel():
    m = _worn()
    m.sample(2, None, 1000)
    row = _fields(m, 2)
    assert row["st"] == "ok" and "left_h" not in row and "miss" not in row, row
    now = _hours(m, 500, 5, 36000)
    row = _fields(m, 2)
    assert row["raw"] == 100 and row["v"] == 100 and "left_h" not in row, row
    now = _hours(m, 590, 4, now)
    row = _fields(m, 2)
    assert row["st"] == "warn" and row["why"] == "limit" and row["raw"] <= 12, row
    assert row["lo_h"] <= row["left_h"] <= row["hi_h"], row
    assert row["adv"] == "Replace the printer head within %d hours" % row["left_h"], row


def test_a_wear_index_survives_a_reboot_and_another_one_starts_anew():
    m = _worn()
    now = _hours(m, 590, 5, 36000)
    saved = support.saved(m)
    fresh = _worn()
    assert support.restored(fresh, saved) == 3
    fresh.sample(2, None, now)
    assert _fields(fresh, 2)["raw"] == _fields(m, 2)["raw"], (_fields(fresh, 2), _fields(m, 2))
    other = _worn()
    attach(other, 2, _index(unit_s=7200))
    assert support.restored(other, saved) == 2, "state of another index"


def test_a_life_that_does_not_run_down_is_no_forecast_any_more():
    m = _worn()
    now = _hours(m, 560, 6, 36000)
    row = _fields(m, 2)
    assert row["left_h"] == row["raw"] and row["lo_h"] <= row["left_h"], row
    now = _hours(m, 560, 3, now)
    row = _fields(m, 2)
    assert row["raw"] > 20 and "left_h" not in row, row
    now = _hours(m, 560, 3, now + 5 * 3600)
    row = _fields(m, 2)
    assert row["left_h"] == row["raw"], "over a gap no pace can be told: %s" % row


def test_a_wear_index_without_its_inputs_is_a_finding():
    m = _worn()
    now = _hours(m, 500, 3, 36000)
    for k in range(400):
        m.sample(0, None, now + k * 60)
        m.sample(1, 500, now + k * 60)
        m.sample(2, None, now + k * 60)
    row = _fields(m, 2)
    assert row["st"] == "warn" and row["why"] == "silent", row
    lost = Monitor([{"name": "life", "min": 0, "max": 200, "source": "wear:gone.stw"}])
    for k in range(80):
        lost.sample(0, None, 1000 + k)
    assert _fields(lost)["why"] == "silent" and lost.state(0) == WARN, _fields(lost)


def test_a_wear_index_that_does_not_fit_is_refused():
    for names, change in ((b"a,gone", {}), (b"", {}), (b"life,a", {}), (b"a,b", {"trend_s": 60})):
        spec = {"name": "life", "min": 0, "max": 200}
        spec.update(change)
        m = Monitor([{"name": "a", "min": 0, "max": 9}, {"name": "b", "min": 0, "max": 9}, spec])
        raises(ModelError, attach, m, 2, _index(names))
    raises(ModelError, _index, b"a,b,c")
    raises(ModelError, _index, b"a,\xff")
    raises(ModelError, _index, b"a,b", 1 << 26)


def test_reading_a_wear_index_needs_no_heap():
    m = _worn()
    now = _hours(m, 590, 2, 36000)
    clock = [now]

    def some():
        for _ in range(20):
            clock[0] += 700
            m.sample(2, None, clock[0])

    no_alloc(some, 20 * 2000)


def test_a_channel_keeps_only_what_is_its_own():
    """Each further attribute is up to 16 bytes of a board's heap, for each of 16 channels."""
    m = Monitor([{"name": "x", "min": 0, "max": 100, "lo_fail": 5}, {"name": "y"}])
    mine = sorted(m.channels[0].__dict__)
    assert mine == sorted("name unit source advice max lo_fail lo_warn _mid _span hyst good s".split()), mine
    assert sorted(m.channels[1].__dict__) == sorted("name unit source advice _mid _shift _span hyst good s".split())
    assert (m.channels[0].hi_warn, m.channels[0]._shift, m.channels[1]._life) == (0x3FFFFFFF, 0, 0)
