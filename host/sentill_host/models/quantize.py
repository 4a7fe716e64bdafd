"""From decision trees to a model file: integers, the layout that is fastest for the model, and a report of both.

Trees are nested tuples `(feature, threshold, left, right)`, `x[feature] < threshold` goes left; a leaf is a number (see
trees.py, whose functions are part of this module's interface).
"""

import json
from binascii import crc32
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from sentill.risk import features as device_features
from sentill.risk.model_file import FACTS
from sentill_host.models import model_file, score_time
from sentill_host.models.model_file import (
    BY_FEATURE,
    BY_RULE,
    BY_TREE,
    FOREST,
    MAX_TREES,
    NOTES,
    RULES,
    SHORT,
    TYPICAL,
    WIDE,
    ModelFileError,
    Tree,
    count_leaves,
    depth,
)
from sentill_host.models.trees import (  # noqa: F401  (part of this module's interface)
    HIGH,
    LOW,
    FloatTree,
    Forest,
    check,
    fitted,
    leaf_values,
    less_equal,
    less_than,
    quantize_leaves,
    simplify,
)

LAYOUTS = {"wide": WIDE, "short": SHORT}
Reasons: TypeAlias = Mapping[str, tuple[str, str]]


@dataclass(frozen=True)
class Overlay:
    """Hard rules evaluated before the forest: the first tree with a leaf other than 0 decides (1 approve, 2 review,
    3 decline). Their inputs are the features and behind them sentill.risk.model_file.FACTS."""

    trees: Sequence[Tree]
    reasons: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Report:
    """What became of a forest. Times are estimates in microseconds per score, by board (see timing)."""

    layout: str
    why: str
    forest_bytes: int
    file_bytes: int
    trees: int
    leaves: int
    max_depth: int
    split: int
    """Trees added because a branch was too large for the layout's one-byte skip."""
    mean_steps: float
    """Comparisons per score on the way through all trees."""
    estimates_us: dict[str, float] = field(default_factory=dict)
    alternatives: dict[str, tuple[int, float]] = field(default_factory=dict)
    """Layouts that were possible: bytes, and microseconds on the slowest board."""


class PackedModel(bytes):
    """A model file, with the `report` of its making."""

    report: Report


def steps(tree: Tree, rows: Sequence[Sequence[int]] | None = None) -> float:
    """Mean number of comparisons to a leaf: over `rows`, or if every comparison were a fair coin."""
    if rows is not None and len(rows):
        return sum(_walked(tree, row) for row in rows) / len(rows)
    return 0.0 if isinstance(tree, int) else 1 + (steps(tree[2]) + steps(tree[3])) / 2


def _walked(tree: Tree, row: Sequence[int]) -> int:
    count = 0
    while not isinstance(tree, int):
        tree = tree[2] if row[tree[0]] < tree[1] else tree[3]
        count += 1
    return count


def _possible(forest: Forest, layout: int) -> str:
    """Why the forest cannot be written in `layout`; empty if it can."""
    leaves = [leaf for tree in forest.trees for leaf in leaf_values(tree)]
    if layout == SHORT and not forest.vote and not (min(leaves) >= -128 and max(leaves) <= 127):
        return "leaves outside int8"
    return ""


@dataclass(frozen=True)
class _Candidate:
    name: str
    forest: Forest
    section: bytes
    steps: float

    def estimate_us(self, board: str) -> float:
        """Estimated time of one score."""
        return score_time.estimate_us(board, len(self.forest.trees), self.steps)


def _candidates(forest: Forest, inputs: int, rows: Sequence[Sequence[int]] | None) -> tuple[list[_Candidate], str]:
    found = []
    refused = []
    for name, layout in LAYOUTS.items():
        why = _possible(forest, layout)
        if why:
            refused.append(f"{name} is not possible ({why})")
            continue
        whole = fitted(forest, layout)
        if len(whole.trees) > MAX_TREES:
            raise ModelFileError(f"{len(whole.trees)} trees, at most {MAX_TREES} fit")
        owners = whole.owner_list()
        section = model_file.encode_forest(whole.trees, owners, whole.outputs, whole.vote, layout, inputs)
        found.append(_Candidate(name, whole, section, sum(steps(tree, rows) for tree in whole.trees)))
    return found, "; ".join(refused)


def _choose(candidates: Sequence[_Candidate], max_bytes: int | None) -> tuple[_Candidate, str]:
    """The fastest candidate within `max_bytes`; a larger one must save at least a tenth of the time."""
    small = [c for c in candidates if max_bytes is None or len(c.section) <= max_bytes]
    if not small:
        least = min(len(c.section) for c in candidates)
        raise ModelFileError(f"the forest takes {least} bytes at least, more than the {max_bytes} allowed")
    best, *others = sorted(small, key=lambda c: (len(c.section), c.estimate_us(score_time.SLOWEST)))
    fastest = min(small, key=lambda c: c.estimate_us(score_time.SLOWEST))
    why = (
        "smallest and fastest"
        if best.estimate_us(score_time.SLOWEST) <= fastest.estimate_us(score_time.SLOWEST)
        else (f"smallest, and less than a tenth slower than {fastest.name}")
    )
    for other in others:
        ratio = best.estimate_us(score_time.SLOWEST) / other.estimate_us(score_time.SLOWEST)
        if ratio >= 1.1:
            size = len(other.section) / len(best.section)
            why = f"{ratio:.1f} times as fast as {best.name} for {size:.1f} times the bytes"
            best = other
    return best, why


def lowest_row(forest: Forest, inputs: int) -> list[int]:
    """A row with a low score, found feature by feature over the thresholds, from zeros: what explanations compare with
    when the trainer names no typical row."""
    cuts: dict[int, set[int]] = {}

    def collect(tree: Tree) -> None:
        if isinstance(tree, tuple):
            cuts.setdefault(tree[0], set()).update((max(LOW, tree[1] - 1), min(HIGH, tree[1])))
            collect(tree[2])
            collect(tree[3])

    for tree in forest.trees:
        collect(tree)
    row = [0] * inputs
    for feature, values in sorted(cuts.items()):
        spread = sorted(values | {0})
        tried = spread[:: max(1, len(spread) // 64)]
        row[feature] = min(tried, key=lambda value: forest.evaluate([*row[:feature], value, *row[feature + 1 :]])[-1])
    return row


def pack_model(
    forest: Forest | Sequence[Tree],
    *,
    review: int,
    decline: int,
    feature_names: Sequence[str] | None = None,
    schema_id: int | None = None,
    reasons: Reasons | None = None,
    tree_reasons: Sequence[tuple[str, str]] | None = None,
    typical: Sequence[int] | None = None,
    layout: str = "auto",
    max_bytes: int | None = None,
    rows: Sequence[Sequence[int]] | None = None,
    overlay: Overlay | None = None,
    notes: Mapping[str, Any] | None = None,
) -> PackedModel:
    """A model file, checked with the device's own code, with its `report`.

    forest: a Forest, or trees of a sum. review, decline: a score from there on is reviewed, declined.
    feature_names, schema_id: those of sentill.risk.features unless given; other names get the CRC-32 of the joined
    names. reasons: code and text by feature name; a feature without one is its own code.
    tree_reasons: code and text per tree instead, for a hand-written forest.
    typical: a row of ordinary, genuine values, which explanations compare with; lowest_row by default.
    layout: "wide", "short" (int8 leaves), or "auto": the one estimated fastest. max_bytes: limit of the forest section.
    rows: sample rows for that estimate.
    overlay: hard rules. notes: anything JSON can carry, for people.
    ModelFileError says what does not fit.
    """
    if not isinstance(forest, Forest):
        forest = Forest(forest)
    names = tuple(device_features.NAMES if feature_names is None else feature_names)
    if schema_id is None:
        own = names == tuple(device_features.NAMES)
        schema_id = device_features.SCHEMA_ID if own else crc32(",".join(names).encode())
    if not forest.trees:
        raise ModelFileError("a forest needs at least one tree")
    if not 1 <= len(names) <= 255:
        raise ModelFileError(f"{len(names)} features; 1 to 255 fit")
    if not 1 <= forest.outputs <= 255:
        raise ModelFileError(f"{forest.outputs} outputs; 1 to 255 fit")
    if not -(2**30) < review <= decline < 2**30:
        raise ModelFileError(f"thresholds {review} (review) and {decline} (decline) must ascend within ±2^30")
    low, high = (0, forest.outputs - 1) if forest.vote else (LOW, HIGH)
    for tree in forest.trees:
        check(tree, len(names), low, high)
    if tree_reasons is None:
        forest = replace(forest, trees=[simplify(tree) for tree in forest.trees])
    chosen, why = _pick(forest, len(names), layout, max_bytes, rows)

    sections = {FOREST: chosen.section}
    if tree_reasons is not None:
        if len(tree_reasons) != len(chosen.forest.trees):
            raise ModelFileError(f"{len(tree_reasons)} reasons for {len(chosen.forest.trees)} trees")
        sections[BY_TREE] = model_file.reason_table(tree_reasons)
    else:
        unknown = sorted(set(reasons or {}) - set(names))
        if unknown:
            raise ModelFileError(f"reasons for unknown features: {', '.join(unknown)}")
        row = lowest_row(forest, len(names)) if typical is None else [int(value) for value in typical]
        if len(row) != len(names) or not all(LOW <= value <= HIGH for value in row):
            raise ModelFileError(f"the typical row must have {len(names)} values of int16")
        sections[TYPICAL] = b"".join(value.to_bytes(2, "little", signed=True) for value in row)
        sections[BY_FEATURE] = model_file.reason_table([(reasons or {}).get(name, (name, "")) for name in names])
    if overlay is not None:
        sections |= overlay_sections(overlay, len(names))
    text = json.dumps({**(notes or {}), "features": names}, separators=(",", ":"), sort_keys=True).encode()
    sections[NOTES] = text + b" " * (len(text) & 1)
    data = model_file.assemble(
        schema_id=schema_id, review=review, decline=decline, features=len(names), sections=sections
    )
    model_file.read(data)  # what the board would refuse is refused here

    packed = PackedModel(data)
    trees = chosen.forest.trees
    candidates, _ = _candidates(forest, len(names), rows)
    packed.report = Report(
        layout=model_file.layout_name(chosen.section[5]),
        why=why,
        forest_bytes=len(chosen.section),
        file_bytes=len(data),
        trees=len(trees),
        leaves=sum(count_leaves(tree) for tree in trees),
        max_depth=max(depth(tree) for tree in trees),
        split=len(trees) - len(forest.trees),
        mean_steps=chosen.steps,
        estimates_us={board: chosen.estimate_us(board) for board in score_time.BOARDS},
        alternatives={c.name: (len(c.section), c.estimate_us(score_time.SLOWEST)) for c in candidates},
    )
    return packed


def _pick(
    forest: Forest, inputs: int, layout: str, max_bytes: int | None, rows: Sequence[Sequence[int]] | None
) -> tuple[_Candidate, str]:
    if layout not in ("auto", *LAYOUTS):
        raise ModelFileError(f"no layout {layout!r}; there are auto, {', '.join(LAYOUTS)}")
    candidates, refused = _candidates(forest, inputs, rows)
    if layout == "auto":
        chosen, why = _choose(candidates, max_bytes)
        return chosen, f"{chosen.name}: {why}" + (f"; {refused}" if refused else "")
    named = [c for c in candidates if c.name == layout]
    if not named:
        raise ModelFileError(refused)
    return _choose(named, max_bytes)[0], "as asked"


def overlay_sections(overlay: Overlay, features: int) -> dict[int, bytes]:
    """The sections of hard rules over so many features and the facts; none for an empty overlay."""
    if not overlay.trees:
        return {}
    inputs = features + len(FACTS)
    for tree in overlay.trees:
        check(tree, inputs, 0, 3)
    if len(overlay.reasons) != len(overlay.trees):
        raise ModelFileError(f"{len(overlay.reasons)} reasons for {len(overlay.trees)} rules")
    section = model_file.encode_forest(overlay.trees, [0] * len(overlay.trees), 4, True, WIDE, inputs)
    return {RULES: section, BY_RULE: model_file.reason_table(overlay.reasons)}
