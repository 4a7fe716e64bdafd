"""Kernels of the tree engine in plain bytecode: the twin of tree_viper.py, with the same names and meaning.

`m` is an array('H') holding a model file, `t` the index of a forest's header in it, `x` an array('h') of inputs. The
layouts are described in model_file.py. The functions are cut so that a frame stays within eleven locals and stack
slots: MicroPython takes larger ones from the heap.
"""

NATIVE = False


def scorer(run, forest, see):
    """Model.score as a function of x; the arguments are those of tree_viper.scorer."""
    seen = see  # which is no array

    def score(x):
        nonlocal seen
        if x is not seen:
            see(x)
            seen = x
        return run(forest, x)

    return score


def score(m, x) -> int:
    """Sum of the leaves of the one-output forest at `m`; in a vote forest the number of votes for the last class."""
    n = m[0]
    s = 0 if m[2] & 255 else -(n << (7 if m[2] >> 8 else 15))
    t = 4
    while n:
        i = t + 2
        t += m[t] >> 1
        w = m[i]
        while w > 255:
            i += 2
            if x[w & 255] + 32768 < m[i - 1]:
                i += w >> 8
                if m[2] < 256:
                    i += w >> 8
            w = m[i]
        if m[2] < 256:
            w = m[i + 1]
        s += w == m[1] - 1 if m[2] & 255 else w
        n -= 1
    return s


def _step(m, x, i: int, layout: int) -> int:
    """Index of the node behind the inner node at `i`."""
    if x[m[i] & 255] + 32768 < m[i + 1]:
        return i + 2 + (m[i] >> 8 << 1 - layout)
    return i + 2


def _leaf(m, x, t: int, h: int) -> int:
    """Leaf of the tree at index `t`: its value, or class in a vote forest."""
    t += 2
    layout = m[h + 2] >> 8
    while m[t] > 255:
        t = _step(m, x, t, layout)
    if m[h + 2] & 255:
        return m[t + 1 - layout]
    return m[t] - 128 if layout else m[t + 1] - 32768


def leaves(m, x, t: int, out) -> None:
    """Write the leaf of every tree to `out`: its value in a sum forest, its class in a vote forest."""
    h = t
    t += 4
    k = 0
    while k < m[h]:
        out[k] = _leaf(m, x, t, h)
        t += m[t] >> 1
        k += 1


def outputs(m, leaf, t: int, out) -> None:
    """Gather what `leaves` wrote: per output the sum of its trees, or the number of votes for that class."""
    h = t
    k = m[h + 1]
    while k:
        k -= 1
        out[k] = 0
    t += 4
    while k < m[h]:
        if m[h + 2] & 255:
            out[leaf[k]] += 1
        else:
            out[m[t + 1]] += leaf[k]
        t += m[t] >> 1
        k += 1


def blame(m, x, t: int, w) -> None:
    """Share each tree's distance from its base among the features that parted from the typical row; see explain.

    `w` holds, F features and N trees: F results, F typical inputs + 32768, F marks, N base leaves, N leaves of this x,
    2 words for this function.
    """
    h = m[t + 3]
    _clear(w, 0, h)
    _clear(w, 2 * h, 3 * h)
    # Kept in `w`: as locals or arguments they would make the frames too large.
    w[len(w) - 1] = t
    h = t
    t += 4
    while w[len(w) - 2] < m[h]:
        _blame_tree(m, x, t, w)
        w[len(w) - 2] += 1
        t += m[t] >> 1
    w[len(w) - 2] = 0


def _clear(w, start: int, end: int) -> None:
    while start < end:
        w[start] = 0
        start += 1


def _blame_tree(m, x, t: int, w) -> None:
    """Do `blame` for the tree at index `t`, whose number stands in `w`."""
    if not _moved(m, t, w):
        return
    t += 2
    layout = m[w[len(w) - 1] + 2] >> 8
    while m[t] > 255:
        _blame_node(m, x, t, w)
        t = _step(m, x, t, layout)


def _moved(m, t: int, w) -> int:
    """Distance of the leaf of the tree at `t` from its base, put in the place of the leaf."""
    h = w[len(w) - 1]
    base = 3 * m[h + 3] + w[len(w) - 2]
    leaf = base + m[h]
    if m[h + 2] & 255:
        w[leaf] = (w[leaf] == m[h + 1] - 1) - (w[base] == m[h + 1] - 1)
    elif m[t + 1] == m[h + 1] - 1:
        w[leaf] -= w[base]
    else:
        w[leaf] = 0
    return w[leaf]


def _blame_node(m, x, i: int, w) -> None:
    """Let the tree's distance count for the feature of the node at `i`, if x parts from the typical row there."""
    h = w[len(w) - 1]
    f = m[i] & 255
    i = m[i + 1]
    if (x[f] + 32768 < i) != (w[m[h + 3] + f] < i):
        _count(m, w, h, f)


def _count(m, w, h: int, f: int) -> None:
    """Add the tree's distance to feature `f`, once per tree."""
    k = w[len(w) - 2]
    i = 2 * m[h + 3] + f
    if w[i] <= k:
        w[i] = k + 1
        i = 3 * m[h + 3] + m[h] + k
        w[f] += w[i]


def first(m, x, t: int) -> int:
    """Index of the first tree with a leaf that is not 0, times 4, plus that leaf (1..3); -1 without one. Wide only."""
    n = m[t]
    k = 0
    t += 4
    while k < n:
        i = t + 2
        t += m[t] >> 1
        w = m[i]
        while w:
            i += 2
            if x[w & 255] + 32768 < m[i - 1]:
                i += w >> 8 << 1
            w = m[i]
        if m[i + 1]:
            return (k << 2) + m[i + 1]
        k += 1
    return -1


def check(m, t: int, end: int, stack) -> int:
    """One pass over the trees of a forest, up to the index `end`; see model_file.py.

    0 when every walk stays inside its tree and ends; else tree * 8 + 1 (tree does not fit), 2 (bad node), 3 (bad
    leaf), 4 (nodes left over or missing), or 5 (words behind the last tree). `stack` holds 128 words.
    """
    n = m[t]
    outs = m[t + 1]
    vote = m[t + 2] & 255
    layout = m[t + 2] >> 8
    features = m[t + 3]
    t += 4
    for k in range(n):
        if t + 3 > end:
            return k * 8 + 1
        size = m[t]
        if size < 6 or size & 1 or t + (size >> 1) > end or m[t + 1] >= outs:
            return k * 8 + 1
        i = t + 2
        t += size >> 1
        top = 0
        while True:
            if i + 2 - layout > t:
                return k * 8 + 4
            w = m[i]
            if w > 255:
                size = i + 2 + (w >> 8 << 1 - layout)
                if w & 255 >= features or size >= t:
                    return k * 8 + 2
                if top == 128:
                    return k * 8 + 2
                stack[top] = size & 0xFFFF
                top += 1
                i += 2
                continue
            if w and not layout:
                return k * 8 + 3
            if vote and m[i + 1 - layout] >= outs:
                return k * 8 + 3
            i += 2 - layout
            if not top:
                break
            top -= 1
            if stack[top] != i & 0xFFFF:
                return k * 8 + 4
        if i != t:
            return k * 8 + 4
    return 0 if t == end else n * 8 + 5


def path(m, x, t: int, tree: int, out) -> int:
    """Write the features asked on the way to the leaf of `tree`; see Model.path."""
    h = t
    t += 4
    while tree:
        t += m[t] >> 1
        tree -= 1
    t += 2
    n = 0
    while m[t] > 255:
        f = m[t] & 255
        out[n] = ~f if x[f] + 32768 < m[t + 1] else f
        n += 1
        t = _step(m, x, t, m[h + 2] >> 8)
    return n


def taker(w, n: int):
    """Model.next_reason; the arguments are those of tree_viper.taker."""

    def next_reason() -> int:
        best = -1
        most = 0
        for i in range(n):
            if w[i] > most:
                most = w[i]
                best = i
        if best >= 0:
            w[best] = 0
        return best

    return next_reason
