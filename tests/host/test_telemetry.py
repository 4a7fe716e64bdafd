"""Frames out of a stream: wherever they start, however they are cut, with everything else kept or counted."""

import random

from hypothesis import given
from hypothesis import strategies as st

from sentill.wire import protocol
from sentill_host.node.frames import Decoder, Frame, Text

HEALTH = protocol.encode("H", [("q", 1), ("t", 5), ("ch", "supply"), ("state", "ok")])
EVENT = protocol.encode("E", [("q", 2), ("t", 6), ("ev", "boot"), ("note", 'a "#" and a #T {"q":1}')])


def feed(data: bytes, cuts: list[int] | None = None) -> tuple[list[Frame | Text], Decoder]:
    decoder = Decoder()
    items: list[Frame | Text] = []
    edges = [0, *sorted(cuts or []), len(data)]
    for a, b in zip(edges, edges[1:], strict=False):
        items += decoder.feed(data[a:b])
    return items, decoder


def test_frames_and_text_come_in_order_and_text_before_a_frame_is_kept():
    items, decoder = feed(b"MicroPython v1.29\r\n>>> " + HEALTH + b"\r\nodd # text\n" + EVENT)
    assert items == [
        Text("MicroPython v1.29"),
        Text(">>> "),
        Frame("H", {"q": 1, "t": 5, "ch": "supply", "state": "ok"}),
        Text("odd # text"),
        Frame("E", {"q": 2, "t": 6, "ev": "boot", "note": 'a "#" and a #T {"q":1}'}),
    ]
    assert decoder.health.frames == 2
    assert decoder.health.missed == decoder.health.crc_errors == 0


@given(st.lists(st.integers(0, len(HEALTH + EVENT) * 2), max_size=8))
def test_the_cuts_of_the_stream_do_not_matter(cuts):
    data = b"log " + HEALTH + b"text\n" + EVENT
    assert feed(data, [c for c in cuts if c < len(data)])[0] == feed(data)[0]


def test_a_frame_at_the_end_of_a_very_long_line_is_found():
    items, _ = feed(b"x" * 3_000 + HEALTH)
    assert isinstance(items[-1], Frame)
    assert isinstance(items[0], Text)
    assert items[0].line == "x" * 3_000


def test_damage_is_counted_and_never_shown_as_a_frame():
    rng = random.Random(3)
    damaged = 0
    decoder = Decoder()
    for _ in range(500):
        line = bytearray(EVENT)
        at = rng.randrange(3, len(line) - 2)
        line[at] ^= 1 << rng.randrange(7)
        # A flipped bit can make a line end or destroy the frame's marks: then the pieces are text.
        frames = [item for item in decoder.feed(bytes(line)) if isinstance(item, Frame)]
        assert frames == [], bytes(line)
        damaged += 1
    assert decoder.health.crc_errors > 0.8 * damaged, decoder.health


def test_gaps_and_restarts_are_counted():
    frames = [protocol.encode("H", [("q", q)]) for q in (1, 2, 5, 6, 1, 2)]
    items, decoder = feed(b"".join(frames))
    assert [item.missed for item in items if isinstance(item, Frame)] == [0, 0, 2, 0, 0, 0]
    assert (decoder.health.missed, decoder.health.restarts) == (2, 1)


@given(st.binary(max_size=2_000))
def test_no_input_raises_or_is_kept_forever(data):
    decoder = Decoder()
    for _ in range(5):
        decoder.feed(data)
    assert len(decoder._pending) <= 4_096
    decoder.feed(b"\n" + HEALTH)
    assert decoder.health.frames >= 1
