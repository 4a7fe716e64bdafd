"""Decision trees as numbers: from real to integer leaves and thresholds, simpler, and of a size that fits a layout.

Trees are nested tuples `(feature, threshold, left, right)`, `x[feature] < threshold` goes left; a leaf is a number.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from sentill_host.models import model_file
from sentill_host.models.model_file import MAX_SKIP, ModelFileError, Tree, count_leaves, evaluate

LOW, HIGH = -32_768, 32_767
FloatTree: TypeAlias = "float | tuple[int, float, FloatTree, FloatTree]"


@dataclass(frozen=True)
class Forest:
    """Integer trees. `sum`: a leaf is added to the output its tree belongs to (`owners`, all 0 unless given).
    `vote`: a leaf is the class its tree votes for. The last output, or class, is the score."""

    trees: Sequence[Tree]
    vote: bool = False
    outputs: int = 1
    owners: Sequence[int] | None = None

    def owner_list(self) -> list[int]:
        """The output of each tree; 0 in a vote forest, where it means nothing."""
        return list(self.owners) if self.owners is not None and not self.vote else [0] * len(self.trees)

    def evaluate(self, row: Sequence[int]) -> list[int]:
        """Every output for one row: the definition the device's kernels are compared with."""
        result = [0] * self.outputs
        for tree, owner in zip(self.trees, self.owner_list(), strict=True):
            leaf = evaluate(tree, row)
            result[leaf if self.vote else owner] += 1 if self.vote else leaf
        return result


def less_equal(threshold: float) -> int:
    """The integer `t` for which `x < t` is `x <= threshold`, for every integer x."""
    return math.floor(threshold) + 1


def less_than(threshold: float) -> int:
    """The integer `t` for which `x < t` is `x < threshold`, for every integer x."""
    return math.ceil(threshold)


def simplify(tree: Tree) -> Tree:
    """The same function without comparisons whose outcome is known, for inputs of int16."""
    return _simplify(tree, {})


def _simplify(tree: Tree, known: dict[int, tuple[int, int]]) -> Tree:
    if isinstance(tree, int):
        return tree
    feature, threshold, left, right = tree
    low, high = known.get(feature, (LOW, HIGH))
    if threshold > high:
        return _simplify(left, known)
    if threshold <= low:
        return _simplify(right, known)
    left = _simplify(left, {**known, feature: (low, threshold - 1)})
    right = _simplify(right, {**known, feature: (threshold, high)})
    if left == right:
        return left
    # Two cuts of one feature in a row with the same outcome between them: the further one is enough.
    if isinstance(right, tuple) and right[0] == feature and right[2] == left:
        return right
    if isinstance(left, tuple) and left[0] == feature and left[3] == right:
        return left
    return feature, threshold, left, right


def quantize_leaves(trees: Sequence[FloatTree], bits: int = 16, base: float = 0.0) -> tuple[list[Tree], float, float]:
    """Integer trees from trees with real leaves and integer thresholds: leaf = round(real * scale).

    `bits` 8 or 16; `base` is a constant of the model. Leaves are centred tree by tree, and the constants that takes are
    spread over all: one tree with large leaves does not cost the others their bits. Returns the trees, the scale, and
    the largest possible error of the sum, in units of the real score. With 8 bits the short layout becomes possible.
    """
    values = [leaf_values(tree) for tree in trees]
    middles = [middle(tree) for tree in trees]
    rest = (base + sum(middles)) / len(trees)
    shifts = [rest - middle for middle in middles]
    top = max(abs(leaf + shift) for leaves, shift in zip(values, shifts, strict=True) for leaf in leaves) or 1.0
    scale = (2 ** (bits - 1) - 1) / top

    def convert(tree: FloatTree, shift: float) -> Tree:
        if isinstance(tree, tuple):
            return int(tree[0]), int(tree[1]), convert(tree[2], shift), convert(tree[3], shift)
        return round((tree + shift) * scale)

    error = sum(
        max(abs(round((leaf + shift) * scale) / scale - leaf - shift) for leaf in leaves)
        for leaves, shift in zip(values, shifts, strict=True)
    )
    return [convert(tree, shift) for tree, shift in zip(trees, shifts, strict=True)], scale, error


def middle(tree: Any) -> float:
    """Halfway between the smallest and the largest leaf."""
    leaves = leaf_values(tree)
    return (min(leaves) + max(leaves)) / 2


def leaf_values(tree: Any) -> list[Any]:
    """All leaves of a tree, from the left."""
    return leaf_values(tree[2]) + leaf_values(tree[3]) if isinstance(tree, tuple) else [tree]


def check(tree: Tree, inputs: int, low: int, high: int) -> None:
    """ModelFileError if a leaf is outside low..high, an input is not there, or a threshold is no integer."""
    if not isinstance(tree, tuple):
        if not low <= tree <= high:
            raise ModelFileError(f"leaf {tree} is outside {low}..{high}")
        return
    feature, threshold, left, right = tree
    if not 0 <= feature < inputs:
        raise ModelFileError(f"feature {feature} of {inputs}")
    if int(threshold) != threshold:
        raise ModelFileError(f"threshold {threshold} is no integer: see less_equal and less_than")
    check(left, inputs, low, high)
    check(right, inputs, low, high)


def _too_large(tree: Tree, layout: int) -> tuple[str, ...] | None:
    """Way ("L", "R") to a branch that no skip can jump over, the deepest on its path; None if there is none."""
    if isinstance(tree, int):
        return None
    for step, branch in (("R", tree[3]), ("L", tree[2])):
        way = _too_large(branch, layout)
        if way is not None:
            return (step, *way)
    return ("R",) if model_file.units(tree[3], layout) > MAX_SKIP else None


def _at(tree: Tree, way: Sequence[str]) -> Tree:
    for step in way:
        if isinstance(tree, int):
            return tree
        tree = tree[2] if step == "L" else tree[3]
    return tree


def _cut(tree: Tree, way: Sequence[str]) -> tuple[Tree, Tree]:
    """A sum tree as two: the one without the branch at `way` (a leaf 0 instead), and the one with nothing else."""
    if not way or isinstance(tree, int):
        return 0, tree
    feature, threshold, left, right = tree
    if way[0] == "L":
        rest, branch = _cut(left, way[1:])
        return (feature, threshold, rest, right), (feature, threshold, branch, 0)
    rest, branch = _cut(right, way[1:])
    return (feature, threshold, left, rest), (feature, threshold, 0, branch)


def fit(tree: Tree, layout: int) -> list[Tree]:
    """Trees of the same sum in which every branch fits the one-byte skip of the wide or short layout.

    A branch that is too large is moved to a tree of its own, which asks the way to it again and is 0 elsewhere.
    """
    pieces = []
    while (way := _too_large(tree, layout)) is not None:
        # The way to a branch comes again in its new tree, so the largest branch that fits is found by trying.
        while True:
            rest, piece = _cut(tree, way)
            piece = simplify(piece)
            if _too_large(piece, layout) is None:
                break
            node = _at(tree, way)
            if isinstance(node, int):
                raise ModelFileError("a tree is too deep for the layout: limit its depth or its leaves")
            way = (*way, "L" if count_leaves(node[2]) >= count_leaves(node[3]) else "R")
        tree = simplify(rest)
        pieces.append(piece)
    return [tree, *pieces]


def fitted(forest: Forest, layout: int) -> Forest:
    """The forest in which every tree fits `layout`; a vote forest that does not becomes sums of 0 and 1 per class."""
    if all(_too_large(tree, layout) is None for tree in forest.trees):
        return forest
    trees, owners = list(forest.trees), forest.owner_list()
    if forest.vote:
        trees = [_indicator(tree, c) for tree in forest.trees for c in range(forest.outputs)]
        owners = [c for _ in forest.trees for c in range(forest.outputs)]
    parts = [fit(simplify(tree), layout) for tree in trees]
    owners = [owner for owner, part in zip(owners, parts, strict=True) for _ in part]
    return replace(forest, trees=[tree for part in parts for tree in part], owners=owners, vote=False)


def _indicator(tree: Tree, value: int) -> Tree:
    if isinstance(tree, int):
        return int(tree == value)
    return tree[0], tree[1], _indicator(tree[2], value), _indicator(tree[3], value)
