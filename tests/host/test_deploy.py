"""What a deploy decides before and beside its conversation with a board."""

import ast
import dataclasses
import io
import json
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentill import protocol, update
from sentill_host import agent, boards, bundle, deploy, manifest, preflight
from sentill_host.errors import UsageError, VerifyError
from sentill_host.fleet import campaign
from sentill_host.manifest import Item, Manifest
from tests.host.fakes import FakeNode, reply

UNIX64 = bundle.Firmware((1, 29, 0), 6 | 3 << 8 | 2 << 10)
ABOUT = {
    "version": [1, 29, 0], "mpy": UNIX64.mpy, "block": 4096, "flash_free": 1 << 19, "heap_free": 150_000, "slots": {},
}  # fmt: skip


def found(**about) -> list[str]:
    made = bundle.build(boards.load("SIM"), UNIX64)
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


ITEMS = (Item("sentill/node.mpy", 3, "ab" * 32), Item("main.py", 0, "cd" * 32))


def test_a_manifest_goes_through_its_text_and_back():
    made = Manifest("0.1.0", "SIM", "1.24.0", ITEMS, "00ff" * 4, uid="0123", counter=7)
    data = made.encode(lambda body: bytes(32))
    assert data.endswith(b"mac " + b"00" * 32 + b"\n")
    again, body, tag = manifest.decode(data)
    assert (again, tag) == (made, bytes(32))
    assert data.startswith(body) and body.endswith(b"main.py\n")
    assert manifest.decode(Manifest("0.1.0", "SIM", "1.24.0", ITEMS, "00ff" * 4).encode())[2] == b""
    assert manifest.parse_head(made.head)["counter"] == "7"
    assert manifest.parse_head("something else") == {}


@pytest.mark.parametrize(
    "told",
    [
        {"items": (Item("config.json", 5, f"{'a' * 64} 7 evil.mpy\n{'b' * 64}"),)},
        {"items": (Item("config.json", 5, "b" * 64), Item("x 1\ny", 1, "c" * 64))},
        {"items": (Item("config.json", "5 x\n", "b" * 64),)},
        {"items": (Item("config.json", 5, "B" * 64),)},
        {"items": (Item("config.jsön", 5, "b" * 64),)},
        {"uid": "00 11"},
        {"uid": "0011\n"},
        {"uid": "0011 counter=9"},
        {"version": "1\x0b"},
    ],
)
def test_what_a_board_tells_brings_no_line_of_its_own_into_a_manifest(told):
    fields = {"version": "1", "board": "SIM", "min_firmware": "1.24.0", "items": ITEMS, "bundle": "0" * 16, **told}

    def sign(body: bytes) -> bytes:
        raise AssertionError(f"signed {body!r}")

    with pytest.raises(VerifyError, match="not a manifest"):
        Manifest(**fields).encode(sign)


def test_a_damaged_manifest_is_refused():
    data = Manifest("0.1.0", "SIM", "1.24.0", ITEMS, "00ff" * 4).encode()
    for damaged in (data[:-1], data.replace(b"cd", b"xx"), b"", data[1:]):
        with pytest.raises(VerifyError):
            manifest.decode(damaged)


def line_up(told: bytes, old: bytes) -> bytes:
    """What the agent's own function makes of the `told` changes and the manifest in the other slot."""
    agent_file = Path(agent.__file__).with_name("session.py")
    (function,) = [n for n in ast.parse(agent_file.read_text()).body if getattr(n, "name", "") == "_line_up"]
    names: dict = {}
    exec(compile(ast.Module([function], []), agent_file, "exec"), names)
    made = io.BytesIO()
    names["_line_up"](io.BytesIO(told), io.BytesIO(old), made)
    return made.getvalue()


def crcs(manifest_file: bytes) -> bytes:
    return b"".join(zlib.crc32(line).to_bytes(4, "little") for line in manifest_file.splitlines(keepends=True))


LINES = st.lists(st.sampled_from([f"{n:064x} {n} f{n}.mpy" for n in range(12)])).map(
    lambda lines: "".join(line + "\n" for line in ("sentill 1 version=1", *lines, "mac -")).encode()
)


@given(LINES, LINES)
def test_a_manifest_is_told_by_what_differs_from_another(new, old):
    assert line_up(manifest.changes(new, crcs(old)), old) == new
    assert line_up(manifest.changes(new, b""), old) == new


def test_few_bytes_tell_that_one_file_has_changed():
    items = [Item(f"{n}.mpy", n, f"{n:064x}") for n in range(80)]
    old = Manifest("0.1.0", "SIM", "1.24.0", tuple(items), "00ff" * 4).encode()
    items[50] = Item("50.mpy", 7, "ff" * 32)
    new = Manifest("0.1.0", "SIM", "1.24.0", tuple(items), "ff00" * 4).encode()
    told = manifest.changes(new, crcs(old))
    assert told.split(b"\n")[1:] == [b"-1", b"+50", b"ff" * 32 + b" 7 50.mpy", b"-1", b"+30", b""]


def test_the_board_takes_the_manifest_that_the_host_writes(tmp_path):
    made = bundle.build(boards.load("SIM"), UNIX64)
    for entry in made.entries:
        path = tmp_path / "slot_a" / entry.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(entry.data)
    items = tuple(entry.item for entry in made.entries)
    text = Manifest(made.version, made.board, "1.24.0", items, made.id).encode()
    (tmp_path / "slot_a" / "manifest").write_bytes(text)
    assert update.check(str(tmp_path / "slot_a"))["version"] == made.version


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
    made = bundle.build(boards.load("SIM"), bundle.Firmware((1, 29, 0), 2822))
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
