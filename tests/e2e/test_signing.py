"""Boards with keys run what is signed for them: first keys at the first deploy, signed deploys, refused versions."""

import dataclasses
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sentill import crypto
from sentill_host.board import catalogue as boards
from sentill_host.board.link import Link
from sentill_host.bundle import build as bundle
from sentill_host.bundle.seal import decode
from sentill_host.deploy import deploy as deployer
from sentill_host.deploy import signing
from sentill_host.deploy.deploy import Result, deploy, roll_back
from sentill_host.deploy.signing import Signer, sign_bundle
from sentill_host.keys.key_file import KeyFile
from sentill_host.node import access
from sentill_host.node.client import NodeClient, await_identity
from sentill_host.virtual import VirtualBoards
from sentill_host.virtual.api import Board
from tests.e2e.test_node_virtual import identity


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> KeyFile:
    return KeyFile.create(tmp_path_factory.mktemp("keys") / "keys.json", "a password of tests")


@pytest.fixture(scope="module")
def first(keys: KeyFile, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Board, Result]]:
    with VirtualBoards(1, tmp_path_factory.mktemp("boards")) as boards:
        yield boards[0], good(deploy([boards[0].usb], keys=keys, profile="service"))


@pytest.fixture
def board(first: tuple[Board, Result]) -> Board:
    return first[0]


def good(results: list[Result]) -> Result:
    assert not results[0].error, results[0]
    return results[0]


def config(rate_hz: int) -> bytes:
    return json.dumps({"rate_hz": rate_hz}).encode()


def bring(board: Board, keys: KeyFile, rate_hz: int) -> Result:
    return good(deploy([board.usb], config=config(rate_hz), keys=keys))


def test_the_first_deploy_gives_keys_and_the_next_ones_open_and_sign(
    first: tuple[Board, Result], keys: KeyFile
) -> None:
    board, result = first
    assert result.keys_given and result.keys == 1 and keys.devices == {result.uid: 1}
    with Link(board.usb) as link:
        client = NodeClient(link)
        assert identity(client)["prof"] == "service"
        assert access.challenge(client).locked
    again = good(deploy([board.usb], keys=keys, profile="service"))
    assert again.unchanged and not again.keys_given
    changed = bring(board, keys, 2)
    assert changed.copied == ["config.json"] and changed.keys == 1
    with Link(board.usb) as link:
        client = NodeClient(link)
        assert access.challenge(client).locked, "locked again"
        assert client.command("status")["hz"] == 2
    same = good(deploy([board.usb], config=config(2), keys=keys, verify=True))
    assert same.unchanged, same


class Recorder(NodeClient):
    """Keeps the names of the commands it sends, in `commands`."""

    def __init__(self, link: Link):
        super().__init__(link)
        self.commands: list[str] = []

    def command(self, name: str, timeout_s: float = 5.0, **arguments: int | str | bool) -> dict[str, Any]:
        self.commands.append(name)
        return super().command(name, timeout_s, **arguments)


def test_one_challenge_opens_a_board_and_one_gives_keys(tmp_path: Path) -> None:
    keys = KeyFile.create(tmp_path / "keys.json", "a password of tests")
    with VirtualBoards(1) as boards:
        uid = good(deploy([boards[0].usb])).uid
        with Link(boards[0].usb) as link:
            node = Recorder(link)
            signer = Signer(boards[0].usb, keys)
            signer.enter(node, uid)
            assert node.commands == ["challenge"] and not signer.generation, "it has no keys"
            node.commands.clear()
            assert signer.give_keys(node, "service", 60.0) and signer.generation == 1
            assert node.commands == ["challenge", "identify", "provision"]
            node = Recorder(link)
            signer.enter(node, uid)
            assert node.commands == ["challenge", "unlock"]
            assert access.challenge(node, uid).left_s > 0
            node.commands.clear()
            assert not signer.give_keys(node, "service", 60.0) and not node.commands, "it is known to have them"
            later = Signer(boards[0].usb, keys)
            assert not later.give_keys(node, "service", 60.0) and later.generation == 1
            access.await_generation(node, access.provision(node, keys, "sealed", 7).fresh, 60.0)
            node = Recorder(link)
            signer.enter(node, uid)
            assert node.commands == ["challenge", "order"]
            assert access.challenge(node, uid).left_s > 0


def test_the_names_of_a_board_with_keys_fit_the_pools_there_are(board: Board, keys: KeyFile) -> None:
    """As in test_node_virtual, after a deploy with all that keys add to it."""
    with Link(board.usb) as link:
        access.enter(NodeClient(link), keys, 5)
        link.enter_repl()
        told = link.exec("import micropython; micropython.qstr_info()", 10).decode()
        restart(board, link)
    names = int(told.partition("n_qstr=")[2].split(",")[0])
    print(f"{names} names of 1260")
    assert 500 < names <= 1260, told


def test_without_the_keys_or_with_others_nothing_is_touched(board: Board, keys: KeyFile, tmp_path: Path) -> None:
    without = deploy([board.usb], config=config(5))[0]
    assert without.exit_code == 2 and "runs only what is signed" in without.error and "--keys" in without.hint, without
    other = KeyFile.create(tmp_path / "other.json", "a password of tests")
    before = slots(board, keys)
    for result in (deploy([board.usb], config=config(5), keys=other)[0], roll_back([board.usb], keys=other)[0]):
        assert result.exit_code == 2 and "its keys are not from" in result.error, result
    with Link(board.usb) as link:
        assert access.challenge(NodeClient(link)).wait_s == 0, "and no attempt is counted"
    assert slots(board, keys) == before
    assert not good(deploy([board.usb], config=config(3), keys=keys)).unchanged, "the right ones still do"


def test_with_other_keys_nothing_is_touched_on_an_open_board_either(tmp_path: Path) -> None:
    keys = KeyFile.create(tmp_path / "keys.json", "a password of tests")
    with VirtualBoards(1) as started:
        uid = good(deploy([started[0].usb], keys=keys, profile="open")).uid
        stranger = KeyFile.create(tmp_path / "other.json", "a password of tests")
        stranger.devices[uid] = 1
        boots = started[0].status()["boots"]
        result = deploy([started[0].usb], config=config(5), keys=stranger)[0]
        assert result.exit_code == 2 and "its keys are not from" in result.error, result
        assert started[0].status()["boots"] == boots
        with Link(started[0].usb) as link:  # nor is an order used up on it, or Ctrl-C shut when its time is over
            before = access.challenge(NodeClient(link))
            after = access.follow(NodeClient(link), access.Order.sign(keys, uid, before.order, 1))
            assert after.left_s == 0 and access.challenge(NodeClient(link)).order == before.order
        bring(started[0], keys, 5)


def test_there_and_back(board: Board, keys: KeyFile) -> None:
    bring(board, keys, 4)
    bring(board, keys, 6)
    for rate_hz in (4, 6):
        assert not good(roll_back([board.usb], keys=keys)).unchanged
        with Link(board.usb) as link:
            assert NodeClient(link).command("status")["hz"] == rate_hz


def test_what_is_not_signed_for_this_board_or_is_too_old_does_not_start(board: Board, keys: KeyFile) -> None:
    """Somebody at an open prompt plants versions beside the proven one: the next start refuses each, and says why."""
    bring(board, keys, 8)
    bring(board, keys, 9)
    now = slots(board, keys)
    proven = str(now["pointer"])
    other = "ba"["ab".index(proven)]
    signed, before = (decode(bytes(now[slot])) for slot in (proven, other))
    assert signed is not None and before is not None and before.counter < signed.counter
    mac = crypto.mac(keys.derive(signed.uid, b"sign", keys.devices[signed.uid])).tag
    stranger = crypto.mac(b"of somebody else................").tag
    plants = {
        "missing or damaged": b"",
        "another board": dataclasses.replace(signed, uid="0123456789abcdef").encode(mac),
        "not this board's": dataclasses.replace(signed, counter=signed.counter + 1).encode(stranger),
        "not of this archive": dataclasses.replace(signed, sha=before.sha).encode(mac),
        "older": dataclasses.replace(signed, counter=before.counter - 1).encode(mac),
    }
    for reason, data in plants.items():
        why, pointer = plant(board, keys, other, proven, data)
        assert reason in why and pointer == proven, (reason, why, pointer)


EMPTY = """
import os
def empty(folder):
    for name, kind, *_ in os.ilistdir(folder):
        if kind & 0x4000:
            empty(folder + "/" + name)
            os.rmdir(folder + "/" + name)
        else:
            os.remove(folder + "/" + name)
empty("")
"""


def test_a_clock_that_is_behind_does_not_keep_an_emptied_board_from_its_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its keys, on flash of their own, know which counter they accept; the version refused has that noted."""
    keys = KeyFile.create(tmp_path / "keys.json", "a password of tests")
    with VirtualBoards(1) as boards:
        board = boards[0]
        good(deploy([board.usb], keys=keys, profile="open"))
        for rate_hz in (2, 3):  # the second begins with a signed one beside it, and the floor rises to that
            bring(board, keys, rate_hz)
        with Link(board.usb) as link:
            access.enter(NodeClient(link), keys, 5)
            link.enter_repl()
            link.soft_reset()
            link.exec(EMPTY, 10)
        monkeypatch.setattr(signing, "_EPOCH_S", signing._EPOCH_S + 50_000_000)
        refused = deploy([board.usb], config=config(5), keys=keys)[0]
        assert "older than this board accepts" in refused.error and "run this again" in refused.hint, refused
        bring(board, keys, 5)
        with Link(board.usb) as link:
            assert NodeClient(link).command("status")["hz"] == 5


OTHER_FORMAT = """
import os
from hashlib import sha256
for name in {names!r}:
    if name in os.listdir("/"):
        with open("/" + name, "r+b") as file:
            for at in range(0, 20000, 500):
                file.seek(at)
                found = file.read(502).find(b"M\\x06\\x00")
                if found >= 0:
                    file.seek(at + found + 1)
                    file.write(bytes([5]))
            if name.endswith(".img"):
                left = file.seek(0, 2) - 32
                file.seek(0)
                told = sha256()
                while left:
                    piece = file.read(min(left, 512))
                    told.update(piece)
                    left -= len(piece)
                file.write(told.digest())
"""


@pytest.mark.parametrize("names", [("sentill_start.mpy",), ("slot_a.img", "slot_b.img")], ids=["start", "slots"])
def test_a_locked_board_that_cannot_load_its_version_stays_shut_until_it_can(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    """As under firmware of another .mpy format; what its flash held under the former one goes on."""
    keys = KeyFile.create(tmp_path / "keys.json", "a password of tests")
    with VirtualBoards(1, tmp_path / "boards") as boards:
        board = boards[0]
        good(deploy([board.usb], keys=keys, profile="service"))
        board.control("power_off")
        board.wait("off")
        image = tmp_path / "boards" / board.name / "flash.img"
        former = image.read_bytes()
        board.control("power_on")
        with Link(board.usb) as link:
            client = NodeClient(link)
            assert await_identity(client, 30)[0] is not None
            access.enter(client, keys, 5)
            link.enter_repl()
            link.soft_reset()
            link.exec(OTHER_FORMAT.format(names=names), 30)
            boots = board.status()["boots"]
            link.reset()
            seen = b""
            end = time.monotonic() + 60
            while b"incompatible .mpy file" not in seen or board.status()["boots"] < boots + 4:
                link.write(b"\x03\x03\x01")
                seen += link.read(0.2)
                assert time.monotonic() < end, seen[-500:]
            assert b">>>" not in seen and b"raw REPL" not in seen, seen[-500:]
        board.control("power_off")
        board.wait("off")
        image.write_bytes(former)
        board.control("power_on")
        with Link(board.usb) as link:
            fields, _ = await_identity(NodeClient(link), 30)
        assert fields is not None and (fields["gen"], fields["prof"]) == (1, "service"), fields


READ = """
import os
for name in {names!r}:
    if name in os.listdir("/"):
        with open("/" + name, "rb") as file:
            print(file.read().hex())
    else:
        print("-")
"""


def slots(board: Board, keys: KeyFile) -> dict[str, bytes | str]:
    """The signatures of both slots, and the pointer, as read by who may."""
    with Link(board.usb) as link:
        client = NodeClient(link)
        access.enter(client, keys, 5)
        link.enter_repl()
        link.soft_reset()
        told = link.exec(READ.format(names=("slot_a.sig", "slot_b.sig", "slot")), 10).decode().split()
        restart(board, link)
    found = [b"" if word == "-" else bytes.fromhex(word) for word in told]
    return {"a": found[0], "b": found[1], "pointer": found[2].decode()}


PLANT = """
with open("/slot_{proven}.img", "rb") as old, open("/slot_{slot}.img", "wb") as new:
    while True:
        piece = old.read(1024)
        if not piece:
            break
        new.write(piece)
with open("/slot_{slot}.sig", "wb") as file:
    file.write({data!r})
with open("/slot", "w") as file:
    file.write("{slot} 3 {proven}")
"""


def plant(board: Board, keys: KeyFile, slot: str, proven: str, data: bytes) -> tuple[str, str]:
    """Give `slot` the proven archive and a signature, and put it on trial; why that did not run, and what runs."""
    with Link(board.usb) as link:
        access.enter(NodeClient(link), keys, 5)
        link.enter_repl()
        link.soft_reset()
        link.exec(PLANT.format(slot=slot, proven=proven, data=data), 10)
        restart(board, link)
        access.enter(NodeClient(link), keys, 5)
        link.enter_repl()
        why, pointer = (
            link.exec("print(open('/slot.note').read(), open('/slot').read(), sep='|')", 10).decode().split("|")
        )
        restart(board, link)
    return why, pointer.strip()


def restart(board: Board, link: Link) -> None:
    link.reset()
    fields, _ = await_identity(NodeClient(link), 60)
    assert fields is not None, "the node is back"


def test_a_locked_board_starts_whatever_its_pointer_says(board: Board, keys: KeyFile) -> None:
    with Link(board.usb) as link:
        access.enter(NodeClient(link), keys, 5)
        link.enter_repl()
        link.soft_reset()
        proven = link.exec("print(open('/slot').read())", 10).decode().strip()
        for garbage in (b"\xff\x80\x00", b"", proven.encode() + b"\r\n"):
            link.exec(f"f = open('/slot', 'wb'); f.write({garbage!r}); f.close()", 10)
            restart(board, link)
            access.enter(NodeClient(link), keys, 5)
            link.enter_repl()
            link.soft_reset()
            assert len(link.exec("print(open('/slot').read())", 10).decode().strip()) == 1
        link.exec(f"f = open('/slot', 'w'); f.write({proven!r}); f.close()", 10)
        restart(board, link)


def test_a_bundle_file_must_be_signed_by_the_fleet(board: Board, keys: KeyFile, tmp_path: Path) -> None:
    with Link(board.usb) as link:
        about = identity(NodeClient(link))
    firmware = bundle.Firmware(tuple(int(part) for part in about["fw"].split(".")), about["mpy"])
    made = bundle.build(boards.load("SIM"), firmware)
    path = tmp_path / "node.sentill"
    bundle.write(made, path)
    for at_prompt in (False, True):
        if at_prompt:  # no node runs that could tell of its keys
            with Link(board.usb) as link:
                assert await_identity(NodeClient(link), 60)[0] is not None, "it restarted after the first"
                access.enter(NodeClient(link), keys, 5)
                link.enter_repl()
                link.leave_repl()
        refused = deploy([board.usb], config=config(1), bundles=[path], keys=keys)[0]
        assert refused.exit_code == 2 and "not signed" in refused.error and "bundle sign" in refused.hint, refused
    stranger = KeyFile.create(tmp_path / "other.json", "a password of tests")
    bundle.write(sign_bundle(made, stranger), path)
    assert "not signed by the fleet" in deploy([board.usb], config=config(1), bundles=[path], keys=keys)[0].error
    signed = sign_bundle(made, keys)
    bundle.write(dataclasses.replace(signed, min_firmware="1.0.0"), path)
    assert "not signed by the fleet" in deploy([board.usb], config=config(1), bundles=[path], keys=keys)[0].error
    bundle.write(signed, path)
    assert good(deploy([board.usb], config=config(1), bundles=[path], keys=keys)).copied == ["config.json"]


def test_after_new_keys_a_version_that_fails_its_trial_gives_way_to_the_one_before(
    board: Board, keys: KeyFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That one is signed with the former keys, and counts by its hash as long as nothing signed is proven."""
    bring(board, keys, 4)
    with Link(board.usb) as link:
        client = NodeClient(link)
        access.await_generation(client, access.provision(client, keys, "service", 7).fresh, 30)
        about = identity(client)
    firmware = bundle.Firmware(tuple(int(part) for part in about["fw"].split(".")), about["mpy"])
    made = bundle.build(boards.load("SIM"), firmware)
    code = bundle.compile_file("sentill/node/node.py", b"def start(hal):\n    raise RuntimeError('nothing works')\n")
    broken = tuple(
        bundle.Entry(entry.path, code) if entry.path == "sentill/node/node.mpy" else entry for entry in made.entries
    )
    path = tmp_path / "broken.sentill"
    bundle.write(sign_bundle(dataclasses.replace(made, version="broken", entries=broken), keys), path)
    monkeypatch.setattr(deployer.slots, "TRIES", 1)
    result = deploy([board.usb], bundles=[path], keys=keys)[0]
    assert "did not prove itself" in result.error and "nothing works" in result.error, result
    with Link(board.usb) as link:
        assert NodeClient(link).command("status")["hz"] == 4
    monkeypatch.undo()
    bring(board, keys, 5)
