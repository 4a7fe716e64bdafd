"""Kernels of the tree engine in plain bytecode: the twin of tree_viper.py, with the same names and meaning.

`m` is an array('H') holding a model file, `t` the index of a forest's header in it, `x` an array('h') of inputs. The
layouts are described in tree_file.py. The functions are cut so that a frame stays within eleven locals and stack slots:
MicroPython takes larger ones from the heap.
"""


def score_wide(m, x, t: int) -> int:
    """Sum of the leaves of a one-output sum forest in the wide layout."""
    n = m[t]
    s = n * -32768
    t += 4
    while n:
        i = t + 2
        t += m[t] >> 1
        w = m[i]
        while w:
            i += 2
            if x[w & 255] + 32768 < m[i - 1]:
                i += w >> 8 << 1
            w = m[i]
        s += m[i + 1]
        n -= 1
    return s


def score_short(m, x, t: int) -> int:
    """Sum of the leaves of a one-output sum forest in the short layout."""
    n = m[t]
    s = n * -128
    t += 4
    while n:
        i = t + 2
        t += m[t] >> 1
        w = m[i]
        while w > 255:
            i += 2
            if x[w & 255] + 32768 < m[i - 1]:
                i += w >> 8
            w = m[i]
        s += w
        n -= 1
    return s


def score_perfect(m, x, t: int) -> int:
    """Sum of the leaves of a one-output sum forest in the perfect layout."""
    n = m[t]
    s = n * -32768
    top = (3 << (m[t + 2] >> 8) - 16) - 2
    t += 4
    while n:
        i = t + 1
        size = top
        while size > 1:
            size = size - 2 >> 1
            i += 2
            if x[m[i - 2] >> 1] + 32768 < m[i - 1]:
                i += size
        s += m[i]
        t += top + 1
        n -= 1
    return s


def leaves(m, x, t: int, out) -> None:
    """Write the leaf of every tree to `out`: its value in a sum forest, its class in a vote forest."""
    layout = m[t + 2] >> 8
    bias = 0 if m[t + 2] & 255 else 128 if layout == 1 else 32768
    for k in range(m[t]):
        if not k:
            t += 4
        size = 0 if layout < 16 else (3 << layout - 16) - 2
        i = t + (1 if size else 2)
        t += size + 1 if size else m[t] >> 1
        while size > 1 if layout > 1 else m[i] > 255:
            i = _step(m, x, i, layout, size)
            size = size - 2 >> 1
        out[k] = m[i + 1 if layout == 0 else i] - bias


def _step(m, x, i: int, layout: int, size: int) -> int:
    """Index of the node behind the inner node at `i`; `size` is that of its subtree in the perfect layout."""
    w = m[i]
    if layout > 1:
        return i + 2 + (size - 2 >> 1 if x[w >> 1] + 32768 < m[i + 1] else 0)
    if x[w & 255] + 32768 < m[i + 1]:
        return i + 2 + (w >> 8 << 1 - layout)
    return i + 2


def outputs(m, leaf, t: int, out) -> None:
    """Gather what `leaves` wrote: per output the sum of its trees, or the number of votes for that class."""
    for k in range(m[t + 1]):
        out[k] = 0
    n = m[t]
    vote = m[t + 2] & 255
    size = m[t + 2] >> 8
    size = (3 << size - 16) - 1 if size > 1 else 0
    t += 4
    for k in range(n):
        if vote:
            out[leaf[k]] += 1
        else:
            out[m[t if size else t + 1]] += leaf[k]
        t += size or m[t] >> 1


def blame(m, x, t: int, w) -> None:
    """Share each tree's distance from its base among the features that parted from the typical row; see explain.

    `w` holds, F features and N trees: F results, F typical inputs + 32768, F marks, N base leaves, N leaves of this x.
    """
    n = m[t]
    features = m[t + 3]
    for k in range(features):
        w[k] = 0
        w[2 * features + k] = 0
    last = m[t + 1] - 1
    head = t + 2
    t += 4
    for k in range(n):
        t = _blame_tree(m, x, t, w, head, last, k)


def _blame_tree(m, x, t: int, w, head: int, last: int, k: int) -> int:
    """Do `blame` for tree `k` at index `t`, and return the index of the next tree."""
    features = m[head + 1]
    base = 3 * features + k
    layout = m[head] >> 8
    size = 0 if layout < 16 else (3 << layout - 16) - 2
    if m[head] & 255:
        v = (1 if w[base + m[head - 2]] == last else 0) - (1 if w[base] == last else 0)
    elif m[t if size else t + 1] == last:
        v = w[base + m[head - 2]] - w[base]
    else:
        v = 0
    end = t + (size + 1 if size else m[t] >> 1)
    if v:
        t += 1 if size else 2
        while size > 1 if layout > 1 else m[t] > 255:
            _blame_node(m, x, t, w, features, layout, v, k + 1)
            t = _step(m, x, t, layout, size)
            size = size - 2 >> 1
    return end


def _blame_node(m, x, i: int, w, features: int, layout: int, v: int, k: int) -> None:
    """Add `v` to the feature of the node at `i` if x goes another way there than the typical row, once per tree `k`."""
    f = m[i] >> 1 if layout > 1 else m[i] & 255
    if w[2 * features + f] != k and (x[f] + 32768 < m[i + 1]) != (w[features + f] < m[i + 1]):
        w[2 * features + f] = k
        w[f] += v


def first(m, x, t: int) -> int:
    """Index of the first tree with a leaf that is not 0, times 4, plus that leaf (1..3); -1 without one. Wide only."""
    n = m[t]
    t += 4
    for k in range(n):
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
    return -1


def check(m, t: int, end: int, stack) -> int:
    """One pass over the trees of a forest in the wide or short layout, up to the index `end`; see tree_file.py.

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


def check_perfect(m, t: int, end: int) -> int:
    """The same for the perfect layout."""
    n = m[t]
    outs = m[t + 1]
    vote = m[t + 2] & 255
    depth = (m[t + 2] >> 8) - 16
    features = m[t + 3]
    t += 4
    size = (3 << depth) - 1
    for tree in range(n):
        if t + size > end or m[t] >= outs:
            return tree * 8 + 1
        i = t + 1
        t += size
        d = depth
        k = 0
        while i < t:
            if d:
                if m[i] & 1 or m[i] >> 1 >= features:
                    return tree * 8 + 2
                d -= 1
                i += 2
            else:
                if vote and m[i] >= outs:
                    return tree * 8 + 3
                i += 1
                # After leaf k (from 1) the walk climbs as many levels as k has trailing zero bits.
                k += 1
                while not k >> d & 1:
                    d += 1
    return 0 if t == end else n * 8 + 5


def path(m, x, t: int, tree: int, out) -> int:
    """Write the features asked on the way to the leaf of `tree`; see Model.path."""
    layout = m[t + 2] >> 8
    t += 4
    size = 0 if layout < 16 else (3 << layout - 16) - 2
    while tree:
        t += size + 1 if size else m[t] >> 1
        tree -= 1
    t += 1 if size else 2
    n = 0
    while size > 1 if layout > 1 else m[t] > 255:
        f = m[t] >> 1 if layout > 1 else m[t] & 255
        out[n] = ~f if x[f] + 32768 < m[t + 1] else f
        n += 1
        t = _step(m, x, t, layout, size)
        size = size - 2 >> 1
    return n


def take(w, n: int) -> int:
    """Index of the first of the largest positive values among the first `n` of `w`, which becomes 0; -1 without one."""
    best = -1
    most = 0
    for i in range(n):
        if w[i] > most:
            most = w[i]
            best = i
    if best >= 0:
        w[best] = 0
    return best
