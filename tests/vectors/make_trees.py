"""Write the golden model files tree_*.stm and tree_answers.json: what every interpreter must answer for them.

    python tests/vectors/make_trees.py

The answers come from the trees before they were packed, by the definition in sentill_host.models.model_file.evaluate.
"""

import json
import random
from pathlib import Path

from sentill_host.models import model_file, quantize
from sentill_host.models.quantize import Forest, Overlay, PackedModel

FOLDER = Path(__file__).resolve().parent
NAMES = ("a", "b", "c", "d", "e")
TYPICAL = (0, 10, -10, 100, -100)
ROWS = 40
Tree = model_file.Tree


def tree(dice: random.Random, depth: int, low: int, high: int, stop: float = 0.15) -> Tree:
    """A random tree; thresholds reach the ends of int16."""
    if depth == 0 or dice.random() < stop:
        return dice.randint(low, high)
    threshold = dice.choice([dice.randint(-300, 300), dice.randint(-300, 300), -32_767, 32_767, 0])
    return (
        dice.randrange(len(NAMES)),
        threshold,
        tree(dice, depth - 1, low, high, stop),
        tree(dice, depth - 1, low, high, stop),
    )


def full(dice: random.Random, depth: int, ranges: list[tuple[int, int]]) -> Tree:
    """A tree with all 2**depth leaves: every comparison halves what is left of a feature's range."""
    if depth == 0:
        return dice.randint(-100, 100)
    feature = depth % len(NAMES)
    low, high = ranges[feature]
    middle = (low + high) // 2
    below, above = ([*ranges[:feature], half, *ranges[feature + 1 :]] for half in ((low, middle), (middle, high)))
    return feature, middle, full(dice, depth - 1, below), full(dice, depth - 1, above)


def models() -> dict[str, tuple[Forest, PackedModel]]:
    """The forests by name, and their files."""
    dice = random.Random(7)
    overlay = Overlay([(5, 1000, 0, 3), (8, 1, 0, (0, 100, 1, 2))], [("LIMIT", "Amount limit"), ("BLOCKED", "Größe")])
    sums = [tree(dice, 6, -30_000, 30_000) for _ in range(7)]
    small = [tree(dice, 5, -128, 127) for _ in range(9)]
    even = [tree(dice, 4, -32_768, 32_767, 0.0) for _ in range(5)]
    votes = [tree(dice, 5, 0, 2) for _ in range(11)]
    outputs = [tree(dice, 4, -500, 500) for _ in range(6)]
    large = full(dice, 9, [(-300, 300)] * len(NAMES))
    cases = {
        "wide": (Forest(sums), "wide", None),
        "short": (Forest(small), "short", overlay),
        "even": (Forest(even), "wide", overlay),
        "votes": (Forest(votes, vote=True, outputs=3), "short", None),
        "outputs": (Forest(outputs, outputs=2, owners=[0, 1] * 3), "wide", None),
        "split": (Forest([large]), "wide", None),
    }
    packed = {}
    for name, (forest, layout, rules) in cases.items():
        file = quantize.pack_model(
            forest,
            review=100,
            decline=2000,
            feature_names=NAMES,
            typical=TYPICAL,
            reasons={"a": ("A_CODE", "The first feature"), "d": ("D", "")},
            layout=layout,
            overlay=rules,
        )
        packed[name] = forest, file
    return packed


def rows() -> list[list[int]]:
    """Inputs: features and the four facts."""
    dice = random.Random(8)
    edges = [-32_768, -32_767, -1, 0, 1, 99, 100, 32_766, 32_767]
    return [
        [dice.choice([dice.randint(-310, 310), dice.choice(edges)]) for _ in NAMES]
        + [dice.choice([0, 999, 1000, 5000]), dice.randrange(24), dice.randrange(7), dice.randrange(2)]
        for _ in range(ROWS)
    ]


def expected_rule(row: list[int]) -> tuple[int, int]:
    """Index and verdict of the hard rule of `models` that applies to a row; -1, -1 without one."""
    if row[5] >= 1000:
        return 0, 2
    if row[8] >= 1:
        return 1, 0 if row[0] < 100 else 1
    return -1, -1


def expected_weights(forest: Forest, row: list[int]) -> list[int]:
    """What Model.explain must find, written from its description."""
    weights = [0] * len(NAMES)
    for tree, owner in zip(forest.trees, forest.owner_list(), strict=True):
        leaf, base = model_file.evaluate(tree, row), model_file.evaluate(tree, TYPICAL)
        if forest.vote:
            leaf, base = int(leaf == forest.outputs - 1), int(base == forest.outputs - 1)
        elif owner != forest.outputs - 1:
            continue
        parted = set()
        while isinstance(tree, tuple):
            feature, threshold, left, right = tree
            if (row[feature] < threshold) != (TYPICAL[feature] < threshold):
                parted.add(feature)
            tree = left if row[feature] < threshold else right
        for feature in parted:
            weights[feature] += leaf - base
    return weights


def answers() -> dict[str, object]:
    """The content of tree_answers.json."""
    result: dict[str, object] = {"rows": rows()}
    for name, (forest, file) in models().items():
        hard = model_file.read(file).rules is not None
        # Weights are defined by the trees in the file: splitting a tree, or leaving out comparisons, changes them.
        decoded = model_file.read(file).forest
        kept = Forest(decoded.trees, decoded.vote, decoded.outputs, decoded.owners)
        result[name] = [
            [forest.evaluate(row), *(expected_rule(row) if hard else (-1, -1)), expected_weights(kept, row)]
            for row in rows()
        ]
    return result


def files() -> dict[str, bytes]:
    """All files by name."""
    made: dict[str, bytes] = {f"tree_{name}.stm": bytes(file) for name, (_, file) in models().items()}
    made["tree_answers.json"] = (json.dumps(answers(), separators=(",", ":")) + "\n").encode()
    return made


if __name__ == "__main__":
    for name, data in files().items():
        (FOLDER / name).write_bytes(data)
