"""Benchmark of the tree engine: one tree of depth 8, ten of them, fifty of depth 6, against generated code.

On the Unix port, in one run and on the same forests: Model.score with native and with plain kernels, m2cgen's Python,
and everywhereml's MicroPython output. Forests are scikit-learn's, trained on synthetic data of the features' shape. All
times include the loop and the call around them. Prints a table and writes build/bench/tree.json.

`X_vs_m2cgen` compares with m2cgen's export of the classifier, which returns both class probabilities, `one_d8` being a
forest of one tree as in everywhereml (which has no other); `one_d8_vs_m2cgen_tree` with the export of that tree by
itself; `X_vs_m2cgen_scalar` with a regressor's, the leanest code m2cgen writes.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from _data import ROOT, about, parser, write_results
from sentill_host.models import model_file, quantize
from tests.interpreters import DEVICE, unix_command

CASES = {"one_d8": (1, 8), "ten_d8": (10, 8), "fifty_d6": (50, 6)}
WORKER = Path(__file__).with_name("_tree_device.py")
ROWS = 48


def training_data(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows int16 (count, 12) and labels, noisy enough for full trees."""
    x, y = make_classification(count, 12, n_informative=9, n_redundant=1, flip_y=0.15, random_state=1)
    return np.clip(x * 900, -32_768, 32_767).astype(np.int16), y


def nested(estimator: DecisionTreeClassifier | DecisionTreeRegressor) -> quantize.FloatTree:
    """One of scikit-learn's trees with the probability of class 1 as leaves."""
    tree = estimator.tree_
    value = tree.value[:, 0, -1] / (tree.value[:, 0].sum(axis=1) if tree.value.shape[2] > 1 else 1)

    def node(i: int) -> quantize.FloatTree:
        if tree.children_left[i] < 0:
            return float(value[i])
        left, right = node(tree.children_left[i]), node(tree.children_right[i])
        return int(tree.feature[i]), quantize.less_equal(tree.threshold[i]), left, right

    return node(0)


def generate(folder: Path, name: str, rows: np.ndarray, labels: np.ndarray, asked: np.ndarray) -> dict[str, Any]:
    """Train, and write what the worker needs; returns the quantised answers for the rows that are asked, and what the
    quantiser chose."""
    import m2cgen
    from everywhereml.sklearn.ensemble import RandomForestClassifier as EverywhereForest

    count, depth = CASES[name]
    options = {"n_estimators": count, "max_depth": depth, "random_state": 3, "max_samples": 0.9 if count > 1 else None}
    forest = RandomForestClassifier(**options, bootstrap=count > 1).fit(rows, labels)
    twin = EverywhereForest(**options, bootstrap=count > 1)
    twin.fit(rows, labels)
    regressor = RandomForestRegressor(**options, bootstrap=count > 1, max_features="sqrt").fit(rows, labels)
    sources = {
        "m2cgen": m2cgen.export_to_python(forest),
        "m2cgen_scalar": m2cgen.export_to_python(regressor if count > 1 else regressor.estimators_[0]),
        "everywhereml": twin.to_micropython() + "\n\npredict = RandomForestClassifier().predict\n",
    }
    if count == 1:
        sources["m2cgen_tree"] = m2cgen.export_to_python(forest.estimators_[0])
    for other, source in sources.items():
        (folder / f"{name}_{other}.py").write_text(source)

    sample = asked.tolist()
    trees = [nested(tree) for tree in forest.estimators_]
    # Predictions agree with scikit-learn's probabilities as far as the leaves were rounded.
    whole, scale, error = quantize.quantize_leaves(trees, 16)
    wanted = {}
    for layout in ("wide", "short"):
        integers = quantize.quantize_leaves(trees, 8)[0] if layout == "short" else whole
        packed = quantize.pack_model(integers, review=0, decline=0, layout=layout, rows=sample)
        (folder / f"{name}_{layout}.stm").write_bytes(packed)
        wanted[layout] = [quantize.Forest(integers).evaluate(row)[0] for row in sample]
    reference = forest.predict_proba(asked)[:, 1] * count
    if np.abs(np.array(wanted["wide"]) / scale - reference).max() > error + 1e-6:
        raise SystemExit(f"{name}: the quantised forest is not the trained one")
    (folder / f"{name}.json").write_text(json.dumps({"layouts": list(wanted), "others": list(sources)}))
    auto = quantize.pack_model(whole, review=0, decline=0, rows=sample).report
    return {"answers": wanted, "chosen": auto.layout.split(",")[0], "why": auto.why, "steps": auto.mean_steps}


def measure(command: list[str]) -> dict[str, Any]:
    """What a worker reports."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    if done.returncode:
        raise SystemExit(f"the worker failed:\n{done.stdout}{done.stderr}")
    return json.loads(done.stdout)


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--rounds", type=int, default=5, help="timed rounds; the fastest counts")
    options = arguments.parse_args()
    rounds = 1 if options.short else options.rounds
    rows, labels = training_data(2_000 if options.short else 20_000)
    sample = rows[: 4 if options.short else ROWS]
    results: dict[str, float] = {}
    out = Console()
    out.print(f"host {about()}; timed on the MicroPython Unix port; 32-bit: WebAssembly, plain kernels")
    with tempfile.TemporaryDirectory(prefix="sentill-bench-") as name_of_folder:
        folder = Path(name_of_folder)
        (folder / "rows.bin").write_bytes(sample.astype("<i2").tobytes())
        for name in CASES:
            results |= compare(folder, name, generate(folder, name, rows, labels, sample), rounds, out)
    out.print(f"written to {write_results('tree', results, options.short)}")


def compare(folder: Path, name: str, made: dict[str, Any], rounds: int, out: Console) -> dict[str, float]:
    """Run the worker on both interpreters, check every answer, print a table; returns the results of this model."""
    unix = [*unix_command(), "-X", "heapsize=16M", str(WORKER), str(DEVICE), str(folder), name, str(rounds)]
    got = measure(unix)
    # The 32-bit interpreter has no emitter, and is asked for answers and allocations only.
    asked = folder / f"{name}.json"
    others = json.loads(asked.read_text())["others"]
    asked.write_text(json.dumps(json.loads(asked.read_text()) | {"others": []}))
    mounts = [f"{DEVICE}=/device", f"{WORKER.parent}=/bench", f"{folder}=/models"]
    guest = ["/device", "/models", name, "1", "no-gc"]
    small = measure(
        [sys.executable, str(ROOT / "tests" / "wasm_host.py"), "/bench/_tree_device.py", *mounts, "--", *guest]
    )
    for layout, answers in made["answers"].items():
        if [got[f"{layout}_answers"], got[f"{layout}_plain_answers"], small[f"{layout}_plain_answers"]] != [
            answers
        ] * 3:
            raise SystemExit(f"{name}: {layout} is not the quantised reference everywhere")

    best = made["chosen"]
    us = got[f"{best}_us"]
    section = model_file.sections_of((folder / f"{name}_{best}.stm").read_bytes())[model_file.FOREST]
    results = {
        f"{name}_us": us,
        f"{name}_bytes": len(section),
        f"{name}_steps": made["steps"],
        f"{name}_alloc_bytes": max(got[f"{layout}_alloc_bytes"] for layout in made["answers"]),
        f"{name}_alloc32_bytes": max(small[f"{layout}_plain_alloc_bytes"] for layout in made["answers"]),
    }
    table = Table("", "µs", "slower by", "heap bytes", title=f"{name}: {len(section)} bytes, {made['why']}")
    for layout in made["answers"]:
        results[f"{name}_{layout}_us"] = got[f"{layout}_us"]
        free = results[f"{name}_alloc_bytes"] == results[f"{name}_alloc32_bytes"] == 0
        heap = "0, 32-bit 0" if free else "allocates"
        table.add_row(layout, f"{got[f'{layout}_us']:.2f}", f"{got[f'{layout}_us'] / us:.1f}", heap)
    for key, kind in {"bytecode": f"{best}_plain", **{other: other for other in others}}.items():
        results[f"{name}_{key}_us"] = got[f"{kind}_us"]
        results[f"{name}_vs_{key}"] = got[f"{kind}_us"] / us
        table.add_row(key, f"{got[f'{kind}_us']:.2f}", f"{got[f'{kind}_us'] / us:.1f}", str(got[f"{kind}_alloc_bytes"]))
    out.print(table)
    return results


if __name__ == "__main__":
    main()
