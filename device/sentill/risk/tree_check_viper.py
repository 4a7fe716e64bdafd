"""The check of tree_plain.py in native code: of a forest before a kernel sees it. Borrowed at the start.

`nd`, `t` and the ways of writing are those of tree_viper.py.
"""

import micropython


@micropython.viper
def check(nd: ptr16, t: int, end: int, stack: ptr16) -> int:
    """One pass over the trees of a forest, up to the index `end`; see model_file.py.

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
