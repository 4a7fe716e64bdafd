"""Pruning of a tree by what it is measured by: the average precision of its leaves as a ranking."""

from typing import Any

import numpy as np

from sentill_host.models.training.convert import clip
from sentill_host.models.trees import FloatTree, less_equal


def average_precision(rows: np.ndarray, frauds: np.ndarray) -> np.ndarray:
    """Average precision when whole groups are inspected in the order of their share of frauds.

    `rows` and `frauds`, both (..., groups), are sizes and expected frauds; groups of size 0 do not count. As in
    scikit-learn, a group is one step: the recall it adds times the precision once all of it is inspected.
    """
    share = np.where(rows > 0, frauds / np.maximum(rows, 1e-12), -1.0)
    order = np.argsort(-share, axis=-1, kind="stable")
    frauds = np.take_along_axis(frauds, order, -1)
    seen = np.cumsum(np.take_along_axis(rows, order, -1), -1)
    caught = np.cumsum(frauds, -1)
    return (frauds * caught / np.maximum(seen, 1e-12)).sum(-1) / np.maximum(caught[..., -1], 1e-12)


def prune(left: np.ndarray, right: np.ndarray, rows: np.ndarray, frauds: np.ndarray, leaves: int) -> np.ndarray:
    """`left` with -1 for nodes that became leaves, when at most `leaves` of them are left.

    A tree as arrays by node: `left` and `right` child (-1 in a leaf), `rows` and expected `frauds` in it. Again and
    again the two sister leaves are merged whose parting adds least to the average precision.
    """
    left = left.copy()
    parent = {int(child): i for i in range(len(left)) if left[i] >= 0 for child in (left[i], right[i])}
    alive = [i for i in range(len(left)) if left[i] < 0]
    while len(alive) > leaves:
        place = {node: k for k, node in enumerate(alive)}
        pairs = sorted({parent[i] for i in alive if i in parent})
        pairs = [i for i in pairs if left[i] in place and right[i] in place]
        sizes = np.tile(rows[alive].astype(float), (len(pairs), 1))
        hits = np.tile(frauds[alive].astype(float), (len(pairs), 1))
        at = np.arange(len(pairs))
        first, second = ([place[int(side[i])] for i in pairs] for side in (left, right))
        sizes[at, first], hits[at, first] = rows[pairs], frauds[pairs]
        sizes[at, second] = hits[at, second] = 0
        best = pairs[int(np.argmax(average_precision(sizes, hits)))]
        alive = [i for i in alive if i not in (left[best], right[best])] + [best]
        left[best] = -1
    return left


def pruned(estimator: Any, x: np.ndarray, shares: np.ndarray, weights: np.ndarray, leaves: int) -> FloatTree:
    """A fitted scikit-learn tree, pruned on the rows `x` (n, features) to at most `leaves` leaves.

    `shares` (n,) are the probabilities of fraud to prune by and to fill the leaves with; the value of a leaf is the
    square root of its mean share, which leaves eight bits to tell small ones apart.
    """
    tree = estimator.tree_
    ends = estimator.apply(x)
    rows = np.bincount(ends, weights, tree.node_count)
    frauds = np.bincount(ends, weights * shares, tree.node_count)
    for i in range(tree.node_count - 1, -1, -1):  # children come behind their parents
        if tree.children_left[i] >= 0:
            for total in (rows, frauds):
                total[i] = total[tree.children_left[i]] + total[tree.children_right[i]]
    left = prune(tree.children_left, tree.children_right, rows, frauds, leaves)

    def node(i: int) -> FloatTree:
        if left[i] < 0:
            return float(np.sqrt(frauds[i] / rows[i]))
        cut = clip(less_equal(float(tree.threshold[i])))
        return int(tree.feature[i]), cut, node(int(left[i])), node(int(tree.children_right[i]))

    return node(0)
