"""Pulling a journal: what is new comes, what got lost comes again, another past is refused, cuts lose nothing."""

import base64
import errno
import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sentill import crypto
from sentill.journal import chain as journal
from sentill.journal import recovery
from sentill.wire import protocol
from sentill_host.board.link import Link
from sentill_host.errors import LinkError, PlatformError, PortGone, UsageError, VerifyError
from sentill_host.journal.store import Appender, Terminal, terminals, whole_records
from sentill_host.journal.verify import Fault, tag
from sentill_host.journal.verify_terminal import verify_terminal
from sentill_host.node import journal_pull as puller
from sentill_host.node.client import NodeClient
from tests.host.fakes import FakeNode, reply

DEVICE = b"device-A"
ROOTS = {DEVICE: b"root of device A, 32 bytes long."}
UID = DEVICE.hex()
PART = 120

Mangle = Callable[[list[bytes]], list[bytes] | None]


def chain(n: int, salt: str = "", device: bytes = DEVICE, generation: int = 1) -> list[bytes]:
    """A journal of `n` records, one in five longer than an A frame; of generation 0 one under the lab key."""
    root = ROOTS[DEVICE] if generation else crypto.LAB_ROOT
    previous, key, records = recovery.first_tag(device), recovery.first_key(root, generation), []
    for i in range(n):
        text = f"n={i}{salt}".ljust(160 if i % 5 == 4 else 30, ".").encode() if i else struct.pack("<H", generation)
        body = struct.pack("<HBII", 27 + len(text), 3 if i else journal.GENERATION, i, 1000 + i) + text
        previous = tag(key, previous, body)
        records.append(body + previous)
        key = journal.next_key(key)
    return records


class Node:
    """Answers `audit` as a node does that holds `records` from number `first` on; `mangle` changes its frames."""

    def __init__(self, records: list[bytes], first: int = 0, device: bytes = DEVICE, generation: int = 1):
        self.records = records
        self.generation = generation
        self.first = first
        self.device = device
        self.mangle: Iterator[Mangle] = iter(())
        self.asked: list[int] = []

    def __call__(self, kind: str, fields: dict) -> bytes | None:
        numbers = [struct.unpack_from("<I", record, 3)[0] for record in self.records]
        end = numbers[-1] + 1
        start = min(max(fields["from"], self.first), end)
        self.asked.append(fields["from"])
        before = self.records[self.first - 1][-16:] if self.first else recovery.first_tag(self.device)
        head = journal.file_head(self.device, self.generation, 0, before)
        encoded = {"head": base64.b64encode(head).decode(), "tag": base64.b64encode(self.records[-1][-16:]).decode()}
        frames = [reply(fields, 1, **{"first": self.first, "next": end, "from": start}, **encoded)]
        for n, record in zip(numbers, self.records, strict=True):
            for at in range(0, len(record) if n >= start else 0, PART):
                part = base64.b64encode(record[at : at + PART]).decode()
                frames.append(self.frame(len(frames) + 1, n=n, at=at, of=len(record), d=part))
        frames.append(self.frame(len(frames) + 1, n=end, end=True))
        mangled = next(self.mangle, lambda frames: frames)(frames)
        return None if mangled is None else b"".join(mangled)

    @staticmethod
    def frame(q: int, **fields: int | str | bool) -> bytes:
        return protocol.encode("A", [("q", q), *fields.items()])


@pytest.fixture
def terminal(tmp_path: Path) -> Terminal:
    return Terminal(tmp_path, UID)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests that wait for silence to end."""
    monkeypatch.setattr(puller, "_SILENCE_S", 0.5)


def pulled(node: Node, terminal: Terminal) -> puller.Pulled:
    with FakeNode(node) as fake, Link(fake.port) as link:
        return puller.pull(NodeClient(link), terminal)


def held(terminal: Terminal) -> list[bytes]:
    return [record for path in terminal.files() for _, record in whole_records(path.read_bytes())]


def test_only_what_is_new_comes(terminal: Terminal) -> None:
    records = chain(60)
    node = Node(records[:40])
    first = pulled(node, terminal)
    assert (first.count, first.start, first.end, held(terminal)) == (40, 0, 40, records[:40])
    assert pulled(node, terminal).count == 0
    node.records = records
    assert pulled(node, terminal) == puller.Pulled(UID, 40, 60, 0, 0)
    assert node.asked == [0, 39, 39] and held(terminal) == records
    assert [line["sequence"] for line in terminal.checkpoints()] == [39, 59]
    assert len(terminal.files()) == 1
    assert [found.uid for found in terminals(terminal.folder.parent)] == [UID]


@pytest.mark.parametrize("lost", [0, 1, 5, 6, 30], ids=lambda n: f"frame {n}")
def test_lost_frames_are_asked_for_again(terminal: Terminal, lost: int) -> None:
    # Frame 0 is the reply; 5 and 6 are the parts of one record.
    node = Node(chain(40))

    def lose(frames: list[bytes]) -> list[bytes]:
        return [frame for i, frame in enumerate(frames) if i != lost]

    node.mangle = iter([lose] if lost else [])
    assert pulled(node, terminal).count == 40
    assert held(terminal) == node.records
    assert len(node.asked) == (2 if lost else 1)


def test_a_lost_end_is_asked_for_again(terminal: Terminal, impatient: None) -> None:
    node = Node(chain(40))
    node.mangle = iter([lambda frames: frames[:-1]])
    assert pulled(node, terminal).count == 40
    assert held(terminal) == node.records and len(node.asked) >= 2


def test_damaged_frames_are_asked_for_again(terminal: Terminal) -> None:
    node = Node(chain(40))
    node.mangle = iter([lambda frames: [frame.replace(b'"d":"', b'"d":"A', 1) for frame in frames]] * 2)
    assert pulled(node, terminal).count == 40
    assert held(terminal) == node.records


def test_a_line_that_stays_bad_ends_in_an_error_and_keeps_what_came(terminal: Terminal, impatient: None) -> None:
    node = Node(chain(40))
    node.mangle = iter([lambda frames: frames[:1] + frames[1:9]] + [lambda frames: frames[:1]] * 20)
    with pytest.raises(LinkError, match="does not come through"):
        pulled(node, terminal)
    assert 5 < len(held(terminal)) < 9
    node.mangle = iter(())
    pulled(node, terminal)
    assert held(terminal) == node.records


def test_a_cable_pulled_in_between_loses_nothing(terminal: Terminal) -> None:
    node = Node(chain(40))
    calls = 0

    def progress(done: int, of: int) -> None:
        nonlocal calls
        calls += 1
        if done == 17:
            raise PortGone("the cable")

    with FakeNode(node) as fake, Link(fake.port) as link, pytest.raises(PortGone):
        puller.pull(NodeClient(link), terminal, progress)
    assert held(terminal) == node.records[:17] and terminal.checkpoints()[-1]["sequence"] == 16
    assert pulled(node, terminal).count == 23
    assert held(terminal) == node.records


def test_a_file_cut_by_a_crash_of_the_computer_is_mended(terminal: Terminal) -> None:
    node = Node(chain(40))
    pulled(node, terminal)
    (path,) = terminal.files()
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) - 500])
    assert pulled(node, terminal).count > 0
    assert path.read_bytes() == whole


def test_what_gave_way_before_it_was_pulled_begins_a_new_file(terminal: Terminal) -> None:
    records = chain(60)
    pulled(Node(records[:20]), terminal)
    late = pulled(Node(records, first=30), terminal)
    assert (late.start, late.count, late.gone) == (30, 30, 10)
    assert [path.name for path in terminal.files()] == ["00000000.sjl", "0000001e.sjl"]
    audit = verify_terminal(terminal, ROOTS)
    assert audit.finding and (audit.finding.sequence, audit.finding.fault) == (20, Fault.MISSING)
    allowed = verify_terminal(terminal, ROOTS, gaps=True)
    assert allowed.finding is None and len(allowed.records) == 50


def test_records_that_are_missing_on_the_node_are_told_and_the_rest_is_kept(terminal: Terminal) -> None:
    records = chain(40)
    result = pulled(Node([*records[:20], *records[23:]]), terminal)
    assert (result.count, result.missing) == (37, 3)
    audit = verify_terminal(terminal, ROOTS)
    assert audit.finding and (audit.finding.sequence, audit.finding.fault) == (20, Fault.MISSING)


@pytest.mark.parametrize("left", [1, 20, 39])
def test_a_cut_tail_is_refused(terminal: Terminal, left: int) -> None:
    records = chain(40)
    pulled(Node(records), terminal)
    with pytest.raises(VerifyError, match=f"ends at record {left - 1}, but record 39 was seen"):
        pulled(Node(records[:left]), terminal)
    assert held(terminal) == records


def test_a_cut_tail_is_refused_even_when_this_side_lost_its_records(terminal: Terminal) -> None:
    records = chain(40)
    pulled(Node(records), terminal)
    (path,) = terminal.files()
    path.unlink()
    with pytest.raises(VerifyError, match="ends at record 19, but record 39 was seen"):
        pulled(Node(records[:20]), terminal)
    audit = verify_terminal(terminal, ROOTS)
    assert audit.finding and audit.finding.fault == Fault.TRUNCATED
    pulled(Node(records), terminal)
    assert verify_terminal(terminal, ROOTS).finding is None


def test_another_past_is_refused(terminal: Terminal) -> None:
    pulled(Node(chain(40)), terminal)
    with pytest.raises(VerifyError, match="record 39 differs from the one pulled before"):
        pulled(Node(chain(60, salt=" another")), terminal)
    assert held(terminal) == chain(40)


def test_the_ledger_tells_of_every_pull_and_of_those_refused(terminal: Terminal) -> None:
    records = chain(40)
    pulled(Node(records[:20]), terminal)
    pulled(Node(records[:20]), terminal)
    pulled(Node(records), terminal)
    with pytest.raises(VerifyError):
        pulled(Node(chain(60, salt=" another")), terminal)
    entries = terminal.ledger.read().entries
    assert [(entry.what, entry.uid) for entry in entries] == [("pull", UID)] * 3 + [("pull refused", UID)]
    assert [entry.fields["sequence"] for entry in entries[:3]] == [19, 19, 39]
    assert [entry.fields["next"] for entry in entries[:3]] == [20, 20, 40]
    assert entries[2].fields["tag"] == records[-1][-16:].hex() and "differs" in entries[3].fields["why"]
    lines = terminal.checkpoints()
    assert [line["sequence"] for line in lines] == [19, 39] and [line["entries"] for line in lines] == [0, 2]
    assert lines[1]["chain"] == entries[1].chain


def test_a_half_written_checkpoint_gives_way_to_the_next(terminal: Terminal) -> None:
    records = chain(40)
    pulled(Node(records[:20]), terminal)
    path = terminal.folder / "checkpoints.jsonl"
    whole = path.read_bytes()
    for left in (1, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole + whole[:left])
        assert verify_terminal(terminal, ROOTS).finding is None
    pulled(Node(records), terminal)
    assert [line["sequence"] for line in terminal.checkpoints()] == [19, 39]
    assert path.read_bytes().startswith(whole) and verify_terminal(terminal, ROOTS).finding is None


def test_the_journal_of_another_board_is_refused(terminal: Terminal) -> None:
    with pytest.raises(VerifyError, match="wrong device"):
        pulled(Node(chain(40), device=b"device-B"), terminal)
    assert not terminal.files()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"of": 228}, "malformed"),
        ({"of": 40}, "malformed"),
        ({"d": "?"}, "malformed"),
        ({"d": 7}, "malformed"),
        ({"of": 12, "d": "AAAAAAAAAAAAAAAA"}, "malformed"),
    ],
)
def test_nonsense_is_refused(terminal: Terminal, change: dict, message: str) -> None:
    node = Node(chain(10))
    fields = {"n": 1, "at": 0, "of": 57, "d": base64.b64encode(node.records[1]).decode()} | change
    node.mangle = iter([lambda frames: [*frames[:2], node.frame(9, **fields), *frames[2:]]] * 9)
    with pytest.raises(VerifyError, match=message):
        pulled(node, terminal)


@pytest.mark.parametrize("change", [{"next": 0, "first": 3}, {"from": 99}, {"head": "AAAA"}, {"tag": "?"}, {"head": 5}])
def test_a_reply_that_makes_no_sense_is_refused(terminal: Terminal, change: dict) -> None:
    node = Node(chain(10))

    def lie(frames: list[bytes]) -> list[bytes]:
        fields = protocol.decode(frames[0].strip())[1]
        return [protocol.encode("R", (fields | change).items())]

    node.mangle = iter([lie])
    with pytest.raises(VerifyError, match="makes no sense"):
        pulled(node, terminal)


def test_a_node_without_a_journal_says_so(terminal: Terminal) -> None:
    def refuse(kind: str, fields: dict) -> bytes:
        return reply(fields, 1, ok=False, err="state", msg="this node keeps no journal; see its faults")

    with FakeNode(refuse) as fake, Link(fake.port) as link, pytest.raises(LinkError, match="keeps no journal"):
        puller.pull(NodeClient(link), terminal)


def test_a_full_disk_is_named(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Appender, sequence: int, record: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Appender, "add", full)
    with pytest.raises(PlatformError, match=f"cannot write .*{terminal.uid}: No space left"):
        pulled(Node(chain(3)), terminal)


def test_a_damaged_checkpoint_file_is_named(terminal: Terminal) -> None:
    pulled(Node(chain(10)), terminal)
    path = terminal.folder / "checkpoints.jsonl"
    for bad in ("{", json.dumps({"sequence": "x", "tag": "00"}), json.dumps({"sequence": 1}), json.dumps([1])):
        path.write_text(bad + "\n")
        with pytest.raises(UsageError, match=r"checkpoints\.jsonl is no checkpoint file"):
            pulled(Node(chain(10)), terminal)
    with pytest.raises(UsageError, match="no device id"):
        Terminal(terminal.folder, "../../etc")
