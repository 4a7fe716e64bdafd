"""What commands that handle keys print and write: no password, no key, in none of the forms somebody might print."""

import base64
import json
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from sentill import crypto
from sentill.journal import recovery
from sentill.keys import derivation
from sentill.wire import protocol
from sentill_host.cli import main
from sentill_host.errors import UsageError
from sentill_host.keys.key_file import PASSWORD, KeyFile
from sentill_host.models import simulate
from sentill_host.virtual import VirtualBoards
from tests.host.fakes import FakeNode, reply

SECRET = "first password of tests"
OTHER = "second password of tests"
PURPOSES = (b"token", b"frame", b"unlock", b"sign", b"wrap", b"wrap\x02\x00")

Say = Callable[..., str]


def secrets_of(keys: KeyFile, uids: list[str], generations: Iterable[int] = (1, 2, 3)) -> dict[str, bytes]:
    """All that must not be seen, by what it is."""
    found = {"master": keys._master, "key of the file": keys._key, "bundle key": keys.bundle()}
    for uid in uids:
        for generation in generations:
            root = keys.root(uid, generation)
            what = f"{uid} generation {generation}"
            found |= {f"root of {what}": root, f"kept of {what}": derivation.kept(root)}
            found[f"recovery of {what}"] = keys.recovery(uid, generation)
            found[f"first journal key of {what}"] = recovery.first_key(root, generation)
            for purpose in PURPOSES:
                found[f"{purpose!r} of {what}"] = keys.derive(uid, purpose, generation)
    return found


def leaks(text: bytes, secrets: dict[str, bytes]) -> list[str]:
    """Which secrets are in a text, and in what form. The halves count, too: lines are wrapped and cut."""
    found = [f"password {word!r}" for word in (SECRET, OTHER) if word.encode() in text]
    lower = text.lower()
    for name, value in secrets.items():
        for part in (value[:15], value[15:30]):  # multiples of 3: as they stand in base64 of the whole
            forms = {
                "raw": part in text,
                "hex": part.hex().encode() in lower,
                "repr": repr(part)[2:-1].encode() in text,
                "base64": base64.b64encode(part) in text or base64.urlsafe_b64encode(part) in text,
                "numbers": repr(list(part))[1:-1].encode() in text,
            }
            found += [f"{name} as {form}" for form, there in forms.items() if there]
    return found


@pytest.fixture
def say(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Say]:
    """Run a command in this process; what it printed, for which it must have found the right exit code.

    An exception that is no message to people leaves `main` and fails the test.
    """
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setenv(PASSWORD, SECRET)

    def run(*arguments: str, exits: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", ["sentill", *arguments])
        capfd.readouterr()
        code: object = 0
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
        told = capfd.readouterr()
        assert code == exits, (arguments, code, told)
        assert "Traceback" not in told.out + told.err, told
        everything.append(told.out + told.err)
        return everything[-1]

    everything: list[str] = []
    yield run
    signal.signal(signal.SIGTERM, before)


def written(folder: Path, beside: Path) -> bytes:
    """All files below the folder that commands left, but for the key file."""
    return b"\n".join(p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file() and p != beside)


def test_the_scan_finds_what_it_looks_for(tmp_path: Path) -> None:
    keys = KeyFile.create(tmp_path / "keys.json", SECRET)
    secrets = secrets_of(keys, ["0011223344556677"])
    key = keys.derive("0011223344556677", b"sign", 2)
    forms = (key, key.hex().upper().encode(), repr(key).encode(), base64.b64encode(key), repr(list(key)).encode())
    for form in forms:
        found = leaks(b"told: " + form + b".", secrets)
        assert found and all("b'sign' of 0011223344556677 generation 2" in item for item in found), (form, found)
    assert leaks(OTHER.encode(), secrets)
    assert not leaks(keys.path.read_bytes(), secrets)


def test_wrong_inputs(say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "keys.json"
    file = str(path)
    say("keys", "new", "--keys", file)
    keys = KeyFile.open(path, SECRET)
    files = {"short": b"seven77\n", "other": OTHER.encode() + b"\nmore", "bytes": SECRET.encode() + b"\xff\xfe"}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    whole = path.read_bytes()
    told = [
        say("keys", "new", "--keys", file, exits=2),
        say("keys", "new", "--keys", file + "/deeper/keys.json", exits=2),
        say("keys", "new", "--keys", str(tmp_path / "n"), "--password-file", str(tmp_path / "short"), exits=2),
        say("keys", "new", "--keys", str(tmp_path / "n"), "--password-file", str(tmp_path / "bytes"), exits=2),
        say("keys", "show", "--json", "--keys", file, "--password-file", str(tmp_path / "other"), exits=2),
        say("keys", "passwd", "--keys", file, exits=2),
        say("keys", "passwd", "--keys", file, "--new-password-file", str(tmp_path / "short"), exits=2),
        say("order", "0011223344556677", "-o", str(tmp_path / "order"), "--number", "1", "--keys", file, exits=2),
        say("order", SECRET, "-o", str(tmp_path / "order"), "--number", "1", "--keys", str(tmp_path / "n"), exits=2)
        .replace(SECRET, "what was typed"),
        say("unlock", str(tmp_path / "no-port"), "--json", "--keys", file, exits=3),
        say("deploy", str(tmp_path / "no-port"), "--json", "--keys", file, exits=3),
        say("bundle", "sign", str(tmp_path / "short"), "--keys", file, exits=2),
    ]  # fmt: skip
    for damaged in (whole[:-30], whole.replace(b'"n": 32768', b'"n": 1'), b"[]", whole[:-8] + b"AAAAAA" + whole[-2:]):
        path.write_bytes(damaged)
        told.append(say("keys", "show", "--json", "--keys", file, exits=2))
    path.write_bytes(whole)
    monkeypatch.setenv(PASSWORD, os.fsdecode(SECRET.encode() + b"\xff"))
    told.append(say("keys", "show", "--keys", file, exits=2))
    assert "UTF-8" in told[-1]
    told.append(say("keys", "passwd", "--keys", file, "--password-file", str(tmp_path / "other"), exits=2))
    assert not leaks("".join(told).encode(), secrets_of(keys, ["0011223344556677"]))


def test_a_key_file_that_goes_while_it_is_used(tmp_path: Path) -> None:
    keys = KeyFile.create(tmp_path / "keys.json", SECRET)
    for content in (b"{", b"[]", b"{}", None):
        keys.path.unlink()
        if content is not None:
            keys.path.write_bytes(content)
        with pytest.raises(UsageError, match="keys.json"):
            keys.note("0011223344556677", 1)
        keys.save()


def test_a_device_that_quotes_its_keys(say: Say, tmp_path: Path) -> None:
    """It refuses what it is given, and says it all again: in its refusal, and as text."""
    uid = "0011223344556677"
    path = tmp_path / "keys.json"
    keys = KeyFile.create(path, SECRET)
    keys.note(uid, 1)
    generation = 0
    given: list[dict[str, object]] = []

    def answer(kind: str, fields: dict[str, object]) -> bytes:
        q = len(node.seen)
        if fields["cmd"] == "identify":
            return protocol.encode("I", [("q", q), ("uid", uid), ("gen", generation)]) + reply(fields, q)
        if fields["cmd"] == "challenge":
            state = {"prof": "service" if generation else "open", "gen": generation, "fresh": generation + 1}
            tag = crypto.mac(keys.derive(uid, b"frame", generation)).tag(b"challenge " + str(fields["nonce"]).encode())
            told = {"nonce": base64.b64encode(bytes(16)).decode(), "sig": base64.b64encode(tag[:12]).decode()}
            return reply(fields, q, line="usb", next=5, order=1, left=0, wait=0, **state, **told)
        given.append(fields)
        words = str(fields.get("key") or fields.get("sig") or fields.get("n"))
        print_all = repr(fields).encode() + b"\r\n"
        return print_all + reply(fields, q, ok=False, err="field", msg="not " + words)

    node = FakeNode(answer)
    with node:
        told = say("provision", node.port, "--json", "--blank", "--keys", str(path), exits=1)
        generation = 1
        told += say("provision", node.port, "--json", "--keys", str(path), exits=1)
        told += say("unlock", node.port, "--json", "--keys", str(path), exits=1)
        told += say("lock", node.port, "--json", "--keys", str(path))
    assert base64.b64decode(str(given[0]["key"])) == keys.root(uid, 2), "it had a key to quote"
    assert told.count("refuses") == 3 and "not ..." in told, told
    for fields in given:
        assert not [value for value in fields.values() if len(str(value)) > 20 and str(value) in told], told
    assert not leaks(told.encode(), secrets_of(keys, [uid]))


def test_a_board_from_its_first_keys_to_its_orders(say: Say, tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    with VirtualBoards(1, tmp_path / "boards") as boards:
        board = boards[0]
        ours = ("--keys", str(path))
        home = tmp_path / "out"
        home.mkdir()
        (home / "second").write_text(OTHER)
        fleet = ("--fleet", str(home))
        traffic = home / "traffic.csv"
        simulate.write(simulate.traffic(simulate.TrafficOptions(cards=20, terminals=1, days=10, rate=0.8)), traffic)
        told = [say("keys", "new", *ours), say("fleet", "init", "--name", "North", *fleet)]
        toml = home / "fleet.toml"
        toml.write_text(toml.read_text().replace("ports = []", f'ports = ["{board.usb}"]'))
        uid = json.loads(say("fleet", "status", "--json", *fleet))["strangers"][0]["uid"]
        told += [say("fleet", "add", uid, "till 1", *fleet), say("fleet", "deploy", "--json", *fleet, *ours)]
        keys = KeyFile.open(path, SECRET)
        foreign = str(tmp_path / "foreign.json")
        say("keys", "new", "--keys", foreign)
        config = home / "config.json"
        config.write_text('{"rate_hz":10}')
        told += [
            say("keys", "show", "--json", *ours),
            say("doctor", board.usb, "--json", *ours),
            say("replay", str(traffic), "--uart", board.uart, "--json", "--limit", "20", *ours),
            say("deploy", board.usb, "--json", "--config", str(config), "--keys", foreign, exits=2),
            say("deploy", board.usb, "--json", "--config", str(config), *ours),
            say("rollback", board.usb, "--json", *ours),
            say("unlock", board.usb, "--json", "--keys", foreign, exits=2),
        ]
        told += [
            say("provision", board.usb, "--json", "--profile", "sealed", *ours),
            say("unlock", board.usb, "--json", *ours, exits=1),
            say("order", uid, "-o", str(home / "order.json"), "--number", "1", *ours),
            say("unlock", board.usb, "--json", "--order", str(home / "order.json")),
            say("unlock", board.usb, "--json", "--order", str(home / "order.json"), exits=1),
            say("lock", board.usb, "--json", *ours),
            say("bundle", "build", "--board", "SIM", "--out", str(home / "bundle")),
            say("bundle", "sign", str(home / "bundle"), *ours),
            say("keys", "passwd", *ours, "--new-password-file", str(home / "second")),
        ]
        (home / "second").unlink()
        found = leaks("".join(told).encode(), secrets_of(keys, [uid])) + leaks(
            written(home, path), secrets_of(keys, [uid])
        )
        assert not found, found
