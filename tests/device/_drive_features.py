"""For the differential tests: features of a whole run of a terminal."""

from array import array

from sentill.risk.card_profile import Profile
from sentill.risk.features import History, N
from support import saved


def history(capacity, steps):
    """Play `steps` on a History: [t, amt, pm, pn, ph, ref, fraud ref or -1]; features and counters after each."""
    h = History(capacity)
    seen = []
    x = array("h", [0] * N)
    for t, amt, pm, pn, ph, ref, fraud in steps:
        h.fill(x, t, amt, pm, pn, ph)
        row = list(x)
        row.append(h.add(ref, t, amt, pm, pn, ph))
        if fraud >= 0:
            row.append(h.feedback(fraud))
        row += [h.now, h.pending, h.backwards, h.overflows, h.duplicates, h.unknown]
        seen.append(row)
    return seen, saved(h)


def profile(purchases):
    """Play `purchases` [amt, t] of one card; its robust mean, count and high-ratio count after each."""
    p = Profile()
    seen = []
    for amt, t in purchases:
        p.update(amt, t)
        seen.append([p.pm, p.pn, p.ph])
    return seen
