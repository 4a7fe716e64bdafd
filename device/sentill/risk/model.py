"""Decision models: score a transaction, say why, apply hard rules. Trees are data; nothing in a file is executed.

    model = Model.load("/models/profile.stm")       # or raises ModelError: keep the old model then
    score = model.score(x)                          # x: array('h'), always the same one
    if score >= model.decline: ...
    model.explain(x)
    i = model.next_reason()                         # -1 when there is none left
    why = model.reasons[i]

The file is described in model_file.py. Three families of kernels have one meaning: tree_thumb.py in the instructions of
ARM chips, tree_viper.py in native code, tree_plain.py in bytecode.
"""

from array import array

from sentill.compat import borrow, native
from sentill.errors import ModelError

_found: list = []


def _kernels():
    """The fastest kernels that run here, looked for once."""
    if not _found:
        module = native("risk", "tree_thumb") or native("risk", "tree_viper")
        if module is None:
            from . import tree_plain as module
        _found.append(module)
    return _found[0]


def _must_be(x, code: str) -> None:
    """ModelError unless `x` is an array of this type code, and nothing that only behaves like one."""
    if type(x) is not array or repr(x[:0]) != "array('%s')" % code:
        raise ModelError("input", "needs an array('%s')" % code)


class Model:
    """A model ready to score. What the file says is in the attributes that model_file.check sets, for reading only.

    `reasons` are the codes `explain` weighs: one per feature, or in a hand-written model one per tree. `rules` are the
    codes of the hard rules (see `rule`), often none. `action` belongs to the last call of `rule`.

    Native kernels trust their pointers, so they get only arrays made here, and an `x` whose type and length were
    checked when it was first seen: pass the same array every time. Another one is checked anew, which allocates.
    """

    # Set by model_file.check; declared for readers and type checkers, no code on the board.
    words: array
    size: int
    digest: bytes
    model_id: str
    signature: bytes
    schema_id: int
    review: int
    decline: int
    n_features: int
    n_inputs: int
    n_trees: int
    n_outputs: int
    vote: bool
    layout: int
    reasons: tuple
    rules: tuple
    typical: array
    forest: int
    rules_forest: int
    _found: dict

    def __init__(self, words, kernels=None):
        """Check `words`, an array('H') with a file, and keep it. `kernels`: module to use instead of the fastest."""
        _must_be(words, "H")
        self._kernels = kernels = kernels or _kernels()
        borrow("risk", "model_file").check(self, words, kernels)
        self.action = -1
        self._seen = array("h", bytes(2 * self.n_inputs))
        self._hasten()
        n = self.n_features
        self._by_tree = self.typical is None
        # What `blame` describes; only the leaves where reasons belong to trees.
        start = 0 if self._by_tree else 3 * n + self.n_trees
        self._w = array("i", bytes(4 * (start + self.n_trees + 2)))
        self._leaf = memoryview(self._w)[start : start + self.n_trees]
        self._out = array("i", bytes(4 * self.n_outputs))
        # After `explain`: () -> index of the reason that raised the score most, or -1 if none (left) did. Each call
        # names the next one, for its weight becomes 0; of equal ones the first comes first.
        self.next_reason = kernels.taker(self._w, len(self.reasons))
        if not self._by_tree:
            kernels.leaves(words, self.typical, self.forest, self._leaf)
            for i in range(n):
                self._w[n + i] = self.typical[i] + 32768
            for i in range(self.n_trees):
                self._w[3 * n + i] = self._leaf[i]

    @classmethod
    def load(cls, path: str, schema_id: int = 0) -> "Model":
        """Model from a file. ModelError if it cannot be read, is faulty, or has another schema id than one given."""
        try:
            return cls(borrow("risk", "model_file").read_words(path)).of_schema(schema_id)
        except MemoryError:
            raise ModelError("memory", path + " does not fit")

    @classmethod
    def from_bytes(cls, data, schema_id: int = 0) -> "Model":
        """The same from a bytes object or bytearray, which is copied."""
        if len(data) & 1:
            raise ModelError("size", "an odd number of bytes")
        try:
            return cls(array("H", bytes(data))).of_schema(schema_id)
        except MemoryError:
            raise ModelError("memory", "%d bytes do not fit" % len(data))

    def of_schema(self, schema_id: int):
        """This model; ModelError if it was made for other features than those of `schema_id` (0: any)."""
        if schema_id and schema_id != self.schema_id:
            raise ModelError("schema", "made for features %08x, not %08x" % (self.schema_id, schema_id))
        return self

    def text(self, i: int, rule: bool = False) -> str:
        """Text for people of reason `i` (an index into `reasons`, or with `rule` into `rules`)."""
        if self._found is None:
            raise ModelError("texts", "only in the file")
        return borrow("risk", "model_file").text(self, i, rule)

    def drop_texts(self) -> None:
        """Give back the memory of what only people read: texts, notes, signature. `text` raises ModelError then."""
        found = self._found
        if found is not None:
            end = max([found[kind][1] for kind in (1, 2) if kind in found])  # the forests, which come first
            self.words = self.words[:end]
            self._found = None
            self.signature = b""
            self._hasten()

    def _hasten(self) -> None:
        """Put a function in place of the method `score` that is several times as fast, except for several sums."""
        if self.n_outputs == 1 or self.vote:
            forest = memoryview(self.words)[self.forest :]
            self.score = self._kernels.scorer(self._kernels.score, forest, self._see)  # type: ignore[method-assign]

    def _see(self, x) -> None:
        """Check and remember an array of inputs that was not the last one seen."""
        _must_be(x, "h")
        if len(x) < self.n_inputs:
            raise ModelError("input", "%d inputs, the model needs %d" % (len(x), self.n_inputs))
        self._seen = x

    def score(self, x) -> int:
        """Score of the inputs `x`, an array('h') of at least `n_inputs` values: the higher, the riskier.

        The sum of the leaves, or in a model with several outputs the last one: its sum, or the votes for that class.
        Within ±2^30. Allocates nothing. ModelError("input") if `x` is of another type or too short.
        """
        if x is not self._seen:
            self._see(x)
        return self._last(self.words, x, self.forest)

    def _last(self, words, x, at: int) -> int:
        self._kernels.leaves(words, x, at, self._leaf)
        self._kernels.outputs(words, self._leaf, at, self._out)
        return self._out[self.n_outputs - 1]

    def votes(self, x, out) -> None:
        """Write every output to `out` (any sequence of `n_outputs` integers): sums, or numbers of votes per class."""
        if x is not self._seen:
            self._see(x)
        self._last(self.words, x, self.forest)
        for i in range(self.n_outputs):
            out[i] = self._out[i]

    def rule(self, x) -> int:
        """Index into `rules` of the first hard rule that applies to `x`, or -1; allocates nothing.

        Sets `action` to the verdict it demands: 0 approve, 1 review, 2 decline, or -1. Hard rules come before the
        trained model: where one applies, its verdict stands whatever the score.
        """
        if x is not self._seen:
            self._see(x)
        self.action = -1
        if not self.rules:
            return -1
        hit = self._kernels.first(self.words, x, self.rules_forest)
        if hit < 0:
            return -1
        self.action = (hit & 3) - 1
        return hit >> 2

    def explain(self, x) -> None:
        """Weigh the `reasons` of the score of `x`; `next_reason` then names them, `weight` tells how much each moved.

        Per feature: every tree (of the last output) has a base, the leaf where the typical row of the file ends. The
        distance of the tree's leaf from it counts for each feature by which `x` parted from the typical row on its
        path: the features that decided, in the trees that moved the score most. The weights of several features may
        count the same tree; those of one are in units of the score. Per tree (hand-written models): the leaf itself.
        Allocates nothing, and takes about twice the time of `score`.
        """
        if x is not self._seen:
            self._see(x)
        if self._by_tree:
            self._kernels.leaves(self.words, x, self.forest, self._w)
        else:
            self._kernels.leaves(self.words, x, self.forest, self._leaf)
            self._kernels.blame(self.words, x, self.forest, self._w)

    def weight(self, i: int) -> int:
        """What reason `i` (an index into `reasons`) added to the score, after `explain`; 0 once it has been named."""
        return self._w[i] if 0 <= i < len(self.reasons) else 0

    def path(self, x, tree: int, out) -> int:
        """Write to `out` the features asked in `tree` (0..n_trees-1) from the root on; return how many there are.

        Where `x` was below the threshold (left), ~feature is written instead. `out` is any sequence that takes
        integers from -256 to 255; one that is too short raises IndexError.
        """
        from .tree_plain import path

        if x is not self._seen:
            self._see(x)
        if not 0 <= tree < self.n_trees:
            raise ModelError("input", "tree %d of %d" % (tree, self.n_trees))
        return path(self.words, x, self.forest, tree, out)
