"""Spectral features on every interpreter: a known wave, no heap, integer square roots, the path through ulab."""

import math
import sys
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


class _Ulab:
    """Stands in for ulab: what dsp_ulab.py uses of it, as ulab's manual describes it."""

    class numpy:
        @staticmethod
        def array(values):
            return [float(v) for v in values]

    class utils:
        @staticmethod
        def spectrogram(values):
            n = len(values)
            out = []
            for k in range(n):
                re = sum([v * math.cos(2 * math.pi * k * i / n) for i, v in enumerate(values)])
                im = sum([v * math.sin(2 * math.pi * k * i / n) for i, v in enumerate(values)])
                out.append(math.sqrt(re * re + im * im))
            return out


def test_ulab_is_used_where_it_is_and_tells_the_same():
    bins = (2, 3, 8, 20)
    plain = dsp.Spectrum(64, bins)
    assert plain.kind == "integer"
    sys.modules["ulab"] = _Ulab
    try:
        fast = dsp.Spectrum(64, bins)
    finally:
        del sys.modules["ulab"]
        sys.modules.pop("sentill.dsp_ulab", None)  # for the tests after this one
    assert fast.kind == "ulab"
    for wave in (_wave(64, 8, 1000), _wave(64, 3, 40), array("h", [(i * 7919 % 401) - 200 for i in range(64)])):
        a, b = array("i", [0] * 6), array("i", [0] * 6)
        plain.features(wave, a)
        fast.features(wave, b)
        assert list(a[:2]) == list(b[:2]), (list(a), list(b))
        for k in range(2, 6):
            assert abs(a[k] - b[k]) <= 4 + b[k] // 100 + a[dsp.RANGE] // 400, (k, list(a), list(b))
