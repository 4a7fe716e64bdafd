"""The acquirer's side of a replay, and the player against nodes that misbehave."""

import itertools

import numpy as np
import pyarrow as pa
import pytest

from sentill.risk.card_profile import Profile
from sentill.wire import protocol
from sentill_host.board.link import Link
from sentill_host.errors import LinkError, PortGone, UsageError
from sentill_host.models import replay, transactions
from sentill_host.node.client import NodeClient
from tests.host.fakes import FakeNode, reply, verdict

DAY = 86_400


def table(rows: list[tuple[int, int, int, int, int]]) -> pa.Table:
    names = ["time_s", "customer_id", "terminal_id", "amount_cents", "fraud"]
    return pa.table({name: list(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)})


def request(ref: int, t: int = 0, fraud: bool = False) -> transactions.Request:
    return transactions.Request(ref, t, 1_000, "abcd", 900, 5, 0, fraud)


def test_profiles_come_from_all_terminals_and_lie_before_the_transaction():
    rows = [(i * DAY, 1, i % 2, 1_000 + 100 * i, 0) for i in range(8)] + [(8 * DAY, 2, 0, 500, 0)]
    data = transactions.from_table(table(rows))
    sent = transactions.requests(data, [0], since=2 * DAY)[0]
    assert [r.t // DAY for r in sent] == [2, 4, 6, 8]
    profile = Profile()
    for t, _, _, amount, _ in rows[:4]:
        profile.update(amount, t)
    assert (sent[1].pm, sent[1].pn, sent[1].ph) == profile.at(4 * DAY)
    assert sent[3].pn == 0, "a card never seen before has no profile"
    assert sent[0].card != sent[3].card
    assert not any(c.isdigit() for r in sent for c in r.card)


def test_feedback_comes_after_seven_days_before_the_next_transaction():
    sent = [
        request(1, 0, True),
        request(2, 6 * DAY),
        request(3, 7 * DAY),
        request(4, 20 * DAY, True),
        request(5, 21 * DAY),
    ]
    assert [(kind, r.ref) for kind, r in transactions.steps(sent)] == [
        ("T", 1), ("T", 2), ("P", 1), ("T", 3), ("T", 4), ("T", 5),
    ]  # fmt: skip


def test_unsorted_input_is_sorted_and_bad_input_named(tmp_path):
    data = transactions.from_table(table([(9, 1, 1, 5, 0), (3, 1, 2, 6, 1)]))
    assert data.time.tolist() == [3, 9]
    assert data.terminal_ids[data.terminal[0]] == "2"
    with pytest.raises(UsageError, match="fraud"):
        transactions.from_table(table([(9, 1, 1, 5, 2)]))
    with pytest.raises(UsageError, match="amount_cents"):
        transactions.from_table(table([(9, 1, 1, -5, 0)]))
    with pytest.raises(UsageError, match="no column 'time_s'"):
        transactions.from_table(pa.table({"x": [1]}))
    with pytest.raises(UsageError, match="empty values"):
        transactions.from_table(table([(9, 1, 1, 5, 0)]).set_column(0, "time_s", pa.array([None], pa.int64())))
    with pytest.raises(UsageError, match="no such file"):
        transactions.read(tmp_path / "absent.csv")
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UsageError, match=r"bad\.csv"):
        transactions.read(tmp_path / "bad.csv")
    empty = transactions.from_table(table([(9, 1, 1, 5, 0)]).slice(0, 0))
    assert len(empty) == 0


def test_busiest_terminals_come_first_and_ties_by_number():
    data = transactions.from_table(table([(i, 1, terminal, 5, 0) for i, terminal in enumerate([5, 6, 6, 7, 7, 8])]))
    assert [data.terminal_ids[i] for i in data.busiest(3)] == ["6", "7", "5"]


def test_a_replay_counts_verdicts_labels_and_latencies():
    q = itertools.count(1)

    def node(kind, fields):
        if kind == "P":
            known = fields["ref"] != 3
            return reply(fields, next(q), ok=known, **({} if known else {"err": "unknown"}))
        return verdict(fields, next(q), v="decline" if fields["ref"] == 1 else "approve", us=100 * fields["ref"])

    sent = [request(1, 0, True), request(2, DAY), request(3, 2 * DAY, True), request(4, 30 * DAY)]
    with FakeNode(node) as fake, Link(fake.port) as link:
        report = replay.play(NodeClient(link), transactions.steps(sent))
    assert report.confusion() == {
        "fraud": {"approve": 1, "review": 0, "decline": 1},
        "genuine": {"approve": 2, "review": 0, "decline": 0},
    }
    assert report.verdicts() == {"approve": 3, "review": 0, "decline": 1}
    assert (report.feedback, report.feedback_late, report.unanswered, report.resent) == (2, 1, 0, 0)
    assert report.latency()["device_us"] == {"p50": 250, "p99": 397, "max": 400}
    assert [kind for kind, _ in fake.seen] == ["T", "T", "T", "P", "P", "T"]
    assert "card" in fake.seen[0][1]


def test_a_lost_answer_is_asked_for_again_and_a_late_one_taken_once(monkeypatch):
    monkeypatch.setattr(replay, "ANSWER_S", 0.2)
    q = itertools.count(1)
    asked: list[int] = []

    def node(kind, fields):
        asked.append(fields["ref"])
        if fields["ref"] == 1 and asked.count(1) < 3:
            return b""
        if fields["ref"] == 2 and asked.count(2) == 1:
            damaged = bytearray(verdict(fields, next(q)))
            damaged[12] ^= 1
            return bytes(damaged)
        # A late answer to the request before is on the line, too, and console text.
        return verdict({"ref": fields["ref"] - 1}, next(q)) + b"log line\n" + verdict(fields, next(q))

    with FakeNode(node) as fake, Link(fake.port) as link:
        client = NodeClient(link)
        report = replay.play(client, transactions.steps([request(1), request(2), request(3)]))
    assert [a.request.ref for a in report.answers] == [1, 2, 3]
    assert (report.sent, report.resent, report.unanswered) == (3, 3, 0)
    assert report.duplicates == 3
    assert client.decoder.health.crc_errors == 1
    assert len({fields["q"] for _, fields in fake.seen}) == len(fake.seen), "a resend is a new frame"


def test_another_verdict_on_the_same_request_is_found_out():
    q = itertools.count(1)

    def node(kind, fields):
        again = verdict({"ref": fields["ref"] - 1}, next(q), j=5 if fields["ref"] == 3 else 4, us=1)
        return again + verdict(fields, next(q), j=4)

    with FakeNode(node) as fake, Link(fake.port) as link:
        report = replay.play(NodeClient(link), transactions.steps([request(1), request(2), request(3)]))
    assert dict(report.refused) == {"changed": 1} and report.duplicates == 3, report.summary()


def test_silence_and_refusals_are_reported(monkeypatch):
    monkeypatch.setattr(replay, "ANSWER_S", 0.1)
    q = itertools.count(1)

    def node(kind, fields):
        return b"" if fields["ref"] == 1 else reply(fields, next(q), ok=False, ref=fields["ref"], err="amount", msg="m")

    with FakeNode(node) as fake, Link(fake.port) as link:
        report = replay.play(NodeClient(link), transactions.steps([request(1), request(2)]))
    assert report.unanswered == 1
    assert dict(report.refused) == {"amount": 1}
    assert report.summary()["answered"] == 0
    assert report.latency()["device_us"]["p99"] == 0


def test_speed_keeps_the_pace_of_the_transactions(monkeypatch):
    naps: list[float] = []
    monkeypatch.setattr(replay.time, "sleep", naps.append)
    q = itertools.count(1)
    with FakeNode(lambda kind, fields: verdict(fields, next(q))) as fake, Link(fake.port) as link:
        replay.play(NodeClient(link), transactions.steps([request(1, 0), request(2, 3_600)]), speed=60)
        with pytest.raises(UsageError):
            replay.play(NodeClient(link), [], speed=-1)
    assert len(naps) == 1
    assert 59 < naps[0] <= 60


def test_a_pulled_cable_ends_the_replay_with_an_error():
    with FakeNode(lambda kind, fields: None) as fake, Link(fake.port) as link:
        with pytest.raises(PortGone, match=fake.port) as caught:
            replay.play(NodeClient(link), transactions.steps([request(1)]))
    assert isinstance(caught.value, LinkError)
    assert caught.value.hint


def test_a_request_frame_fits_the_wire_at_its_largest():
    big = transactions.Request(2**32 - 1, 2**30 - 1, 2**30 - 1, "p" * 32, 65_535, 255, 255, True)
    assert len(protocol.encode("T", [("q", protocol.MAX_Q), *big.pairs])) <= protocol.MAX


def test_the_card_token_does_not_depend_on_the_file():
    tokens = {transactions.token(str(i)) for i in range(2_000)}
    assert len(tokens) == 2_000
    assert transactions.token("7") == transactions.token("7")
    assert np.all([len(t) == 16 for t in tokens])
