"""The key file: what is derived from it, how it is kept, and what its errors do not tell."""

import json
from pathlib import Path

import filelock
import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from typer.testing import CliRunner

from sentill.crypto import LAB_ROOT
from sentill_host.bundle import build as bundle
from sentill_host.bundle import seal
from sentill_host.cli import build
from sentill_host.deploy import signing
from sentill_host.errors import UsageError
from sentill_host.keys.key_file import PASSWORD, KeyFile
from sentill_host.node import access

UID = "bb3d0534670d976f"
SECRET = "a password of tests"


@pytest.fixture
def keys(tmp_path: Path) -> KeyFile:
    return KeyFile.create(tmp_path / "keys.json", SECRET)


def test_derived_keys_are_those_of_the_library(keys: KeyFile) -> None:
    info = b"sentill root" + bytes.fromhex(UID) + b"\x03\x00"
    root = HKDF(SHA256(), 32, None, info).derive(keys._master)
    assert keys.root(UID, 3) == root
    kept = HKDF(SHA256(), 32, None, b"sentill device").derive(root)
    assert keys.derive(UID, b"unlock", 3) == HKDF(SHA256(), 32, None, b"sentill unlock").derive(kept)
    assert keys.root(UID, 0) == LAB_ROOT
    assert len({keys.root(UID, 1), keys.root(UID, 2), keys.recovery(UID, 1), keys.root("00" * 8, 1)}) == 4


def test_the_file_opens_with_its_password_only(keys: KeyFile) -> None:
    keys.devices[UID] = 7
    keys.save()
    again = KeyFile.open(keys.path, SECRET)
    assert (again.devices, again.root(UID, 1)) == ({UID: 7}, keys.root(UID, 1))
    with pytest.raises(UsageError, match="wrong password"):
        KeyFile.open(keys.path, SECRET + "x")
    again.protect("another password")
    with pytest.raises(UsageError, match="wrong password"):
        KeyFile.open(keys.path, SECRET)
    assert KeyFile.open(keys.path, "another password").root(UID, 1) == keys.root(UID, 1)
    assert keys.path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("damage", ["", "{}", "[]", '{"format": "sentill keys 1"}'])
def test_what_is_no_key_file_is_told(keys: KeyFile, damage: str) -> None:
    keys.path.write_text(damage)
    with pytest.raises(UsageError, match="no key file"):
        KeyFile.open(keys.path, SECRET)


def test_a_flipped_bit_is_told(keys: KeyFile) -> None:
    outer = json.loads(keys.path.read_text())
    outer["data"] = ("B" if outer["data"][0] == "A" else "A") + outer["data"][1:]
    keys.path.write_text(json.dumps(outer))
    with pytest.raises(UsageError, match="damaged"):
        KeyFile.open(keys.path, SECRET)


def test_an_older_generation_is_refused(keys: KeyFile) -> None:
    keys.devices[UID] = 3
    keys.check(UID, 3)
    with pytest.raises(UsageError, match="generation 2"):
        keys.check(UID, 2)


def test_no_secret_shows(keys: KeyFile, monkeypatch: pytest.MonkeyPatch) -> None:
    keys.devices[UID] = 1
    keys.save()
    monkeypatch.setenv(PASSWORD, SECRET)
    shown = CliRunner().invoke(build("keys"), ["keys", "show", "--json", "--keys", str(keys.path)])
    assert json.loads(shown.stdout) == {"path": str(keys.path), "devices": {UID: 1}}
    signer = access.FrameSigner(keys.derive(UID, b"frame", 1), "usb", 0)
    text = (shown.stdout + repr(keys) + repr(signer) + keys.path.read_text()).lower()
    for secret in (keys._master, keys.root(UID, 1), keys.derive(UID, b"frame", 1)):
        assert secret.hex() not in text and repr(secret)[2:-1].lower() not in text
    assert SECRET not in text


def test_a_file_is_never_overwritten(keys: KeyFile) -> None:
    with pytest.raises(UsageError, match="exists"):
        KeyFile.create(keys.path, SECRET)
    with pytest.raises(UsageError, match="8 characters"):
        KeyFile.create(keys.path.with_name("short.json"), "short")


def test_what_is_noted_while_a_new_password_is_thought_of_stays(keys: KeyFile) -> None:
    slow = KeyFile.open(keys.path, SECRET)
    keys.note(UID, 4)
    slow.protect("another password")
    assert KeyFile.open(keys.path, "another password").devices == {UID: 4}
    with pytest.raises(UsageError, match="wrong password"):
        keys.note(UID, 5)


def test_a_file_keeps_the_cost_it_was_made_with(keys: KeyFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sentill_host.keys.key_file._SCRYPT_N", 1 << 16)
    KeyFile.open(keys.path, SECRET).note(UID, 1)
    assert KeyFile.open(keys.path, SECRET).devices == {UID: 1}


def test_a_file_that_cannot_be_written_or_is_gone_is_told(
    keys: KeyFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = keys.path.with_name(keys.path.name + ".lock")
    lock.unlink()
    lock.mkdir()  # root may write everywhere
    with pytest.raises(UsageError, match="cannot write beside"):
        keys.note(UID, 1)
    lock.rmdir()
    monkeypatch.setattr("sentill_host.keys.key_file._LOCK_S", 0.05)
    with filelock.FileLock(lock), pytest.raises(UsageError, match="in use by another command"):
        keys.note(UID, 1)
    keys.path.rename(tmp_path / "moved")
    for use in (keys.refresh, lambda: keys.note(UID, 1)):
        with pytest.raises(UsageError, match="no key file"):
            use()


def test_the_counter_of_a_signature_rises_above_what_runs_and_fits_the_chip(
    keys: KeyFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    signer = signing.Signer("p", keys)
    signer.generation = 1

    def counter(running: str, same: bool = False, note: str = "") -> int:
        known = f"sentill 2 uid={UID} counter={running} sha={'0' * 64}\nmac {'0' * 64}\n"
        made = seal.decode(signer.seal("ab" * 32, UID, known, same, note))
        assert made is not None and (made.uid, made.sha) == (UID, "ab" * 32)
        return made.counter

    now = counter("0")
    assert 0 < now < 1 << 30
    assert counter(str(now + 1000)) == now + 1001
    assert counter("7", same=True) == 7
    note = f"slot_a: older than this board accepts: {now + 500}; slot_b: the archive is missing or damaged"
    assert counter("7", same=True, note=note) == counter("0", note=note) == now + 500
    assert counter(str(now + 600), note=note) == now + 601
    assert counter("99999999999999") < now + 100 > counter("x"), "what is no counter of ours does not count"
    monkeypatch.setattr("time.time", lambda: float(1 << 32))
    with pytest.raises(UsageError, match="no counter"):
        counter("0")


def test_a_bundle_for_a_board_that_cannot_tell_of_its_keys_must_be_signed_too(keys: KeyFile) -> None:
    made = bundle.Bundle("1", "SIM", (), "1.24.0", 6)
    signing.Signer("p", keys).require_signed(made, UID)
    keys.devices[UID] = 1
    with pytest.raises(UsageError, match="not signed"):
        signing.Signer("p", keys).require_signed(made, UID)
    signing.Signer("p", keys).require_signed(signing.sign_bundle(made, keys), UID)
