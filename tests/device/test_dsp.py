"""Spectral features on every interpreter: a known wave, no heap, integer square roots, ulab where it is."""

import os
import struct
import sys
from array import array

from sentill.compat import present
from sentill.health import spectrum as dsp
from support import SkipTest, no_alloc, scratch_path


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


def test_ulab_tells_the_same_as_integers():
    bins = (2, 3, 8, 20)
    fast, plain = dsp.Spectrum(64, bins), dsp.Spectrum(64, bins)
    if fast.kind != "ulab":
        raise SkipTest("no ulab in this interpreter")
    plain._fft = None
    loud = array("h", [32767 if i // 4 % 2 else -32768 for i in range(64)])
    for wave in (_wave(64, 8, 1000), _wave(64, 3, 40), loud, array("h", [(i * 7919 % 401) - 200 for i in range(64)])):
        a, b = array("i", [0] * 6), array("i", [0] * 6)
        plain.features(wave, a)
        fast.features(wave, b)
        assert list(a[:2]) == list(b[:2]), (list(a), list(b))
        for k in range(2, 6):
            assert abs(a[k] - b[k]) <= 4 + b[k] // 100 + a[dsp.RANGE] // 400, (k, list(a), list(b))


def test_floats_are_read_as_bytes():
    if dsp.Spectrum(32, ()).kind != "ulab":
        raise SkipTest("no ulab in this interpreter")
    from sentill.health.spectrum_ulab import Bins

    bins = Bins(32)
    values = (0.0, 0.49, 0.999, 1.0, 1.999, 2.0, 255.5, 65535.75, 123456.0, 4194303.5, 8388607.0)
    for size, code in ((4, "f"), (8, "d")):
        bins._size = size
        bins._bytes = struct.pack("<%d%s" % (len(values), code), *values)
        got = [bins._whole(k) for k in range(len(values))]
        assert got == [int(v) for v in values], (code, got)


def test_a_folder_named_ulab_is_no_ulab():
    was = present("ulab", "numpy")
    folder = scratch_path("root")
    for path in (folder, folder + "/ulab"):
        try:
            os.mkdir(path)
        except OSError:
            pass  # from the last time
    kept = {name: module for name, module in sys.modules.items() if name.split(".")[0] == "ulab"}
    for name in kept:
        del sys.modules[name]
    sys.path.append(folder)
    try:
        __import__("ulab")
        assert present("ulab", "numpy") is was
        assert dsp.Spectrum(32, (4,)).kind == ("ulab" if was else "integer")
    finally:
        sys.path.remove(folder)
        sys.modules.pop("ulab", None)
        sys.modules.update(kept)
    assert present("sys", "version") and not present("sys", "no such part") and not present("no_such_module", "x")
