"""Folds without leakage, metrics, thresholds, deterministic fits, exact quantised scores, model cards."""

import json
from array import array
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from sentill.risk.features import NAMES, SCHEMA_ID
from sentill.risk.model import Model
from sentill_host import cli
from sentill_host.errors import UsageError
from sentill_host.models import simulate, transactions
from sentill_host.models.training import dataset, evaluate, model_card, run
from sentill_host.models.training.convert import FloatForest
from sentill_host.models.training.evaluate import Budget, Cost
from sentill_host.models.training.fit import LOCAL, RECIPES, Recipe, fit, thin

DAY_S = 86_400
SMALL = {
    "tree": Recipe("tree", leaves=12, depth=5, min_rows=5, bits=8),
    "forest": Recipe("forest", trees=5, leaves=8, min_rows=3, share=0.5, keep=0.5, bits=8),
    "pupil": Recipe("pupil", leaves=12, depth=6, min_rows=5, teachers=4, keep=0.5, bits=8),
    "boost": Recipe("boost", trees=5, leaves=8, min_rows=5),
}


@pytest.fixture(scope="module")
def data() -> transactions.Transactions:
    table = simulate.traffic(simulate.TrafficOptions(cards=60, terminals=40, days=45, rate=3.0, frauds=True, seed=5))
    return transactions.from_table(table)


@pytest.fixture(scope="module")
def rows(data: transactions.Transactions) -> np.ndarray:
    return dataset.compute(data)


@given(
    st.lists(st.integers(0, 60 * DAY_S), min_size=1, max_size=60).map(sorted),
    st.integers(1, 4),
    st.integers(1, 9),
    st.one_of(st.none(), st.integers(1, 20)),
)
def test_folds_train_only_on_what_was_labelled(times: list[int], count: int, days: int, span: int | None) -> None:
    time = np.array(times)
    try:
        folds = evaluate.walk_forward(time, count, days * DAY_S, span and span * DAY_S)
    except UsageError:
        return
    assert len(folds) == count
    tested: list[int] = []
    for fold in folds:
        assert fold.start_s % DAY_S == 0
        assert time[fold.train].max() < fold.start_s - 7 * DAY_S
        assert span is None or time[fold.train].min() >= fold.start_s - 7 * DAY_S - span * DAY_S
        assert ((time[fold.test] >= fold.start_s) & (time[fold.test] < fold.start_s + days * DAY_S)).all()
        tested += fold.test.tolist()
    assert sorted(set(tested)) == tested, "no row is tested twice"
    assert tested[-1] == len(time) - 1, "the newest row is tested"


def test_labels_after_the_cut_do_not_reach_a_fold_s_model(data: transactions.Transactions, rows: np.ndarray) -> None:
    fold = evaluate.walk_forward(data.time, 1)[0]
    changed = transactions.Transactions(**{**vars(data), "fraud": data.fraud ^ (data.time >= fold.start_s - 7 * DAY_S)})
    recipe = SMALL["tree"]
    other_rows = dataset.compute(changed)
    first = fit(rows[fold.train], data.fraud[fold.train], recipe)
    second = fit(other_rows[fold.train], changed.fraud[fold.train], recipe)
    assert first == second


def test_known_cards_leave_the_test() -> None:
    #            frauds of cards 1 (day 5: known from day 13), 2 (day 8: known from 16), 3 (day 14: not known in time)
    day = np.array([0, 5, 8, 14, 14, 14, 15, 15, 16, 16, 16])
    cards = np.array([9, 1, 2, 3, 1, 2, 2, 3, 2, 3, 1])
    fraud = np.array([0, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0])
    fold = evaluate.walk_forward(day * DAY_S, 1, 3 * DAY_S)[0]
    kept = evaluate.unknown_cards(day * DAY_S, cards, fraud, fold)
    assert kept.tolist() == [3, 5, 6, 7, 9]


def test_card_precision_skips_cards_already_caught() -> None:
    day = np.array([0, 0, 0, 1, 1, 1])
    cards = np.array([1, 2, 3, 1, 2, 4])
    fraud = np.array([1, 0, 1, 1, 0, 1])
    score = np.array([9, 8, 1, 9, 8, 7])
    assert evaluate.card_precision(day, cards, fraud, score, top=1) == pytest.approx((1 + 0) / 2)
    assert evaluate.card_precision(day, cards, fraud, score, top=2) == pytest.approx((0.5 + 0.5) / 2)


scored = st.lists(st.tuples(st.booleans(), st.integers(1, 100), st.integers(-5, 5)), min_size=1, max_size=40)


@given(scored, st.sampled_from([0.0, 0.1, 0.3]), st.sampled_from([0.0, 0.05, 0.3]))
def test_a_budget_is_kept_and_used(data: list, review: float, decline: float) -> None:
    fraud, amount, score = (np.array(column) for column in zip(*data, strict=True))
    low, high = evaluate.thresholds(fraud, amount, score, Budget(review, decline))
    assert low <= high
    genuine = score[~fraud.astype(bool)]
    if len(genuine):
        for limit, share in ((low, review), (high, decline)):
            assert (genuine >= limit).mean() <= share
        below = genuine[genuine < low]
        if len(below):
            assert (genuine >= below.max()).mean() > review, "a lower threshold would break the budget"


@given(scored, st.integers(1, 50))
def test_the_cheapest_threshold_is_the_cheapest(data: list, cost: int) -> None:
    fraud, amount, score = (np.array(column) for column in zip(*data, strict=True))

    def price(limit: float) -> int:
        return int(amount[fraud & (score < limit)].sum() + cost * (~fraud & (score >= limit)).sum())

    low, _ = evaluate.thresholds(fraud, amount, score, Cost(cost, cost))
    assert price(low) == min(price(limit) for limit in range(-6, 8))


@pytest.mark.parametrize("kind", SMALL)
def test_the_same_seed_gives_the_same_model_and_integers_score_alike_on_the_board(
    kind: str, data: transactions.Transactions, rows: np.ndarray
) -> None:
    recipe = SMALL[kind]
    plan = run.Plan(folds=2, policy=Budget(0.02, 0.005), name="test")
    first, second = (run.train(data, rows, recipe, plan) for _ in range(2))
    assert bytes(first.model) == bytes(second.model)
    assert json.dumps(first.card) == json.dumps(second.card)
    model = Model.from_bytes(bytes(first.model), SCHEMA_ID)
    x = array("h", [0] * len(NAMES))
    end = int(np.searchsorted(data.time, int(data.time[-1]) + 1 - 7 * DAY_S))
    whole = run.quantize(fit(rows[:end], data.fraud[:end], recipe), recipe.bits)
    wanted = whole.scores(rows[:300])
    for row, score in zip(rows[:300], wanted, strict=True):
        x[:] = array("h", row.tolist())
        assert model.score(x) == score
    real = fit(rows[:end], data.fraud[:end], recipe).predict(rows)
    assert np.abs(whole.scores(rows) / whole.scale - real).max() <= whole.error + 1e-9


def test_another_seed_gives_another_forest(rows: np.ndarray, data: transactions.Transactions) -> None:
    one, two = (fit(rows, data.fraud, Recipe("forest", trees=3, leaves=8, share=0.3, seed=seed)) for seed in (1, 2))
    assert one != two


def test_thinning_keeps_frauds_and_what_resembles_them() -> None:
    dice = np.random.default_rng(5)
    rows = dice.integers(-300, 300, (170_000, 3)).astype(np.int16)
    risky = rows[:, 1] >= 270
    labels = (risky & (dice.random(len(rows)) < 0.5)).astype(int)
    kept, weights = thin(rows, labels, 0.1, seed=3)
    again, _ = thin(rows, labels, 0.1, seed=3)
    assert (kept == again).all() and (np.diff(kept) > 0).all()
    assert np.isin(np.flatnonzero(risky), kept).mean() > 0.95, "genuine or not, it might have been a fraud"
    assert labels[kept].sum() == labels.sum(), "every fraud stays"
    assert set(weights.tolist()) == {1.0, 10.0} and (weights[labels[kept] == 1] == 1).all()
    assert len(kept) < 0.2 * len(labels), "most rows are ordinary"
    assert abs(weights.sum() / len(labels) - 1) < 0.05, "those kept stand for all"
    few, weights = thin(rows[:9_000], labels[:9_000], 0.1, seed=3)
    assert len(few) == 9_000 and (weights == 1).all(), "nothing is left out of little"


def test_the_local_model_asks_nothing_of_the_card(rows: np.ndarray, data: transactions.Transactions) -> None:
    def asked(tree: object) -> set[int]:
        return {tree[0]} | asked(tree[2]) | asked(tree[3]) if isinstance(tree, tuple) else set()

    for recipe in SMALL.values():
        forest = fit(rows, data.fraud, Recipe(**{**vars(recipe), "features": LOCAL}))
        found = set().union(*(asked(tree) for tree in forest.trees))
        assert found and found <= set(LOCAL)


def test_nothing_to_learn_from_is_said(rows: np.ndarray) -> None:
    with pytest.raises(UsageError, match="0 frauds"):
        fit(rows, np.zeros(len(rows)), RECIPES["tree"])
    with pytest.raises(UsageError, match="too short"):
        evaluate.walk_forward(np.array([0, DAY_S]), 4)


def test_data_without_frauds_in_a_period_still_give_a_card(
    tmp_path: Path, data: transactions.Transactions, rows: np.ndarray
) -> None:
    quiet = data.fraud & (data.time < data.time[-1] - 20 * DAY_S)
    calm = transactions.Transactions(**{**vars(data), "fraud": quiet})
    trained = run.train(calm, rows, SMALL["tree"], run.Plan(folds=1, name="quiet"))
    paths = model_card.write(trained, tmp_path)
    assert [path.name for path in paths] == ["quiet.stm", "quiet.card.json", "quiet.card.md", "quiet.card.png"]
    facts = json.loads(paths[1].read_text())
    assert facts["mean"]["ap"] is None
    assert "| - |" in paths[2].read_text()


def test_the_command_writes_two_models_with_cards(tmp_path: Path) -> None:
    source = tmp_path / "t.csv"
    options = simulate.TrafficOptions(cards=60, terminals=40, days=45, rate=2.0, frauds=True, seed=5)
    table = simulate.traffic(options)
    simulate.write(table.rename_columns([f"my_{name}" for name in table.column_names]), source)
    arguments = ["train", str(source), "--out", str(tmp_path / "m"), "--folds", "2", "--leaves", "8", "--workers", "1"]
    for option in ("time", "card", "terminal", "amount", "fraud"):
        default = {"time": "time_s", "card": "customer_id", "terminal": "terminal_id", "amount": "amount_cents"}
        arguments += [f"--{option}-column", "my_" + default.get(option, "fraud")]
    result = CliRunner().invoke(cli.app, [*arguments, "--json"])
    assert result.exit_code == 0, result.output
    cards = json.loads(result.stdout.splitlines()[-1])
    assert [facts["name"] for facts in cards] == ["profile", "local"]
    for facts in cards:
        data = (tmp_path / "m" / f"{facts['name']}.stm").read_bytes()
        model = Model.from_bytes(data, SCHEMA_ID)
        written = json.loads((tmp_path / "m" / f"{facts['name']}.card.json").read_text())
        assert (model.review, model.decline) == (written["thresholds"]["review"], written["thresholds"]["decline"])
        assert written["size"]["file_bytes"] == len(data)
    again = CliRunner().invoke(cli.app, [*arguments[:3], str(tmp_path / "n"), *arguments[4:]])
    assert again.exit_code == 0, again.output
    for name in ("profile.stm", "local.stm", "profile.card.json"):
        assert (tmp_path / "m" / name).read_bytes() == (tmp_path / "n" / name).read_bytes()


def test_the_command_takes_a_model_trained_elsewhere_and_hard_rules(tmp_path: Path) -> None:
    source = tmp_path / "t.parquet"
    options = simulate.TrafficOptions(cards=60, terminals=40, days=40, rate=2.0, frauds=True, seed=5)
    simulate.write(simulate.traffic(options), source)
    vectors, shipped = Path(__file__).parents[1] / "vectors", Path(__file__).parents[2] / "device" / "models"
    arguments = ["train", str(source), "--out", str(tmp_path / "m"), "--folds", "1", "--workers", "1", "--no-plots"]
    arguments += ["--import", str(vectors / "xgboost_model.json"), "--rules", str(shipped / "rules.toml")]
    result = CliRunner().invoke(cli.app, [*arguments, "--about", "Made up."])
    assert result.exit_code == 0, result.output
    assert not (tmp_path / "m" / "local.stm").exists()
    text = (tmp_path / "m" / "profile.card.md").read_text()
    assert "Made up." in text and "trained elsewhere" in text and "`AMOUNT_LIMIT`" in text
    model = Model.load(str(tmp_path / "m" / "profile.stm"), SCHEMA_ID)
    assert model.rules == ("BLOCKED", "AMOUNT_LIMIT")
    x = array("h", [0] * len(NAMES) + [5_001, 0, 0, 0])
    assert (model.rules[model.rule(x)], model.action) == ("AMOUNT_LIMIT", 2)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(-300, 300), min_size=12, max_size=12))
def test_forests_predict_what_their_trees_say(row: list[int]) -> None:
    tree = (0, 5, -1.5, (3, -20, 2.25, (9, 100, 0.5, 7.0)))
    wanted = -1.5 if row[0] < 5 else 2.25 if row[3] < -20 else 0.5 if row[9] < 100 else 7.0
    assert FloatForest([tree, tree], 1.0).predict(np.array([row])).tolist() == [2 * wanted + 1]
