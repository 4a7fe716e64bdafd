"""Models are accepted, refused and scored alike on every interpreter, by native and by plain kernels."""

import struct
import zlib
from hashlib import sha256
from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st

from sentill_host.models import model_file

FEATURES = 4

int16 = st.one_of(st.integers(-32_768, 32_767), st.sampled_from([-32_768, -1, 0, 1, 32_767]))
rows = st.lists(st.lists(int16, min_size=FEATURES, max_size=FEATURES), min_size=1, max_size=12)
codes = st.lists(
    st.tuples(st.text("ABCxyz019_", min_size=1, max_size=16), st.text(max_size=9)), min_size=FEATURES, max_size=FEATURES
)


def trees(leaves: st.SearchStrategy[int], inputs: int, depth: int) -> st.SearchStrategy[Any]:
    """Nested tuples (feature, threshold, left, right) with up to `depth` comparisons on a path."""
    tree: st.SearchStrategy[Any] = leaves
    for _ in range(depth):
        tree = st.one_of(leaves, st.tuples(st.integers(0, inputs - 1), int16, tree, tree))
    return tree


@st.composite
def models(draw: st.DrawFn) -> tuple[bytes, list[Any], list[int], int, bool]:
    """A model file, and its trees, their outputs, the number of outputs and whether they vote."""
    layout = draw(st.sampled_from([model_file.WIDE, model_file.SHORT]))
    outputs = draw(st.integers(1, 3))
    vote = draw(st.booleans())
    low, high = (0, outputs - 1) if vote else (-128, 127) if layout == model_file.SHORT else (-32_768, 32_767)
    forest = draw(st.lists(trees(st.integers(low, high), FEATURES, 4), min_size=1, max_size=6))
    owners = [0 if vote else draw(st.integers(0, outputs - 1)) for _ in forest]
    sections = {model_file.FOREST: model_file.encode_forest(forest, owners, outputs, vote, layout, FEATURES)}
    if not vote and outputs == 1 and draw(st.booleans()):
        sections[model_file.BY_TREE] = model_file.reason_table([(f"T{i}", "") for i in range(len(forest))])
    else:
        sections[model_file.BY_FEATURE] = model_file.reason_table(draw(codes))
        sections[model_file.TYPICAL] = struct.pack(f"<{FEATURES}h", *draw(st.tuples(*[int16] * FEATURES)))
    if draw(st.booleans()):
        inputs = FEATURES + 4
        rules = draw(st.lists(trees(st.integers(0, 3), inputs, 3), min_size=1, max_size=3))
        sections[model_file.RULES] = model_file.encode_forest(rules, [0] * len(rules), 4, True, model_file.WIDE, inputs)
        sections[model_file.BY_RULE] = model_file.reason_table([(f"R{i}", "rule") for i in range(len(rules))])
    review, decline = sorted(draw(st.tuples(st.integers(-(2**30) + 1, 2**30 - 1), st.integers(-200, 200))))
    schema = draw(st.integers(0, 2**32 - 1))
    data = model_file.assemble(schema_id=schema, review=review, decline=decline, features=FEATURES, sections=sections)
    return data, forest, owners, outputs, vote


@given(models(), rows)
def test_scores_follow_the_definition_everywhere(same, model, rows):
    data, forest, owners, outputs, vote = model
    kind, value = same("_drive_tree:ask", data, rows)
    assert kind == "value" and not isinstance(value, str), value
    for row, (answer, _, _, _) in zip(rows, value[1], strict=True):
        wanted = [0] * outputs
        for tree, owner in zip(forest, owners, strict=True):
            leaf = model_file.evaluate(tree, row)
            wanted[leaf if vote else owner] += 1 if vote else leaf
        assert answer[:2] == [wanted[-1], wanted], (row, answer, wanted)


@given(models(), st.data(), rows)
def test_damaged_models_with_right_checksums(same, model, data, rows):
    """A changed body under a renewed hash and CRC: refused alike or scored alike, and no kernel leaves its bounds."""
    file = bytearray(model[0])
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(48, len(file) - 1))
        file[at] = data.draw(st.sampled_from([0, 1, 2, 3, 127, 128, 255, file[at] ^ 1, file[at] ^ 128]))
    (body,) = struct.unpack_from("<I", file, 48)
    assume(body <= len(file) - 48)
    file[16:48] = sha256(file[48 : 48 + body]).digest()
    file[12:16] = struct.pack("<I", zlib.crc32(file[16:]))
    kind, value = same("_drive_tree:ask", bytes(file), rows)
    assert kind == "value", value


@given(st.one_of(st.binary(max_size=200), models().map(lambda model: model[0])), st.data())
def test_cut_or_foreign_files_are_refused(same, file, data):
    file = file[: data.draw(st.integers(0, max(0, len(file) - 1)))]
    kind, value = same("_drive_tree:ask", file, [[0] * FEATURES])
    assert (kind, type(value)) == ("value", str), (file, value)
