"""What a client of a node makes of its refusals."""

import threading
import time

import pytest

from sentill.wire import protocol
from sentill_host.board.link import Link
from sentill_host.errors import LinkError
from sentill_host.node import access
from sentill_host.node.client import Boot, NodeClient, await_identity, request_maintenance, watch_boot
from tests.host.fakes import FakeNode, reply
from tests.host.test_link import await_arrival


@pytest.mark.parametrize(("refusals", "works"), [(0, True), (2, True), (3, True), (4, False)])
def test_a_node_without_room_is_asked_again_but_not_for_ever(refusals, works):
    def answer(kind, fields):
        if len(node.seen) <= refusals:
            return reply(fields, len(node.seen), ok=False, err="memory", msg="no room for that now; ask again")
        return reply(fields, len(node.seen), hz=10)

    node = FakeNode(answer)
    with node, Link(node.port) as link:
        if works:
            assert NodeClient(link).command("set-rate", hz=10)["hz"] == 10
        else:
            with pytest.raises(LinkError, match="no room") as caught:
                NodeClient(link).command("set-rate", hz=10)
            assert "fewer channels" in caught.value.hint
    assert len(node.seen) == refusals + works


def test_another_refusal_is_final():
    node = FakeNode(lambda kind, fields: reply(fields, 1, ok=False, err="range", msg="hz"))
    with node, Link(node.port) as link, pytest.raises(LinkError, match="refuses 'set-rate': hz"):
        NodeClient(link).command("set-rate", hz=11)
    assert len(node.seen) == 1


def test_who_asks_for_the_identity_leaves_no_reply_behind():
    """The next client of the port counts from 1 as well, and would take it for the answer to something else."""

    def answer(kind, fields):
        identity = protocol.encode("I", [("q", len(node.seen)), ("uid", "aa")])
        threading.Timer(0.1, node.send, [reply(fields, len(node.seen), slot="a")]).start()
        return identity

    node = FakeNode(answer)
    with node, Link(node.port) as link:
        fields, _ = await_identity(NodeClient(link), 5)
        assert fields["uid"] == "aa"
        assert link.read(0.3) == b""


@pytest.mark.parametrize(("damaged", "told"), [(0, True), (2, True), (3, False)])
def test_a_damaged_identity_is_asked_for_again(damaged, told):
    def answer(kind, fields):
        number = len(node.seen)
        frame = protocol.encode("I", [("q", 2 * number), ("t", 1), ("uid", "0123456789abcdef")])
        if number <= damaged:
            frame = frame.replace(b"uid", b"u?d")
        return frame + reply(fields, 2 * number + 1)

    node = FakeNode(answer)
    with node, Link(node.port) as link:
        if told:
            assert access.identity(NodeClient(link))["uid"] == "0123456789abcdef"
        else:
            with pytest.raises(LinkError, match="does not say who it is") as caught:
                access.identity(NodeClient(link))
            assert caught.value.hint
    assert len(node.seen) == min(damaged + 1, 3)


@pytest.fixture
def spoken():
    """A client whose node has said a lot before its reply to frame 1, all of which waits to be read."""
    said = [protocol.encode("H", [("q", n), ("t", 1), ("ch", n), ("name", "c"), ("st", "ok")]) for n in range(8)]
    said.append(protocol.encode("I", [("q", 8), ("t", 1), ("uid", "aa"), ("sw", "1")]))
    said.append(protocol.encode("R", [("q", 9), ("re", 1), ("ok", True), ("slot", "a")]))
    node = FakeNode(lambda kind, fields: b"")
    with node, Link(node.port) as link:
        node.send(b"".join(said))
        await_arrival(link, len(b"".join(said)))
        yield NodeClient(link)


def test_what_came_in_time_counts_however_late_one_looks(spoken):
    """A busy computer keeps a program waiting until all its time is up."""
    assert (spoken.answer(1, 0.0) or {})["slot"] == "a"
    assert len(spoken.unclaimed) == 9


def test_an_identity_that_came_in_time_counts_however_late_one_looks(spoken):
    assert (await_identity(spoken, 0.0)[0] or {})["uid"] == "aa"


def test_a_boot_that_was_told_in_time_counts_however_late_one_looks(spoken):
    seen = Boot()
    assert [(step.identity or {}).get("uid") for step in watch_boot(spoken, 0.0, seen)][-1] == "aa"
    assert seen.slot == "a"


def test_nobody_is_waited_for_without_end():
    node = FakeNode(lambda kind, fields: b"")
    with node, Link(node.port) as link:
        client = NodeClient(link)
        stop = threading.Event()

        def chatter() -> None:
            while not stop.is_set():
                node.send(b"x\r\n" * 300)

        thread = threading.Thread(target=chatter)
        thread.start()
        try:
            assert client.answer(1, 0.2) is None
            assert await_identity(client, 0.2)[0] is None
        finally:
            stop.set()
            while thread.is_alive():
                link.read(0.1)


def test_a_prompt_is_told_from_a_silent_node():
    for said, words in ((b"\r\n>>> ", "no node runs"), (b"", "does not answer 'status'")):
        with FakeNode(lambda kind, fields, said=said: said) as node, Link(node.port) as link:
            with pytest.raises(LinkError, match=words) as caught:
                NodeClient(link).command("status", timeout_s=0.5)
            assert ("Ctrl-D" in caught.value.hint) == bool(said)


def test_a_late_reply_to_one_client_is_none_to_the_next():
    """As after a boot that was watched: questions were asked while the node was silent, and it answers them all."""
    late = []

    def answer(kind, fields):
        late.append(reply(fields, len(late), slot=fields["cmd"]))
        if fields["cmd"] != "status":
            return b""
        return b"".join(late)

    node = FakeNode(answer)
    with node, Link(node.port) as link:
        first = NodeClient(link)
        for _ in range(3):
            first.send("C", [("cmd", "identify")])
        assert NodeClient(link).command("status")["slot"] == "status"


def test_a_node_that_stands_aside_at_once_is_not_waited_for(monkeypatch):
    """Reply and restart arrive together at a computer that is busy."""
    monkeypatch.setattr("sentill_host.node.client._RESTART_S", 60.0)

    def answer(kind, fields):
        return reply(fields, 1) + b"booting\r\nsentill: maintenance, the node runs again after the next reset\r\n"

    node = FakeNode(answer)
    with node, Link(node.port) as link:
        start = time.monotonic()
        assert request_maintenance(NodeClient(link))
        assert time.monotonic() - start < 30
