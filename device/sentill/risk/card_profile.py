"""The card profile an acquirer sends along with a transaction: three numbers per card, whatever the terminal.

Robust mean: `m += (min(x, 5m // 2) - m) // (k + 1)` with `k = min(n, 32)`, the first amount taken up to 22000 cents, so
that a burst of fraud barely moves it. A transaction is *high* when its ratio to the mean before it exceeds 144 (Q6)
on a card with at least 5 transactions. The node gets these numbers from outside; the trainer and the replay keep them.
"""

from array import array

from sentill.compat import const

from .amount_ratio import BIG_CENTS, HIGH_Q6, MIN_COUNT, ratio_q6

_WINDOW_S = const(604_800)
_MAX8 = const(255)


class Profile:
    """Robust mean `pm` (cents, 0..65535), count `pn` (0..255) and high-ratio count of the last 7 days `ph` (0..255)."""

    def __init__(self) -> None:
        self.pm = 0
        self.pn = 0
        self.ph = 0
        self._times = array("i")  # of the high transactions, oldest first

    def at(self, t: int) -> tuple:
        """(pm, pn, ph) at time `t`, seconds: high transactions more than 7 days before `t` no longer count."""
        times = self._times
        if self.ph and times[0] < t - _WINDOW_S:
            keep = 0
            while keep < len(times) and times[keep] < t - _WINDOW_S:
                keep += 1
            self._times = times = times[keep:]
            self.ph = len(times)
        return self.pm, self.pn, self.ph

    def update(self, amt: int, t: int) -> None:
        """Take in a transaction of `amt` cents (0..2^30-1) at `t` seconds. Times must not decrease."""
        m, n, high = self.at(t)
        if not n:
            self.pm = amt if amt < BIG_CENTS else BIG_CENTS
            self.pn = 1
            return
        if n >= MIN_COUNT and high < _MAX8 and ratio_q6(amt, m) > HIGH_Q6:
            self._times.append(t)
            self.ph = high + 1
        x = 5 * m // 2
        if amt < x:
            x = amt
        m += (x - m) // ((n if n < 32 else 32) + 1)
        self.pm = m if m < 65_535 else 65_535
        if n < _MAX8:
            self.pn = n + 1
