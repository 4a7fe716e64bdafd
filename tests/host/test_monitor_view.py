"""What `sentill monitor` shows a technician: words, not wire names, and what matters on any size of terminal."""

import io

import pytest
from rich.console import Console

from sentill_host.cli.monitor import _screen
from sentill_host.node.frames import Decoder, Frame, Text
from sentill_host.node.view import NodeView, clock, words

IDENTITY = {"q": 1, "t": 5, "sw": "0.1.0", "board": "SIM", "uid": "aa01", "fw": "1.29.0", "rst": "watchdog",
            "prof": "service", "gen": 3, "mp": "8c5f6220"}  # fmt: skip
SUMMARY = {"q": 2, "t": 83_113, "up": 83_113, "st": "fail", "ap": 1200, "rv": 3, "dc": 1, "fr": 0, "rej": 0, "jn": 9,
           "jk": 8, "miss": 0, "free": 480, "crc": 0, "bad": 2, "gap": 0, "drop": 0, "crash": 0, "heap": 12_288,
           "hz": 1}  # fmt: skip


def row(ch: int, st: str = "ok", **more) -> dict:
    ill = {"why": "limit", "adv": "Check the ventilation"} if st != "ok" else {}
    return {"q": 3, "t": 83_115, "ch": ch, "name": f"channel_{ch}", "v": 44, "w": 40, "th": 30, "raw": 6296,
            "u": "0.01C", "st": st, "tr": 1, "left_h": 31, "lo_h": 25, "hi_h": 38, **ill, **more}  # fmt: skip


def test_frames_in_words():
    said = words(Frame("I", IDENTITY))
    assert "SIM aa01: version 0.1.0 on MicroPython 1.29.0; last start: watchdog" in said
    assert "profile service, keys of generation 3" in said and "FAULTS" not in said
    assert "FAULTS: journal" in words(Frame("I", {**IDENTITY, "faults": "journal"}))
    assert "TAMPERED WITH: case" in words(Frame("I", {**IDENTITY, "tamper": "case"}))
    said = words(Frame("H", SUMMARY))
    assert "23:05:13  node" in said and "fail; up 23 h 5 min; 1,200 approve, 3 review, 1 decline" in said
    assert "lines not understood: 2" in said and "crashed" not in said and "480 KB of flash free" in said
    assert "NOT KEPT" not in said and "full" not in said
    said = words(Frame("H", {**SUMMARY, "miss": 1_234, "free": 4}))
    assert "fail; 1,234 audit records NOT KEPT; its flash is full: 4 KB free" in said
    said = words(Frame("H", row(2, "fail")))
    assert "62.96 °C, health 44, rising, fails in 31 h (25..38), limit: Check the ventilation" in said
    assert "channel_2 warn" in words(Frame("E", {"q": 1, "t": 1, "ev": "channel", **row(2, "warn")}))
    assert "fault part=keys err=no room" in words(
        Frame("E", {"q": 1, "t": 1, "ev": "fault", "part": "keys", "err": "no room"})
    )
    assert words(Frame("X", {"q": 1})).split() == ["X"]


def test_node_time_is_a_date_once_the_clock_is_set():
    assert clock(83_113) == "23:05:13"
    assert clock(320_542) == "3 d 17:02:22"
    assert clock(91_454_400) == "11-24 12:00:00"
    assert clock("?") == ""


@pytest.mark.parametrize("size", [(60, 24), (80, 24), (110, 40), (200, 60)])
def test_any_terminal_shows_the_state_the_ill_channels_and_the_keys(size):
    view = NodeView()
    for frame in [Frame("I", IDENTITY), Frame("H", SUMMARY)]:
        view.take(frame)
    assert view.worst() == "fail", "what the node says of itself counts before its rows have come"
    for ch in range(16):
        view.take(Frame("H", row(ch, "fail" if ch == 14 else "ok")))
    for n in range(30):
        view.take(Frame("E", {"q": n, "t": n, "ev": f"event_{n}"}))
        view.take(Text(f"line {n} " + "x" * 300))
    width, height = size
    console = Console(width=width, height=height, file=io.StringIO(), record=True)
    console.print(_screen("/dev/ttyACM0", view, Decoder(), width, height))
    lines = console.export_text().splitlines()
    assert len(lines) <= height, lines
    text = "\n".join(lines)
    for word in (
        "/dev/ttyACM0  fail",
        "channel_14",
        "channel_14: Check the ventilation",
        "event_29",
        "line 29",
        "q quit",
    ):
        assert word in text, text
    assert ("more; a taller window" in text) == (height == 24)


def test_a_bare_prompt_is_called_so():
    decoder = Decoder()
    decoder.feed(b'>>> #C {"q":1,"cmd":"identify"}*00000000\r\n>>> ')
    console = Console(width=80, height=24, file=io.StringIO(), record=True)
    console.print(_screen("/dev/ttyACM0", NodeView(), decoder, 80, 24))
    text = console.export_text()
    assert "prompt is there, no node runs" in text and "Ctrl-D" in text
    decoder.feed(b"\r\nMPY: soft reboot\r\n")
    assert not decoder.at_prompt
