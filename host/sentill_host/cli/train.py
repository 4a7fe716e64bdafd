"""`sentill train`: from labelled transactions, or a model trained elsewhere, to model files for the board."""

import os
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from sentill_host import user_files
from sentill_host.cli.output import err, out, print_json, print_table
from sentill_host.errors import PlatformError, UsageError
from sentill_host.models import rules, transactions
from sentill_host.models.training import dataset, model_card
from sentill_host.models.training.convert import load_foreign
from sentill_host.models.training.evaluate import Budget, Cost
from sentill_host.models.training.fit import EVERYTHING, LOCAL, RECIPES
from sentill_host.models.training.run import Plan, Trained, train
from sentill_host.models.transactions import Columns

_columns = Columns()


def command(
    data: Annotated[Path, typer.Argument(metavar="FILE", help="Labelled transactions: .csv or .parquet.")],
    folder: Annotated[Path, typer.Option("--out", help="Folder for the models and their cards.")] = Path("models"),
    model: Annotated[
        str,
        typer.Option(help="tree, pupil (a tree taught by a forest), forest, week (a forest for little data), boost."),
    ] = "pupil",
    importing: Annotated[
        Path | None, typer.Option("--import", help="Take this model trained elsewhere on the twelve features.")
    ] = None,
    trees: Annotated[int | None, typer.Option(help="Number of trees.")] = None,
    leaves: Annotated[int | None, typer.Option(help="Most leaves per tree.")] = None,
    bits: Annotated[int | None, typer.Option(help="Bits of a leaf: 8 is smaller, 16 finer.")] = None,
    max_bytes: Annotated[int | None, typer.Option(help="Most bytes of the forest in the file.")] = None,
    folds: Annotated[int, typer.Option(help="Periods of the walk-forward evaluation.")] = Plan.folds,
    fold_days: Annotated[int, typer.Option(help="Days per period.")] = Plan.fold_days,
    span_days: Annotated[int | None, typer.Option(help="Train on the newest so many days. Default: all.")] = None,
    delay_days: Annotated[int, typer.Option(help="Days until a label is known.")] = 7,
    review_budget: Annotated[float, typer.Option(help="Share of genuine payments to review.")] = Budget.review,
    decline_budget: Annotated[float, typer.Option(help="Share of genuine payments to decline.")] = Budget.decline,
    review_cost: Annotated[int | None, typer.Option(help="Cents per genuine payment reviewed, for the budget.")] = None,
    decline_cost: Annotated[int | None, typer.Option(help="Cents per genuine payment declined.")] = None,
    hard_rules: Annotated[
        Path | None, typer.Option("--rules", help="Put the hard rules of this file before the models.")
    ] = None,
    about: Annotated[str, typer.Option(help="What the data are, for the model cards.")] = "",
    seed: Annotated[int, typer.Option(help="The same seed gives the same model.")] = 0,
    workers: Annotated[int, typer.Option(help="Processes that compute features.")] = os.cpu_count() or 1,
    time_column: Annotated[str, typer.Option(help="Column of times, seconds.")] = _columns.time,
    card_column: Annotated[str, typer.Option(help="Column of cards.")] = _columns.card,
    terminal_column: Annotated[str, typer.Option(help="Column of terminals.")] = _columns.terminal,
    amount_column: Annotated[str, typer.Option(help="Column of amounts, cents.")] = _columns.amount,
    fraud_column: Annotated[str, typer.Option(help="Column of labels, 0 or 1.")] = _columns.fraud,
    plots: Annotated[bool, typer.Option(help="Add plots to the model cards.")] = True,
    json: Annotated[bool, typer.Option("--json", help="The model cards as JSON on stdout.")] = False,
) -> None:
    """Train the models of a node: profile.stm for requests with a card profile, local.stm for those without.

    Features are computed by the device's own code. Each model comes with a card: data, metrics, thresholds,
    loss by quantisation. A model trained elsewhere (--import: XGBoost, LightGBM, scikit-learn, treelite) is evaluated
    on the same periods and becomes profile.stm.
    """
    for needed in ("sklearn", "lightgbm", "matplotlib"):
        if find_spec(needed) is None:
            raise PlatformError(f"training needs {needed}", "pip install 'sentill[train]'")
    if (review_cost is None) != (decline_cost is None):
        raise UsageError("give both --review-cost and --decline-cost, or neither")
    policy: Budget | Cost = Budget(review_budget, decline_budget)
    if review_cost is not None and decline_cost is not None:
        policy = Cost(review_cost, decline_cost)
    if model not in RECIPES:
        raise UsageError(f"no model kind {model!r}", ", ".join(RECIPES))
    recipe = replace(RECIPES[model], seed=seed)
    # The leaves of a foreign model were not made with eight bits in mind.
    bits = bits or (16 if importing else recipe.bits)
    recipe = replace(recipe, trees=trees or recipe.trees, leaves=leaves or recipe.leaves, bits=bits)
    columns = Columns(time_column, card_column, terminal_column, amount_column, fraud_column)
    table = transactions.read(data, columns)
    if not len(table):
        raise UsageError(f"{data}: no transactions")
    plan = Plan(
        folds, fold_days, span_days, delay_days * 86_400, policy, max_bytes, threads=workers,
        imported=load_foreign(importing) if importing else None,
        overlay=rules.read(hard_rules).overlay if hard_rules else None, about=about,
    )  # fmt: skip
    user_files.make_folder(folder)  # not found out after minutes of training
    cards = []
    for name, features in (("profile", EVERYTHING), ("local", LOCAL)):
        if name == "local" and importing:
            continue
        rows = _features(table, workers, plan.delay_s, name)
        chosen = recipe if features is EVERYTHING else replace(recipe, features=features)
        trained = train(table, rows, chosen, replace(plan, name=name), lambda text: err.print(f"[dim]{text}[/]"))
        paths = model_card.write(trained, folder, plots)
        cards.append({**trained.card, "files": [str(path) for path in paths]})
        if not json:
            _show(trained, paths)
    if json:
        print_json(cards)


def _features(data: transactions.Transactions, workers: int, delay_s: int, name: str) -> np.ndarray:
    columns = (TextColumn("features for {task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task(name, total=None)
        return dataset.compute(
            data, workers, delay_s=delay_s, with_profile=name == "profile",
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )  # fmt: skip


def _show(trained: Trained, paths: list[Path]) -> None:
    facts = trained.card
    view = Table("from day", "rows", "frauds", "AUC", "AP", "CP@100", box=None)
    for fold in [*facts["folds"], {**facts["mean"], "start_day": "all"}]:
        view.add_row(
            str(fold["start_day"]), f"{fold['rows']:,}", str(fold["frauds"]),
            *(model_card.number(fold[key]) for key in ("auc", "ap", "cp100")),
        )  # fmt: skip
    limits, size = facts["thresholds"], facts["size"]
    count = model_card.trees(size["trees"])
    out.print(f"[bold]{facts['name']}[/]: {count}, {size['forest_bytes']} bytes; layout {size['why']}")
    print_table(view)
    for verdict in ("review", "decline"):
        out.print(
            f"{verdict} from {limits[verdict]}: "
            f"{model_card.number(limits[verdict + '_fraud_share'], '.1%')} of frauds, "
            f"{model_card.number(limits[verdict + '_genuine_share'], '.2%')} of genuine payments"
        )
    out.print(f"quantisation costs {model_card.number(facts['quantisation']['ap_loss'], '.4f')} of average precision")
    for path in paths:
        out.print(f"  {path}")
