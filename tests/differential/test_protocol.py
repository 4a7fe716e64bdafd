"""Frames are read and written alike on every interpreter, by the plain kernels and by the native ones."""

import json
import zlib
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

GOLDEN = json.loads((Path(__file__).parent.parent / "vectors" / "frames.json").read_text())

keys = st.sampled_from(["q", "ref", "t", "amt", "card", "pm", "pn", "ph", "cmd", "fraud", "x"])
# Where limits and representations change: fields of 8, 16, 30 and 32 bits, and one beyond each.
edges = [0, 1, -1, 9, 10, 255, 256, 65_535, 65_536, 2**30 - 1, 2**30, 2**31 - 1, 2**31, 2**32 - 1, 2**32, -(2**30)]
integers = st.one_of(st.sampled_from(edges), st.integers(-(2**32), 2**32))
strings = st.one_of(
    st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40),
    st.text("0123456789-_ ", max_size=24),
    st.text("abcXYZ019_-", min_size=1, max_size=33),
)
values = st.one_of(integers, strings, st.booleans())
kinds = st.sampled_from("TPCRIHEA")


def frame(kind: str, body: str) -> bytes:
    data = f"{kind} {body}".encode()
    return b"#%s*%08x\r\n" % (data, zlib.crc32(data))


def packed(kind: str, fields: dict[str, Any]) -> bytes:
    return frame(kind, json.dumps(fields, separators=(",", ":")))


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """A request as a terminal sends it, keys in any order, its numbers anywhere around their limits."""
    number = st.one_of(st.integers(0, 2**30 - 1), st.sampled_from(edges))
    fields = {key: draw(number) for key in ("q", "ref", "t", "amt")} | {"card": draw(strings)}
    small = st.one_of(st.integers(0, 255), st.sampled_from(edges))
    fields |= draw(st.dictionaries(st.sampled_from(["pm", "pn", "ph"]), small, max_size=3))
    return packed("T", dict(draw(st.permutations(list(fields.items())))))


frames = st.one_of(
    requests(),
    st.builds(packed, kinds, st.dictionaries(keys, values, max_size=6)),
    st.sampled_from([vector["line"].encode("latin-1") for vector in GOLDEN]),
)


@st.composite
def damaged(draw: st.DrawFn, repair: bool) -> bytes:
    """A frame with a few bytes changed, cut or doubled; with `repair` its checksum is made right again."""
    line = bytearray(draw(frames)) or bytearray(b"#")
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(line) - 1))
        match draw(st.integers(0, 2)):
            case 0:
                line[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
            case 1:
                line[at : at + 1] = b"" if len(line) > 1 else b"#"
            case 2:
                line[at:at] = line[at : at + draw(st.integers(1, 9))]
    start, star = line.find(b"#"), line.rfind(b"*")
    if repair and 0 <= start < star:
        line[star:] = b"*%08x\r\n" % zlib.crc32(line[start + 1 : star])
    return bytes(line)


lines = st.one_of(damaged(repair=True), damaged(repair=False), st.binary(max_size=260))


@given(lines)
def test_decode(same, line):
    kind, value = same("_drive_protocol:decode", line)
    assert kind == "value", (line, value)


@given(kinds, st.lists(st.tuples(keys, values).map(list), max_size=8))
def test_encode_and_back(same, kind, pairs):
    how, line = same("_drive_protocol:encode", kind, pairs)
    assert how == "value", (pairs, line)
    if isinstance(line, bytes) and len({key for key, _ in pairs}) == len(pairs):
        _, back = same("_drive_protocol:decode", line)
        assert back == [kind, sorted([key, type(value).__name__, value] for key, value in pairs)], (line, back)


@given(st.lists(lines, max_size=6), st.lists(st.integers(1, 300), min_size=1, max_size=5))
def test_a_stream_in_any_pieces(same, several, sizes):
    data = b"".join(several)
    chunks, at = [], 0
    while at < len(data):
        size = sizes[len(chunks) % len(sizes)]
        chunks.append(data[at : at + size])
        at += size
    kind, value = same("_drive_protocol:stream", chunks)
    assert kind == "value", (chunks, value)


@given(
    st.integers(1, 2**30 - 1),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2),
    *([st.integers(-(2**30), 2**30 - 1)] * 3),
    st.lists(st.sampled_from(["F_runf", "L_amt", "G_rew", "G_ewmean"]), max_size=12),
    st.one_of(st.integers(0, 2**30 - 1), st.sampled_from([0, 2**30 - 1])),
)
def test_a_verdict_is_valid_json_with_a_right_checksum(same, q, ref, code, score, review, decline, reasons, us):
    kind, line = same("_drive_protocol:verdict", q, ref, code, score, review, decline, reasons, us)
    assert kind == "value", line
    assert line == frame("T", line[3 : line.rfind(b"*")].decode()), line
    fields = json.loads(line[3 : line.rfind(b"*")])
    given_fields = [fields[key] for key in ("q", "ref", "v", "s", "tr", "td", "m", "us")]
    word = ("approve", "review", "decline")[code]
    assert given_fields == [q, ref, word, score, review, decline, "0123abcd", us], (line, fields)
    why = fields["why"].split(",") if fields["why"] else []
    left = iter(reasons)
    assert all(reason in left for reason in why), (line, reasons)  # in order; one without room is left out
    assert len(line) <= 240, line
