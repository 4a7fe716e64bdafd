"""Model files: golden answers in every layout and kernel family, bad files and bad inputs, no allocation."""

import json
from array import array

from sentill.compat import native
from sentill.errors import ModelError
from sentill.risk import tree_plain
from sentill.risk.model import Model
from sentill.risk.model_file import _is_utf8, read_words
from support import MICROPYTHON, SkipTest, device_path, no_alloc, raises, scratch_path, vector_path

NAMES = ("wide", "short", "even", "votes", "outputs", "split")


def _path(name):
    return vector_path("tree_" + name + ".stm")


def _models(name):
    """The model in every kernel family of this interpreter."""
    yield Model.load(_path(name))
    yield Model(read_words(_path(name)), tree_plain)


def _bytes(name):
    with open(_path(name), "rb") as file:
        return file.read()


def _check(name):
    with open(vector_path("tree_answers.json")) as file:
        answers = json.load(file)
    for model in _models(name):
        x = array("h", bytes(2 * 9))
        out = [0] * model.n_outputs
        for row, (outputs, rule, action, weights) in zip(answers["rows"], answers[name]):
            for i in range(9):
                x[i] = row[i]
            got = model.score(x)
            assert got == outputs[-1], (name, row, got, outputs[-1])
            model.votes(x, out)
            assert out == outputs, (name, row, out, outputs)
            got = [model.rule(x), model.action]
            assert got == [rule, action], (name, row, got, rule, action)
            model.explain(x)
            got = [model.weight(i) for i in range(5)]
            assert got == weights, (name, row, got, weights)
            _check_reasons(model, weights)


def _check_reasons(model, weights):
    ranked = sorted([i for i in range(len(weights)) if weights[i] > 0], key=lambda i: (-weights[i], i))
    for i in ranked:
        got = model.next_reason()
        assert got == i, (got, i, weights)
    got = model.next_reason()
    assert got == -1, (got, -1)


def test_wide_layout():
    _check("wide")


def test_wide_layout_and_hard_rules():
    _check("even")


def test_short_layout_and_hard_rules():
    _check("short")


def test_without_its_texts_a_model_takes_less_and_says_the_same():
    row = [-100, 310, 5, 32_767, -32_768, 1000, 3, 4, 1]
    for name in NAMES:
        for model in _models(name):
            x = array("h", row)
            asked = [model.score(x), model.rule(x), model.action]
            model.explain(x)
            asked += [model.next_reason(), model.next_reason()]
            before = len(model.words)
            model.drop_texts()
            model.drop_texts()
            assert len(model.words) < before, (name, before)
            got = [model.score(x), model.rule(x), model.action]
            model.explain(x)
            got += [model.next_reason(), model.next_reason()]
            assert got == asked, (name, got, asked)
            assert raises(ModelError, model.text, 0).code == "texts"


def test_votes():
    _check("votes")


def test_several_outputs():
    _check("outputs")


def test_a_tree_split_in_several():
    _check("split")


def test_fields():
    model = Model.load(_path("short"))
    assert (model.review, model.decline) == (100, 2000), (model.review, model.decline)
    assert model.reasons == ("A_CODE", "b", "c", "D", "e"), model.reasons
    assert model.rules == ("LIMIT", "BLOCKED"), model.rules
    assert model.text(0) == "The first feature", model.text(0)
    assert model.text(1, True) == "Gr\u00f6\u00dfe", model.text(1, True)
    assert (model.n_features, model.n_inputs, model.n_trees, model.n_outputs) == (5, 9, 9, 1), model.n_inputs
    assert (model.vote, model.layout, model.signature) == (False, 1, b""), model.layout
    assert model.size == len(_bytes("short")), (model.size, len(_bytes("short")))
    assert len(model.model_id) == 8 and int(model.model_id, 16) >= 0, model.model_id
    assert Model.load(_path("wide")).n_inputs == 5


def test_path_names_the_features_asked():
    for name in ("wide", "short", "even", "votes"):
        for model in _models(name):
            x = array("h", [0, 10, -10, 100, -100, 0, 0, 0, 0])
            out = [0] * 16
            for tree in range(model.n_trees):
                n = model.path(x, tree, out)
                assert 0 <= n <= 8, (name, tree, n)
                for step in out[:n]:
                    assert -5 <= step < 5, (name, tree, step)
            raises(ModelError, model.path, x, model.n_trees, out)
            raises(ModelError, model.path, x, -1, out)


def test_a_path_through_a_known_tree():
    """A rule of the shipped hand-written model: G_unx30 >= 3 and F_hlast < 240."""
    model = Model.load(device_path("models/rules.stm"))
    tree = model.reasons.index("TERM_RECENT")
    x = array("h", bytes(2 * 16))
    out = [99, 99]
    n = model.path(x, tree, out)
    assert out[:n] == [~8], out[:n]
    x[8] = 3
    n = model.path(x, tree, out)
    assert out[:n] == [8, ~4], out[:n]
    x[4] = 240
    n = model.path(x, tree, out)
    assert out[:n] == [8, 4], out[:n]
    raises(IndexError, model.path, x, tree, [])


def test_the_hand_written_model_names_its_rules():
    for model in (
        Model.load(device_path("models/rules.stm")),
        Model(read_words(device_path("models/rules.stm")), tree_plain),
    ):
        x = array("h", bytes(2 * 16))
        assert (model.score(x), model.rule(x)) == (0, -1), model.score(x)
        x[0] = 22_001
        got = model.score(x)
        assert got >= model.decline, (got, model.decline)
        model.explain(x)
        i = model.next_reason()
        assert model.reasons[i] == "AMOUNT", model.reasons[i]
        assert model.next_reason() == -1
        x[15] = 1
        got = model.rules[model.rule(x)]
        assert (got, model.action) == ("BLOCKED", 2), (got, model.action)


def _uses(model, x):
    def use():
        model.score(x)
        model.rule(x)
        model.explain(x)
        while model.next_reason() >= 0:
            pass
        return model.score(x)

    return use


def test_nothing_is_allocated():
    for name in NAMES:
        for model in _models(name):
            x = array("h", [-100, 310, 5, 32_767, -32_768, 1000, 3, 4, 1])
            got = no_alloc(_uses(model, x))
            assert got == model.score(x), (name, got)


def test_native_and_plain_kernels_agree():
    kernels = native("risk", "tree_viper")
    if kernels is None:
        raise SkipTest("no emitter for native code, or it was left out")
    names = [name for name in dir(tree_plain) if name[0] != "_"]
    for name in dir(kernels):
        assert name in names or name in ("micropython", "NATIVE") or name[0] == "_", name
    state = 1
    for name in NAMES:
        fast, plain = _models(name)
        assert fast._kernels is (native("risk", "tree_thumb") or kernels) and plain._kernels is tree_plain
        x = array("h", bytes(2 * 9))
        for _ in range(200):
            for i in range(9):
                state = (state * 1103515245 + 12345) & 0x7FFFFFFF
                x[i] = (state >> 12 & 0x3FF) - 512
            assert fast.score(x) == plain.score(x), (name, x)
            fast.explain(x)
            plain.explain(x)
            got = [fast.weight(i) for i in range(5)], [plain.weight(i) for i in range(5)]
            assert got[0] == got[1], (name, x, got)
            assert fast.rule(x) == plain.rule(x), (name, x)


def test_foreign_inputs_are_refused():
    for model in _models("wide"):
        for x in (
            array("b", bytes(9)),
            array("H", bytes(18)),
            array("i", bytes(36)),
            array("h", bytes(8)),
            bytearray(18),
            bytes(18),
            memoryview(bytes(18)),
            [0] * 9,
            "text of nine",
            5,
            None,
            array("h"),
        ):
            for use in (model.score, model.rule, model.explain):
                error = raises(ModelError, use, x)
                assert error.code == "input", (error.code, x)
        model.score(array("h", bytes(10)))


def test_a_file_is_an_array_of_words():
    words = read_words(_path("wide"))
    for foreign in (bytes(words), memoryview(words), list(words), array("h", bytes(words)), array("B", bytes(words))):
        for kernels in (None, tree_plain):
            assert raises(ModelError, Model, foreign, kernels).code == "input", foreign


def test_another_array_is_checked_again():
    for model in _models("wide"):
        a = array("h", [1, 2, 3, 4, 5])
        b = array("h", [-300, 2, 300, 4, 5])
        both = model.score(a), model.score(b)
        for _ in range(3):
            assert (model.score(a), model.score(b)) == both
            raises(ModelError, model.score, array("b", bytes(5)))


def _refused(data):
    return raises(ModelError, Model.from_bytes, data).code


def test_every_truncation_is_refused():
    data = _bytes("short")
    for n in range(0, len(data), 1 if not MICROPYTHON else 7):
        code = _refused(data[:n])
        assert code == "size", (n, code)
    assert _refused(data + b"\0\0") == "size"


def test_every_damaged_byte_is_refused():
    data = bytearray(_bytes("short"))
    for i in range(0, len(data), 1 if not MICROPYTHON else 5):
        data[i] ^= 0x10
        code = _refused(data)
        data[i] ^= 0x10
        wanted = "magic" if i < 4 else "version" if i < 8 else "size" if i < 12 else "crc"
        if 48 <= i < 52 and code == "size":  # of the body, when it no longer fits into the file
            continue
        assert code == wanted, (i, code, wanted)
    Model.from_bytes(data)


def test_bytes_of_any_kind_and_their_copy():
    data = bytearray(_bytes("wide"))
    model = Model.from_bytes(data)
    x = array("h", bytes(10))
    before = model.score(x)
    for i in range(len(data)):
        data[i] = 255
    assert model.score(x) == before, "the model must own its bytes"


def test_files_that_are_not_there_or_no_models():
    assert raises(ModelError, Model.load, scratch_path("none.stm")).code == "file"
    for content, code in ((b"", "size"), (b"STM1", "size"), (bytes(200), "magic"), (b"#" * 201, "size")):
        with open(scratch_path("bad.stm"), "wb") as file:
            file.write(content)
        got = raises(ModelError, Model.load, scratch_path("bad.stm")).code
        assert got == code, (content, got, code)


def test_texts_are_utf8_as_the_standard_has_it():
    for text in (b"", b"abc", b"\xc2\x80", b"\xe0\xa0\x80", b"\xed\x9f\xbf", b"\xf0\x90\x80\x80", b"\xf4\x8f\xbf\xbf"):
        assert _is_utf8(text), text
    for text in (b"\x80", b"\xc0\x80", b"\xc1\xbf", b"\xe2\x82", b"a\xc3(", b"\xff"):
        assert not _is_utf8(text), text
    # Longer than it need be, half of a pair, past the last.
    for text in (b"\xe0\x9f\xbf", b"\xf0\x8f\xbf\xbf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xf5\x80\x80\x80"):
        assert not _is_utf8(text), text


def test_the_schema_is_compared_when_asked():
    model = Model.load(_path("wide"))
    assert Model.load(_path("wide"), model.schema_id).model_id == model.model_id
    error = raises(ModelError, Model.load, _path("wide"), model.schema_id ^ 1)
    assert error.code == "schema", error.code
