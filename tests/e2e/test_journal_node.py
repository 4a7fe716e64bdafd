"""The node keeps its journal: what it tells of it, what a host reads, and what a power cut leaves."""

import base64
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sentill.crypto import LAB_ROOT
from sentill.journal import chain
from sentill_host.board.link import Link
from sentill_host.deploy.deploy import deploy
from sentill_host.journal.journal_file import Record
from sentill_host.journal.verify import verify
from sentill_host.node.client import NodeClient
from sentill_host.node.frames import Frame
from sentill_host.virtual import VirtualBoards
from sentill_host.virtual.api import Board
from tests.e2e.bare import BareNode
from tests.e2e.conftest import until
from tests.e2e.test_node_bare import with_models
from tests.e2e.test_node_virtual import identity, verdict

HEAP = "288K"


class Reading:
    """Takes A frames in; `records` of those that are whole."""

    def __init__(self) -> None:
        self.records: dict[int, bytes] = {}
        self.ended = False
        self._parts: dict[int, bytearray] = {}

    def take(self, frame: Frame) -> None:
        fields = frame.fields
        if frame.kind != "A" or self.ended:
            return
        if "end" in fields:
            self.ended = True
            return
        data, n = base64.b64decode(fields["d"]), fields["n"]
        if "of" in fields:
            part = self._parts.setdefault(n, bytearray())
            assert len(part) == fields["at"], fields
            part += data
            if len(part) == fields["of"]:
                self.records[n] = bytes(part)
            return
        while data:
            size = int.from_bytes(data[:2], "little")
            self.records[n], data, n = data[:size], data[size:], n + 1


def proven(about: dict[str, Any], reading: Reading, device: bytes) -> list[Record]:
    """The records of a journal file made of what was read from `first` on, verified."""
    data = base64.b64decode(about["head"]) + b"".join(reading.records.values())
    report = verify(data, {device: LAB_ROOT})
    assert report.finding is None, report.finding
    return report.records


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BareNode]:
    with BareNode(with_models(tmp_path_factory.mktemp("journal")), HEAP) as running:
        running.uart.wait(lambda f: f.kind == "I")
        yield running


def read(node: BareNode, start: int) -> tuple[dict[str, Any], Reading]:
    """What the node says of its journal, and its records from `start` on."""
    mark = len(node.usb.items)
    about = node.usb.ask("C", **{"cmd": "audit", "from": start})
    assert about["ok"] is True, about
    reading = Reading()
    node.usb.wait(lambda f: reading.take(f) or reading.ended, start=mark)
    return about, reading


def test_verdicts_starts_and_feedback_are_records(node: BareNode) -> None:
    first = node.uart.verdict(77, t=5000, amt=100_000, card="card-of-77")
    node.uart.ask("P", ref=77, fraud=1)
    about, reading = read(node, 0)
    records = proven(about, reading, bytes.fromhex("0123456789abcdef"))
    kinds = [record.name for record in records]
    assert kinds[:2] == ["generation", "boot"] and {"software", "config", "model", "error"} <= set(kinds), kinds
    assert records[1].payload.startswith(b"rst=power sw="), records[1]
    seen = next(record for record in records if record.sequence == first["j"])
    ref, amount, score, code, model, token = struct.unpack_from(chain.VERDICT_FORMAT, seen.payload)
    why = seen.payload[struct.calcsize(chain.VERDICT_FORMAT) :].decode()
    assert (ref, amount, score, model.hex()) == (77, 100_000, first["s"], first["m"])
    assert (["approve", "review", "decline"][code], why) == (first["v"], first["why"] if code else "")
    assert b"card-of-77" not in b"".join(reading.records.values()) and len(token) == 8
    assert records[-1].payload == b"ref=77"
    assert about["next"] == len(records) and about["tag"] == base64.b64encode(records[-1].tag).decode()


def test_a_second_reading_brings_only_what_is_new(node: BareNode) -> None:
    about, _ = read(node, 0)
    again, nothing = read(node, about["next"])
    assert (again["from"], nothing.records) == (about["next"], {})
    node.uart.verdict(78, t=5001)
    _, new = read(node, about["next"])
    assert list(new.records) == [about["next"]]
    far, nothing = read(node, 1 << 30)
    assert far["from"] == far["next"] and not nothing.records


def test_what_is_kept_is_told_within_the_batch_window(node: BareNode) -> None:
    sequence = node.uart.verdict(79, t=5002)["j"]
    told = node.usb.wait(lambda f: f.kind == "H" and f.fields.get("jk", 0) > sequence, start=len(node.usb.items))
    assert told.fields["jn"] >= told.fields["jk"]


def test_a_crash_and_a_long_record_are_read_whole(tmp_path: Path) -> None:
    first = """
from sentill.node import tasks
_saver = tasks.Tasks.saver
async def saver(self, loop):
    tasks.Tasks.saver = _saver
    self.node.audit.note(14, [("long", "x" * 300)])
    raise ValueError("planted")
tasks.Tasks.saver = saver
"""
    with BareNode(with_models(tmp_path), HEAP, first) as node:
        node.usb.wait(lambda f: f.kind == "E" and f.fields["ev"] == "task_crash")
        about, reading = read(node, 0)
        records = proven(about, reading, bytes.fromhex("0123456789abcdef"))
        assert records[-2].payload == b"long=" + b"x" * (chain.MAX_PAYLOAD - 5)
        assert records[-1].payload.startswith(b"ev=task_crash task=saver err=ValueError"), records[-1]


BROKEN = """
import sys
sys.path.insert(0, ".")
from sentill import flash
_program = flash.Region.program
flash.broken = False
def program(self, address, data):
    if flash.broken:
        raise OSError(5)
    _program(self, address, data)
flash.Region.program = program
from sentill.node import commands
class Wreck:
    @staticmethod
    def wreck(node, port, fields):
        flash.broken = not flash.broken
        return []
sys.modules["sentill.node.wreck"] = Wreck
commands.MODULES += (("node", "wreck"),)
commands.COMMANDS["wreck"] = 64 | 3
"""


def test_broken_flash_is_told_and_verdicts_go_on(tmp_path: Path) -> None:
    with BareNode(with_models(tmp_path), HEAP, BROKEN) as node:
        node.uart.verdict(1)
        node.usb.ask("C", cmd="wreck")
        named = [node.uart.verdict(ref).get("j") for ref in range(2, 40)]
        assert node.usb.wait(lambda f: f.kind == "E" and f.fields["ev"] == "journal").fields["err"]
        assert named[-1] is None, "a record that has no room is not promised"
        status = node.usb.ask("C", cmd="status")
        assert status["jk"] < status["jn"] and status["crash"] == 0
        node.usb.ask("C", cmd="wreck")
        node.usb.wait(
            lambda f: f.kind == "H" and f.fields.get("jk", -1) == f.fields.get("jn"), start=len(node.usb.items)
        )
        about, reading = read(node, 0)
        records = proven(about, reading, bytes.fromhex("0123456789abcdef"))
        verdicts = {struct.unpack_from("<I", r.payload)[0]: r.sequence for r in records if r.name == "verdict"}
        promised = {ref: j for ref, j in enumerate(named, 2) if j is not None}
        assert promised and promised.items() <= verdicts.items()


@pytest.mark.parametrize("raw", ["344K", "8K", "0"], ids=["raw", "files", "pinned"])
def test_nothing_kept_is_lost_in_a_power_cut(raw: str) -> None:
    with VirtualBoards(1, raw=raw, heap="288K") as boards:
        board: Board = boards[0]
        assert not deploy([board.usb])[0].error
        with Link(board.usb) as link, Link(board.uart) as line:
            usb, uart = NodeClient(link), NodeClient(line)
            device = bytes.fromhex(identity(usb)["uid"])
            last = [verdict(uart, ref)["j"] for ref in range(150)][-1]
            until(lambda: usb.command("status")["jk"] > last)
            kept = usb.command("status")["jk"]
            boots = board.status()["boots"]
            board.control("cut_flash", writes=3, torn="half", reboot_ms=100)
            for ref in range(150, 400):
                uart.send("T", [("ref", ref), ("t", 1000), ("amt", 500), ("card", "tok")])
            board.wait(boots=boots + 1)
            assert "faults" not in identity(usb)
            usb.send("C", [("cmd", "audit"), ("from", 0)])
            reading, about = Reading(), {}
            end = time.monotonic() + 60
            while not reading.ended:
                assert time.monotonic() < end, (about, len(reading.records))
                item = usb.receive(20)
                assert isinstance(item, Frame), item
                reading.take(item)
                if item.kind == "R":
                    about = item.fields
            records = proven(about, reading, device)
            assert kept > 150 and len(records) > kept
            assert [r.payload for r in records if r.name == "boot"][-1].startswith(b"rst=power"), records[-5:]
