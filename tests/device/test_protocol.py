"""Frames: encoder, decoder and the golden lines of tests/vectors/frames.json (not made with our code)."""

import json

from sentill.errors import FrameError
from sentill.wire import protocol
from support import raises, vector_path


def golden():
    with open(vector_path("frames.json")) as file:
        return json.load(file)


def test_golden_lines_decode():
    good = bad = 0
    for vector in golden():
        line = bytes([ord(c) for c in vector["line"]])
        if "error" in vector:
            bad += 1
            error = raises(FrameError, protocol.decode, line)
            assert error.code == vector["error"], (line, error.code, vector["error"])
        else:
            good += 1
            kind, fields = protocol.decode(line)
            assert kind == vector["kind"], (line, kind)
            assert dict(fields) == vector["fields"], (line, fields, vector["fields"])
            for key in fields:
                assert type(fields[key]) is type(vector["fields"][key]), (line, key)
    assert good >= 15 and bad >= 40, (good, bad)


def test_encode_writes_the_golden_line():
    line = protocol.encode("R", [("q", 8), ("re", 0), ("ok", False), ("err", "command"), ("msg", "no such command")])
    wanted = [v["line"] for v in golden() if '"no such command"' in v["line"]]
    assert [line.decode()] == wanted, (line, wanted)


def test_encode_keeps_order_and_escapes():
    pairs = [("q", 1), ("z", -5), ("a", 'say "hi" \\ /'), ("m", True), ("b", False), ("empty", "")]
    line = protocol.encode("E", pairs)
    text = '{"q":1,"z":-5,"a":"say \\"hi\\" \\\\ /","m":true,"b":false,"empty":""}'
    assert line[3:-11].decode() == text, (line, text)
    kind, fields = protocol.decode(line)
    assert kind == "E" and list(fields.items()) == pairs, fields


def test_encode_refuses_what_does_not_travel():
    for value, code in (
        (None, "value"),
        (b"x", "value"),
        ([1], "value"),
        ((1,), "value"),
        (1 << 32, "value"),
        (-(1 << 32), "value"),
        ("\n", "json"),
        ("é", "json"),
        ("x" * 230, "long"),
    ):
        error = raises(FrameError, protocol.encode, "E", [("a", value)])
        assert error.code == code, (value, error.code, code)


def test_longest_line_is_240_bytes():
    room = 240 - len(protocol.encode("E", [("a", "")]))
    assert len(protocol.encode("E", [("a", "x" * room)])) == 240
    assert raises(FrameError, protocol.encode, "E", [("a", "x" * (room + 1))]).code == "long"
    assert protocol.decode(protocol.encode("E", [("a", "x" * room)]))[1]["a"] == "x" * room


def test_fit_cuts_the_end():
    pairs = [("q", 1), ("n", 12), ("text", "y" * 100), ("adv", "z" * 300)]
    line = protocol.fit("H", pairs)
    fields = protocol.decode(line)[1]
    assert 232 <= len(line) <= 240, len(line)
    assert fields["text"] == "y" * 100 and fields["adv"] == "z" * len(fields["adv"]), fields
    many = [("key%02d" % i, 4000000000) for i in range(30)]
    fields = protocol.decode(protocol.fit("H", many))[1]
    assert list(sorted(fields)) == [key for key, _ in many][: len(fields)], fields


def test_printable():
    assert protocol.printable("a\n\x00b\x7f", 80) == "a??b?"
    assert protocol.printable("x" * 100, 5) == "xxxxx"


def test_sequence_counts_gaps_and_restarts():
    s = protocol.Sequence()
    gaps = [s.seen(q) for q in (5, 6, 9, 9, 1, 2, protocol.MAX_Q, 1, 3)]
    assert gaps == [0, 0, 2, 0, 0, 0, protocol.MAX_Q - 3, 0, 1], gaps
    assert s.restarts == 2, s.restarts
    assert s.missed == protocol.MAX_Q, s.missed
    assert protocol.next_q(1) == 2 and protocol.next_q(protocol.MAX_Q) == 1
