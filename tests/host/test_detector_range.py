"""Detector, forecast, channel, wear index and spectra stay within ±2^30 in every intermediate.

And the detector agrees on every interpreter.
"""

import random
from array import array

import pytest

from sentill.health import anomaly, remaining_life, trend_points
from sentill.health import spectrum as dsp
from sentill.health.channel import WORDS, Channel
from sentill.health.channel_spec import KEYS
from sentill.health.degradation import STATE, WearIndex
from sentill.health.degradation_file import MAX_INPUTS
from sentill_host.board import catalogue
from sentill_host.health import faults
from tests.host.test_wear import trained  # noqa: F401  (a fixture)
from tests.small_ints import Counted


def _shapes():
    dice = random.Random(7)
    yield "noise", [dice.randint(-40, 40) for _ in range(1500)]
    yield "extremes", [dice.choice((-32767, 32767)) for _ in range(1500)]
    yield "blocks", [32767 if i // 300 % 2 else -32767 for i in range(1500)]
    yield "late jump", [0] * 1200 + [32767] * 200 + [-32767] * 100
    yield "walk", [max(-32767, min(32767, (i - 700) * dice.randint(0, 90))) for i in range(1500)]
    yield "constant", [5] * 1500


def test_the_counter_counts():
    with pytest.raises(AssertionError, match="intermediate"):
        Counted(1 << 20) * 1024
    assert Counted(3) + 4 == 7


@pytest.mark.parametrize(("name", "samples"), list(_shapes()), ids=[name for name, _ in _shapes()])
def test_no_intermediate_of_the_detector_leaves_30_bits(name, samples):
    state = [Counted(0)] * anomaly.STATE
    scratch = [Counted(0)] * 8
    plain_state, plain_scratch = array("i", [0] * anomaly.STATE), array("i", [0] * 8)
    for i, q in enumerate(samples):
        got = anomaly.update(state, scratch, Counted(q), Counted(i // 12 % 24), 100)
        assert got == anomaly.update(plain_state, plain_scratch, q, i // 12 % 24, 100), (name, i)
    assert state == list(plain_state)


@pytest.mark.parametrize("drop", [-32766, 0, 1, 32766])
@pytest.mark.parametrize("life", [1, 7, 600, 1 << 29])
@pytest.mark.parametrize("steps", [(32766,), (0, 32766), (32766, 32766, 0, 0, 0, 0, 0), (300, 3), (5, 2000)])
def test_no_intermediate_of_a_forecast_with_a_typical_life_leaves_30_bits(drop, life, steps):
    for sign in (1, -1):
        state, trend = [Counted(0)] * trend_points.STATE, _counted_trend()
        for i in range(40):
            value = max(-16383, min(16383, sign * ((sum(steps) * (i // len(steps)) + steps[i % len(steps)]) - 16383)))
            trend_points.push(state, 0, Counted(value), Counted(1000 + i * 60), Counted(60), 1)
            for limit in (-16383, 16383):
                if trend.fit(state, 0, Counted(drop), Counted(life)) and trend.forecast(Counted(limit)):
                    assert 0 <= trend.left_low <= trend.left <= trend.left_high


@pytest.mark.parametrize("steep", [1, 3, 17, 300, 2184])
def test_no_intermediate_of_the_forecast_leaves_30_bits(steep):
    state = [Counted(0)] * trend_points.STATE
    trend = remaining_life.Trend()
    trend._v = [Counted(0)] * trend_points.POINTS
    trend._slopes = [Counted(0)] * 120
    for i in range(40):
        value = max(-16383, min(16383, i * steep - 16383))
        trend_points.push(state, 0, Counted(value), Counted(1_000_000 + i * 3600), Counted(3600))
        if trend.fit(state, 0):
            trend.forecast(Counted(16383))


def _counted_trend():
    trend = remaining_life.Trend()
    trend._v = [Counted(0)] * trend_points.POINTS
    trend._slopes = [Counted(0)] * 120
    return trend


def _extreme_specs():
    """Channels at the edges of what their keys may be."""
    wide = {"min": -(1 << 28), "max": 1 << 28, "lo_fail": -(1 << 28), "hi_fail": 1 << 28, "good": 0}
    yield {"name": "wide", **wide, "trend_s": 60, "horizon_s": 1 << 29, "life_s": 1 << 29, "thin": 8, "step_s": 1}
    yield {"name": "scaled", "num": 16384, "den": 1, "offset": -(1 << 28), "min": -(1 << 28), "max": 1 << 28}
    yield {"name": "narrow", "min": 0, "max": 1, "hi_warn": 1, "hi_fail": 1, "trend_s": 1, "step_s": 1}
    yield {"name": "rate", "per_s": 86400, "step_s": 1, "min": 0, "max": 1 << 28, "hi_fail": 1 << 27, "trend_s": 16}
    yield {"name": "slow", **wide, "trend_s": 30 * 86400, "step_s": 86400, "horizon_s": 1 << 29}


@pytest.mark.parametrize("spec", list(_extreme_specs()), ids=lambda spec: spec["name"])
def test_no_intermediate_of_a_channel_leaves_30_bits(spec):
    assert set(spec) <= {*KEYS, "name"}
    dice = random.Random(3)
    channel, trend, scratch = Channel(spec), _counted_trend(), [Counted(0)] * 8
    channel.s = [Counted(v) for v in channel.s]
    last = 0x3FFFFFFF - 31 * 86400  # a hold, at most 30 days, must end within the 34 years of node time
    now, count = last - 1400 * channel.step_s, 0
    wide = 4096 if spec["name"] == "wide" else 1
    for i in range(700):
        count += dice.choice((0, 1, 10_000, 1 << 19))
        raw = count if channel.per_s else dice.choice((0, 65535, i * 93, 32768)) * wide
        now = min(now + channel.step_s, last)
        channel.sample(None if i % 97 == 0 else Counted(raw), Counted(now), scratch, lambda: trend)
        channel.health(Counted(channel.value))
        if channel.forecast(trend):
            assert 0 <= trend.left_low <= trend.left <= trend.left_high
    assert len(channel.s) == WORDS


@pytest.mark.parametrize("name", faults.FAULTS)
def test_no_intermediate_of_a_failing_board_leaves_30_bits(name):
    specs = catalogue.load("SIM").data["channels"]
    course = faults.simulate(specs, faults.FAULTS[name], 1, all_channels=False)
    for spec in specs:
        if spec["name"] in course.raw:
            channel, trend, scratch = Channel(spec), _counted_trend(), [Counted(0)] * 8
            channel.s = [Counted(v) for v in channel.s]
            late = slice(-400, None)
            for now, raw in zip(course.times_s[late], course.raw[spec["name"]][late], strict=True):
                channel.sample(Counted(raw), Counted(now), scratch, lambda: trend)


def test_no_intermediate_of_a_wear_index_leaves_30_bits(trained):  # noqa: F811
    index = WearIndex(trained)
    index._offset = [Counted(v) for v in (-(1 << 29) + 1, (1 << 29) - 1) * 8][:MAX_INPUTS]
    index._a = index._b = [Counted(v) for v in (8191, -8191) * 8]
    index._shift = bytes(2 * MAX_INPUTS)
    index.inputs = MAX_INPUTS
    state = [Counted(0)] * STATE
    for k in range(200):
        sign = 1 if k // 50 % 2 else -1
        index.update(state, 0, [Counted(sign * (1 << 29) * (-1) ** i) for i in range(MAX_INPUTS)])


@pytest.mark.parametrize("n", [32, 64, 128])
def test_no_intermediate_of_a_spectrum_leaves_30_bits(n):
    bins = list(range(2, n // 2 - 1))
    spectrum = dsp.Spectrum(n, bins)
    spectrum._x = [Counted(0)] * n
    waves = [[32767 if i * k * 2 // n % 2 else -32768 for i in range(n)] for k in (1, 2, 3, n // 4, n // 2)]
    for wave in [*waves, [32767] * n, [0] * n]:
        spectrum.features([Counted(v) for v in wave], [Counted(0)] * (2 + len(bins)))


@pytest.mark.parametrize("name", ["unix", "unix-mpy", "wasm", "wasm-mpy"])
def test_every_interpreter_gives_the_same_strengths(interpreters, name):
    for shape, samples in _shapes():
        hours = bytes(i // 12 % 24 for i in range(len(samples)))
        state, scratch = array("i", [0] * anomaly.STATE), array("i", [0] * 8)
        expected = [anomaly.update(state, scratch, q, hour, 100) for q, hour in zip(samples, hours, strict=True)]
        answer = interpreters[name].call("health_series:strengths", b"", array("h", samples).tobytes(), hours, 100)
        got = array("i")
        got.frombytes(answer)
        assert list(got[: anomaly.STATE]) == list(state), shape
        assert list(got[anomaly.STATE :]) == expected, shape
