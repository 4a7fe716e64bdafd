"""Spectral features of a waveform window, as integers: printer-motor current, vibration.

`Spectrum.features` gives the root mean square, the peak-to-peak range and the amplitudes at a few bins, all in
sixteenths of the samples' unit. With ulab in the firmware the bins come from its FFT (spectrum_ulab.py), else from
Goertzel's recursion in integers. Both are the amplitude `2 |X_k| / N` of the window without its mean; against numpy the
integers are off by at most 1/8 unit plus 1 % plus 0.25 % of the window's range (tests/host/test_dsp.py measures it).
"""

from array import array

from sentill.compat import present
from sentill.errors import LimitError

RMS = 0
RANGE = 1
BINS = 2  # features from here on are the bins asked for

MAX_SAMPLE = 2047

# sin(2 pi k / 256) in Q14 for a quarter of the circle, k = 0..64, as little-endian 16-bit words: as numbers they would
# stay in the heap twice.
_SINE = array(
    "h",
    b"\x00\x00\x92\x01\x24\x03\xb5\x04\x46\x06\xd6\x07\x64\x09\xf1\x0a\x7c\x0c\x06\x0e\x8d\x0f\x12\x11\x94\x12"
    b"\x13\x14\x90\x15\x09\x17\x7e\x18\xef\x19\x5d\x1b\xc6\x1c\x2b\x1e\x8c\x1f\xe7\x20\x3d\x22\x8e\x23\xda\x24"
    b"\x20\x26\x60\x27\x9a\x28\xce\x29\xfb\x2a\x21\x2c\x41\x2d\x5a\x2e\x6c\x2f\x76\x30\x79\x31\x74\x32\x68\x33"
    b"\x53\x34\x37\x35\x12\x36\xe5\x36\xb0\x37\x71\x38\x2b\x39\xdb\x39\x82\x3a\x21\x3b\xb6\x3b\x42\x3c\xc5\x3c"
    b"\x3f\x3d\xaf\x3d\x15\x3e\x72\x3e\xc5\x3e\x0f\x3f\x4f\x3f\x85\x3f\xb1\x3f\xd4\x3f\xec\x3f\xfb\x3f\x00\x40",
)


def sine(k: int) -> int:
    """sin(2 pi k / 256) in Q14."""
    k &= 255
    if k >= 128:
        return -sine(k - 128)
    return _SINE[k] if k <= 64 else _SINE[128 - k]


class Spectrum:
    """Features of windows of `n` samples (32, 64 or 128) at `bins`, whole cycles per window, 2..n/2-2.

    Raises LimitError for other sizes and bins. `kind` is "ulab" or "integer".
    """

    def __init__(self, n: int, bins):
        if n not in (32, 64, 128):
            raise LimitError("window", "a window has 32, 64 or 128 samples")
        for k in bins:
            if not 2 <= k <= n // 2 - 2:
                raise LimitError("bin", "bins lie in 2..%d" % (n // 2 - 2))
        self.n = n
        self.bins = bytes(bins)
        self._x = array("i", [0] * n)
        self._fft = None
        self.kind = "integer"
        if present("ulab", "numpy"):
            from .spectrum_ulab import Bins

            self._fft = Bins(n)
            self.kind = "ulab"

    def features(self, window, out) -> None:
        """Write the features of `window` (n samples within ±MAX_SAMPLE, larger ones are clipped) to `out`."""
        x = self._x
        n = self.n
        total = 0
        low = MAX_SAMPLE
        high = -MAX_SAMPLE
        for i in range(n):
            v = window[i]
            v = MAX_SAMPLE if v > MAX_SAMPLE else -MAX_SAMPLE if v < -MAX_SAMPLE else v
            x[i] = v
            total += v
            low = v if v < low else low
            high = v if v > high else high
        mean = (total * 16 + (n >> 1)) // n  # in sixteenths, like x from here on
        square = 0
        for i in range(n):
            v = x[i] * 16 - mean
            x[i] = v
            square += (v >> 2) * (v >> 2) >> 4
        out[RANGE] = (high - low) * 16
        out[RMS] = isqrt(square // n * 256 + (square % n) * 256 // n)
        if self._fft:
            self._fft.magnitudes(x, low * 16 - mean, self.bins, out, BINS)
            return
        for j in range(len(self.bins)):
            out[BINS + j] = self._goertzel(self.bins[j])

    def _goertzel(self, k):
        # The state stays below n * 2^15 / sin(2 pi k / n) < 2^25.4, so that _times is safe.
        step = k * (256 // self.n)
        c = sine(step + 64)
        x = self._x
        a = b = 0
        for i in range(self.n):
            t = x[i] + 2 * _times(c, a) - b
            b = a
            a = t
        re = a - _times(c, b)
        im = _times(sine(step), b)
        shift = 0
        while re > 16383 or re < -16383 or im > 16383 or im < -16383:
            re >>= 1
            im >>= 1
            shift += 1
        root = isqrt(re * re + im * im)
        shift -= 6
        root = (root << 7) // self.n
        return root << shift if shift >= 0 else root >> -shift


def _times(c, v):
    # c * v / 2^14, rounded; v is split so that the products of c (Q14) stay below 2^30.
    return (c * (v >> 10) + ((c * (v & 1023) + 512) >> 10) + 8) >> 4


def isqrt(v: int) -> int:
    """Integer square root of `v`, 0 .. 2^30 - 1, rounded down."""
    root = 0
    bit = 1 << 28
    while bit > v:
        bit >>= 2
    while bit:
        if v >= root + bit:
            v -= root + bit
            root = (root >> 1) + bit
        else:
            root >>= 1
        bit >>= 2
    return root
