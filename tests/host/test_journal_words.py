"""What `sentill journal` and `sentill fleet` say of records that a node could not make: never just "proven"."""

from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from sentill.journal import chain
from sentill_host.cli import journal as command
from sentill_host.cli import journal_whole
from sentill_host.cli.journal_parts import row_of
from sentill_host.fleet.campaign import describe
from sentill_host.journal.coverage import _covered
from sentill_host.journal.verify_terminal import Audit
from tests.host.test_entries import made_at

GAP = made_at(91_454_470, chain.MISSING, b"n=12 verdicts=10 from=91454400 to=91454460 why=full")
PULLED = {"port": "/dev/ttyACM0", "uid": "aa01", "count": 3, "start": 0, "end": 3, "gone": 0, "folder": "/j"}


@pytest.mark.parametrize(("records", "told"), [([made_at(5)], False), ([made_at(5), GAP], True)])
def test_a_proven_journal_says_what_is_not_in_it(capsys, records, told):
    audit = Audit("aa01", "aa01", records)
    assert row_of(audit)["unrecorded"] == (12 if told else 0)
    journal_whole._tell([audit], [], [], SimpleNamespace(histories={}))
    said = capsys.readouterr()
    assert "proven" in said.out and ("12 more NEVER RECORDED" in said.out) == told, said


@pytest.mark.parametrize("unkept", [0, 1, 12])
def test_a_pull_says_what_the_node_could_not_keep(capsys, unkept):
    command._tell_pull({**PULLED, "unkept": unkept, "proven": 3, "proof": "device", "unrecorded": unkept})
    said = capsys.readouterr()
    words = " ".join(said.err.split())
    assert (f"{unkept} record{'s' * (unkept > 1)} NOT KEPT by the node" in words) == bool(unkept), said
    assert ("nothing proves what it did then" in words) == bool(unkept)
    assert (f"{unkept} more NEVER RECORDED" in said.out) == bool(unkept)


def test_what_was_not_recorded_is_not_covered():
    pulled = SimpleNamespace(at="2026-11-25T00:00:00+00:00", gone=0, missing=0, start=0)
    life = SimpleNamespace(pulls=[pulled], last=pulled, ended="", number=0)
    history = SimpleNamespace(uid="aa01", label="till 1")
    audit = Audit("aa01", "aa01", [made_at(91_454_300), GAP])
    row = _covered(history, life, audit, datetime(2026, 11, 24, 13, tzinfo=UTC))
    (hole,) = row.holes
    assert hole.startswith("12 records COULD NOT BE MADE, 10 of them verdicts") and "(record 7)" in hole
    assert not _covered(history, life, Audit("aa01", "aa01", [made_at(5)]), datetime(2026, 11, 24, tzinfo=UTC)).holes


def test_what_was_collected_from_a_node_with_a_full_disk():
    told = {"worst": "fail", "records": 3, "trouble": "12 audit records NOT KEPT"}
    assert describe("collect", told) == "health fail, 3 new audit records; 12 audit records NOT KEPT"
    assert describe("collect", {**told, "trouble": ""}) == "health fail, 3 new audit records"
