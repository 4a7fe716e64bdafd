"""Recipes for models, and the fitting of one to features and labels."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from sentill.risk.features import NAMES, N
from sentill_host.errors import UsageError
from sentill_host.models.training.convert import FloatForest, fraud_shares, from_lightgbm, from_sklearn_tree
from sentill_host.models.training.prune import pruned
from sentill_host.models.trees import middle

_SCOUT_ROWS = 200_000
_LEAST_ORDINARY = 15_000

# What a terminal knows without a card profile: everything but the G_ features of the card.
LOCAL = tuple(i for i, name in enumerate(NAMES) if name not in ("G_rew", "G_ewmean", "G_hi7"))
EVERYTHING = tuple(range(N))


@dataclass(frozen=True)
class Recipe:
    """How to fit a model. `kind`: "tree" (one tree grown best-first, its leaves smoothed log-odds), "pupil" (one tree
    that learns what a forest of `teachers` trees would say, pruned by average precision), "forest" (a random forest,
    its leaves shares of fraud, averaged) or "boost" (LightGBM, log-odds).

    `leaves` and `depth` bound each tree, `min_rows` the rows in a leaf, `share` is the part of the features tried per
    split (forest) or tree (boost). `keep` is the share of ordinary rows used (see thin).
    `features` are the columns used, `bits` the width of a leaf. Same seed, same model.
    """

    kind: str = "tree"
    trees: int = 1
    leaves: int = 36
    depth: int = 8
    min_rows: int = 50
    share: float = 1.0
    keep: float = 1.0
    teachers: int = 40
    learning_rate: float = 0.1
    features: Sequence[int] = EVERYTHING
    bits: int = 16
    seed: int = 0

    def __post_init__(self) -> None:
        if self.kind not in ("tree", "pupil", "forest", "boost"):
            raise UsageError(f"no model kind {self.kind!r}", "tree, pupil, forest or boost")
        if self.trees < 1 or self.leaves < 2 or not 1 <= self.depth <= 64 or self.bits not in (8, 16):
            raise UsageError("needs trees >= 1, leaves >= 2, depth 1..64, leaves of 8 or 16 bits")

    def as_dict(self) -> dict[str, Any]:
        """Plain data, with names for the features."""
        return {**asdict(self), "features": [NAMES[i] for i in self.features]}


# What `sentill train` starts from. In 8-bit leaves a tree of 48 leaves takes 296 bytes, a forest at most 4 KB. Chosen
# on weeks of the Handbook's data before those of its published tables: `tools/bench/fraud.py --choose`.
RECIPES = {
    "tree": Recipe("tree", leaves=48, depth=12, min_rows=20, keep=0.05, bits=8),
    "pupil": Recipe("pupil", leaves=48, depth=16, min_rows=10, keep=0.05, bits=8),
    "forest": Recipe("forest", trees=28, leaves=24, depth=14, min_rows=5, share=0.5, keep=0.05, bits=8),
    "week": Recipe("forest", trees=40, leaves=16, depth=14, min_rows=5, share=0.5, keep=0.3, bits=8),
    "boost": Recipe("boost", trees=28, leaves=24, depth=12, min_rows=100, bits=8),
}


def fit(rows: np.ndarray, labels: np.ndarray, recipe: Recipe, threads: int = 1) -> FloatForest:
    """Fit `recipe` to `rows` int16 (n, 12) and `labels` (n,), 0 or 1. Raises UsageError without frauds."""
    labels = labels.astype(np.int32)
    frauds = int(labels.sum())
    if not 0 < frauds < len(labels):
        raise UsageError(f"{frauds} frauds among {len(labels)} training rows: nothing to learn from")
    columns = np.asarray(recipe.features)
    rows = rows[:, columns]
    weights = np.ones(len(labels))
    if recipe.keep < 1:
        kept, weights = thin(rows, labels, recipe.keep, recipe.seed)
        rows, labels = rows[kept], labels[kept]
    grow = {"tree": _tree, "pupil": _pupil, "forest": _forest, "boost": _boost}[recipe.kind]
    forest = grow(rows, labels, weights, recipe, threads)
    return FloatForest([renumber(tree, columns) for tree in forest.trees], forest.base)


def thin(rows: np.ndarray, labels: np.ndarray, keep: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the rows to train on, ascending, and the weights that stand for those left out.

    Nine rows in ten are ordinary: genuine, and where a small tree finds fewer frauds than everywhere. A share `keep` of
    them, and at least _LEAST_ORDINARY, says as much as all; frauds and what resembles them stay.
    """
    from sklearn.tree import DecisionTreeClassifier

    dice = np.random.default_rng(seed)
    sample = dice.random(len(labels)) < min(1.0, _SCOUT_ROWS / len(labels))
    sample |= labels == 1
    scout = DecisionTreeClassifier(criterion="entropy", max_leaf_nodes=16, min_samples_leaf=50, random_state=seed)
    # The sample holds all frauds, so shares are compared within it.
    scout.fit(rows[sample], labels[sample])
    ordinary = scout.predict_proba(rows)[:, 1] < labels[sample].mean()
    ordinary &= labels == 0
    keep = min(1.0, max(keep, _LEAST_ORDINARY / max(1, int(ordinary.sum()))))
    kept = np.flatnonzero(~ordinary | (dice.random(len(labels)) < keep))
    return kept, np.where(ordinary[kept], 1 / keep, 1.0)


def _limits(recipe: Recipe, columns: int) -> dict[str, Any]:
    return {
        "criterion": "entropy",
        "max_leaf_nodes": recipe.leaves,
        "max_depth": recipe.depth,
        "min_samples_leaf": recipe.min_rows,
        "max_features": None if recipe.share >= 1 else max(1, round(recipe.share * columns)),
        "random_state": recipe.seed,
    }


def _tree(rows: np.ndarray, labels: np.ndarray, weights: np.ndarray, recipe: Recipe, threads: int) -> FloatForest:
    from sklearn.tree import DecisionTreeClassifier

    model = DecisionTreeClassifier(**_limits(recipe, rows.shape[1])).fit(rows, labels, sample_weight=weights)
    return FloatForest([from_sklearn_tree(model, float(np.average(labels, weights=weights)))])


def _forest(rows: np.ndarray, labels: np.ndarray, weights: np.ndarray, recipe: Recipe, threads: int) -> FloatForest:
    from sklearn.ensemble import RandomForestClassifier

    model = RandomForestClassifier(recipe.trees, n_jobs=threads, **_limits(recipe, rows.shape[1]))
    model.fit(rows, labels, sample_weight=weights)
    # Centred, so that eight bits of a leaf spread over -127..127.
    return FloatForest([fraud_shares(tree, 1 / recipe.trees) for tree in model.estimators_], -0.5)


def _pupil(rows: np.ndarray, labels: np.ndarray, weights: np.ndarray, recipe: Recipe, threads: int) -> FloatForest:
    from sklearn.tree import DecisionTreeRegressor

    teacher = Recipe("forest", recipe.teachers, leaves=48, depth=14, min_rows=5, share=0.5, seed=recipe.seed)
    shares = np.clip(_forest(rows, labels, weights, teacher, threads).predict(rows) + 0.5, 1e-6, 1)
    # Grown too large on square roots, which weigh small shares between what shares and what log-odds would, then cut.
    limits = {**_limits(recipe, rows.shape[1]), "criterion": "squared_error", "max_leaf_nodes": 6 * recipe.leaves}
    model = DecisionTreeRegressor(**limits).fit(rows, np.sqrt(shares), sample_weight=weights)
    return FloatForest([pruned(model, rows, shares, weights, recipe.leaves)], -0.5)


def _boost(rows: np.ndarray, labels: np.ndarray, weights: np.ndarray, recipe: Recipe, threads: int) -> FloatForest:
    import lightgbm

    parameters = {
        "objective": "binary",
        "num_leaves": recipe.leaves,
        "max_depth": recipe.depth,
        "learning_rate": recipe.learning_rate,
        "min_data_in_leaf": recipe.min_rows,
        "feature_fraction": recipe.share,
        "boost_from_average": True,
        "seed": recipe.seed,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": threads,
        "verbosity": -1,
    }
    data = lightgbm.Dataset(rows.astype(np.float32), labels, weight=weights)
    return centred(from_lightgbm(lightgbm.train(parameters, data, num_boost_round=recipe.trees)))


def centred(forest: FloatForest) -> FloatForest:
    """The same order of rows without the constant of the model, which would cost small leaves their bits."""
    return FloatForest(forest.trees, -sum(middle(tree) for tree in forest.trees))


def renumber(tree: Any, columns: Any) -> Any:
    """The tree over all features from one over `columns`, a sequence of their indices."""
    if isinstance(tree, tuple):
        return int(columns[tree[0]]), tree[1], renumber(tree[2], columns), renumber(tree[3], columns)
    return tree
