"""Models of scikit-learn, LightGBM and treelite as trees of real leaves and integer thresholds.

Features are integers, so every threshold becomes the integer that splits them the same way: nothing is lost here.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sentill.risk.features import N
from sentill_host.errors import UsageError
from sentill_host.models.trees import HIGH, LOW, FloatTree, less_equal, less_than

# Counted per leaf besides the rows it has: keeps the log-odds of a pure leaf finite, and of a small one modest.
PRIOR_ROWS = 2.0
SAVED_FORMATS = "XGBoost .json, .ubj or .model; LightGBM .txt; treelite .treelite; scikit-learn .joblib or .pkl"


@dataclass(frozen=True)
class FloatForest:
    """Trees of a sum, its constant, and whether larger means riskier is on the scale of log-odds."""

    trees: Sequence[FloatTree]
    base: float = 0.0

    def predict(self, rows: np.ndarray) -> np.ndarray:
        """Sums for `rows`, integers of shape (n, features); float64 (n,)."""
        return evaluate_all(self.trees, rows) + self.base


def evaluate_all(trees: Sequence[Any], rows: np.ndarray) -> np.ndarray:
    """Sum of the leaves where each of `rows` (n, features) ends; float64 (n,), exact for integer leaves."""
    total = np.zeros(len(rows))

    def walk(tree: Any, index: np.ndarray) -> None:
        if not isinstance(tree, tuple):
            total[index] += tree
            return
        below = rows[index, tree[0]] < tree[1]
        walk(tree[2], index[below])
        walk(tree[3], index[~below])

    everything = np.arange(len(rows))
    for tree in trees:
        walk(tree, everything)
    return total


def log_odds(frauds: float, rows: float, rate: float) -> float:
    """Log-odds of a leaf with `frauds` among `rows`, drawn to the rate of all by PRIOR_ROWS."""
    p = (frauds + PRIOR_ROWS * rate) / (rows + PRIOR_ROWS)
    return float(np.log(p / (1 - p)))


def clip(threshold: int) -> int:
    """A threshold within int16, for features within int16."""
    return max(LOW, min(HIGH, threshold))


def from_sklearn_tree(tree: Any, rate: float, fraud: int = 1) -> FloatTree:
    """A fitted DecisionTreeClassifier; leaves are log-odds of class index `fraud`, smoothed to `rate`."""
    return _sklearn(tree, lambda share, rows: log_odds(share * rows, rows, rate), fraud)


def fraud_shares(tree: Any, factor: float = 1.0, fraud: int = 1) -> FloatTree:
    """A fitted DecisionTreeClassifier; leaves are the share of class index `fraud`, times `factor`."""
    return _sklearn(tree, lambda share, rows: share * factor, fraud)


def _sklearn(tree: Any, leaf: Callable[[float, float], float], fraud: int) -> FloatTree:
    t = tree.tree_

    def node(i: int) -> FloatTree:
        left, right = int(t.children_left[i]), int(t.children_right[i])
        if left < 0:
            values = t.value[i][0]
            return leaf(float(values[fraud] / values.sum()), float(t.weighted_n_node_samples[i]))
        return int(t.feature[i]), clip(less_equal(float(t.threshold[i]))), node(left), node(right)

    return node(0)


def from_lightgbm(booster: Any) -> FloatForest:
    """A LightGBM booster of one output."""
    dump = booster.dump_model()
    if dump.get("num_tree_per_iteration", 1) != 1:
        raise UsageError("only models of one output can be used")

    def node(n: dict[str, Any]) -> FloatTree:
        if "leaf_value" in n:
            return float(n["leaf_value"])
        if n["decision_type"] != "<=":
            raise UsageError(f"a split by {n['decision_type']!r} cannot be used; only numerical ones")
        threshold = clip(less_equal(float(n["threshold"])))
        return int(n["split_feature"]), threshold, node(n["left_child"]), node(n["right_child"])

    return FloatForest([node(t["tree_structure"]) for t in dump["tree_info"]])


def from_treelite(model: Any) -> FloatForest:
    """A treelite model with one output, or with two classes whose second is the fraud.

    Averages over trees are turned into sums; the outer function (sigmoid, identity) is left out, it keeps the order.
    Raises UsageError for categorical splits and other kinds of outputs.
    """
    dump = json.loads(model.dump_as_json())
    trees = dump["trees"]
    classes = max(dump["num_class"])
    shares = classes == 2 and max(dump["leaf_vector_shape"]) == 2
    if classes > 2 or dump["num_target"] != 1 or (classes == 2 and not shares):
        raise UsageError(f"a model with {classes} classes and {dump['num_target']} targets cannot be used")
    if dump["num_feature"] > N:
        raise UsageError(f"the model expects {dump['num_feature']} features, a node has {N}")
    divisor = len(trees) if dump["average_tree_output"] else 1

    def leaf(n: dict[str, Any]) -> float:
        value = n["leaf_value"]
        return float(value[1] if isinstance(value, list) else value) / divisor

    def tree(nodes: dict[int, dict[str, Any]], i: int) -> FloatTree:
        n = nodes[i]
        if "leaf_value" in n:
            return leaf(n)
        if n["node_type"] != "numerical_test_node":
            raise UsageError("categorical splits cannot be used")
        feature, threshold, op = int(n["split_feature_id"]), float(n["threshold"]), n["comparison_op"]
        left, right = tree(nodes, n["left_child"]), tree(nodes, n["right_child"])
        if op in (">", ">="):
            left, right = right, left
        if op not in ("<", "<=", ">", ">="):
            raise UsageError(f"a split by {op!r} cannot be used")
        # x < v and x >= v part the integers at ceil(v); x <= v and x > v at floor(v) + 1.
        cut = less_than(threshold) if op in ("<", ">=") else less_equal(threshold)
        return feature, clip(cut), left, right

    # Node 0 is the root of a tree.
    base = dump["base_scores"][-1] if dump.get("base_scores") else 0.0
    return FloatForest([tree({n["node_id"]: n for n in t["nodes"]}, 0) for t in trees], float(base))


def load_foreign(path: Path) -> FloatForest:
    """A model trained elsewhere, read through treelite: see SAVED_FORMATS. Raises UsageError.

    A scikit-learn file is a pickle: loading it runs code it contains, so load only what you trust.
    """
    try:
        import treelite
    except ImportError:
        raise UsageError("importing a model needs treelite", "pip install 'sentill[train]'") from None
    if not path.is_file():
        raise UsageError(f"{path}: no such file")
    suffix = path.suffix.lower()
    try:
        if suffix in (".json", ".ubj", ".model"):
            fmt = {".json": "json", ".ubj": "ubjson", ".model": "legacy"}[suffix]
            if fmt == "legacy":
                return from_treelite(treelite.frontend.load_xgboost_model_legacy_binary(str(path)))
            return from_treelite(treelite.frontend.load_xgboost_model(str(path), format_choice=fmt))
        if suffix == ".txt":
            return from_treelite(treelite.frontend.load_lightgbm_model(str(path)))
        if suffix == ".treelite":
            return from_treelite(treelite.Model.deserialize(str(path)))
        if suffix in (".joblib", ".pkl"):
            import joblib

            return from_treelite(treelite.sklearn.import_model(joblib.load(path)))
    except (treelite.TreeliteError, ValueError, TypeError) as error:
        raise UsageError(f"{path}: {str(error).strip().splitlines()[-1]}") from None
    raise UsageError(f"{path}: unknown kind of model", SAVED_FORMATS)
