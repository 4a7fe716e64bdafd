"""For tests/host/test_dsp.py: the spectral features of windows, as this interpreter computes them."""

from array import array

from sentill.health import spectrum as dsp


def features(n, bins, windows):
    """What computes them, and the features of every window of `n` samples in `windows`, an int16 after the other."""
    spectrum = dsp.Spectrum(n, bins)
    samples = array("h", windows)
    out = array("i", bytes(4 * (dsp.BINS + len(bins))))
    found = []
    for at in range(0, len(samples), n):
        spectrum.features(samples[at : at + n], out)
        found.append(list(out))
    return spectrum.kind, found
