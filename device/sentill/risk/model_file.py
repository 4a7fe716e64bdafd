"""The file of a decision model: its format, and the check every file passes before a kernel sees it.

Little-endian, every part of even length:

| at | type | what |
|----|------|------|
| 0  | 4s   | `STM1` |
| 4  | u16  | format version, 1 |
| 6  | u16  | 0 |
| 8  | u32  | bytes of the file |
| 12 | u32  | CRC-32 of all that follows |
| 16 | 32s  | SHA-256 of the body |
| 48 | u32  | bytes of the body, which begins here; behind it may stand a signature of the SHA-256, to the file's end |
| 52 | u32  | id of the features the model was made for |
| 56 | i32  | review threshold: a score from here on is to be reviewed |
| 60 | i32  | decline threshold, not below the review threshold |
| 64 | u16  | features F |
| 66 | u16  | sections |
| 68 |      | sections: u16 kind, u16 0, u32 bytes, bytes; kinds ascend |

Section kinds: 1 the forest; 2 rules: a sum forest in the wide layout, evaluated before; 3 the typical row, i16 per
feature; 4 reasons of the features; 5 reasons of the forest's trees; 6 reasons of the rules; 16 and above: notes of the
host, ignored here. 1 is required, either 3 and 4 or 5, and 6 if there is 2. A reason is u8 length, u8 length, code
(1..16 characters of A-Z a-z 0-9 _), text (UTF-8); there is one for each feature or tree.

Forest: u16 trees, u16 outputs, u8 0 sum / 1 vote, u8 layout, u16 inputs, then the trees. `x < threshold` goes left.

| layout | a tree |
|--------|--------|
| 0 wide | u16 bytes of the tree, u16 output; pre-order, right subtree first. Inner node: u8 input, u8 skip = nodes (4 bytes) of the right subtree, 1..255; u16 threshold + 32768. Leaf: u16 0, u16 value + 32768 |
| 1 short | as 0, but skip counts units of 2 bytes, and a leaf is u8 value + 128, u8 0 |

In a vote forest a leaf is the class itself, without the 32768 or 128. The leaf of a rule is 0 (does not apply), 1
(approve), 2 (review) or 3 (decline), as u16 without the 32768: its kind is 1 (vote) with 4 outputs.
A rule may also ask for facts that are no features, inputs F and up: see FACTS.
"""  # noqa: E501

from array import array
from hashlib import sha256
from struct import unpack_from

from sentill.compat import borrow, const, crc32
from sentill.errors import ModelError

# Inputs of rules behind the features: amount in whole currency units (saturating at 32767), hour of the day in UTC
# (0..23), day of the week (0 = Monday), 1 if the card is on the node's block list.
FACTS = ("amount", "hour", "weekday", "blocked")
_MAX_BYTES = const(262_144)

_BODY = const(48)
_SECTIONS = const(68)
_FOREST = const(1)
_RULES = const(2)
_TYPICAL = const(3)
_BY_FEATURE = const(4)
_BY_TREE = const(5)
_BY_RULE = const(6)
_LIMIT = const(0x3FFFFFFF)
_FAULTS = ("", "does not fit", "has a bad node", "has a bad leaf", "is no tree", "is followed by other data")


def read_words(path: str):
    """A whole file in a new array('H'), little-endian like every board. ModelError if it cannot be one of a model.

    An array's memory is aligned, which the native kernels rely on; a slice of some buffer need not be.
    """
    try:
        with open(path, "rb") as file:
            size = file.seek(0, 2)
            if size & 1 or not _SECTIONS <= size <= _MAX_BYTES:
                raise ModelError("size", "%s: %d bytes" % (path, size))
            words = array("H", bytes(size))
            file.seek(0)
            if file.readinto(words) != size:
                raise ModelError("file", path + " changed while it was read")
    except OSError as error:
        raise ModelError("file", "%s: %s" % (path, error))
    return words


def check(model, words, kernels) -> None:
    """Check `words`, an array('H') with a file, as fast as `kernels` are; ModelError says what is wrong with it.

    Sets on `model` what header and tables say: `words`, `size` in bytes, `digest` (SHA-256 of the body), `model_id`
    (its first 8 hex digits), `signature` (may be empty), `schema_id`, `review`, `decline`, `n_features`, `n_inputs`
    (features, and the facts that rules ask for), `n_trees`, `n_outputs`, `vote`, `layout`, `reasons` and `rules`
    (codes), `typical`, and the places of the forests. Functions and no base class: a board can drop this module.
    """
    model.words = words
    model.reasons = model.rules = ()
    model.typical = None
    model.rules_forest = 0
    model._kernels = kernels
    _header(model, memoryview(words))


def _header(model, words) -> None:
    size = len(words) * 2
    if not _SECTIONS <= size <= _MAX_BYTES:
        raise ModelError("size", "%d bytes" % size)
    magic, version, zero, length, crc, digest, body = unpack_from("<4sHHII32sI", model.words)
    if magic != b"STM1":
        raise ModelError("magic", "no model file")
    if version != 1 or zero:
        raise ModelError("version", "format version %d" % version)
    if length != size or body & 1 or not _SECTIONS - _BODY <= body <= size - _BODY:
        raise ModelError("size", "%d bytes, but %d are declared" % (size, length))
    if crc32(words[8:]) != crc:
        raise ModelError("crc", "damaged: wrong CRC-32")
    if sha256(words[_BODY >> 1 : _BODY + body >> 1]).digest() != digest:
        raise ModelError("hash", "damaged: wrong SHA-256")
    schema, review, decline, features, sections = unpack_from("<IiiHH", model.words, 52)
    if not 1 <= features <= 255:
        raise ModelError("header", "%d features" % features)
    if not -_LIMIT <= review <= decline <= _LIMIT:
        raise ModelError("header", "thresholds %d and %d" % (review, decline))
    model.size, model.schema_id, model.n_features = size, schema, features
    model.digest, model.model_id = digest, "".join(["%02x" % byte for byte in digest[:4]])
    model.review, model.decline = review, decline
    model.signature = bytes(words[_BODY + body >> 1 :])
    _sections(model, sections, _BODY + body >> 1)


def _sections(model, count: int, end: int) -> None:
    found = {}
    at = _SECTIONS >> 1
    last = 0
    for _ in range(count):
        if at + 4 > end:
            raise ModelError("sections", "cut off")
        kind, zero, size = unpack_from("<HHI", model.words, at * 2)
        at += 4
        if zero or size & 1 or size > (end - at) * 2 or kind <= last:
            raise ModelError("sections", "section %d is misplaced" % kind)
        if _BY_RULE < kind < 16:
            raise ModelError("sections", "unknown section %d" % kind)
        found[kind] = (at, at + (size >> 1))
        at += size >> 1
        last = kind
    if at != end:
        raise ModelError("sections", "data behind the last one")
    model._found = found
    facts = model.n_features + len(FACTS)
    model.n_inputs = model.n_features
    if _RULES in found:
        model.rules_forest, n = _forest(model, found[_RULES], model.n_features, facts)
        if model.words[model.rules_forest + 1] != 4 or model.words[model.rules_forest + 2] != 1:
            raise ModelError("rules", "no forest of rules")
        model.n_inputs = max(model.n_inputs, model.words[model.rules_forest + 3])
        model.rules = _codes(model, _BY_RULE, n)
    if _FOREST not in found:
        raise ModelError("sections", "no forest")
    model.forest, model.n_trees = _forest(model, found[_FOREST], model.n_features, model.n_features)
    model.n_outputs = model.words[model.forest + 1]
    model.vote = bool(model.words[model.forest + 2] & 255)
    model.layout = model.words[model.forest + 2] >> 8
    if _BY_TREE in found:
        if model.vote or model.n_outputs > 1:
            raise ModelError("reasons", "of trees, but the forest is no plain sum")
        model.reasons = _codes(model, _BY_TREE, model.n_trees)
        return
    model.reasons = _codes(model, _BY_FEATURE, model.n_features)
    at, end = found.get(_TYPICAL, (0, 0))
    if end - at != model.n_features:
        raise ModelError("sections", "no typical row of %d features" % model.n_features)
    model.typical = array("h", bytes(memoryview(model.words)[at:end]))


def text(model, i: int, rule: bool = False) -> str:
    """Text for people of reason `i` of a checked model (an index into `reasons`, or with `rule` into `rules`)."""
    kind = _BY_RULE if rule else _BY_FEATURE if model.typical else _BY_TREE
    codes = model.rules if rule else model.reasons
    return str(list(_table(model, kind, len(codes)))[i][1], "utf-8")


def _forest(model, span, least: int, most: int):
    """Check the forest that fills `span`, a pair of word indices; return its place and number of trees."""
    at, end = span
    if end < at + 4:
        raise ModelError("forest", "cut off")
    words = model.words
    trees, outs, layout, inputs = words[at], words[at + 1], words[at + 2] >> 8, words[at + 3]
    if not 1 <= trees <= 16_383 or not 1 <= outs <= 255 or words[at + 2] & 255 > 1:
        raise ModelError("forest", "bad header")
    if layout > 1:
        raise ModelError("forest", "unknown layout %d" % layout)
    if not least <= inputs <= most:
        raise ModelError("forest", "asks for %d inputs" % inputs)
    kernels = borrow("risk", "tree_check_viper") if model._kernels.NATIVE else model._kernels
    fault = kernels.check(words, at, end, array("H", bytes(256)))
    if fault:
        code = "tree" if fault & 7 in (1, 4, 5) else "node" if fault & 7 == 2 else "leaf"
        raise ModelError(code, "tree %d %s" % (fault >> 3, _FAULTS[fault & 7]))
    return at, trees


def _codes(model, kind: int, count: int) -> tuple:
    """Codes of a reason table that must have `count` entries."""
    codes = []
    for code, text in _table(model, kind, count):
        if not 1 <= len(code) <= 16:
            raise ModelError("reasons", "a code of %d bytes" % len(code))
        for c in code:
            if not (48 <= c <= 57 or 65 <= c <= 90 or c == 95 or 97 <= c <= 122):
                raise ModelError("reasons", "a code with character %d" % c)
        if not _is_utf8(text):
            raise ModelError("reasons", "a text that is not UTF-8")
        codes.append(str(code, "utf-8"))
    return tuple(codes)


def _is_utf8(text: bytes) -> bool:
    """As the standard says. MicroPython also takes halves of pairs, what is longer than it need be or past the last."""
    try:
        str(text, "utf-8")
    except UnicodeError:
        return False
    first = 0
    for c in text:
        if c > 0xF4 or c | 1 == 0xC1 or (first == 0xE0 and c < 0xA0) or (first == 0xED and c > 0x9F):
            return False
        if (first == 0xF0 and c < 0x90) or (first == 0xF4 and c > 0x8F):
            return False
        first = c
    return True


def _table(model, kind: int, count: int):
    """Pairs (code, text) of a reason table, as bytes."""
    if kind not in model._found:
        raise ModelError("reasons", "no section %d" % kind)
    at, end = model._found[kind]
    data = bytes(memoryview(model.words)[at:end])
    at = 0
    for _ in range(count):
        if at + 2 > len(data) or at + 2 + data[at] + data[at + 1] > len(data):
            raise ModelError("reasons", "table is cut off")
        middle = at + 2 + data[at]
        after = middle + data[at + 1]
        yield data[at + 2 : middle], data[middle:after]
        at = after
    if len(data) - at > 1:
        raise ModelError("reasons", "table is too long")
