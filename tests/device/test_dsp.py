"""Spectral features on every interpreter: a known wave, no heap, integer square roots."""

from array import array

from sentill import dsp
from support import no_alloc


def _wave(n, cycles, size):
    return array("h", [size * dsp.sine(i * cycles * 256 // n) // 16384 for i in range(n)])


def test_a_pure_tone_shows_in_its_bin_only():
    spectrum = dsp.Spectrum(64, (4, 8, 16))
    out = array("i", [0] * 5)
    spectrum.features(_wave(64, 8, 1000), out)
    assert abs(out[3] - 16000) <= 160, list(out)
    assert out[2] <= 16 and out[4] <= 16, list(out)
    assert abs(out[dsp.RMS] - 11314) <= 60, list(out)
    assert out[dsp.RANGE] == 32000, list(out)


def test_clipping_keeps_everything_in_small_integers():
    spectrum = dsp.Spectrum(128, (2, 32, 62))
    out = array("i", [0] * 5)
    spectrum.features(array("h", [32767 if i & 1 else -32768 for i in range(128)]), out)
    assert out[dsp.RANGE] == 2 * 2047 * 16, list(out)
    spectrum.features(array("h", [32767 if i // 32 % 2 else -32768 for i in range(128)]), out)
    assert abs(out[2] - 2047 * 16 * 1273 // 1000) < 700, list(out)


def test_square_roots_are_rounded_down():
    for v in (0, 1, 3, 4, 99, 100, 65535, 65536, 1073676289, 1073741823):
        r = dsp.isqrt(v)
        assert r * r <= v, (v, r)
        assert (r + 1) * (r + 1) > v, (v, r)


def test_features_need_no_heap():
    spectrum = dsp.Spectrum(128, (2, 5, 40))
    wave = array("h", [32767 if i // 32 % 2 else -32768 for i in range(128)])
    out = array("i", [0] * 5)
    no_alloc(lambda: spectrum.features(wave, out), 2048)
