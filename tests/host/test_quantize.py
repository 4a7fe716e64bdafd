"""Packing trees: the same function before and after, layouts and their choice, limits, golden files, hostile files."""

import math
import random
import struct
from array import array
from binascii import crc32
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentill.errors import ModelError
from sentill.risk.features import NAMES, SCHEMA_ID
from sentill.risk.model import Model
from sentill_host.models import model_file, quantize, score_time
from sentill_host.models.model_file import ModelFileError
from sentill_host.models.quantize import Forest, Overlay
from tests.interpreters import DEVICE
from tests.vectors import make_trees

THRESHOLDS = {"review": 10, "decline": 20}


def full(depth: int, dice: random.Random, high: int = 100, features: int = 12) -> model_file.Tree:
    """A tree with all leaves and none that cannot be reached."""

    def build(levels: int, ranges: list[tuple[int, int]]) -> model_file.Tree:
        if levels == 0:
            return dice.randint(-high, high)
        feature = dice.choice([i for i, (a, b) in enumerate(ranges) if b - a > 4])
        low, top = ranges[feature]
        cut = dice.randint(low + 2, top - 2)
        halves = []
        for half in ((low, cut), (cut, top)):
            halves.append(build(levels - 1, [*ranges[:feature], half, *ranges[feature + 1 :]]))
        return feature, cut, halves[0], halves[1]

    return build(depth, [(-30_000, 30_000)] * features)


def same_scores(forest: Forest, data: bytes, rows: int = 200, seed: int = 1) -> None:
    dice = random.Random(seed)
    model = Model.from_bytes(data)
    x = array("h", bytes(2 * model.n_inputs))
    votes = [0] * model.n_outputs
    for _ in range(rows):
        for i in range(len(x)):
            x[i] = dice.choice([dice.randint(-32_768, 32_767), dice.randint(-100, 100)])
        expected = forest.evaluate(x)
        model.votes(x, votes)
        assert (votes, model.score(x)) == (expected, expected[-1])


def test_golden_files_are_current():
    for name, data in make_trees.files().items():
        assert (make_trees.FOLDER / name).read_bytes() == data, "run tests/vectors/make_trees.py"


@pytest.mark.parametrize("layout", ["auto", "wide", "short"])
def test_every_layout_is_the_same_function(layout):
    dice = random.Random(2)
    forest = Forest([full(dice.randint(0, 6), dice) for _ in range(8)])
    data = quantize.pack_model(forest, layout=layout, **THRESHOLDS)
    same_scores(forest, data)
    if layout != "auto":
        assert data.report.layout.startswith(layout)


@pytest.mark.parametrize("layout", ["wide", "short"])
@pytest.mark.parametrize("depth", [9, 11])
def test_large_trees_are_split(layout, depth):
    forest = Forest([full(depth, random.Random(depth))])
    data = quantize.pack_model(forest, layout=layout, **THRESHOLDS)
    assert data.report.split > 0
    same_scores(forest, data)


def test_a_large_vote_tree_becomes_sums_with_the_same_votes():
    dice = random.Random(3)
    trees = [full(9, dice, high=0) for _ in range(2)]

    def label(tree: model_file.Tree) -> model_file.Tree:
        return (*tree[:2], label(tree[2]), label(tree[3])) if isinstance(tree, tuple) else dice.randrange(3)

    forest = Forest([label(tree) for tree in trees], vote=True, outputs=3)
    same_scores(forest, quantize.pack_model(forest, layout="wide", **THRESHOLDS))


def test_thousands_of_nodes_in_many_trees():
    dice = random.Random(4)
    forest = Forest([full(6, dice, 30_000) for _ in range(60)])
    data = quantize.pack_model(forest, **THRESHOLDS)
    assert data.report.leaves > 3000
    same_scores(forest, data, 50)


def test_a_lopsided_tree_is_no_problem_on_the_left_and_is_split_on_the_right():
    left: model_file.Tree = 0
    right: model_file.Tree = 0
    for i in range(150):
        left = (0, i, left, i % 100)
        right = (0, 1000 - i, i % 100, right)
    for tree in (left, right):
        forest = Forest([tree])
        data = quantize.pack_model(forest, layout="wide", **THRESHOLDS)
        x = array("h", bytes(24))
        model = Model.from_bytes(data)
        for value in range(-5, 1005):
            x[0] = value
            assert model.score(x) == forest.evaluate(x)[0]


def test_the_choice_of_a_layout_is_reported():
    dice = random.Random(5)
    fine = quantize.pack_model([full(6, dice, 30_000) for _ in range(50)], **THRESHOLDS).report
    assert fine.layout == "wide"
    assert "smallest and fastest" in fine.why and "short is not possible" in fine.why
    assert fine.estimates_us.keys() == score_time.BOARDS.keys()
    coarse = quantize.pack_model([full(6, dice, 120) for _ in range(50)], **THRESHOLDS).report
    assert (coarse.layout, coarse.why) == ("short", "short: smallest and fastest"), coarse
    # Trees of 256 leaves have to be split for the shorter skips.
    large = [full(8, dice, 120) for _ in range(20)]
    split = quantize.pack_model(large, **THRESHOLDS).report
    assert (split.layout, "times as fast as short" in split.why) == ("wide", True), split
    limited = quantize.pack_model(large, max_bytes=split.forest_bytes - 1, **THRESHOLDS).report
    assert (limited.layout, limited.split > 0) == ("short", True), limited


def test_known_comparisons_are_left_out():
    assert quantize.simplify((0, -32_768, 1, 2)) == 2
    assert quantize.simplify((0, 32_768, 1, 2)) == 1
    assert quantize.simplify((0, 5, (0, 9, 1, 7), 2)) == (0, 5, 1, 2)
    assert quantize.simplify((0, 5, (1, 3, 4, 4), 4)) == 4


@given(st.floats(-1000, 1000), st.integers(-1100, 1100))
def test_real_thresholds_become_integers_without_loss(threshold, x):
    assert (x < quantize.less_than(threshold)) == (x < threshold)
    assert (x < quantize.less_equal(threshold)) == (x <= threshold)


def test_leaves_become_integers_with_the_loss_reported():
    trees: list[quantize.FloatTree] = [(0, 5, 0.25, (1, 2, -1.0, 0.5)), 0.13]
    for bits in (8, 16):
        whole, scale, error = quantize.quantize_leaves(trees, bits, base=0.4)
        top = max(abs(leaf) for tree in whole for leaf in quantize.leaf_values(tree))
        assert top == 2 ** (bits - 1) - 1
        for row in ([0, 0], [9, 0], [9, 9]):
            real = (0.25 if row[0] < 5 else -1.0 if row[1] < 2 else 0.5) + 0.13 + 0.4
            got = sum(model_file.evaluate(tree, row) for tree in whole) / scale
            assert math.isclose(got, real, abs_tol=error + 1e-12), (row, got, real, error)
        assert 0 < error <= 1 / scale


def test_defaults_are_those_of_the_device():
    data = quantize.pack_model([(0, 5, 1, 2)], reasons={"F_runf": ("RUN", "Frauds in a row")}, **THRESHOLDS)
    contents = model_file.read(data)
    assert contents.model.schema_id == SCHEMA_ID
    assert contents.feature_names == NAMES
    assert contents.model.reasons == ("L_amt", "RUN", *NAMES[2:])
    assert contents.model.text(1) == "Frauds in a row"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"trees": []}, "at least one tree"),
        ({"trees": [(12, 0, 1, 2)]}, "feature 12 of 12"),
        ({"trees": [(0, 0.5, 1, 2)]}, "no integer"),
        ({"trees": [40_000]}, "outside"),
        ({"trees": [(0, 0, 1, 300)], "layout": "short"}, "int8"),
        ({"layout": "tall"}, "no layout 'tall'"),
        ({"review": 30}, "ascend"),
        ({"typical": [0] * 11}, "typical row"),
        ({"reasons": {"nonsense": ("A", "")}}, "nonsense"),
        ({"reasons": {"L_amt": ("A B", "")}}, "letters"),
        ({"reasons": {"L_amt": ("A", "x" * 256)}}, "256 bytes"),
        ({"max_bytes": 10}, "more than the 10 allowed"),
        ({"tree_reasons": [("A", ""), ("B", "")]}, "2 reasons for 1"),
        ({"overlay": Overlay([(0, 0, 1, 4)], [("A", "")])}, "leaf 4"),
        ({"overlay": Overlay([(16, 0, 1, 3)], [("A", "")])}, "feature 16 of 16"),
    ],
)
def test_what_does_not_fit_is_said(change, message):
    arguments = {"trees": [(0, 5, 1, 2)], **THRESHOLDS, **change}
    with pytest.raises(ModelFileError, match=message):
        quantize.pack_model(arguments.pop("trees"), **arguments)


def test_a_file_can_carry_a_signature_that_leaves_its_id_alone():
    data = quantize.pack_model([(0, 5, 1, 2)], **THRESHOLDS)
    (body,) = struct.unpack_from("<I", data, 48)
    signed = model_file.seal(data[52 : 48 + body], b"signature of 32 bytes, or more..")
    a, b = Model.from_bytes(data), Model.from_bytes(signed)
    assert (a.signature, b.signature) == (b"", b"signature of 32 bytes, or more..")
    assert (a.model_id, a.digest) == (b.model_id, b.digest)


# --- hostile files ---


def resealed(data: bytearray) -> bytes:
    """The file with checksums that match whatever its body has become."""
    (body,) = struct.unpack_from("<I", data, 48)
    data[8:12] = struct.pack("<I", len(data))
    data[16:48] = sha256(data[48 : 48 + body]).digest()
    data[12:16] = struct.pack("<I", crc32(data[16:]))
    return bytes(data)


def mutant(dice: random.Random, data: bytes) -> bytes:
    """A file with a few changes in its body, and checksums that match."""
    changed = bytearray(data)
    for _ in range(dice.choice([1, 1, 2, 3, 6])):
        at = dice.randrange(48, len(changed))
        kind = dice.randrange(5)
        if kind == 0:
            changed[at] ^= 1 << dice.randrange(8)
        elif kind == 1:
            changed[at] = dice.choice([0, 1, 2, 3, 127, 128, 254, 255])
        elif kind == 2:
            changed[at] = dice.randrange(256)
        elif kind == 3 and len(changed) > 120:
            cut = 2 * dice.randint(1, 6)
            del changed[at : at + cut]
        else:
            changed[at:at] = bytes(dice.randrange(256) for _ in range(2 * dice.randint(1, 4)))
    if dice.random() < 0.7 and len(changed) >= 52:  # otherwise the declared size of the body is off as well
        changed[48:52] = struct.pack("<I", len(changed) - 48)
    return resealed(changed) if len(changed) >= 52 else bytes(changed)


def seeds() -> list[bytes]:
    """Small files of every kind, so that most changes hit the forests."""
    dice = random.Random(6)
    names = ("a", "b", "c")
    common = {"feature_names": names, "typical": (0, 0, 0), **THRESHOLDS}
    overlay = Overlay([(3, 1000, 0, 3), (6, 1, 0, (0, 100, 1, 2))], [("L", ""), ("B", "")])
    sums = [full(3, dice, 100, 3) for _ in range(3)]
    return [
        bytes(quantize.pack_model(sums, layout="wide", **common)),
        bytes(quantize.pack_model(sums, layout="short", overlay=overlay, **common)),
        bytes(quantize.pack_model(Forest([(0, 1, 0, (1, 5, 1, 2))] * 3, vote=True, outputs=3), **common)),
        bytes(quantize.pack_model(Forest(sums, outputs=2, owners=[0, 1, 1]), layout="wide", **common)),
        bytes(quantize.pack_model(sums, layout="wide", tree_reasons=[("A", ""), ("B", ""), ("C", "")], **common)),
    ]


def mutants(count: int, seed: int) -> list[bytes]:
    """Hostile files, by seed."""
    dice = random.Random(seed)
    files = seeds()
    return [mutant(dice, dice.choice(files)) for _ in range(count)]


def reference(data: bytes, rows: list[list[int]]) -> list[int]:
    """Scores of an accepted file by its trees, read with code that checks every index."""
    forest = model_file.read(data).forest
    return [Forest(forest.trees, forest.vote, forest.outputs, forest.owners).evaluate(row)[-1] for row in rows]


def rows_for(seed: int) -> list[list[int]]:
    """A few rows for 255 features and the facts: a mutant may declare more features than its seed had."""
    dice = random.Random(seed)
    return [[dice.choice([dice.randint(-32_768, 32_767), dice.randint(-9, 9)]) for _ in range(259)] for _ in range(3)]


class Guarded(list):
    """Stands for the words of a file: negative indices, which Python would wrap, are out of bounds as well."""

    def __getitem__(self, at):
        if isinstance(at, int) and at < 0:
            raise IndexError(at)
        return super().__getitem__(at)


def test_twenty_thousand_hostile_files_are_refused_or_answer_as_the_reference():
    codes: dict[str, int] = {}
    accepted = 0
    rows = rows_for(1)
    x = array("h", rows[0])
    for data in mutants(20_000, seed=11):
        try:
            model = Model.from_bytes(data)
        except ModelError as error:
            codes[error.code] = codes.get(error.code, 0) + 1
            continue
        accepted += 1
        model.words = Guarded(model.words)
        try:
            expected = reference(data, rows)
        except ModelFileError as error:
            assert "notes" in str(error), error
            continue
        for row, score in zip(rows, expected, strict=True):
            x[:] = array("h", row)
            assert model.score(x) == score
            model.rule(x)
            model.explain(x)
    assert accepted > 1000, accepted
    assert {"size", "sections", "forest", "tree", "node", "leaf", "reasons", "header"} <= codes.keys(), codes


@pytest.mark.parametrize("name", ["unix", "unix-mpy"])
def test_hostile_files_on_the_unix_port(interpreters, name):
    """The native validator and kernels: refused for the same reason, or the reference's scores, and no crash.

    Few files per request: the child reads a request as one line, and a board's heap has no large room for it.
    """
    child = interpreters[name]
    rows = rows_for(2)
    packed = struct.pack(f"<{3 * 259}h", *[value for row in rows for value in row])
    accepted = 0
    for seed in range(500):
        batch = mutants(8, seed)
        data = b"".join(struct.pack("<H", len(file)) + file for file in batch)
        answers = child.call("_drive_models:judge", data, packed)
        for file, answer in zip(batch, answers, strict=True):
            try:
                Model.from_bytes(file)
            except ModelError as error:
                assert answer == error.code, (answer, error.code, file.hex())
                continue
            accepted += 1
            assert isinstance(answer, list), (answer, file.hex())
            try:
                assert answer == reference(file, rows), file.hex()
            except ModelFileError as error:
                assert "notes" in str(error), error
    assert accepted > 200, accepted


@pytest.mark.parametrize("name", ["wide", "short", "profile.stm", "local.stm"])
def test_fifty_thousand_rows_on_the_unix_port(interpreters, name):
    """Integer inference there equals the quantised reference on every row: every layout, and the shipped models."""
    if name in quantize.LAYOUTS:
        forest = Forest([full(6, random.Random(9), 120) for _ in range(12)])
        data = bytes(quantize.pack_model(forest, layout=name, **THRESHOLDS))
        ranges = [(-32_768, 32_767)] * 12
    else:
        data = (DEVICE / "models" / name).read_bytes()
        forest = Forest(model_file.read(data).forest.trees)
        ranges = [cut_range(forest, feature) for feature in range(12)]
    child = interpreters["unix"]
    asked = 0
    for seed in range(22 if name in quantize.LAYOUTS else 100):
        dice = random.Random(seed)
        values = array("h", [dice.randint(*ranges[i % 12]) for i in range(12 * 500)])
        got = array("i", child.call("_drive_models:scores", data, values.tobytes()))
        rows = [values[i : i + 12] for i in range(0, len(values), 12)]
        assert got.tolist() == [forest.evaluate(row)[0] for row in rows], seed
        asked += len(rows)
        assert len(set(got)) > 10, "the rows end in few leaves"
    assert asked >= (11_000 if name in quantize.LAYOUTS else 50_000)


def cut_range(forest: Forest, feature: int) -> tuple[int, int]:
    """Where the forest parts the values of a feature, and a little more."""

    def cuts(tree: model_file.Tree) -> list[int]:
        if isinstance(tree, int):
            return []
        return [tree[1]] * (tree[0] == feature) + cuts(tree[2]) + cuts(tree[3])

    found = [cut for tree in forest.trees for cut in cuts(tree)] or [0]
    return max(-32_768, min(found) - 20), min(32_767, max(found) + 20)


@settings(max_examples=200)
@given(st.binary(max_size=400))
def test_any_bytes_are_refused(data):
    with pytest.raises(ModelError):
        Model.from_bytes(data)
    with pytest.raises(ModelError):
        Model.from_bytes(b"STM1\x01\x00\x00\x00" + data)
