"""What a deploy decides before and beside its conversation with a board."""

import dataclasses
import hashlib
import json

import pytest

from sentill import crypto
from sentill.update import slots
from sentill.wire import protocol
from sentill_host.board import catalogue
from sentill_host.bundle import archive as image
from sentill_host.bundle import build as bundle
from sentill_host.bundle import preflight, seal
from sentill_host.bundle.seal import Seal
from sentill_host.deploy import deploy
from sentill_host.errors import UsageError, VerifyError
from sentill_host.fleet import campaign
from tests.host.fakes import FakeNode, reply

UNIX64 = bundle.Firmware((1, 29, 0), 6 | 3 << 8 | 2 << 10)
ABOUT = {
    "version": [1, 29, 0], "mpy": UNIX64.mpy, "block": 4096, "flash_free": 1 << 19, "heap_free": 150_000, "slots": {},
}  # fmt: skip


def found(**about) -> list[str]:
    made = bundle.build(catalogue.load("SIM"), UNIX64)
    findings = preflight.findings({**ABOUT, **about}, made, "b")
    assert all(finding.hint for finding in findings)
    return [finding.text for finding in findings]


def test_preflight_names_each_finding():
    assert found() == []
    assert "flash is too full" in found(flash_free=20_000)[0]
    assert found(flash_free=20_000, slots={"b": {"bytes": 1 << 19}}) == []  # what lies in the slot gives way
    assert "heap" in found(heap_free=20_000)[0]
    assert "1.19.0 is too old" in found(version=[1, 19, 0])[0]
    assert "no file system" in found(block=0)[0]
    assert ".mpy version 6" in found(mpy=5)[0]
    assert len(found(version=[1, 19, 0], heap_free=20_000, flash_free=0)) == 3


def test_findings_become_one_error_with_a_line_each():
    preflight.require("P", [])
    with pytest.raises(VerifyError, match="P: too old\ntoo full") as caught:
        preflight.require("P", [preflight.Finding("too old", "flash it"), preflight.Finding("too full", "clean up")])
    assert caught.value.hint == "flash it\nclean up"


def test_a_head_goes_through_its_text_and_back():
    head = seal.head("0.1.0", "SIM", "1.24.0", "00ff" * 4)
    assert seal.parse_head(head) == {"version": "0.1.0", "board": "SIM", "min": "1.24.0", "bundle": "00ff" * 4}
    assert seal.parse_head("something else") == {}


@pytest.mark.parametrize("word", ["1 2", "1\n", "1\x0b", "", "1 bundle=x", "é"])
def test_no_word_of_a_head_brings_others(word):
    with pytest.raises(VerifyError, match="not one word"):
        seal.head(word, "SIM", "1.24.0", "0" * 16)


def test_a_signature_goes_through_its_text_and_back():
    made = Seal("0123", 7, "ab" * 32)
    data = made.encode(lambda line: hashlib.sha256(line).digest())
    line, _, mac = data.partition(b"\n")
    assert mac == b"mac " + hashlib.sha256(line + b"\n").hexdigest().encode() + b"\n"
    assert seal.decode(data) == made


@pytest.mark.parametrize(
    "told",
    [{"uid": "00 11"}, {"uid": "0011\n"}, {"uid": "0011 counter=9"}, {"uid": "é"}, {"counter": -1}, {"sha": "AB" * 32}],
)
def test_what_a_board_tells_brings_no_word_of_its_own_under_a_signature(told):
    def sign(line: bytes) -> bytes:
        raise AssertionError(f"signed {line!r}")

    with pytest.raises(VerifyError, match="not a signature"):
        Seal(**{"uid": "0123", "counter": 1, "sha": "ab" * 32, **told}).encode(sign)


def test_a_damaged_signature_is_none():
    data = Seal("0123", 7, "ab" * 32).encode(lambda line: bytes(32))
    for damaged in (data[:-1], data.replace(b"ab", b"xx"), b"", data[1:], data + b"\n", data.replace(b"2 ", b"1 ")):
        assert seal.decode(damaged) is None


def test_the_board_takes_the_signature_that_the_host_writes(tmp_path):
    archive = image.build("sentill 2 version=1", {"a": b"1"})
    found = image.digest(archive)
    key = b"k" * 32

    class Verifier:
        uid = "0123"

        def adopted(self, digest):
            return False

        def verify(self, line, tag):
            return crypto.equal(crypto.mac(key).tag(line), tag)

        def floor(self):
            return 7

    (tmp_path / "slot_a.img").write_bytes(archive)
    (tmp_path / "slot_a.sig").write_bytes(Seal("0123", 7, found.hex()).encode(crypto.mac(key).tag))
    assert slots.pick(f"{tmp_path}/", Verifier(), {"a": found, "b": b""}.get) == ("a", False)


def test_configurations_are_checked_by_the_nodes_own_rules():
    assert json.loads(deploy.read_config('{ "rate_hz": 2 }', "c.json")) == {"rate_hz": 2}
    with pytest.raises(UsageError, match=r"c\.json: rate_hz"):
        deploy.read_config('{"rate_hz": 2000}', "c.json")
    with pytest.raises(UsageError, match="configuration"):
        deploy.read_config("{rate", "c.json")


def test_a_port_named_twice_is_refused():
    with pytest.raises(UsageError, match="twice"):
        deploy.deploy(["/dev/ttyACM0", "/dev/ttyACM0"])


def test_ports_that_do_not_open_are_results_not_exceptions():
    first, second = deploy.deploy(["/dev/sentill-absent-1", "/dev/sentill-absent-2"])
    assert "no such port" in first.error
    assert first.exit_code == second.exit_code == 3
    assert second.port == "/dev/sentill-absent-2"


def test_a_tampered_board_with_the_wanted_version_is_no_plain_success():
    made = bundle.build(catalogue.load("SIM"), bundle.Firmware((1, 29, 0), 2822))
    identity = [("q", 1), ("t", 1), ("sw", made.version), ("board", "SIM"), ("uid", "aa" * 8), ("fw", "1.29.0"),
                ("mpy", 2822), ("prof", "sealed"), ("gen", 0), ("tamper", "case")]  # fmt: skip

    def answer(kind, fields):
        if fields.get("cmd") != "identify":
            return reply(fields, 2, ok=False, err="tampered", msg="the keys were erased")
        return protocol.encode("I", identity) + reply(fields, 2, slot="a", bundle=made.id)

    with FakeNode(answer) as fake:
        (result,) = deploy.deploy([fake.port])
    assert (result.error, result.unchanged) == ("", True)
    assert result.warning == "it was tampered with (case) and refuses its work"
    told = campaign.describe("deploy", dataclasses.asdict(result))
    assert told == f"version {made.version} was there, but it was tampered with (case) and refuses its work"
