"""Spectral features: integers against numpy within the stated error; ulab's path on the same scale.

ulab itself exists only inside firmware. Its path is tested with a stand-in of its documented interface
(`numpy.array`, `utils.spectrogram`: the absolute value of the FFT), computed by numpy and checked against what ulab's
manual prints. tests/device/test_dsp.py runs the path on MicroPython.
"""

import sys
import types
from array import array

import numpy as np
import pytest

from sentill import dsp
from sentill.errors import LimitError


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


def _check(spectrum, n, bins):
    for wave in _waves(n):
        window = array("h", [int(v) for v in np.round(wave)])
        out = array("i", [0] * (2 + len(bins)))
        spectrum.features(window, out)
        rms, span, amplitudes = _expected(np.array(window, float), bins)
        assert _within(out[dsp.RMS], rms, span), (out[dsp.RMS] / 16, rms)
        assert out[dsp.RANGE] == span * 16
        for k, got, wanted in zip(bins, out[dsp.BINS :], amplitudes, strict=True):
            assert _within(got, wanted, span), (n, k, got / 16, wanted)


@pytest.mark.parametrize("n", [32, 64, 128])
def test_integer_features_agree_with_numpy(n):
    bins = sorted({2, 3, 5, n // 8, n // 4, n // 2 - 2})
    spectrum = dsp.Spectrum(n, bins)
    assert spectrum.kind == "integer"
    _check(spectrum, n, bins)


def _spectrogram(a):
    return np.abs(np.fft.fft(a))


def test_the_stand_in_gives_what_ulabs_documentation_prints():
    """The example of `utils.spectrogram` in ulab's manual, with the values ulab itself had computed."""
    printed = [187.8635087634579, 315.3112063607119, 347.8814873399374]
    mirrored = [84.45888934298905, 347.8814873399374, 315.3112063607118]
    got = _spectrogram(np.sin(np.linspace(0, 10, num=1024)))
    assert got[:3] == pytest.approx(printed, rel=1e-9) and got[-3:] == pytest.approx(mirrored, rel=1e-9)


def test_the_ulab_path_has_the_same_scale(monkeypatch):
    ulab = types.ModuleType("ulab")
    ulab.numpy = types.SimpleNamespace(array=lambda x: np.array(x, float))
    ulab.utils = types.SimpleNamespace(spectrogram=_spectrogram)
    monkeypatch.setitem(sys.modules, "ulab", ulab)
    monkeypatch.delitem(sys.modules, "sentill.dsp_ulab", raising=False)
    spectrum = dsp.Spectrum(64, [2, 8, 16])
    assert spectrum.kind == "ulab"
    _check(spectrum, 64, [2, 8, 16])
    sys.modules.pop("sentill.dsp_ulab", None)


@pytest.mark.parametrize(("n", "bins"), [(100, [4]), (64, [1]), (64, [31]), (256, [4])])
def test_windows_and_bins_have_limits(n, bins):
    with pytest.raises(LimitError):
        dsp.Spectrum(n, bins)


def test_the_sine_table_is_right():
    for k in range(-300, 600):
        assert abs(dsp.sine(k) - 16384 * np.sin(2 * np.pi * k / 256)) <= 0.51, k
