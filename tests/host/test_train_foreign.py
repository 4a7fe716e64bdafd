"""Models trained elsewhere rank transactions as their own library does."""

import json
from pathlib import Path

import numpy as np
import pytest

from sentill_host.errors import UsageError
from sentill_host.models.training import run
from sentill_host.models.training.convert import load_foreign

ROWS = 1_000
VECTORS = Path(__file__).parents[1] / "vectors"


@pytest.fixture(scope="module")
def table() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    rows = rng.integers(-400, 400, (ROWS, 12)).astype(np.int16)
    labels = (rows[:, 0] + rows[:, 3] // 2 + rng.integers(-150, 150, ROWS) > 250).astype(int)
    return rows, labels


def same_order(ours: np.ndarray, theirs: np.ndarray, resolution: float) -> None:
    """Rows that differ by more than `resolution` in the library's score must come in the same order in ours."""
    order = np.argsort(theirs, kind="stable")
    ours, theirs = ours[order], theirs[order]
    highest = np.maximum.accumulate(ours)
    for i in range(1, len(ours)):
        clearly_lower = np.searchsorted(theirs, theirs[i] - resolution)
        if clearly_lower:
            assert ours[i] >= highest[clearly_lower - 1]
    assert len(np.unique(ours)) > 10


def saved_xgboost(rows: np.ndarray, labels: np.ndarray, folder: Path) -> tuple[Path, np.ndarray]:
    # Kept as files: the library itself brings several hundred megabytes. Made by XGBClassifier(n_estimators=12,
    # max_depth=3).fit of XGBoost 3.2 on this table; the margins are predict(rows, output_margin=True).
    margins = json.loads((VECTORS / "xgboost_margins.json").read_text())
    return VECTORS / "xgboost_model.json", np.array(margins)


def saved_lightgbm(rows: np.ndarray, labels: np.ndarray, folder: Path) -> tuple[Path, np.ndarray]:
    import lightgbm

    model = lightgbm.LGBMClassifier(n_estimators=12, verbosity=-1, n_jobs=1).fit(rows.astype(float), labels)
    model.booster_.save_model(folder / "m.txt")
    return folder / "m.txt", model.predict(rows.astype(float), raw_score=True)


def saved_random_forest(rows: np.ndarray, labels: np.ndarray, folder: Path) -> tuple[Path, np.ndarray]:
    import joblib
    from sklearn.ensemble import RandomForestClassifier

    model = RandomForestClassifier(12, max_depth=6, random_state=1).fit(rows, labels)
    joblib.dump(model, folder / "m.joblib")
    return folder / "m.joblib", model.predict_proba(rows)[:, 1]


def saved_gradient_boosting(rows: np.ndarray, labels: np.ndarray, folder: Path) -> tuple[Path, np.ndarray]:
    import joblib
    from sklearn.ensemble import GradientBoostingClassifier

    model = GradientBoostingClassifier(n_estimators=12, random_state=1).fit(rows, labels)
    joblib.dump(model, folder / "m.pkl")
    return folder / "m.pkl", model.decision_function(rows)


def saved_treelite(rows: np.ndarray, labels: np.ndarray, folder: Path) -> tuple[Path, np.ndarray]:
    import treelite
    from sklearn.ensemble import RandomForestRegressor

    model = RandomForestRegressor(5, max_depth=5, random_state=1).fit(rows, labels)
    treelite.sklearn.import_model(model).serialize(str(folder / "m.treelite"))
    return folder / "m.treelite", model.predict(rows)


@pytest.mark.parametrize(
    "save", [saved_xgboost, saved_lightgbm, saved_random_forest, saved_gradient_boosting, saved_treelite]
)
def test_the_ranking_is_that_of_the_original(save, table: tuple, tmp_path: Path) -> None:
    rows, labels = table
    path, theirs = save(rows, labels, tmp_path)
    forest = load_foreign(path)
    same_order(forest.predict(rows), theirs, 1e-5)
    whole = run.quantize(forest, 16)
    same_order(whole.scores(rows), theirs, 2 * whole.error + 1e-5)


def test_what_cannot_be_used_is_refused(table: tuple, tmp_path: Path) -> None:
    import joblib
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression

    rows, labels = table
    with pytest.raises(UsageError, match="no such file"):
        load_foreign(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(UsageError):
        load_foreign(tmp_path / "bad.json")
    (tmp_path / "model.onnx").write_text("")
    with pytest.raises(UsageError, match="unknown kind"):
        load_foreign(tmp_path / "model.onnx")
    joblib.dump(LogisticRegression().fit(rows, labels), tmp_path / "linear.pkl")
    with pytest.raises(UsageError):
        load_foreign(tmp_path / "linear.pkl")
    three = RandomForestClassifier(3, max_depth=3).fit(rows, labels + (rows[:, 1] > 300))
    joblib.dump(three, tmp_path / "three.pkl")
    with pytest.raises(UsageError, match="3 classes"):
        load_foreign(tmp_path / "three.pkl")
