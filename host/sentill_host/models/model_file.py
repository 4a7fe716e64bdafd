"""Write and read model files: the host's side of the format described in sentill/risk/model_file.py.

Trees are nested tuples `(feature, threshold, left, right)`, `x[feature] < threshold` goes left; a leaf is an int.
"""

import hashlib
import json
import struct
from binascii import crc32
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from sentill.errors import ModelError
from sentill.risk.model import Model
from sentill_host.errors import SentillHostError

Node: TypeAlias = "tuple[int, int, Tree, Tree]"
Tree: TypeAlias = "int | Node"

WIDE, SHORT = 0, 1
MAX_TREES = 16_383
MAX_SKIP = 255
FOREST, RULES, TYPICAL, BY_FEATURE, BY_TREE, BY_RULE, NOTES = 1, 2, 3, 4, 5, 6, 16
_BIAS = 32_768


class ModelFileError(SentillHostError):
    """A model cannot be written in, or read from, the file format."""

    exit_code = 2


def depth(tree: Tree) -> int:
    """Comparisons on the longest path."""
    return 0 if isinstance(tree, int) else 1 + max(depth(tree[2]), depth(tree[3]))


def count_leaves(tree: Tree) -> int:
    """Leaves of a tree; it has one inner node less."""
    return 1 if isinstance(tree, int) else count_leaves(tree[2]) + count_leaves(tree[3])


def evaluate(tree: Tree, row: Sequence[int]) -> int:
    """The leaf where `row` ends."""
    while not isinstance(tree, int):
        tree = tree[2] if row[tree[0]] < tree[1] else tree[3]
    return tree


def units(tree: Tree, layout: int) -> int:
    """Size of a tree in what skips count: nodes of 4 bytes in the wide layout, words of 2 bytes in the short one."""
    leaves = count_leaves(tree)
    return 2 * leaves - 1 if layout == WIDE else 3 * leaves - 2


def _encode(tree: Tree, layout: int, leaf_bias: int, out: bytearray) -> None:
    """Append a tree in the wide or short layout."""
    if isinstance(tree, int):
        value = tree + leaf_bias
        out += struct.pack("<HH", 0, value) if layout == WIDE else struct.pack("<BB", value, 0)
        return
    feature, threshold, left, right = tree
    skip = units(right, layout)
    if skip > MAX_SKIP:
        raise ModelFileError(f"a branch of {count_leaves(right)} leaves is too large for the layout")
    out += struct.pack("<BBH", feature, skip, threshold + _BIAS)
    _encode(right, layout, leaf_bias, out)
    _encode(left, layout, leaf_bias, out)


def encode_forest(
    trees: Sequence[Tree], owners: Sequence[int], outputs: int, vote: bool, layout: int, inputs: int
) -> bytes:
    """The forest section. `owners` are the outputs the trees of a sum forest add to. struct.error or ModelFileError if
    something does not fit the layout."""
    bias = 0 if vote else 128 if layout == SHORT else _BIAS
    out = bytearray(struct.pack("<HHBBH", len(trees), outputs, vote, layout, inputs))
    for tree, owner in zip(trees, owners, strict=True):
        body = bytearray()
        _encode(tree, layout, bias, body)
        out += struct.pack("<HH", len(body) + 4, owner) + body
    return bytes(out)


def reason_table(reasons: Sequence[tuple[str, str]]) -> bytes:
    """A reason table from pairs of code and text."""
    out = bytearray()
    for code, text in reasons:
        raw = text.encode()
        if not 1 <= len(code) <= 16 or not code.isascii() or not code.replace("_", "a").isalnum():
            raise ModelFileError(f"reason code {code!r} must be 1 to 16 letters, digits or underscores")
        if len(raw) > 255:
            raise ModelFileError(f"the text of reason {code} has {len(raw)} bytes, at most 255 fit")
        out += bytes((len(code), len(raw))) + code.encode() + raw
    return bytes(out) + b"\0" * (len(out) & 1)


def assemble(
    *, schema_id: int, review: int, decline: int, features: int, sections: Mapping[int, bytes], signature: bytes = b""
) -> bytes:
    """A whole file from its sections (by kind); nothing is checked here."""
    body = struct.pack("<IiiHH", schema_id, review, decline, features, len(sections))
    for kind, data in sorted(sections.items()):
        body += struct.pack("<HHI", kind, 0, len(data)) + data
    return seal(body, signature)


def seal(body: bytes, signature: bytes = b"") -> bytes:
    """Envelope around `body`, what follows the field "bytes of the body"; `signature` signs the body's SHA-256."""
    body = struct.pack("<I", len(body) + 4) + body
    rest = hashlib.sha256(body).digest() + body + signature
    return struct.pack("<4sHHII", b"STM1", 1, 0, len(rest) + 16, crc32(rest)) + rest


@dataclass(frozen=True)
class Decoded:
    """A forest read back from a file."""

    trees: list[Tree]
    owners: list[int]
    outputs: int
    vote: bool
    layout: int
    inputs: int
    size: int
    """Bytes of the section."""

    @property
    def layout_name(self) -> str:
        """The layout in words."""
        return layout_name(self.layout)


def layout_name(layout: int) -> str:
    """A layout of the file format in words."""
    return {WIDE: "wide", SHORT: "short"}[layout]


@dataclass(frozen=True)
class ModelContents:
    """A model file in the host's terms."""

    model: Model
    forest: Decoded
    rules: Decoded | None
    notes: dict[str, Any] = field(default_factory=dict)
    feature_names: tuple[str, ...] = ()


def decode_forest(data: bytes) -> Decoded:
    """A forest section as trees; it must have passed the device's check."""
    count, outputs, vote, layout, inputs = struct.unpack_from("<HHBBH", data)
    bias = 0 if vote else 128 if layout == SHORT else _BIAS
    trees: list[Tree] = []
    owners = []
    at = 8

    def node(at: int) -> tuple[Tree, int]:
        if data[at + 1] == 0:
            value = data[at] if layout == SHORT else struct.unpack_from("<H", data, at + 2)[0]
            return value - bias, at + (2 if layout == SHORT else 4)
        feature, threshold = data[at], struct.unpack_from("<H", data, at + 2)[0] - _BIAS
        right, at = node(at + 4)
        left, at = node(at)
        return (feature, threshold, left, right), at

    for _ in range(count):
        owners.append(struct.unpack_from("<H", data, at + 2)[0])
        tree, at = node(at + 4)
        trees.append(tree)
    return Decoded(trees, owners, outputs, bool(vote), layout, inputs, len(data))


def sections_of(data: bytes) -> dict[int, bytes]:
    """The sections of a file that has passed the device's check."""
    count = struct.unpack_from("<H", data, 66)[0]
    found = {}
    at = 68
    for _ in range(count):
        kind, _, size = struct.unpack_from("<HHI", data, at)
        found[kind] = data[at + 8 : at + 8 + size]
        at += 8 + size
    return found


def read(data: bytes) -> ModelContents:
    """Check a file with the device's own code and take it apart. ModelFileError says what is wrong with it."""
    try:
        model = Model.from_bytes(data)
    except ModelError as error:
        raise ModelFileError(f"not a usable model: {error.message} [{error.code}]") from error
    sections = sections_of(data)
    notes: dict[str, Any] = {}
    if NOTES in sections:
        try:
            loaded = json.loads(sections[NOTES].rstrip(b"\0"))
        except ValueError as error:
            raise ModelFileError("the notes section of the model is not JSON") from error
        notes = loaded if isinstance(loaded, dict) else {}
    names = notes.get("features")
    if not isinstance(names, list) or len(names) != model.n_features:
        names = [f"x{i}" for i in range(model.n_features)]
    rules = decode_forest(sections[RULES]) if RULES in sections else None
    return ModelContents(model, decode_forest(sections[FOREST]), rules, notes, tuple(str(name) for name in names))
