"""The step that measures the tree engine: `model.score(x)` in a loop, of forests as in tools/bench/tree.py."""

import sys
from statistics import mean
from typing import Any

import numpy as np
from sklearn.ensemble import RandomForestClassifier

from sentill_host.bundle.build import compile_file, is_for, is_native
from sentill_host.models import model_file, quantize
from tests.chip.chip import Chip
from tests.chip.files import make
from tests.chip.run import ROOT, Bench, Numbers

_CLOCK_MHZ = 125
_ARCH = "armv6m"
_MODULES = (
    *("__init__", "compat", "errors"),
    *("risk/model", "risk/model_file", "risk/tree_thumb", "risk/tree_blame_thumb", "risk/tree_check_viper"),
)
_CALLS = 50
_ROWS = 8
_CODE = f"""
import gc
from array import array
from machine import mem32
from sentill.risk.model import Model

def loop(model, x):
    for _ in range({_CALLS}):
        model.score(x)

def time(path, rows, answers):
    model = Model.load(path)
    x = array("h", bytes(2 * model.n_inputs))
    for row, answer in zip(rows, answers):
        x[:] = array("h", row)
        got = model.score(x)
        if got != answer:
            raise ValueError("%s says %d, not %d" % (path, got, answer))
        gc.collect()
        mem32[0x4F000000] = 1
        loop(model, x)
        mem32[0x4F000000] = 2
"""


def trees(bench: Bench) -> Numbers:
    """Microseconds of a score, call and loop included, every answer checked."""
    forests, rows = models()
    made = {f"/sentill/{name}.mpy": _compiled(name) for name in _MODULES}
    chip = Chip(bench.firmware, make({**made, **{f"/{name}.stm": bytes(file) for name, (_, file) in forests.items()}}))
    chip.enter_repl()
    chip.exec(_CODE)
    results = {}
    for name, (forest, _) in forests.items():
        begun = len(chip.marks)
        answers = [forest.evaluate(row)[-1] for row in rows]
        chip.exec(f"time({f'/{name}.stm'!r}, {rows!r}, {answers!r})")
        at = [cycles for _, cycles, _ in chip.marks[begun:]]
        spent = [end - start for start, end in zip(at[::2], at[1::2], strict=True)]
        results[f"tree_{name}_us"] = mean(spent) / _CALLS / _CLOCK_MHZ
        bench.say(f"{name}: {results[f'tree_{name}_us']:.1f} us")
    return results


def _compiled(name: str) -> bytes:
    source = (ROOT / "device" / "sentill" / f"{name}.py").read_bytes()
    assert not is_native(source) or is_for(source, _ARCH)
    return compile_file(f"sentill/{name}.py", source, _ARCH if is_native(source) else "")


def models() -> tuple[dict[str, tuple[quantize.Forest, quantize.PackedModel]], list[list[int]]]:
    """Forests by name, sums and votes, with their files; rows to score."""
    sys.path.insert(0, str(ROOT / "tools" / "bench"))
    from tree import CASES, nested, training_data

    rows, labels = training_data(20_000)
    sample = rows[:_ROWS].tolist()
    found = {}
    for name, (count, depth) in CASES.items():
        options = {"n_estimators": count, "max_depth": depth, "random_state": 3}
        fitted = RandomForestClassifier(**options, bootstrap=count > 1, max_samples=0.9 if count > 1 else None)
        fitted.fit(rows, labels)
        whole, _, _ = quantize.quantize_leaves([nested(tree) for tree in fitted.estimators_], 16)
        votes = [_classes(tree.tree_) for tree in fitted.estimators_]
        forests = {name: quantize.Forest(whole), f"{name}_vote": quantize.Forest(votes, vote=True, outputs=2)}
        for key, forest in forests.items():
            found[key] = forest, quantize.pack_model(forest, review=0, decline=0, layout="wide", rows=sample)
    return found, sample


def _classes(tree: Any, i: int = 0) -> model_file.Tree:
    """One of scikit-learn's trees with the class as leaf."""
    if tree.children_left[i] < 0:
        return int(np.argmax(tree.value[i, 0]))
    left, right = _classes(tree, tree.children_left[i]), _classes(tree, tree.children_right[i])
    return int(tree.feature[i]), quantize.less_equal(tree.threshold[i]), left, right
