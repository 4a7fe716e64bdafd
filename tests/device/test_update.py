"""Slots: the pointer, whole and damaged slots, trials that run out, signatures."""

import os
from binascii import hexlify
from hashlib import sha256

from sentill import crypto
from sentill.errors import StorageError
from sentill.update import slots
from support import raises, scratch_path

KEY = b"k" * 32


class Verifier:
    uid = "0123"

    def __init__(self, least=0, adopted=b""):
        self.least = least
        self._adopted = adopted

    def adopted(self, digest):
        return digest == self._adopted

    def verify(self, data, tag):
        return crypto.equal(crypto.mac(KEY).tag(data), tag)

    def floor(self):
        return self.least

    def raise_floor(self, n):
        self.least = max(n, self.least)


def write(path, data):
    with open(path, "wb") as file:
        file.write(data)


def read(path):
    with open(path) as file:
        return file.read()


def make_slot(root, slot, version="1", uid="0123", counter=0, key=None):
    """An archive, and with `key` its signature; returns the archive's SHA-256."""
    data = b"archive of version " + version.encode()
    found = sha256(data).digest()
    write(root + "slot_%s.img" % slot, data + found)
    if key:
        write(root + "slot_%s.sig" % slot, signature(uid, counter, found, key))
    return found


def signature(uid, counter, found, key):
    line = ("sentill 2 uid=%s counter=%d sha=%s\n" % (uid, counter, str(hexlify(found), "ascii"))).encode()
    return line + b"mac " + hexlify(crypto.mac(key).tag(line)) + b"\n"


def digest_in(root):
    """What sentill_start does: the SHA-256 that an archive ends with, when it is that of all before."""

    def digest(slot):
        try:
            with open(root + "slot_%s.img" % slot, "rb") as file:
                data = file.read()
        except OSError:
            return b""
        found = sha256(data[:-32]).digest()
        return found if data[-32:] == found else b""

    return digest


def pick(root, verifier=None):
    return slots.pick(root, verifier, digest_in(root))


def fault(root, slot, verifier=None):
    """Why the slot does not run, "" when it does."""
    write(root + "slot", slot.encode())
    try:
        found = slots.pick(root, verifier, digest_in(root))
    except StorageError as error:
        return error.message
    return "" if found == (slot, False) else read(root + slots.NOTE)


def damage(root, slot):
    """Change one byte of an archive."""
    with open(root + "slot_%s.img" % slot, "r+b") as file:
        file.seek(5)
        file.write(b"?")


_folders = []


def fresh():
    _folders.append(scratch_path("slots%d" % len(_folders)))
    os.mkdir(_folders[-1])
    return _folders[-1] + "/"


def test_the_pointer_decides_and_a_whole_slot_takes_the_place_of_a_damaged_one():
    root = fresh()
    make_slot(root, "a")
    make_slot(root, "b", "2")
    assert pick(root) == ("a", False)
    assert read(root + "slot") == "a"
    write(root + "slot", b"b")
    assert pick(root) == ("b", False)
    damage(root, "b")
    assert pick(root) == ("a", False)
    assert read(root + "slot") == "a"
    assert read(root + slots.NOTE) == "slot_b: the archive is missing or damaged"
    os.remove(root + "slot_a.img")
    raises(StorageError, pick, root)
    assert read(root + slots.NOTE).startswith("slot_a"), "why not the proven one"


def test_a_garbled_pointer_still_leads_to_a_whole_slot():
    root = fresh()
    make_slot(root, "b")
    for garbage in (b"", b"c", b"b x a", b"b 3", b"\xff\xfe", b"b -1 b", b"a 3 b"):
        write(root + "slot", garbage)
        assert pick(root) == ("b", False), garbage
        assert read(root + "slot") == "b", garbage


def test_a_trial_counts_its_boots_and_returns_to_the_proven_slot():
    root = fresh()
    make_slot(root, "a")
    make_slot(root, "b", "2", key=KEY)
    write(root + "slot", b"b 2 a")
    assert pick(root) == ("b", True)
    assert read(root + "slot") == "b 1 a"
    assert pick(root) == ("b", True)
    write(root + slots.NOTE, b"sampler: OSError(5,)")
    assert pick(root) == ("a", False)
    assert read(root + "slot") == "a"
    told = read(root + slots.NOTE)
    assert "slot_b: not proven" in told and "sampler: OSError(5,)" in told, told
    assert sorted(os.listdir(root)) == ["slot", slots.NOTE, "slot_a.img"], "it is no version any more"
    damage(root, "a")
    raises(StorageError, pick, root)


def test_a_trial_of_a_slot_that_is_not_whole_does_not_begin():
    root = fresh()
    make_slot(root, "a")
    make_slot(root, "b", "2")
    damage(root, "b")
    write(root + "slot", b"b 3 a")
    assert pick(root) == ("a", False)
    assert "slot_b: the archive is missing or damaged" in read(root + slots.NOTE)


def test_with_keys_only_what_is_signed_for_this_board_and_new_enough_runs():
    root = fresh()
    found = make_slot(root, "a", counter=5, key=KEY)
    good = signature("0123", 5, found, KEY)
    assert fault(root, "a", Verifier()) == ""
    assert fault(root, "a", Verifier(5)) == ""
    for data, verifier, reason in (
        (good, Verifier(6), "older than this board accepts: 6"),
        (signature("0123", 5, found, b"other"), Verifier(), "the signature is not this board's"),
        (signature("4567", 5, found, KEY), Verifier(), "signed for another board"),
        (signature("0123", 5, sha256(b"other").digest(), KEY), Verifier(), "the signature is not of this archive"),
        (good.replace(b"counter=5", b"counter=9"), Verifier(), "the signature is not this board's"),
    ):
        write(root + "slot_a.sig", data)
        assert reason in fault(root, "a", verifier), (reason, fault(root, "a", verifier))
    os.remove(root + "slot_a.sig")
    assert "the signature is missing or damaged" in fault(root, "a", Verifier())


def test_what_is_no_signature_is_refused():
    root = fresh()
    good = signature("0123", 5, make_slot(root, "a"), KEY)
    line = good[: good.find(b"\n") + 1]
    for data in (
        b"",
        good[:-66],
        line,
        line + b"mac \n",
        line + b"mac zz\n",
        line + b"mac -\n",
        good[:40],
        good.replace(b"sentill 2", b"sentill 1"),
        b"x" * 500,
        b"\xff" * 100 + b"\n",
    ):
        write(root + "slot_a.sig", data)
        assert "signature" in fault(root, "a", Verifier()), data
    # What was signed lacks a word, or has one that is none.
    for words in ("sentill 2 uid=0123 counter=5\n", "sentill 2 uid=0123 counter=x sha=0\n", "sentill 2 uid\n"):
        line = words.encode()
        write(root + "slot_a.sig", line + b"mac " + hexlify(crypto.mac(KEY).tag(line)) + b"\n")
        assert "signature" in fault(root, "a", Verifier()), words
    write(root + "slot_a.sig", good)
    assert fault(root, "a", Verifier()) == ""


def signed_slots(a, b, pointer):
    root = fresh()
    make_slot(root, "a", "1", counter=a, key=KEY)
    make_slot(root, "b", "2", counter=b, key=KEY)
    write(root + "slot", pointer)
    return root


def test_a_trial_raises_what_is_accepted_to_the_version_beside_it():
    verifier = Verifier()
    root = signed_slots(5, 6, b"b 3 a")
    assert pick(root, verifier) == ("b", True)
    assert verifier.least == 5
    write(root + "slot", b"b")
    damage(root, "b")
    assert pick(root, verifier) == ("a", False), "the version before stays good"
    verifier = Verifier(5)
    root = signed_slots(5, 6, b"a 3 b")
    assert pick(root, verifier) == ("a", True), "so does the way back to it"
    assert verifier.least == 5
    root = signed_slots(4, 6, b"a 3 b")
    assert pick(root, verifier) == ("b", False)
    assert "older" in read(root + slots.NOTE)


def test_what_ran_when_the_keys_came_counts_as_signed():
    root = fresh()
    found = make_slot(root, "a")
    make_slot(root, "b", "2", counter=9, key=KEY)
    write(root + "slot", b"b 3 a")
    verifier = Verifier(0, found)
    assert pick(root, verifier) == ("b", True)
    assert verifier.least == 0, "it has no counter"
    write(root + "slot", b"a")
    assert pick(root, verifier) == ("a", False)
    damage(root, "a")
    assert "slot_a: the archive is missing or damaged" in fault(root, "a", verifier)
    make_slot(root, "a", "3")
    assert "slot_a: the signature is missing" in fault(root, "a", verifier)


def test_what_ran_when_new_keys_came_stays_good_whatever_counter_it_has():
    root = fresh()
    found = make_slot(root, "a", counter=5, key=b"former" * 6)
    make_slot(root, "b", "2", counter=9, key=KEY)
    write(root + "slot", b"b 3 a")
    verifier = Verifier(0, found)
    assert pick(root, verifier) == ("b", True)
    assert verifier.least == 0, "above 0 it would not be known any more"
    write(root + "slot", b"b 0 a")
    assert pick(root, verifier) == ("a", False)


class Worn(Verifier):
    def raise_floor(self, n):
        raise StorageError("flash", "the flash does not keep what is written")


def test_a_trial_that_cannot_be_counted_leaves_the_proven_slot_running():
    root = signed_slots(5, 6, b"b 3 a")
    assert pick(root, Worn()) == ("a", False)
    assert read(root + "slot") == "a" and "does not keep" in read(root + slots.NOTE)
    assert not fault(root, "b", Worn()), "it stays a version"
    write(root + "slot", b"b 0 a")
    os.mkdir(root + slots.NOTE + ".new")  # the reason cannot be written
    assert pick(root, Worn()) == ("a", False)
