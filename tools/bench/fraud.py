"""Benchmark of the fraud models on the Fraud-Detection-Handbook data, scored by its published protocol.

Three models are trained for each of the four test weeks, on what precedes it by the delay of labels (7 days): a tree of
at most 300 bytes and a forest of at most 4 KB on all of that, and a forest of at most 4 KB on the Handbook's single
week. Rows are scored in integers, by trees read back from the packed files; a sample of them once more by the device's
own code. The four weeks are evaluated by the protocol's own script, which is not part of this repository: $SENTILL_EVAL
names it, else ../shared/eval/handbook.py beside the repository is tried.

Nothing was tuned on the test weeks. `--choose` prints what the recipes were chosen by: the same figures for candidates
on five weeks whose labels were known when the first test week began. Prints a table and writes build/bench/fraud.json.
"""

import importlib.util
import os
import re
import subprocess
import sys
import tempfile
from array import array
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as papq
from rich.console import Console
from rich.progress import track
from rich.table import Table

from _data import KEYS, ROOT, about, data_folder, parser, write_results
from sentill.risk.model import Model
from sentill_host.models import model_file, simulate, transactions
from sentill_host.models.quantize import pack_model
from sentill_host.models.training import dataset, evaluate
from sentill_host.models.training.convert import evaluate_all
from sentill_host.models.training.evaluate import DAY_S, Fold
from sentill_host.models.training.fit import RECIPES, Recipe, fit
from sentill_host.models.training.run import quantize

DELAY_DAYS = 7
# First days of the weeks to choose recipes on. The last of their labels is known when the first test week begins.
EARLIER = (87, 94, 101, 108, 115)
SAMPLE = 2_000
FILE = data_folder() / "handbook_transactions.parquet"
EVALUATOR = Path(os.environ.get("SENTILL_EVAL") or ROOT.parent / "shared" / "eval" / "handbook.py")

# Key in the results: recipe, days to train on (None for all), most bytes of the forest.
MODELS: dict[str, tuple[Recipe, int | None, int]] = {
    "tree": (RECIPES["pupil"], None, 300),
    "week_forest": (RECIPES["week"], 7, 4096),
    "forest": (RECIPES["forest"], None, 4096),
}


class Data:
    """Transactions in order of time, with their features and the numbers the protocol knows them by."""

    def __init__(self, table: pa.Table, workers: int) -> None:
        self.tx = transactions.from_table(table)
        self.tx_id = table["tx_id"].to_numpy()[np.argsort(table["time_s"].to_numpy(), kind="stable")]
        self.rows = dataset.compute(self.tx, workers)
        self.day = self.tx.time // DAY_S

    def before(self, start_day: int, span: int | None) -> slice:
        """Rows to train on for a week that starts on `start_day`: labelled by then, at most `span` days long."""
        end = start_day - DELAY_DAYS
        first = 0 if span is None else end - span
        return slice(*np.searchsorted(self.day, (first, end)))

    def week(self, start_day: int) -> np.ndarray:
        """Positions of the rows of that week."""
        return np.arange(*np.searchsorted(self.day, (start_day, start_day + 7)))


def packed(data: Data, recipe: Recipe, span: int | None, most: int, start_day: int) -> bytes:
    """The model file for a week, its forest at most `most` bytes."""
    rows = data.before(start_day, span)
    whole = quantize(fit(data.rows[rows], data.tx.fraud[rows], recipe), recipe.bits)
    return pack_model(whole.trees, review=0, decline=0, max_bytes=most, rows=data.rows[rows][::5000].tolist())


def score(model: bytes, rows: np.ndarray) -> np.ndarray:
    """Integer scores by the trees in the file, int64; a sample of them is checked with the device's code."""
    scores = evaluate_all(model_file.read(model).forest.trees, rows).astype(np.int64)
    device = Model.from_bytes(model)
    x = array("h", bytes(2 * rows.shape[1]))
    for i in range(0, len(rows), max(1, len(rows) // SAMPLE)):
        x[:] = array("h", rows[i].tolist())
        if device.score(x) != scores[i]:
            raise SystemExit(f"the device's code scores {rows[i].tolist()} {device.score(x)}, not {scores[i]}")
    return scores


def bytes_of(model: bytes) -> int:
    """Size of the forest in a model file, without envelope and texts."""
    return len(model_file.sections_of(model)[model_file.FOREST])


def test_days() -> list[int]:
    """First days of the test weeks, as the protocol's script names them."""
    spec = importlib.util.spec_from_file_location("handbook", EVALUATOR)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{EVALUATOR} is no Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return sorted(module.TEST_WEEKS.values())


def judged(data: Data, positions: np.ndarray, scores: np.ndarray) -> dict[str, float]:
    """AUC, average precision and card precision by the protocol's script; what it printed is printed."""
    with tempfile.TemporaryDirectory(prefix="sentill-bench-") as folder:
        path = Path(folder) / "scores.parquet"
        papq.write_table(pa.table({"tx_id": data.tx_id[positions], "score": scores}), path)
        command = [sys.executable, str(EVALUATOR), str(path), "--data", str(FILE)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    mean = re.search(r"mean of \d+\s+AUC ([\d.]+)\s+AP ([\d.]+)\s+CP@100 ([\d.]+)", done.stdout)
    if done.returncode or mean is None:
        raise SystemExit(f"{EVALUATOR} failed:\n{done.stdout}{done.stderr}")
    print(done.stdout, end="")
    return dict(zip(("auc", "ap", "cp100"), map(float, mean.groups()), strict=True))


def candidates() -> Iterator[tuple[str, Recipe, int | None, int]]:
    """What was tried before the recipes were fixed."""
    for name, (recipe, span, most) in MODELS.items():
        yield name, recipe, span, most
        if name == "tree":
            yield "tree, grown by itself", RECIPES["tree"], span, most
            yield "tree, leaves of 50 rows", replace(recipe, min_rows=50), span, most
        else:
            for trees, leaves in ((40, 16), (28, 24)):
                if trees != recipe.trees:
                    yield f"{name}, {trees} x {leaves}", replace(recipe, trees=trees, leaves=leaves), span, most
            yield f"{name}, leaves of 20 rows", replace(recipe, min_rows=20), span, most
            yield f"{name}, 3/4 of features", replace(recipe, share=0.75), span, most


def choose(data: Data, out: Console) -> None:
    """Mean figures of the candidates on EARLIER weeks, by this package's own metrics."""
    table = Table("candidate", "bytes", "AUC", "AP", "CP@100", title=f"weeks from days {EARLIER}")
    tests = {}
    for day in EARLIER:
        fold = Fold(day * DAY_S, np.arange(0), data.week(day))
        tests[day] = evaluate.unknown_cards(data.tx.time, data.tx.card, data.tx.fraud, fold)
    for name, recipe, span, most in track(list(candidates()), "candidates", console=Console(stderr=True)):
        found = []
        size = 0
        for day, test in tests.items():
            model = packed(data, recipe, span, most, day)
            size = max(size, bytes_of(model))
            columns = data.tx.time[test], data.tx.card[test], data.tx.fraud[test]
            found.append(evaluate.measure(*columns, score(model, data.rows[test])))
        mean = evaluate.mean(found)
        table.add_row(name, str(size), f"{mean.auc:.4f}", f"{mean.ap:.4f}", f"{mean.cp100:.4f}")
    out.print(table)


def short(out: Console) -> None:
    """The same way on little generated traffic, evaluated by this package's own metrics."""
    traffic = simulate.TrafficOptions(cards=60, terminals=40, days=45, rate=3.0, seed=5)
    data = Data(simulate.traffic(traffic), 1)
    day = traffic.days - 7
    week = data.week(day)
    results: dict[str, float] = {}
    for name, (recipe, span, most) in MODELS.items():
        model = packed(data, recipe, span, most, day)
        found = evaluate.measure(
            data.tx.time[week], data.tx.card[week], data.tx.fraud[week], score(model, data.rows[week])
        )
        out.print(f"{name}: {bytes_of(model)} bytes, on {len(week)} generated transactions AP {found.ap:.3f}")
        results[f"{name}_bytes"] = bytes_of(model)
    absent = {key: "needs the Handbook's data" for key in KEYS["fraud"] if not key.endswith("_bytes")}
    out.print(f"kept in {write_results('fraud', results, True, absent)}")


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--choose", action="store_true", help="only the figures the recipes were chosen by")
    arguments.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes that compute features")
    options = arguments.parse_args()
    if options.short:
        short(Console())
        return
    for path, variable in ((FILE, "SENTILL_DATA"), (EVALUATOR, "SENTILL_EVAL")):
        if not path.is_file():
            print(f"skipped: {path} is absent; set {variable} to its place")
            return
    out = Console()
    out.print(f"host {about()}")
    data = Data(papq.read_table(FILE), options.workers)
    if options.choose:
        choose(data, out)
        return
    days = test_days()
    positions = np.concatenate([data.week(day) for day in days])
    results: dict[str, Any] = {}
    table = Table("model", "trained on", "bytes", "AUC", "AP", "CP@100")
    for name, (recipe, span, most) in MODELS.items():
        out.print(f"\n{name}: {recipe.kind}, at most {most} bytes, trained on {span or 'all'} days")
        models = {day: packed(data, recipe, span, most, day) for day in days}
        scores = np.concatenate([score(model, data.rows[data.week(day)]) for day, model in models.items()])
        figures = judged(data, positions, scores)
        size = max(bytes_of(model) for model in models.values())
        results |= {f"{name}_bytes": size, **{f"{name}_{key}": value for key, value in figures.items()}}
        table.add_row(name, f"{span or 'all'} days", str(size), *(f"{value:.3f}" for value in figures.values()))
    out.print(table)
    out.print(f"kept in {write_results('fraud', results)}")


if __name__ == "__main__":
    main()
