"""The spectral bins of dsp.py by ulab's FFT, where the firmware has ulab; imported only there."""

from ulab import numpy, utils  # type: ignore[import-not-found]


def magnitudes(x, bins, out, first) -> None:
    """Amplitudes of `x` (sixteenths of a unit, mean removed) at `bins`, in sixteenths, to `out[first:]`."""
    spectrum = utils.spectrogram(numpy.array(x))
    for j in range(len(bins)):
        out[first + j] = int(spectrum[bins[j]]) * 2 // len(x)
