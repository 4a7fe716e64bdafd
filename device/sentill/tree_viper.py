"""Kernels of the tree engine in native code, for ports with MicroPython's viper emitter; tree_plain.py is their twin.

Only tree.py calls them. They check nothing: a pointer to anything but an array of the right type and length crashes
the board. `nd` is an array('H') holding a model file, `t` the index of a forest's header in it, `x` an array('h') of
inputs. The names `nd`, `x` and `t` are used again for something else below, because the emitter keeps the first
locals in registers. An input is compared in biased form (`^ 0x8000`) with the biased threshold, so a comparison is one
subtraction of two unsigned 16-bit numbers whose sign is the answer. A ptr32 load is unsigned on 64-bit machines. The
layouts are described in tree_file.py.
"""

import micropython

NATIVE = True


def scorer(job, see, run):
    """Model.score as a function of x that holds all it needs: what a method looks up costs more than a tree.

    `job` is a list of the x seen last, the words of the file, and the index of the forest; `see(x)` checks another x
    and puts it into `job`, or raises; `run` is one of the kernels below.
    """

    @micropython.viper
    def score(x):
        seen, words, at = job
        if x is not seen:
            see(x)
        return run(words, x, at)

    return score


@micropython.viper
def score_wide(nd: ptr16, x: ptr16, t: int) -> int:
    """Sum of the leaves of a one-output sum forest in the wide layout."""
    t = int(nd) + (t << 1)
    nd = ptr16(t)
    n = nd[0]
    s = n * -32768
    t += 8
    while n:
        nd = ptr16(t + 4)
        t += ptr16(t)[0]
        while ptr8(nd)[1]:
            nd = ptr16((((x[ptr8(nd)[0]] ^ 0x8000) - nd[1] >> 16 & ptr8(nd)[1]) << 2) + int(nd) + 4)
        s += nd[1]
        n -= 1
    return s


@micropython.viper
def score_short(nd: ptr16, x: ptr16, t: int) -> int:
    """Sum of the leaves of a one-output sum forest in the short layout."""
    t = int(nd) + (t << 1)
    nd = ptr16(t)
    n = nd[0]
    s = n * -128
    t += 8
    while n:
        nd = ptr16(t + 4)
        t += ptr16(t)[0]
        while ptr8(nd)[1]:
            nd = ptr16((((x[ptr8(nd)[0]] ^ 0x8000) - nd[1] >> 16 & ptr8(nd)[1]) << 1) + int(nd) + 4)
        s += nd[0]
        n -= 1
    return s


@micropython.viper
def leaves(nd: ptr16, x: ptr16, t: int, out: ptr32):
    """Write the leaf of every tree to `out`: its value in a sum forest, its class in a vote forest."""
    t = int(nd) + (t << 1)
    nd = ptr16(t)
    n = nd[0]
    layout = ptr8(nd)[5]
    bias = 0 if ptr8(nd)[4] else 128 if layout == 1 else 32768
    shift = 2 - layout
    t += 8
    while n:
        if layout > 1:
            nd = ptr16(t + 2)
            size = (6 << layout - 16) - 4
            t += size + 2
            while size > 2:
                size = size - 4 >> 1
                nd = ptr16(((ptr16(nd[0] + int(x))[0] ^ 0x8000) - nd[1] >> 16 & size) + int(nd) + 4)
            out[0] = nd[0] - bias
        else:
            nd = ptr16(t + 4)
            t += ptr16(t)[0]
            while ptr8(nd)[1]:
                nd = ptr16((((x[ptr8(nd)[0]] ^ 0x8000) - nd[1] >> 16 & ptr8(nd)[1]) << shift) + int(nd) + 4)
            out[0] = nd[1 - layout] - bias
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
    size = ptr8(nd)[5]
    if size > 1:
        size = (6 << size - 16) - 2
    else:
        size = 0
    t += 8
    while n:
        if vote:
            out[leaf[0]] = out[leaf[0]] + 1
        elif size:
            out[ptr16(t)[0]] = out[ptr16(t)[0]] + leaf[0]
        else:
            out[ptr16(t)[1]] = out[ptr16(t)[1]] + leaf[0]
        t += size if size else ptr16(t)[0]
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
    layout = ptr8(nd)[5]
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
        size = (6 << layout - 16) - 4 if layout > 1 else 0
        nd = ptr16(t + (2 if size else 4))
        c = ptr16(t)[0 if size else 1]
        t += size + 2 if size else ptr16(t)[0]
        v = base[n + trees]
        if vote:
            v = (1 if v == last else 0) - (1 if base[n] == last else 0)
        elif c == last:
            v -= base[n]
        else:
            v = 0
        n += 1
        if v:
            while (size > 2) if layout > 1 else int(ptr8(nd)[1]) != 0:
                f = nd[0] >> 1 if layout > 1 else nd[0] & 255
                c = (x[f] ^ 0x8000) - nd[1] >> 16
                if c != (typical[f] - nd[1] >> 16):
                    if mark[f] != n:
                        mark[f] = n
                        w[f] = w[f] + v
                if layout > 1:
                    size = size - 4 >> 1
                    c = c & size
                else:
                    c = (c & ptr8(nd)[1]) << 2 - layout
                nd = ptr16(c + int(nd) + 4)


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


@micropython.viper
def check(nd: ptr16, t: int, end: int, stack: ptr16) -> int:
    """One pass over the trees of a forest in the wide or short layout, up to the index `end`; see tree_file.py.

    0 when every walk stays inside its tree and ends; else tree * 8 + 1 (tree does not fit), 2 (bad node), 3 (bad
    leaf), 4 (nodes left over or missing), or 5 (words behind the last tree). `stack` holds 128 words.
    """
    base = int(nd)
    nd = ptr16(base + (t << 1))
    n = nd[0]
    outs = nd[1]
    vote = ptr8(nd)[4]
    layout = ptr8(nd)[5]
    features = nd[3]
    end = base + (end << 1)
    t = int(nd) + 8
    i = 0
    while i < n:
        fault = i << 3
        if t + 6 > end:
            return fault + 1
        nd = ptr16(t)
        size = nd[0]
        if size < 6 or size & 1 or t + size > end or nd[1] >= outs:
            return fault + 1
        # Pre-order, right subtree first: a jump target is pushed, and must be where the right subtree ends.
        nd = ptr16(t + 4)
        t += size
        top = 0
        while True:
            if int(nd) + 4 - (layout << 1) > t:
                return fault + 4
            size = ptr8(nd)[1]
            if size:
                size = int(nd) + 4 + (size << 2 - layout)
                if ptr8(nd)[0] >= features or size >= t:
                    return fault + 2
                size -= base
                size >>= 1
                # A target beyond the enclosing one, or one that cannot be stored, is caught when it is not met.
                if top == 128:
                    return fault + 2
                stack[top] = size & 0xFFFF
                top += 1
                nd = ptr16(int(nd) + 4)
            else:
                if ptr8(nd)[0] and not layout:
                    return fault + 3
                if vote and nd[1 - layout] >= outs:
                    return fault + 3
                nd = ptr16(int(nd) + 4 - (layout << 1))
                if not top:
                    break
                top -= 1
                if stack[top] != (int(nd) - base >> 1 & 0xFFFF):
                    return fault + 4
        if int(nd) != t:
            return fault + 4
        i += 1
    return 0 if t == end else (i << 3) + 5


@micropython.viper
def check_perfect(nd: ptr16, t: int, end: int) -> int:
    """The same for the perfect layout."""
    base = int(nd)
    nd = ptr16(base + (t << 1))
    n = nd[0]
    outs = nd[1]
    vote = ptr8(nd)[4]
    depth = ptr8(nd)[5] - 16
    features = nd[3]
    end = base + (end << 1)
    t = int(nd) + 8
    size = (6 << depth) - 2
    i = 0
    while i < n:
        fault = i << 3
        if t + size > end or ptr16(t)[0] >= outs:
            return fault + 1
        nd = ptr16(t + 2)
        t += size
        d = depth
        k = 0
        while int(nd) < t:
            if d:
                if nd[0] & 1 or nd[0] >> 1 >= features:
                    return fault + 2
                d -= 1
                nd = ptr16(int(nd) + 4)
            else:
                if vote and nd[0] >= outs:
                    return fault + 3
                nd = ptr16(int(nd) + 2)
                # After leaf k (from 1) the walk climbs as many levels as k has trailing zero bits.
                k += 1
                while not k >> d & 1:
                    d += 1
        i += 1
    return 0 if t == end else (i << 3) + 5


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
