"""The detector and the forecast stay within ±2^30 in every intermediate, and agree on every interpreter."""

import random
from array import array

import pytest

from sentill import detector, rul

LIMIT = 1 << 30


class Counted(int):
    """An int that refuses to leave the small integers of a 32-bit board."""

    def _checked(value):
        if value is NotImplemented:
            return value
        assert -LIMIT <= int(value) < LIMIT, f"intermediate {int(value)} needs the heap on a 32-bit board"
        return Counted(value)


def _wrap(name):
    plain = getattr(int, name)
    return lambda self, *args: Counted._checked(plain(self, *args))


for _name in (
    "add", "radd", "sub", "rsub", "mul", "rmul", "floordiv", "rfloordiv", "mod", "rmod", "lshift", "rlshift", "rshift",
    "rrshift", "and", "rand", "or", "ror", "xor", "rxor", "neg", "abs", "invert",
):  # fmt: skip
    setattr(Counted, f"__{_name}__", _wrap(f"__{_name}__"))


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
    state = [Counted(0)] * detector.STATE
    scratch = [Counted(0)] * 8
    plain_state, plain_scratch = array("i", [0] * detector.STATE), array("i", [0] * 8)
    for i, q in enumerate(samples):
        got = detector.update(state, scratch, Counted(q), Counted(i // 12 % 24), 100)
        assert got == detector.update(plain_state, plain_scratch, q, i // 12 % 24, 100), (name, i)
    assert state == list(plain_state)


@pytest.mark.parametrize("steep", [1, 3, 17, 300, 2184])
def test_no_intermediate_of_the_forecast_leaves_30_bits(steep):
    state = [Counted(0)] * rul.STATE
    trend = rul.Trend()
    trend._v = [Counted(0)] * rul.POINTS
    trend._slopes = [Counted(0)] * 120
    for i in range(40):
        value = max(-16383, min(16383, i * steep - 16383))
        rul.push(state, 0, Counted(value), Counted(1_000_000 + i * 3600), Counted(3600))
        if trend.fit(state, 0):
            trend.forecast(Counted(16383))


@pytest.mark.parametrize("name", ["unix", "unix-mpy", "wasm", "wasm-mpy"])
def test_every_interpreter_gives_the_same_strengths(interpreters, name):
    for shape, samples in _shapes():
        hours = bytes(i // 12 % 24 for i in range(len(samples)))
        state, scratch = array("i", [0] * detector.STATE), array("i", [0] * 8)
        expected = [detector.update(state, scratch, q, hour, 100) for q, hour in zip(samples, hours, strict=True)]
        answer = interpreters[name].call("health_series:strengths", b"", array("h", samples).tobytes(), hours, 100)
        got = array("i")
        got.frombytes(answer)
        assert list(got[: detector.STATE]) == list(state), shape
        assert list(got[detector.STATE :]) == expected, shape
