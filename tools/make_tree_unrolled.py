"""Write device/sentill/tree_unrolled.py: the viper kernels of the perfect layout, one per depth.

    python tools/make_tree_unrolled.py

A left step adds the size of the right subtree to the pointer, a right step nothing; since the fields of the path so
far have constant offsets from that pointer, a level needs no more than one comparison, one mask and one sum.
"""

from pathlib import Path

OUTPUT = Path(__file__).resolve().parent.parent / "device" / "sentill" / "tree_unrolled.py"
DEPTHS = range(1, 9)

_HEAD = '''\
"""Kernels of the perfect layout, unrolled: one statement per level, one function per depth (1..8).

Written by tools/make_tree_unrolled.py. Kept apart so that a board without a model in this layout never loads them. The
conditions of tree_viper.py hold; the twin of all of them is tree_plain.score_perfect.
"""

import micropython
'''


def subtree_bytes(depth: int) -> int:
    """Bytes of a subtree: feature and threshold (4 bytes) and two subtrees, or at depth 0 the leaf (2 bytes)."""
    return (6 << depth) - 4


def kernel(depth: int) -> str:
    """Source of the kernel for trees of this depth."""
    lines = [
        "@micropython.viper",
        f"def score_{depth}(nd: ptr16, x: ptr16, t: int) -> int:",
        f'    """Sum of the leaves of a one-output sum forest of trees of depth {depth}."""',
        "    t = int(nd) + (t << 1)",
        "    nd = ptr16(t)",
        "    n = nd[0]",
        "    s = n * -32768",
        "    t += 8",
        "    while n:",
        "        nd = ptr16(t + 2)",
        f"        t += {subtree_bytes(depth) + 2}",
    ]
    for level in range(depth):
        at = 2 * level
        size = subtree_bytes(depth - level - 1)
        lines.append(
            f"        nd = ptr16((((ptr16(nd[{at}] + int(x))[0] ^ 0x8000) - nd[{at + 1}] >> 16) & {size}) + int(nd))"
        )
    lines += [f"        s += nd[{2 * depth}]", "        n -= 1", "    return s"]
    return "\n".join(lines) + "\n"


def source() -> str:
    """The whole file."""
    return _HEAD + "".join("\n\n" + kernel(depth) for depth in DEPTHS)


if __name__ == "__main__":
    OUTPUT.write_text(source())
