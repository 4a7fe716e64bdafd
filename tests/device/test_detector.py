"""The record-break detector: what it raises, what it calls it, and that it needs no heap."""

from array import array

from sentill.health import anomaly
from support import no_alloc


def _noise(seed):
    # Park-Miller with Schrage's method: the same numbers on every interpreter, products below 2^30.
    seed = 16807 * (seed % 127773) - 2836 * (seed // 127773)
    return seed if seed > 0 else seed + 2147483647


def _run(shape, n=1200, start=1000, learn=720, step_s=300):
    """Feed noise of ±40 plus shape(i - start) from `start` on; returns [(i, strength, cause)]
    and the cause in the end."""
    s = array("i", [0] * anomaly.STATE)
    f = array("i", [0] * 8)
    seed = 12345
    alarms = []
    for i in range(n):
        seed = _noise(seed)
        q = shape(i - start, (seed >> 8) % 81 - 40) if i >= start else (seed >> 8) % 81 - 40
        strength = anomaly.update(s, f, q, i * step_s // 3600 % 24, learn)
        if strength:
            alarms.append((i, strength, anomaly.CAUSES[anomaly.cause(s)]))
    return alarms, anomaly.CAUSES[anomaly.cause(s)]


def _first(alarms, start=1000, least=anomaly.ALARM):
    for i, strength, cause in alarms:
        if i >= start and strength >= least:
            return i, cause
    return -1, ""


def test_noise_alone_stays_quiet():
    alarms, cause = _run(lambda i, noise: noise, n=4000)
    loud = [a for a in alarms if a[1] >= anomaly.LOUD]
    assert loud == [], loud


def test_nothing_is_raised_while_learning():
    s = array("i", [0] * anomaly.STATE)
    f = array("i", [0] * 8)
    for i in range(320):
        strength = anomaly.update(s, f, 4000 if i > 200 else 0, i // 12 % 24, 321)
        assert strength == 0, (i, strength)
    assert anomaly.learning(s, 321) == 1, anomaly.learning(s, 321)
    assert anomaly.learning(s, 320) == 0, anomaly.learning(s, 320)


def test_a_spike_is_found_and_named():
    alarms, cause = _run(lambda i, noise: 1500 if i == 0 else noise, n=1001)
    assert _first(alarms) == (1000, "spike"), alarms


def test_a_level_shift_is_found_at_once_and_named():
    alarms, cause = _run(lambda i, noise: 600 + noise, n=1010)
    assert _first(alarms)[0] == 1000, alarms
    assert cause == "level", (alarms, cause)


def test_a_slow_drift_is_found_and_named():
    alarms, cause = _run(lambda i, noise: i // 2 + noise, n=1150)
    first, _ = _first(alarms)
    assert 1000 < first < 1150, alarms
    assert alarms[-1][2] == "drift", alarms


def test_a_stuck_sensor_is_found_and_named():
    alarms, cause = _run(lambda i, noise: 7, n=1300)
    first, cause = _first(alarms)
    assert 1000 < first < 1300 and cause == "stuck", alarms


def test_more_noise_is_found_and_named():
    alarms, cause = _run(lambda i, noise: noise * 6, n=1040)
    first, _ = _first(alarms)
    assert 1000 <= first < 1040, alarms
    assert cause == "dispersion", (alarms, cause)


def _follow_up(learn, after):
    # Strength of a spike `after` samples later than another one, itself loud.
    s = array("i", [0] * anomaly.STATE)
    f = array("i", [0] * 8)
    first = learn + 20
    strength = loud = 0
    for i in range(first + after + 1):
        q = 3000 if i == first else 3600 if i == first + after else i * 7919 % 81 - 40
        strength = anomaly.update(s, f, q, 0, learn)
        loud = strength if i == first else loud
    assert loud >= anomaly.LOUD, loud
    return strength


def test_a_follow_up_is_masked_for_a_fifth_of_the_learning_time():
    for learn in (200, 720, 2000):
        masked, free = _follow_up(learn, learn // 5 - 1), _follow_up(learn, learn // 5)
        assert masked == 0 and free > 0, (learn, masked, free)


def test_the_profile_of_an_hour_starts_at_its_first_value():
    s = array("i", [0] * anomaly.STATE)
    f = array("i", [0] * 8)
    for i in range(100):
        anomaly.update(s, f, i % 7, 3, 720)
    residual = 4  # of the features
    for hour, q in ((4, 900), (5, -32767), (6, 32767)):
        anomaly.update(s, f, q, hour, 720)
        assert f[residual] == 0, (hour, f[residual])
        anomaly.update(s, f, q, hour, 720)
        assert abs(f[residual]) <= 512, (hour, f[residual])  # a profile keeps steps of 2 units


def test_log16_is_monotonous_and_anchored():
    last = -1
    for e in range(0, 16384, 7):
        got = anomaly.log16(e)
        assert got >= last, (e, got, last)
        last = got
    assert anomaly.log16(0) == 0, anomaly.log16(0)
    assert anomaly.log16(8) == 16, anomaly.log16(8)
    assert anomaly.log16(8 * 1023) == 160, anomaly.log16(8 * 1023)


def test_extreme_samples_keep_the_state_in_30_bits():
    s = array("i", [0] * anomaly.STATE)
    f = array("i", [0] * 8)
    for i in range(900):
        anomaly.update(s, f, 32767 if i % 37 < 18 else -32767, i % 24, 100)
        for k in range(anomaly.STATE):
            assert -0x40000000 < s[k] < 0x40000000, (i, k, s[k])


def test_update_needs_no_heap():
    s = array("i", [0] * anomaly.STATE)
    f = array("i", [0] * 8)
    for i in range(200):
        anomaly.update(s, f, (i * 37) % 81, i % 24, 100)

    def some():
        for i in range(50):
            anomaly.update(s, f, (i * 41) % 200 if i % 9 else 12000, i % 24, 100)

    no_alloc(some, 50 * 600)  # frames of the calls, given back on return; nothing is kept
