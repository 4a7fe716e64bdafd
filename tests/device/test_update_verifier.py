"""What the keys of a device say of a version."""

from hashlib import sha256

from flash_model import Nor
from sentill import crypto
from sentill.flash import Region
from sentill.keys import derivation
from sentill.keys.store import KeyStore
from sentill.keys.vault import Vault
from sentill.update.verifier import Verifier

DEVICE = b"01234567"


def root(generation):
    return bytearray(sha256(b"root %d" % generation).digest())


def provisioned(generation=1, running=b""):
    keys = KeyStore(Region(Nor(2, 4096), 0, 2))
    keys.open()
    derivation.store(keys, (generation, 1, 7, DEVICE), root(generation), running)
    return keys


def signed(data, generation=1):
    return crypto.mac(derivation.derive(derivation.kept(root(generation)), b"sign")).tag(data)


def test_a_signature_of_these_keys_only():
    verifier = Verifier(provisioned(), "0123")
    assert verifier.verify(b"line", signed(b"line"))
    assert not verifier.verify(b"linE", signed(b"line"))
    assert not verifier.verify(b"line", signed(b"line", 2))
    assert not verifier.verify(b"line", b"")


def test_the_floor_rises_is_kept_and_disturbs_no_other_counter():
    keys = provisioned()
    vault = Vault(keys)
    derivation.load(vault, keys)
    vault.use(0, 1000)
    verifier = Verifier(keys, "0123")
    assert verifier.floor() == 0
    verifier.raise_floor(217_000_000)
    verifier.raise_floor(5)
    assert Verifier(keys, "0123").floor() == 217_000_000
    vault = Vault(keys)
    derivation.load(vault, keys)
    assert vault.counters[0] > 1000
    vault.use(1, 70)
    vault.use(2, 3)
    assert verifier.floor() == 217_000_000, "nor does another counter lower it"


def test_what_ran_is_adopted_until_both_slots_are_signed():
    digest = sha256(b"line").digest()
    keys = provisioned(1, digest)
    verifier = Verifier(keys, "0123")
    assert verifier.adopted(digest) and not verifier.adopted(sha256(b"other").digest())
    verifier.raise_floor(0)
    assert verifier.adopted(digest)
    verifier.raise_floor(7)
    assert not verifier.adopted(digest)
    assert not Verifier(provisioned(), "0123").adopted(digest)


def test_new_keys_begin_anew():
    keys = provisioned()
    Verifier(keys, "0123").raise_floor(9)
    derivation.store(keys, (2, 1, 7, DEVICE), root(2), sha256(b"x").digest())
    verifier = Verifier(keys, "0123")
    assert verifier.floor() == 0 and verifier.adopted(sha256(b"x").digest())
    keys.wipe()
    derivation.store(keys, (3, 1, 7, DEVICE), root(3), sha256(b"y").digest())
    assert Verifier(keys, "0123").adopted(sha256(b"y").digest())
