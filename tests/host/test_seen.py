"""A board that shows less than it did before is noticed by whoever talks to it."""

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sentill.journal import chain, recovery
from sentill.wire import protocol
from sentill_host.board.link import Link
from sentill_host.errors import VerifyError
from sentill_host.journal.ledger import Ledger, default_folder
from sentill_host.journal.store import Terminal
from sentill_host.node import access, client, high_water_marks
from sentill_host.node import journal_pull as puller
from sentill_host.node.client import NodeClient
from sentill_host.node.frames import Frame
from sentill_host.node.high_water_marks import Memory, Seen
from tests.host.fakes import FakeNode, reply

DEVICE = b"device-A"
UID = DEVICE.hex()


class Node(FakeNode):
    """A node that shows these numbers in whatever it answers."""

    def __init__(self, kept: int = 100, generation: int = 2, counter: int = 64, order: int = 3, **identity: object):
        super().__init__(self._answer)
        self.kept, self.generation, self.counter, self.order = kept, generation, counter, order
        self.identity = {"uid": UID, "gen": generation, **identity}

    def _answer(self, kind: str, fields: dict[str, Any]) -> bytes:
        q = len(self.seen)
        name = fields["cmd"]
        if name == "identify":
            who = protocol.encode("I", [("q", q), *self.identity.items()])
            return who + reply(fields, q + 1, slot="a", bundle="00", jk=self.kept)
        if name == "challenge":
            told = {"prof": "service", "gen": self.generation, "fresh": self.generation + 1, "line": "usb"}
            return reply(fields, q, **told, next=self.counter, order=self.order, left=0, wait=0)
        if name == "audit":
            head = base64.b64encode(chain.file_head(DEVICE, 1, 0, recovery.first_tag(DEVICE))).decode()
            return reply(fields, q, first=0, next=self.kept, head=head, tag="", **{"from": self.kept})
        return reply(fields, q, hz=1, jk=self.kept, jn=self.kept)


def met(node: Node, talk: Callable[[NodeClient], Any] = access.identity, erased: str = "") -> None:
    with node, Link(node.port) as link:
        talk(NodeClient(link, erased))


WAYS: dict[str, Callable[[NodeClient], Any]] = {
    "look": client.look,
    "await_identity": lambda node: client.await_identity(node, 5),
    "watch_boot": lambda node: list(client.watch_boot(node, 1, client.Boot())),
    "identity": access.identity,
    "challenge": access.challenge,
    "audit": puller.identify,
    "status": lambda node: (access.identity(node), node.command("status")),
    "maintenance": lambda node: (access.identity(node), client.request_maintenance(node, 1)),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_journal_that_ends_earlier_is_noticed_whatever_is_asked(way: str) -> None:
    met(Node(kept=100))
    with pytest.raises(VerifyError, match="ends at record 98, but record 99 was seen before .* by .*@") as caught:
        met(Node(kept=99), WAYS[way])
    assert f"sentill journal note {UID} --anew" in caught.value.hint and caught.value.exit_code == 4


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"generation": 1}, "keys of generation 1, but 2 was seen"),
        ({"generation": 0}, "keys of generation 0, but 2 was seen"),
        ({"counter": 63}, "counter usb is at 63, but 64 was seen"),
        ({"order": 2}, "counter order is at 2, but 3 was seen"),
    ],
)
def test_older_keys_and_counters_are_noticed(change: dict[str, int], words: str) -> None:
    met(Node(), access.challenge)
    with pytest.raises(VerifyError, match=words):
        met(Node(kept=200, **change), access.challenge)


@pytest.mark.parametrize(
    "node",
    [
        Node(),
        Node(kept=101, counter=65, order=4),
        Node(generation=3, counter=0, order=0),  # counters begin anew with new keys
        Node(kept=0),  # it keeps no journal, and says so among its faults
        Node(generation=0, tamper="case"),  # its keys were erased
        Node(kept=5, uid="ff" * 8),
    ],
    ids=["the same", "more", "new keys", "no journal", "tampered", "another board"],
)
def test_what_is_as_it_should_be(node: Node) -> None:
    met(Node(), access.challenge)
    met(node, access.identity if node.identity.get("tamper") else lambda c: (access.identity(c), access.challenge(c)))


def test_what_was_seen_stays_seen() -> None:
    met(Node(kept=100))
    with pytest.raises(VerifyError):
        met(Node(kept=50))
    with pytest.raises(VerifyError):
        met(Node(kept=99))
    met(Node(kept=100))
    assert Memory().of(UID).kept == 100


def test_a_board_swapped_behind_the_port_is_not_taken_for_the_other() -> None:
    met(Node(kept=5, uid="ff" * 8))
    node = Node(kept=100)
    with node, Link(node.port) as link:
        talking = NodeClient(link)
        access.identity(talking)
        node.kept, node.identity["uid"] = 6, "ff" * 8
        access.identity(talking)
    assert (Memory().of(UID).kept, Memory().of("ff" * 8).kept) == (100, 6)


@pytest.mark.parametrize("left", ["{", "", '{"kept": "x"}', "[]"])
def test_where_the_memory_is_lost_the_ledger_tells(left: str) -> None:
    Ledger().append("pull", uid=UID, next=80, generation=2)
    Ledger().append("keys given", uid=UID, generation=3)
    path = default_folder() / "seen" / f"{UID}.json"
    path.parent.mkdir()
    path.write_text(left)
    for remembered in (True, False):
        with pytest.raises(VerifyError, match="ends at record 49, but record 79 was seen before"):
            met(Node(kept=50, generation=3))
        with pytest.raises(VerifyError, match="generation 2, but 3 was seen"):
            met(Node(kept=90))
        if remembered:
            path.unlink()


def test_a_flash_erased_on_purpose_begins_another_life() -> None:
    folder = Terminal(default_folder(), UID).folder
    folder.mkdir(parents=True)
    (folder / "00000000.sjl").write_bytes(b"of the first life")
    met(Node())
    met(Node(kept=2, generation=0), erased="provision --blank")
    assert not folder.exists()
    assert (Terminal(default_folder(), UID, 1).folder / "00000000.sjl").read_bytes() == b"of the first life"
    (entry,) = Ledger().read().entries
    assert (entry.what, entry.fields) == ("anew", {"uid": UID, "why": "provision --blank", "life": 1})
    met(Node(kept=3, generation=0))
    with pytest.raises(VerifyError):
        met(Node(kept=2, generation=0))
    high_water_marks.begin_anew(UID, "again")
    met(Node(kept=2, generation=0))
    assert [entry.fields["life"] for entry in Ledger().mentions(UID)] == [1, 2]


def test_a_folder_that_cannot_be_written_keeps_nobody_from_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(self: Path, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refused)
    met(Node())
    assert Memory().of(UID) == Seen()


def test_nonsense_is_not_remembered() -> None:
    for odd in (-1, 1 << 40, True, "7", 1.5, None, []):
        watcher = high_water_marks.Watcher("a port")
        watcher.take([Frame("I", {"uid": UID, "gen": odd}), Frame("R", {"jk": odd}), Frame("R", {"head": odd})])
        watcher.take([Frame("R", {"order": odd, "line": odd, "next": odd, "gen": odd}), Frame("I", {"uid": odd})])
    assert (Memory().of(UID).kept, Memory().of(UID).generation) == (0, -1)
