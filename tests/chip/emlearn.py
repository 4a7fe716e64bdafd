"""The step that compares with emlearn's C module for trees, which the user gives: the same forests and rows."""

from collections.abc import Iterator
from statistics import mean
from typing import Any

from tests.chip.chip import Chip
from tests.chip.files import make
from tests.chip.run import Bench, Numbers
from tests.chip.trees import models

_CLOCK_MHZ = 125
_CALLS = 50
_CODE = f"""
import emlearn_trees, gc
from array import array
from machine import mem32

def loop(model, x, out):
    for _ in range({_CALLS}):
        model.predict(x, out)

def time(path, trees, nodes, leaves, rows, answers):
    model = emlearn_trees.new(trees, nodes, leaves)
    with open(path) as file:
        emlearn_trees.load_model(model, file)
    out = array("f", [0.0, 0.0])
    for row, answer in zip(rows, answers):
        x = array("h", row)
        model.predict(x, out)
        got = round(out[1] * trees)
        if got != answer:
            raise ValueError("%s says %d, not %d" % (path, got, answer))
        gc.collect()
        mem32[0x4F000000] = 1
        loop(model, x, out)
        mem32[0x4F000000] = 2
"""


def emlearn(bench: Bench) -> Numbers:
    """Microseconds of emlearn's predict, call and loop included, as the step `trees` has them of ours."""
    assert bench.options.emlearn
    forests, rows = models()
    tables = {name: list(_table(forest.trees)) for name, (forest, _) in forests.items() if name.endswith("_vote")}
    content = {f"{name}.csv": "".join(lines).encode() for name, lines in tables.items()}
    chip = Chip(bench.firmware, make({**content, "emlearn_trees.mpy": bench.options.emlearn.read_bytes()}))
    chip.enter_repl()
    chip.exec(_CODE)
    results = {}
    for name, lines in tables.items():
        forest = forests[name][0]
        begun = len(chip.marks)
        answers = [forest.evaluate(row)[-1] for row in rows]
        counts = [sum(line[0] == kind for line in lines) for kind in "rnl"]
        chip.exec(f"time({f'/{name}.csv'!r}, {', '.join(map(str, counts))}, {rows!r}, {answers!r})")
        at = [cycles for _, cycles, _ in chip.marks[begun:]]
        spent = [end - start for start, end in zip(at[::2], at[1::2], strict=True)]
        results[f"emlearn_{name}_us"] = mean(spent) / _CALLS / _CLOCK_MHZ
        bench.say(f"{name}: {results[f'emlearn_{name}_us']:.1f} us")
    return results


def _table(trees: Any) -> Iterator[str]:
    """A forest in emlearn's own text: nodes whose children are counted from them on, or leaves below 0."""
    nodes: list[str] = []
    roots: list[int] = []

    def add(tree: Any) -> int:
        if not isinstance(tree, tuple):
            return -1 - int(tree)  # the leaf with the number of its class
        feature, threshold, left, right = tree
        at = len(nodes)
        nodes.append("")
        children = [add(child) for child in (left, right)]
        steps = [child - at if child >= 0 else child for child in children]
        nodes[at] = f"n,{feature},{threshold},{steps[0]},{steps[1]}\n"
        return at

    for tree in trees:
        roots.append(add(tree))
    yield "f,12\n"
    yield "c,2\n"
    yield from (f"l,{leaf}\n" for leaf in (0, 1))
    yield from (f"r,{root}\n" for root in roots)
    yield from nodes
