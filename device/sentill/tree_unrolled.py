"""Kernels of the perfect layout, unrolled: one statement per level, one function per depth (1..8).

Written by tools/make_tree_unrolled.py. Kept apart so that a board without a model in this layout never loads them. The
conditions of tree_viper.py hold; the twin of all of them is tree_plain.score_perfect.
"""

import micropython


@micropython.viper
def score_1(nd: ptr16, x: ptr16, t: int) -> int:
    """Sum of the leaves of a one-output sum forest of trees of depth 1."""
    t = int(nd) + (t << 1)
    nd = ptr16(t)
    n = nd[0]
    s = n * -32768
    t += 8
    while n:
        nd = ptr16(t + 2)
        t += 10
        nd = ptr16((((ptr16(nd[0] + int(x))[0] ^ 0x8000) - nd[1] >> 16) & 2) + int(nd))
        s += nd[2]
        n -= 1
    return s


@micropython.viper
def score_2(nd: ptr16, x: ptr16, t: int) -> int:
    """Sum of the leaves of a one-output sum forest of trees of depth 2."""
    t = int(nd) + (t << 1)
    nd = ptr16(t)
    n = nd[0]
    s = n * -32768
    t += 8
    while n:
        nd = ptr16(t + 2)
        t += 22
        nd = ptr16((((ptr16(nd[0] + int(x))[0] ^ 0x8000) - nd[1] >> 16) & 8) + int(nd))
        nd = ptr16((((ptr16(nd[2] + int(x))[0] ^ 0x8000) - nd[3] >> 16) & 2) + int(nd))
        s += nd[4]
        n -= 1
    return s


@micropython.viper
def score_3(nd: ptr16, x: ptr16, t: int) -> int:
    """Sum of the leaves of a one-output sum forest of trees of depth 3."""
    t = int(nd) + (t << 1)
    nd = ptr16(t)
    n = nd[0]
    s = n * -32768
    t += 8
    while n:
        nd = ptr16(t + 2)
        t += 46
        nd = ptr16((((ptr16(nd[0] + int(x))[0] ^ 0x8000) - nd[1] >> 16) & 20) + int(nd))
        nd = ptr16((((ptr16(nd[2] + int(x))[0] ^ 0x8000) - nd[3] >> 16) & 8) + int(nd))
        nd = ptr16((((ptr16(nd[4] + int(x))[0] ^ 0x8000) - nd[5] >> 16) & 2) + int(nd))
        s += nd[6]
        n -= 1
    return s


@micropython.viper
def score_4(nd: ptr16, x: ptr16, t: int) -> int:
    """Sum of the leaves of a one-output sum forest of trees of depth 4."""
    t = int(nd) + (t << 1)
    nd = ptr16(t)
    n = nd[0]
    s = n * -32768
    t += 8
    while n:
        nd = ptr16(t + 2)
        t += 94
        nd = ptr16((((ptr16(nd[0] + int(x))[0] ^ 0x8000) - nd[1] >> 16) & 44) + int(nd))
        nd = ptr16((((ptr16(nd[2] + int(x))[0] ^ 0x8000) - nd[3] >> 16) & 20) + int(nd))
        nd = ptr16((((ptr16(nd[4] + int(x))[0] ^ 0x8000) - nd[5] >> 16) & 8) + int(nd))
        nd = ptr16((((ptr16(nd[6] + int(x))[0] ^ 0x8000) - nd[7] >> 16) & 2) + int(nd))
        s += nd[8]
        n -= 1
    return s


@micropython.viper
def score_5(nd: ptr16, x: ptr16, t: int) -> int:
    """Sum of the leaves of a one-output sum forest of trees of depth 5."""
    t = int(nd) + (t << 1)
    nd = ptr16(t)
    n = nd[0]
    s = n * -32768
    t += 8
    while n:
        nd = ptr16(t + 2)
        t += 190
        nd = ptr16((((ptr16(nd[0] + int(x))[0] ^ 0x8000) - nd[1] >> 16) & 92) + int(nd))
        nd = ptr16((((ptr16(nd[2] + int(x))[0] ^ 0x8000) - nd[3] >> 16) & 44) + int(nd))
        nd = ptr16((((ptr16(nd[4] + int(x))[0] ^ 0x8000) - nd[5] >> 16) & 20) + int(nd))
        nd = ptr16((((ptr16(nd[6] + int(x))[0] ^ 0x8000) - nd[7] >> 16) & 8) + int(nd))
        nd = ptr16((((ptr16(nd[8] + int(x))[0] ^ 0x8000) - nd[9] >> 16) & 2) + int(nd))
        s += nd[10]
        n -= 1
    return s


@micropython.viper
def score_6(nd: ptr16, x: ptr16, t: int) -> int:
    """Sum of the leaves of a one-output sum forest of trees of depth 6."""
    t = int(nd) + (t << 1)
    nd = ptr16(t)
    n = nd[0]
    s = n * -32768
    t += 8
    while n:
        nd = ptr16(t + 2)
        t += 382
        nd = ptr16((((ptr16(nd[0] + int(x))[0] ^ 0x8000) - nd[1] >> 16) & 188) + int(nd))
        nd = ptr16((((ptr16(nd[2] + int(x))[0] ^ 0x8000) - nd[3] >> 16) & 92) + int(nd))
        nd = ptr16((((ptr16(nd[4] + int(x))[0] ^ 0x8000) - nd[5] >> 16) & 44) + int(nd))
        nd = ptr16((((ptr16(nd[6] + int(x))[0] ^ 0x8000) - nd[7] >> 16) & 20) + int(nd))
        nd = ptr16((((ptr16(nd[8] + int(x))[0] ^ 0x8000) - nd[9] >> 16) & 8) + int(nd))
        nd = ptr16((((ptr16(nd[10] + int(x))[0] ^ 0x8000) - nd[11] >> 16) & 2) + int(nd))
        s += nd[12]
        n -= 1
    return s


@micropython.viper
def score_7(nd: ptr16, x: ptr16, t: int) -> int:
    """Sum of the leaves of a one-output sum forest of trees of depth 7."""
    t = int(nd) + (t << 1)
    nd = ptr16(t)
    n = nd[0]
    s = n * -32768
    t += 8
    while n:
        nd = ptr16(t + 2)
        t += 766
        nd = ptr16((((ptr16(nd[0] + int(x))[0] ^ 0x8000) - nd[1] >> 16) & 380) + int(nd))
        nd = ptr16((((ptr16(nd[2] + int(x))[0] ^ 0x8000) - nd[3] >> 16) & 188) + int(nd))
        nd = ptr16((((ptr16(nd[4] + int(x))[0] ^ 0x8000) - nd[5] >> 16) & 92) + int(nd))
        nd = ptr16((((ptr16(nd[6] + int(x))[0] ^ 0x8000) - nd[7] >> 16) & 44) + int(nd))
        nd = ptr16((((ptr16(nd[8] + int(x))[0] ^ 0x8000) - nd[9] >> 16) & 20) + int(nd))
        nd = ptr16((((ptr16(nd[10] + int(x))[0] ^ 0x8000) - nd[11] >> 16) & 8) + int(nd))
        nd = ptr16((((ptr16(nd[12] + int(x))[0] ^ 0x8000) - nd[13] >> 16) & 2) + int(nd))
        s += nd[14]
        n -= 1
    return s


@micropython.viper
def score_8(nd: ptr16, x: ptr16, t: int) -> int:
    """Sum of the leaves of a one-output sum forest of trees of depth 8."""
    t = int(nd) + (t << 1)
    nd = ptr16(t)
    n = nd[0]
    s = n * -32768
    t += 8
    while n:
        nd = ptr16(t + 2)
        t += 1534
        nd = ptr16((((ptr16(nd[0] + int(x))[0] ^ 0x8000) - nd[1] >> 16) & 764) + int(nd))
        nd = ptr16((((ptr16(nd[2] + int(x))[0] ^ 0x8000) - nd[3] >> 16) & 380) + int(nd))
        nd = ptr16((((ptr16(nd[4] + int(x))[0] ^ 0x8000) - nd[5] >> 16) & 188) + int(nd))
        nd = ptr16((((ptr16(nd[6] + int(x))[0] ^ 0x8000) - nd[7] >> 16) & 92) + int(nd))
        nd = ptr16((((ptr16(nd[8] + int(x))[0] ^ 0x8000) - nd[9] >> 16) & 44) + int(nd))
        nd = ptr16((((ptr16(nd[10] + int(x))[0] ^ 0x8000) - nd[11] >> 16) & 20) + int(nd))
        nd = ptr16((((ptr16(nd[12] + int(x))[0] ^ 0x8000) - nd[13] >> 16) & 8) + int(nd))
        nd = ptr16((((ptr16(nd[14] + int(x))[0] ^ 0x8000) - nd[15] >> 16) & 2) + int(nd))
        s += nd[16]
        n -= 1
    return s
