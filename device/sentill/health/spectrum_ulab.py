"""The spectral bins of spectrum.py by ulab's FFT, where the firmware has ulab; imported only there."""

from array import array

from ulab import numpy, utils  # type: ignore[import-not-found]


class Bins:
    """Amplitudes at bins of windows of `n` samples, in memory that is kept: a window takes none.

    ulab works on arrays of ours. The floats of its result are read as bytes, for a float by itself takes heap.
    """

    def __init__(self, n: int):
        self._size = numpy.zeros(1).itemsize
        self._x = array("H", bytes(2 * n))
        self._in = numpy.frombuffer(self._x, dtype=numpy.uint16)
        self._scratch = numpy.zeros(2 * n)
        self._bytes = bytearray(self._size * n)
        self._out = numpy.frombuffer(self._bytes, dtype=numpy.float)

    def magnitudes(self, x, least: int, bins, out, first: int) -> None:
        """Amplitudes of `x` (sixteenths of a unit, from `least` to at most 65535 above) at `bins`, to `out[first:]`."""
        n = len(self._x)
        for i in range(n):
            self._x[i] = x[i] - least  # a constant moves bin 0 only
        utils.spectrogram(self._in, scratchpad=self._scratch, out=self._out)
        for j in range(len(bins)):
            out[first + j] = self._whole(bins[j]) * 2 // n

    def _whole(self, k):
        # The float number `k`, 0 to below 2^23, rounded down: exponent and leading bits of IEEE 754, little-endian.
        b = self._bytes
        end = (k + 1) * self._size
        head = b[end - 1] << 8 | b[end - 2]
        if self._size == 4:
            return _shifted(head >> 7 & 255, 127, (head & 127 | 128) << 16 | b[end - 3] << 8 | b[end - 4])
        bits = (head & 15 | 16) << 19 | b[end - 3] << 11 | b[end - 4] << 3 | b[end - 5] >> 5
        return _shifted(head >> 4 & 2047, 1023, bits)


def _shifted(exponent, bias, bits):
    # `bits` has 24, the first of them is worth 2 ** (exponent - bias).
    return 0 if exponent < bias else bits >> 23 - exponent + bias
