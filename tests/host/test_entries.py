"""Records of a journal read for people."""

import dataclasses

from sentill import journal
from sentill_host.entries import read, when
from sentill_host.verify import Record


def made_at(time: int) -> Record:
    blank = {field.name: None for field in dataclasses.fields(Record)}
    return Record(
        **{**blank, "time": time, "kind": journal.BOOT, "sequence": 7, "generation": 1, "payload": b"rst=hard sw=0.1.0"}
    )


def test_a_time_counted_from_power_on_is_not_called_a_date():
    assert when(made_at(5)) == "power-on +00:00:05"
    assert when(made_at(1_000_000)) == "power-on +277:46:40"
    assert when(made_at(91_454_400)) == "2026-11-24 12:00:00"


def test_a_text_with_pairs():
    entry = read(made_at(91_454_400))
    assert entry.fields == {"rst": "hard", "sw": "0.1.0"}
    assert entry.proof == "device"
