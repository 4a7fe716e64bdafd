"""From features and labels to a packed model: folds, thresholds, the final fit, quantisation, and measurements."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from sentill.risk.features import DELAY_S, NAMES
from sentill_host.models.quantize import Overlay, PackedModel, pack_model, quantize_leaves
from sentill_host.models.training import evaluate
from sentill_host.models.training.convert import FloatForest, evaluate_all
from sentill_host.models.training.evaluate import Budget, Cost, Metrics
from sentill_host.models.training.fit import Recipe, fit
from sentill_host.models.transactions import Transactions

REASONS = {
    "L_amt": "Amount",
    "F_runf": "Newest resolved payments of the terminal were frauds, one after another",
    "F_rung": "Length of the terminal's latest run of genuine payments",
    "F_hfirst": "Time since the terminal's latest run of frauds began",
    "F_hlast": "Time since the terminal's last resolved fraud",
    "F_hgen": "Time since the terminal's last resolved genuine payment",
    "F_n30": "Resolved payments of the terminal in 30 days",
    "F_f30": "Resolved frauds of the terminal in 30 days",
    "G_unx30": "Frauds at the terminal in 30 days that their amounts do not explain",
    "G_rew": "Amount compared with what the card usually spends",
    "G_ewmean": "What the card usually spends",
    "G_hi7": "Unusually high payments of the card in the last 7 days",
}
Said = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """What to do besides the recipe: periods to evaluate on, how much to train on, how to choose thresholds.

    `span_days` limits every training set to the newest so many days before the delay. `max_bytes` bounds the forest.
    An `imported` forest is taken instead of fitting one; whether it has seen the test periods only its maker knows.
    `overlay` are hard rules to come before the model; metrics and thresholds do not know them. `about` is for people.
    """

    folds: int = 4
    fold_days: int = 7
    span_days: int | None = None
    delay_s: int = DELAY_S
    policy: Budget | Cost = field(default_factory=Budget)
    max_bytes: int | None = None
    layout: str = "auto"
    name: str = "profile"
    threads: int = 1
    imported: FloatForest | None = None
    overlay: Overlay | None = None
    about: str = ""


@dataclass(frozen=True)
class Trained:
    """A model file, its card as plain data, and the scores of the last fold for plots."""

    model: PackedModel
    card: dict[str, Any]
    labels: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True)
class Quantized:
    """Integer trees, units of the score per unit of the real score, and the largest possible error in the latter."""

    trees: list[Any]
    scale: float
    error: float

    def scores(self, rows: np.ndarray) -> np.ndarray:
        """Integer scores as the board computes them, int64 (n,)."""
        return evaluate_all(self.trees, rows).astype(np.int64)


def quantize(forest: FloatForest, bits: int) -> Quantized:
    """Leaves of 8 or 16 bits; thresholds are integers already."""
    return Quantized(*quantize_leaves(forest.trees, bits, forest.base))


def train(data: Transactions, rows: np.ndarray, recipe: Recipe, plan: Plan, say: Said = lambda _: None) -> Trained:
    """Evaluate `recipe` walking forward, choose thresholds on what the folds' models had not seen, fit the final model.

    `rows` int16 (n, 12) are the features of `data`, both in time order. Thresholds are chosen on the real scores of all
    test periods together, and apply to the final model. Raises UsageError when the data are too short.
    """
    span_s = plan.span_days * evaluate.DAY_S if plan.span_days else None
    folds = evaluate.walk_forward(data.time, plan.folds, plan.fold_days * evaluate.DAY_S, span_s, plan.delay_s)
    measured: list[dict[str, Any]] = []
    real: list[Metrics] = []
    whole: list[Metrics] = []
    unseen: list[np.ndarray] = []
    seen_scores: list[np.ndarray] = []
    for i, fold in enumerate(folds, 1):
        todo = "scoring the imported model" if plan.imported else f"training on {len(fold.train):,} transactions"
        say(f"fold {i} of {len(folds)}: {todo}")
        forest = plan.imported or fit(rows[fold.train], data.fraud[fold.train], recipe, plan.threads)
        test = evaluate.unknown_cards(data.time, data.card, data.fraud, fold)
        scores = forest.predict(rows[test])
        integers = quantize(forest, recipe.bits).scores(rows[test])
        real.append(evaluate.measure(data.time[test], data.card[test], data.fraud[test], scores))
        whole.append(evaluate.measure(data.time[test], data.card[test], data.fraud[test], integers))
        measured.append(
            {"start_day": fold.start_s // evaluate.DAY_S, "train_rows": len(fold.train), **asdict(whole[-1])}
        )
        unseen.append(test)
        seen_scores.append(scores)
    held, held_scores = np.concatenate(unseen), np.concatenate(seen_scores)
    review, decline = evaluate.thresholds(data.fraud[held], data.amount[held], held_scores, plan.policy)
    outcome = evaluate.outcome(data.fraud[held], data.amount[held], held_scores, review, decline)

    end_s = int(data.time[-1]) + 1 - plan.delay_s
    last = int(np.searchsorted(data.time, end_s))
    first = int(np.searchsorted(data.time, end_s - span_s)) if span_s is not None else 0
    if not plan.imported:
        say(f"final model: training on {last - first:,} transactions")
    forest = plan.imported or fit(rows[first:last], data.fraud[first:last], recipe, plan.threads)
    final = quantize(forest, recipe.bits)
    genuine = rows[first:last][~data.fraud[first:last]]
    limits = tuple(int(np.ceil(value * final.scale)) for value in (review, decline))
    span = {"first_s": int(data.time[first]), "last_s": int(data.time[last - 1]), "rows": last - first}
    model = pack_model(
        final.trees,
        review=limits[0],
        decline=limits[1],
        reasons={name: (name, text) for name, text in REASONS.items()},
        typical=np.median(genuine, axis=0).astype(int).tolist(),
        layout=plan.layout,
        max_bytes=plan.max_bytes,
        rows=rows[first:last][:: max(1, (last - first) // 500)].tolist(),
        overlay=plan.overlay,
        notes={"name": plan.name, "kind": "imported" if plan.imported else recipe.kind, "trained": span},
    )
    importance = permutation_importance(final, data, rows, unseen[-1], recipe)
    card = {
        "name": plan.name,
        "recipe": {"kind": "imported", "bits": recipe.bits} if plan.imported else recipe.as_dict(),
        "data": {
            "about": plan.about,
            **span,
            "frauds": int(data.fraud[first:last].sum()),
            "cards": len(np.unique(data.card[first:last])),
            "terminals": len(np.unique(data.terminal[first:last])),
            "label_delay_s": plan.delay_s,
        },
        "folds": measured,
        "mean": asdict(evaluate.mean(whole)),
        "quantisation": {
            "leaf_bits": recipe.bits,
            "largest_error_units": final.error * final.scale,
            "ap_real": evaluate.mean(real).ap,
            "ap_integer": evaluate.mean(whole).ap,
            "ap_loss": evaluate.mean(real).ap - evaluate.mean(whole).ap,
        },
        "thresholds": {
            "policy": {"kind": type(plan.policy).__name__.lower(), **asdict(plan.policy)},
            "review": limits[0],
            "decline": limits[1],
            **outcome,
        },
        "importance": importance,
        "hard_rules": dict(plan.overlay.reasons) if plan.overlay else {},
        "size": {
            "forest_bytes": model.report.forest_bytes,
            "file_bytes": model.report.file_bytes,
            "trees": model.report.trees,
            "leaves": model.report.leaves,
            "depth": model.report.max_depth,
            "layout": model.report.layout,
            "why": model.report.why,
            "estimated_us": {board: round(us, 1) for board, us in model.report.estimates_us.items()},
        },
    }
    return Trained(model, _plain(card), data.fraud[unseen[-1]], final.scores(rows[unseen[-1]]))


def _plain(value: Any) -> Any:
    """JSON has no NaN: what could not be measured becomes null."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def permutation_importance(
    model: Quantized, data: Transactions, rows: np.ndarray, test: np.ndarray, recipe: Recipe
) -> dict[str, float]:
    """Average precision lost on the rows `test` when one feature is shuffled among them; largest first.

    The final model has seen some of these rows; only the order of the features is meant to be read from this.
    """
    rng = np.random.default_rng(recipe.seed)
    order = rng.permutation(len(test))

    def ap(changed: np.ndarray) -> float:
        return evaluate.measure(data.time[test], data.card[test], data.fraud[test], model.scores(changed)).ap

    base = ap(rows[test])
    lost = {}
    for i in recipe.features:
        changed = rows[test].copy()
        changed[:, i] = changed[order, i]
        lost[NAMES[i]] = base - ap(changed)
    return dict(sorted(lost.items(), key=lambda item: -item[1]))
