"""Records of a journal read for people."""

import dataclasses

from sentill.journal import chain
from sentill_host.journal.decode import read, unrecorded, when
from sentill_host.journal.journal_file import Record


def made_at(time: int, kind: int = chain.BOOT, payload: bytes = b"rst=hard sw=0.1.0") -> Record:
    blank = {field.name: None for field in dataclasses.fields(Record)}
    return Record(**{**blank, "time": time, "kind": kind, "sequence": 7, "generation": 1, "payload": payload})


def test_a_time_counted_from_power_on_is_not_called_a_date():
    assert when(made_at(5)) == "power-on +00:00:05"
    assert when(made_at(1_000_000)) == "power-on +277:46:40"
    assert when(made_at(91_454_400)) == "2026-11-24 12:00:00"


def test_a_text_with_pairs():
    entry = read(made_at(91_454_400))
    assert entry.fields == {"rst": "hard", "sw": "0.1.0"}
    assert entry.proof == "device"


def test_what_could_not_be_recorded_is_told_and_counted():
    payload = b"n=12 verdicts=10 from=91454400 to=91454460 why=full"
    record = made_at(91_454_470, chain.MISSING, payload)
    assert record.name == "missing" and unrecorded(record) == 12
    told = "12 records COULD NOT BE MADE, 10 of them verdicts, 2026-11-24 12:00:00 to 2026-11-24 12:01:00"
    assert read(record).text == told + ", because of full"
    assert unrecorded(made_at(1, payload=payload)) == 0, "only a record of that kind says so"
    odd = made_at(1, chain.MISSING, b"n=many")
    assert unrecorded(odd) == 0 and read(odd).text == "n=many"
