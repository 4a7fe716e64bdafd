"""Walk-forward evaluation: metrics of a fraud score, folds that respect the delay of labels, choice of thresholds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sentill.risk.features import DELAY_S
from sentill_host.errors import UsageError

DAY_S = 86_400


@dataclass(frozen=True)
class Fold:
    """Positions of training and test rows. Every training row is older than the label delay when the test begins."""

    start_s: int
    train: np.ndarray
    test: np.ndarray


@dataclass(frozen=True)
class Metrics:
    """Of one test period: rows, frauds, area under the ROC curve, average precision, card precision at 100."""

    rows: int
    frauds: int
    auc: float
    ap: float
    cp100: float


@dataclass(frozen=True)
class Budget:
    """Shares of genuine transactions that may be reviewed (or worse) and declined by mistake."""

    review: float = 0.005
    decline: float = 0.0005


@dataclass(frozen=True)
class Cost:
    """Cents that a genuine transaction costs when it is reviewed, or declined; a missed fraud costs its amount."""

    review: int
    decline: int


def walk_forward(
    time: np.ndarray, count: int = 4, test_s: int = 7 * DAY_S, span_s: int | None = None, delay_s: int = DELAY_S
) -> list[Fold]:
    """The last `count` periods of `test_s` seconds, each with the rows to train on: at least `delay_s` before it
    begins, at most `span_s` before that. `time` (n,) seconds does not decrease; periods begin at whole days.

    Raises UsageError when the data are too short.
    """
    if count < 1 or test_s < 1:
        raise UsageError("needs at least one fold, of at least a second")
    end = (int(time[-1]) // DAY_S + 1) * DAY_S if len(time) else 0
    folds = []
    for i in range(count, 0, -1):
        start = end - i * test_s
        known = start - delay_s
        first = np.searchsorted(time, known - span_s) if span_s is not None else 0
        train = np.arange(first, np.searchsorted(time, known))
        test = np.arange(np.searchsorted(time, start), np.searchsorted(time, start + test_s))
        if not len(train) or not len(test):
            raise UsageError(f"the data are too short for {count} folds of {test_s // DAY_S} days", "--folds fewer")
        folds.append(Fold(start, train, test))
    return folds


def unknown_cards(time: np.ndarray, card: np.ndarray, fraud: np.ndarray, fold: Fold) -> np.ndarray:
    """The test rows of `fold` whose card is not known to be compromised on that day.

    Known are cards with a fraud from 14 days before the period up to 8 days before the day in question: the protocol
    of the Fraud-Detection-Handbook.
    """
    day = time // DAY_S
    start = fold.start_s // DAY_S
    kept = []
    for today in range(start, int(day[fold.test[-1]]) + 1):
        known = np.unique(card[fraud.astype(bool) & (day >= start - 14) & (day <= today - 8)])
        rows = fold.test[day[fold.test] == today]
        kept.append(rows[~np.isin(card[rows], known)])
    return np.concatenate(kept)


def measure(time: np.ndarray, card: np.ndarray, fraud: np.ndarray, score: np.ndarray) -> Metrics:
    """Metrics of the scores of some rows, all of shape (n,). NaN where there is no fraud or nothing else."""
    from sklearn.metrics import average_precision_score, roc_auc_score

    labels = fraud.astype(int)
    both = 0 < labels.sum() < len(labels)
    return Metrics(
        len(labels),
        int(labels.sum()),
        float(roc_auc_score(labels, score)) if both else float("nan"),
        float(average_precision_score(labels, score)) if both else float("nan"),
        card_precision(time // DAY_S, card, labels, score),
    )


def card_precision(day: np.ndarray, card: np.ndarray, fraud: np.ndarray, score: np.ndarray, top: int = 100) -> float:
    """Share of frauds among the `top` cards of the highest score, mean over days; a card caught is not inspected again.

    Ties go to the lower card number, as in the Handbook's own implementation.
    """
    caught: set[int] = set()
    daily = []
    for today in np.unique(day):
        rows = np.flatnonzero(day == today)
        best: dict[int, list[float]] = {}
        for c, f, s in zip(card[rows].tolist(), fraud[rows].tolist(), score[rows].tolist(), strict=True):
            if c not in caught:
                worst = best.setdefault(c, [s, 0])
                worst[0], worst[1] = max(worst[0], s), max(worst[1], f)
        inspected = sorted(best.items(), key=lambda item: (-item[1][0], item[0]))[:top]
        hits = {c for c, (_, f) in inspected if f}
        caught |= hits
        daily.append(len(hits) / top)
    return float(np.mean(daily)) if daily else float("nan")


def thresholds(fraud: np.ndarray, amount: np.ndarray, score: np.ndarray, policy: Budget | Cost) -> tuple[float, float]:
    """Scores from which to review and to decline, review <= decline, chosen on scores no training row has.

    Shapes (n,), amounts in cents. A Budget gives the lowest thresholds that keep it; a Cost the cheapest ones.
    """
    fraud = fraud.astype(bool)
    if isinstance(policy, Budget):
        review, decline = (_within(np.sort(score[~fraud]), share) for share in (policy.review, policy.decline))
    else:
        review, decline = (_cheapest(fraud, amount, score, cost) for cost in (policy.review, policy.decline))
    return review, max(review, decline)


def _within(genuine: np.ndarray, share: float) -> float:
    """Just above so many genuine scores, ascending, that at most `share` of them reaches it."""
    if not 0 <= share < 1:
        raise UsageError("a budget is a share from 0 to below 1")
    allowed = int(len(genuine) * share)
    if not len(genuine):
        return 0.0
    return float(np.nextafter(genuine[len(genuine) - 1 - allowed], np.inf))


def _cheapest(fraud: np.ndarray, amount: np.ndarray, score: np.ndarray, cost: int) -> float:
    """The threshold with the least sum of amounts of frauds below it and `cost` per genuine row from it on."""
    order = np.argsort(-score, kind="stable")
    ranked = score[order]
    gained = np.cumsum(np.where(fraud[order], amount[order], -cost))
    last = np.flatnonzero(np.append(np.diff(ranked) != 0, True)) if len(ranked) else np.array([], int)
    if not len(last) or gained[last].max() <= 0:
        return float(np.nextafter(ranked[0], np.inf)) if len(ranked) else 0.0
    return float(ranked[last[np.argmax(gained[last])]])


def outcome(
    fraud: np.ndarray, amount: np.ndarray, score: np.ndarray, review: float, decline: float
) -> dict[str, float]:
    """What the thresholds do: shares of frauds caught, of their amount, and of genuine rows hit, by verdict."""
    fraud = fraud.astype(bool)
    lost = float(amount[fraud].sum()) or 1.0
    result = {}
    for name, least in (("review", review), ("decline", decline)):
        hit = score >= least
        result[f"{name}_fraud_share"] = float(hit[fraud].mean()) if fraud.any() else float("nan")
        result[f"{name}_amount_share"] = float(amount[fraud & hit].sum() / lost)
        result[f"{name}_genuine_share"] = float(hit[~fraud].mean()) if (~fraud).any() else float("nan")
    return result


def mean(all_metrics: Sequence[Metrics]) -> Metrics:
    """Mean over the periods that have frauds, NaN if none has; rows and frauds are sums."""
    valid = [m for m in all_metrics if np.isfinite(m.ap)]
    return Metrics(
        sum(m.rows for m in all_metrics),
        sum(m.frauds for m in all_metrics),
        *(
            float(np.mean([getattr(m, name) for m in valid])) if valid else float("nan")
            for name in ("auc", "ap", "cp100")
        ),
    )
