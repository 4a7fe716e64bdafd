"""Kernels of the tree engine in native code, for ports with MicroPython's viper emitter; tree_plain.py is their twin.

Only model.py calls them. They check nothing: a pointer to anything but an array of the right type and length crashes
the board. `nd` is an array('H') holding a model file, `t` the index of a forest's header in it, `x` an array('h') of
inputs. The names `nd`, `x` and `t` are used again for something else below, because the emitter keeps the first
locals in registers. An input is compared in biased form (`^ 0x8000`) with the biased threshold, so a comparison is one
subtraction of two unsigned 16-bit numbers whose sign is the answer. A ptr32 load is unsigned on 64-bit machines. The
layouts are described in model_file.py.
"""

import micropython

NATIVE = True


@micropython.viper
def _address(words: ptr16) -> uint:
    return uint(words)


def scorer(run, forest, see):
    """Model.score as a function of x that holds all it needs: what a method looks up costs more than a tree.

    `run` is `score` below; `forest` a memoryview of its words, which as a number is cheaper to pass; `see(x)` checks
    another x than the last one, or raises. More than four such names, and a call takes heap.
    """
    at = _address(forest)
    seen = see  # which is no array

    def other(x):
        nonlocal seen
        see(x)
        seen = x
        return run(forest, x)

    @micropython.viper
    def score(x):
        if x is seen:
            return run(at, x)
        return other(x)

    return score


@micropython.viper
def score(nd: ptr16, x: ptr16) -> int:
    """Sum of the leaves of the one-output forest at `nd`; in a vote forest the number of votes for the last class."""
    t = int(nd) + 8
    n = nd[0]
    shift = 2 - ptr8(nd)[5]
    last = nd[1] if ptr8(nd)[4] else 0
    s = 0 if last else 0 - (n << (shift << 3) - 1)
    while n:
        nd = ptr16(t + 4)
        t += ptr16(t)[0]
        while ptr8(nd)[1]:
            nd = ptr16((((x[ptr8(nd)[0]] ^ 0x8000) - nd[1] >> 16 & ptr8(nd)[1]) << shift) + int(nd) + 4)
        if last:
            # 0 for the last class, below it for the others: -1 once shifted.
            s += (nd[shift - 1] - last + 1 >> 16) + 1
        else:
            s += nd[shift - 1]
        n -= 1
    return s


@micropython.viper
def leaves(nd: ptr16, x: ptr16, t: int, out: ptr32):
    """Write the leaf of every tree to `out`: its value in a sum forest, its class in a vote forest."""
    t = int(nd) + (t << 1)
    nd = ptr16(t)
    n = nd[0]
    shift = 2 - ptr8(nd)[5]
    bias = 0 if ptr8(nd)[4] else 1 << (shift << 3) - 1
    t += 8
    while n:
        nd = ptr16(t + 4)
        t += ptr16(t)[0]
        while ptr8(nd)[1]:
            nd = ptr16((((x[ptr8(nd)[0]] ^ 0x8000) - nd[1] >> 16 & ptr8(nd)[1]) << shift) + int(nd) + 4)
        out[0] = nd[shift - 1] - bias
        out = ptr32(int(out) + 4)
        n -= 1


@micropython.viper
def outputs(nd: ptr16, leaf: ptr32, t: int, out: ptr32):
    """Gather what `leaves` wrote: per output the sum of its trees, or the number of votes for that class."""
    t = int(nd) + (t << 1)
    nd = ptr16(t)
    n = nd[1]
    while n:
        n -= 1
        out[n] = 0
    n = nd[0]
    vote = ptr8(nd)[4]
    t += 8
    while n:
        if vote:
            out[leaf[0]] = out[leaf[0]] + 1
        else:
            out[ptr16(t)[1]] = out[ptr16(t)[1]] + leaf[0]
        t += ptr16(t)[0]
        leaf = ptr32(int(leaf) + 4)
        n -= 1


@micropython.viper
def blame(nd: ptr16, x: ptr16, t: int, w: ptr32):
    """Share each tree's distance from its base among the features that parted from the typical row; see explain.

    `w` holds, F features and N trees: F results, F typical inputs + 32768, F marks, N base leaves, N leaves of this x,
    2 words for the twin.
    """
    t = int(nd) + (t << 1)
    nd = ptr16(t)
    trees = nd[0]
    last = nd[1] - 1
    vote = ptr8(nd)[4]
    shift = 2 - ptr8(nd)[5]
    f = nd[3]
    typical = ptr32(int(w) + (f << 2))
    mark = ptr32(int(typical) + (f << 2))
    base = ptr32(int(mark) + (f << 2))
    n = 0
    while n < f:
        w[n] = 0
        mark[n] = 0
        n += 1
    t += 8
    n = 0
    while n < trees:
        nd = ptr16(t + 4)
        c = ptr16(t)[1]
        t += ptr16(t)[0]
        v = base[n + trees]
        if vote:
            v = (1 if v == last else 0) - (1 if base[n] == last else 0)
        elif c == last:
            v -= base[n]
        else:
            v = 0
        n += 1
        if v:
            while ptr8(nd)[1]:
                f = nd[0] & 255
                c = (x[f] ^ 0x8000) - nd[1] >> 16
                if c != (typical[f] - nd[1] >> 16):
                    if mark[f] != n:
                        mark[f] = n
                        w[f] = w[f] + v
                nd = ptr16(((c & ptr8(nd)[1]) << shift) + int(nd) + 4)


@micropython.viper
def first(nd: ptr16, x: ptr16, t: int) -> int:
    """Index of the first tree with a leaf that is not 0, times 4, plus that leaf (1..3); -1 without one. Wide only."""
    t = int(nd) + (t << 1)
    nd = ptr16(t)
    n = nd[0]
    i = 0
    t += 8
    while i < n:
        nd = ptr16(t + 4)
        t += ptr16(t)[0]
        while ptr8(nd)[1]:
            nd = ptr16((((x[ptr8(nd)[0]] ^ 0x8000) - nd[1] >> 16 & ptr8(nd)[1]) << 2) + int(nd) + 4)
        if nd[1]:
            return (i << 2) + nd[1]
        i += 1
    return -1


def taker(w, n: int):
    """Model.next_reason: a function that returns the index of the first of the largest positive values among the first
    `n` of `w`, an array('i'), and makes it 0; -1 without one."""

    @micropython.viper
    def next_reason() -> int:
        values = ptr32(w)
        end = int(n)
        best = -1
        most = 0
        i = 0
        while i < end:
            # 64-bit loads do not extend the sign, so bit 30 tells it: weights are within ±2^30.
            if not values[i] >> 30 & 1 and values[i] > most:
                most = values[i]
                best = i
            i += 1
        if best >= 0:
            values[best] = 0
        return best

    return next_reason
