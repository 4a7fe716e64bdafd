"""Spectral features against numpy within the stated error: integers, and ulab where a MicroPython with it is given."""

from array import array

import numpy as np
import pytest

from sentill.errors import LimitError
from sentill.health import spectrum as dsp
from tests.interpreters import ULAB, ULAB_PATH


def _waves(n):
    dice = np.random.default_rng(3)
    i = np.arange(n)
    for bin_ in (2, 3, n // 4, n // 2 - 2):
        for size in (1, 20, 400, 2000):
            yield size * np.sin(2 * np.pi * bin_ * i / n + dice.uniform(0, 6))
    for _ in range(10):
        yield dice.uniform(-2047, 2047, n)
        yield 900 + dice.normal(0, 300, n)
    yield np.full(n, 2047.0)
    yield np.where(i % 2, 2047.0, -2047.0)
    yield np.where(i * 4 // n % 2, 2047.0, -2047.0)


def _expected(wave, bins):
    x = np.clip(wave, -2047, 2047)
    amplitude = 2 * np.abs(np.fft.fft(x - x.mean())) / len(x)
    return x.std(), x.max() - x.min(), amplitude[list(bins)]


def _within(got, wanted, span):
    return abs(got / 16 - wanted) <= 1 / 8 + 0.01 * wanted + 0.0025 * span


def _check(window, bins, out):
    rms, span, amplitudes = _expected(np.array(window, float), bins)
    assert _within(out[dsp.RMS], rms, span), (out[dsp.RMS] / 16, rms)
    assert out[dsp.RANGE] == span * 16
    for k, got, wanted in zip(bins, out[dsp.BINS :], amplitudes, strict=True):
        assert _within(got, wanted, span), (len(window), k, got / 16, wanted)


def _bins(n):
    return sorted({2, 3, 5, n // 8, n // 4, n // 2 - 2})


def _windows(n):
    return [array("h", [int(v) for v in np.round(wave)]) for wave in _waves(n)]


@pytest.mark.parametrize("n", [32, 64, 128])
def test_integer_features_agree_with_numpy(n):
    bins = _bins(n)
    spectrum = dsp.Spectrum(n, bins)
    assert spectrum.kind == "integer"
    out = array("i", [0] * (2 + len(bins)))
    for window in _windows(n):
        spectrum.features(window, out)
        _check(window, bins, out)


@pytest.mark.skipif(not ULAB_PATH, reason="MICROPYTHON_ULAB is not set: no MicroPython with ulab")
@pytest.mark.parametrize("n", [32, 64, 128])
def test_ulabs_features_agree_with_numpy(interpreters, n):
    bins, windows = _bins(n), _windows(n)
    kind, found = interpreters[ULAB].call("_drive_dsp:features", n, bytes(bins), b"".join(map(bytes, windows)))
    assert kind == "ulab"
    for window, out in zip(windows, found, strict=True):
        _check(window, bins, out)


@pytest.mark.parametrize(("n", "bins"), [(100, [4]), (64, [1]), (64, [31]), (256, [4])])
def test_windows_and_bins_have_limits(n, bins):
    with pytest.raises(LimitError):
        dsp.Spectrum(n, bins)


def test_the_sine_table_is_right():
    for k in range(-300, 600):
        assert abs(dsp.sine(k) - 16384 * np.sin(2 * np.pi * k / 256)) <= 0.51, k
