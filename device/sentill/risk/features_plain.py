"""The steps of features.py that every request takes, in plain bytecode: the twin of features_thumb.py.

`s` are the scalars of a features.History, `x` an array('h') of features.
"""

from struct import pack_into

from sentill.compat import const

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
_PENDING = const(4)
_wanted = bytearray(4)  # the ref looked for: a search takes no view


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


def find(refs, flags, n: int, ref: int) -> int:
    """The slot of `ref` among the first `n` of `refs`, or -1. Only slots count whose `flags` have bit 2.

    Four bytes each, low byte first; the one behind the first `n` becomes this ref.
    """
    pack_into("<I", refs, 4 * n, ref)
    pack_into("<I", _wanted, 0, ref)
    at = refs.find(_wanted)
    while at < 4 * n:
        if not at & 3 and flags[at >> 2] & _PENDING:
            return at >> 2
        at = refs.find(_wanted, (at | 3) + 1)
    return -1


def keep(refs, slot: int, n: int) -> None:
    """Let `slot` have the ref behind the first `n`."""
    slot *= 4
    refs[slot] = refs[4 * n]
    refs[slot + 1] = refs[4 * n + 1]
    refs[slot + 2] = refs[4 * n + 2]
    refs[slot + 3] = refs[4 * n + 3]
