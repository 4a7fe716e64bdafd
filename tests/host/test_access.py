"""Devices that lie to whoever holds the key file: none gets the keys of another, or has a word of it noted."""

import base64
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from sentill import crypto
from sentill.wire import protocol
from sentill_host.board.link import Link
from sentill_host.errors import LinkError, UsageError
from sentill_host.journal.ledger import Ledger, default_folder
from sentill_host.keys.key_file import KeyFile
from sentill_host.node import access
from sentill_host.node.client import NodeClient
from tests.host.fakes import FakeNode, reply

UID = "aabbccddeeff"
GIVEN = 3
NUMBERS = {"gen": GIVEN, "fresh": GIVEN + 1, "next": 0, "order": 0, "left": 0, "wait": 0}


@pytest.fixture
def keys(tmp_path: Path) -> KeyFile:
    made = KeyFile.create(tmp_path / "keys.json", "a password of tests")
    made.note(UID, GIVEN)
    return made


class Liar(FakeNode):
    """Says what it is told to, and takes any keys: those that it got are in `got`, as it was sent them."""

    def __init__(self, uid: str, **claims: object):
        super().__init__(self._answer)
        self.uid = uid
        self.claims = {"prof": "service", "line": "usb", **NUMBERS, **claims}
        self.got: list[bytes] = []

    def _answer(self, kind: str, fields: dict[str, Any]) -> bytes:
        q = len(self.seen)
        if fields["cmd"] == "identify":
            who = protocol.encode(
                "I", [("q", q), ("uid", self.uid), ("gen", 0 if "tamper" in self.claims else self.claims["gen"])]
            )
            return who + reply(fields, q)
        if fields["cmd"] == "challenge":
            return reply(fields, q, **{name: value for name, value in self.claims.items() if value is not None})
        if "key" in fields:
            self.got.append(base64.b64decode(fields["key"]))
        return reply(fields, q, left=60)


def test_no_spelling_of_an_id_hides_what_a_device_was_given(keys: KeyFile) -> None:
    for uid in (UID, UID.upper(), UID + "0000", UID + "000011", "aabbccdd eeff"):
        assert keys.root(uid, 1) == keys.root(UID, 1), "these are all the same device"
        assert keys.newest(uid) == GIVEN, uid
        with pytest.raises(UsageError, match="was given 3"):
            keys.check(uid, 0)
    assert keys.newest("aabbccddeefe") == 0
    for uid in ("", "xy", "abc"):
        with pytest.raises(UsageError, match="no unique id"):
            keys.newest(uid)


@pytest.mark.parametrize("uid", [UID, UID + "0000", UID.upper(), UID + "000000"])
@pytest.mark.parametrize("generation", [0, GIVEN - 1])
def test_a_device_that_poses_as_one_without_its_keys_gets_none(keys: KeyFile, uid: str, generation: int) -> None:
    with Liar(uid, prof="open", gen=generation, fresh=1) as liar, Link(liar.port) as link:
        with pytest.raises(UsageError, match="was given 3"):
            access.provision(NodeClient(link), keys, "service", 7)
        assert not liar.got


def test_the_ledger_tells_of_keys_given_and_orders_made_and_holds_no_secret(keys: KeyFile) -> None:
    with Liar(UID, prof="sealed", tamper="case", gen=GIVEN - 1) as liar, Link(liar.port) as link:
        access.provision(NodeClient(link), keys, "service", 7)
    made = access.issue(keys, UID, 12, 15)
    name = UID + "0000"
    giving, given, order = Ledger().read().entries
    assert (giving.what, giving.fields) == (
        "giving keys", {"uid": name, "generation": 4, "profile": "service", "was": GIVEN - 1, "blank": False},
    )  # fmt: skip
    assert (given.what, given.fields) == ("keys given", {"uid": name, "generation": 4, "profile": "service"})
    assert (order.what, order.uid, order.fields["number"], order.fields["minutes"]) == ("order", name, 12, 15)
    written = Ledger().path.read_text()
    assert made.sig not in written and not any(base64.b64encode(key).decode() in written for key in liar.got)


def test_no_keys_are_given_that_cannot_be_entered_in_the_ledger(keys: KeyFile) -> None:
    default_folder().parent.mkdir(exist_ok=True)
    default_folder().write_text("a file where the folder should be")
    with Liar(UID, prof="sealed", tamper="case", gen=GIVEN - 1) as liar, Link(liar.port) as link:
        with pytest.raises(UsageError, match="cannot make the folder"):
            access.provision(NodeClient(link), keys, "service", 7)
        assert not liar.got
    with pytest.raises(UsageError, match="cannot make the folder"):
        access.issue(keys, UID, 12, 15)


@pytest.mark.parametrize("fresh", [1, GIVEN])
@pytest.mark.parametrize("blank", [False, True])
def test_a_generation_is_never_given_out_again(keys: KeyFile, fresh: int, blank: bool) -> None:
    """To a device that says its keys were erased, or whose user says so, new ones go in the clear."""
    claims = {"prof": "open", "gen": 0} if blank else {"prof": "sealed", "tamper": "case", "gen": fresh - 1}
    with Liar(UID, fresh=fresh, **claims) as liar, Link(liar.port) as link:
        state = access.provision(NodeClient(link), keys, "service", 7, blank)
    assert state.fresh == GIVEN + 1 and liar.got == [keys.root(UID, GIVEN + 1)]
    assert keys.newest(UID) == GIVEN + 1


@pytest.mark.parametrize("sig", [None, "", base64.b64encode(bytes(12)).decode()])
def test_what_a_device_says_of_newer_keys_is_noted_only_when_it_shows_them(keys: KeyFile, sig: str | None) -> None:
    def told(client: NodeClient) -> None:
        access.prove(client, keys, access.challenge(client))

    def given(client: NodeClient) -> None:
        access.provision(client, keys, "service", 7)

    for action in (told, given):
        with Liar(UID, gen=60_000, fresh=60_001, sig=sig) as liar, Link(liar.port) as link:
            with pytest.raises(UsageError, match="its keys are not from"):
                action(NodeClient(link))
            assert not liar.got and [fields["cmd"] for _, fields in liar.seen] == ["challenge", "identify"]
    assert keys.newest(UID) == KeyFile.open(keys.path, "a password of tests").newest(UID) == GIVEN


def test_the_line_of_the_terminal_is_told_from_wrong_keys(keys: KeyFile) -> None:
    with Liar(UID, line="uart") as liar, Link(liar.port) as link:
        client = NodeClient(link)
        state = access.attach(client, keys)
        assert state.line == "uart" and client.signer is not None, "feedback is signed there"
        with pytest.raises(UsageError, match="the terminal's line"):
            access.prove(client, keys, state)


def test_the_proof_is_of_the_number_asked_with(keys: KeyFile) -> None:
    with Liar(UID, sig=base64.b64encode(bytes(12)).decode()) as liar, Link(liar.port) as link:
        states = [access.challenge(NodeClient(link)) for _ in range(2)]
        assert states[0].asked != states[1].asked and len(states[0].asked) == 24
        client = NodeClient(link)
        proof = crypto.mac(keys.derive(UID, b"frame", GIVEN)).tag(b"challenge " + states[0].asked)[:12]
        for state, good in zip(states, (True, False), strict=True):
            shown = dataclasses.replace(state, proof=proof)
            if good:
                access.prove(client, keys, shown)
                assert client.signer is not None
            else:
                with pytest.raises(UsageError, match="not from"):
                    access.prove(client, keys, shown)
                assert client.signer is None


def test_an_order_is_for_a_device_however_its_id_is_spelled(keys: KeyFile) -> None:
    order = access.Order.sign(keys, UID, 0, 5)
    assert access.Order.read(order.text()) == order
    with Liar(UID) as liar, Link(liar.port) as link:
        for uid in (UID, UID.upper() + "0000"):
            assert access.follow(NodeClient(link), dataclasses.replace(order, uid=uid)).left_s == 60
        with pytest.raises(access.AccessError, match="the order is for device"):
            access.follow(NodeClient(link), dataclasses.replace(order, uid="00" * 8))


@pytest.mark.parametrize(
    "change",
    [
        {"uid": 5},
        {"uid": ""},
        {"uid": "xy"},
        {"number": "1"},
        {"number": -1},
        {"minutes": 70_000},
        {"sig": 1},
        {"x": 1},
    ],
)
def test_what_is_no_order_is_told(keys: KeyFile, change: dict[str, object]) -> None:
    text = json.dumps({**json.loads(access.Order.sign(keys, UID, 0, 5).text()), **change})
    for wrong in (text, "[]", "{}", "", "7"):
        with pytest.raises(UsageError, match="no maintenance order"):
            access.Order.read(wrong)


@pytest.mark.parametrize(
    "claims",
    [
        {"prof": "ajar"}, {"prof": None}, {"gen": "1"}, {"gen": 65_536}, {"gen": -1}, {"gen": True}, {"fresh": None},
        {"next": (1 << 30) + 1}, {"nonce": "abc"}, {"nonce": 7}, {"wait": None}, {"left": "x"}, {"line": None},
    ],
)  # fmt: skip
def test_a_state_that_makes_no_sense_is_told(keys: KeyFile, claims: dict[str, object]) -> None:
    with (
        Liar(UID, **claims) as liar,
        Link(liar.port) as link,
        pytest.raises(LinkError, match="does not say how it is locked"),
    ):
        access.challenge(NodeClient(link))


def test_a_device_whose_generations_are_used_up_gets_no_more(keys: KeyFile) -> None:
    with Liar(UID, prof="sealed", tamper="case", fresh=65_536) as liar, Link(liar.port) as link:
        with pytest.raises(UsageError, match="no generation is left"):
            access.provision(NodeClient(link), keys, "service", 7)
        assert not liar.got
