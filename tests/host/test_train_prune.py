"""Pruning keeps the leaves that rank best, and measures as scikit-learn does."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score
from sklearn.tree import DecisionTreeRegressor

from sentill_host.models.training.convert import evaluate_all
from sentill_host.models.training.prune import average_precision, prune, pruned
from sentill_host.models.trees import leaf_values

groups = st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9)).map(lambda g: (g[0], min(g))), min_size=2, max_size=8)


@given(groups)
def test_average_precision_of_groups_is_that_of_their_rows(sizes: list[tuple[int, int]]) -> None:
    rows, frauds = np.array(sizes, float).T
    if not frauds.sum():
        return
    labels = np.concatenate([[1] * f + [0] * (n - f) for n, f in sizes])
    score = np.concatenate([[f / n] * n for n, f in sizes])
    wanted = average_precision_score(labels, score)
    # Groups of one share are one step for the rows and several here, in any order the same in the end only if merged.
    merged = {}
    for n, f in sizes:
        merged[f / n] = np.add(merged.get(f / n, 0), (n, f))
    rows, frauds = np.array(list(merged.values()), float).T
    assert np.isclose(average_precision(rows, frauds), wanted)
    padded = average_precision(np.append(rows, 0), np.append(frauds, 0))
    assert np.isclose(padded, wanted), "an empty group does not count"


def test_the_split_that_ranks_least_goes_first() -> None:
    # Root 0 parts leaf 1 from 2; 2 parts 3 (5 of 10 are frauds) from 4; 4 parts 5 (1 of 100) from 6 (2 of 100).
    left = np.array([1, -1, 3, -1, 5, -1, -1])
    right = np.array([2, -1, 4, -1, 6, -1, -1])
    rows = np.array([310.0, 100, 210, 10, 200, 100, 100])
    frauds = np.array([8.0, 0, 8, 5, 3, 1, 2])
    assert prune(left, right, rows, frauds, 4).tolist() == left.tolist()
    assert prune(left, right, rows, frauds, 3).tolist() == [1, -1, 3, -1, -1, -1, -1]
    assert prune(left, right, rows, frauds, 1)[0] == -1
    assert left[4] == 5, "the caller's array is left alone"


def test_a_pruned_tree_has_the_leaves_asked_for_and_gives_mean_shares() -> None:
    rng = np.random.default_rng(4)
    x = rng.integers(-300, 300, (3_000, 3)).astype(np.int16)
    shares = 1 / (1 + np.exp(-(x[:, 0] + x[:, 1] - 250) / 60))
    weights = rng.choice([1.0, 5.0], len(x))
    grown = DecisionTreeRegressor(max_leaf_nodes=60, random_state=0).fit(x, shares, sample_weight=weights)
    ranking = []
    for leaves in (60, 20, 8, 2):
        tree = pruned(grown, x, shares, weights, leaves)
        values = evaluate_all([tree], x)
        assert len(leaf_values(tree)) == leaves
        for value in np.unique(values):
            inside = values == value
            assert np.isclose(value**2, np.average(shares[inside], weights=weights[inside]))
        order = np.argsort(-values)
        ranking.append(np.average(shares[order[:300]]))
    assert ranking == sorted(ranking, reverse=True), ranking
    assert ranking[2] > 0.9 * ranking[0], "eight leaves rank nearly as well as sixty"
