"""The steps of features.py that every request takes, in plain bytecode: the twin of features_viper.py.

`s` are the scalars of a features.History, `x` an array('h') of features.
"""

from struct import pack_into

from .compat import const

# As in features.py.
_NOW = const(0)
_RUNF = const(2)
_RUNG = const(3)
_FIRST = const(4)
_LAST = const(5)
_GEN = const(6)
_N30 = const(7)
_F30 = const(8)
_U30 = const(9)
_HOUR_S = const(3_600)
_MAX16 = const(32_767)


def own(s, x) -> None:
    """Write the features of the terminal's own history, 1 to 8, into `x`."""
    v = s[_RUNF]
    x[1] = v if v < _MAX16 else _MAX16
    v = s[_RUNG]
    x[2] = v if v < _MAX16 else _MAX16
    now = s[_NOW]
    v = s[_FIRST]
    if v < 0:  # no fraud yet
        x[3] = x[4] = _MAX16
    else:
        v = (now - v) // _HOUR_S
        x[3] = v if v < _MAX16 else _MAX16
        v = (now - s[_LAST]) // _HOUR_S
        x[4] = v if v < _MAX16 else _MAX16
    v = s[_GEN]
    v = (now - v) // _HOUR_S if v >= 0 else _MAX16
    x[5] = v if v < _MAX16 else _MAX16
    v = s[_N30]
    x[6] = v if v < _MAX16 else _MAX16
    v = s[_F30]
    x[7] = v if v < _MAX16 else _MAX16
    v = s[_U30]
    x[8] = v if v < _MAX16 else _MAX16


def finder(chains, low, high, follow):
    """Pending.find: a function that returns the slot of a ref, or -1, and leaves the halves of the ref in `chains`.

    `chains` starts 256 chains of slots plus 1, `follow` continues them, 0 ends one; behind them are two words for the
    ref. `low` and `high` hold the refs by slot. More arrays would be more than a closure is called with without heap.
    """

    def find(ref: int) -> int:
        pack_into("<I", chains, 512, ref)
        ref = chains[256] ^ chains[257]
        slot = chains[(ref ^ ref >> 8) & 255]
        if slot:
            ref = chains[256]
            while slot:
                slot -= 1
                if low[slot] == ref and high[slot] == chains[257]:
                    return slot
                slot = follow[slot]
        return -1

    return find
