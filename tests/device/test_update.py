"""Slots: the pointer, whole and damaged slots, trials that run out, signatures."""

import os
from binascii import hexlify
from hashlib import sha256

from sentill import crypto, update
from sentill.errors import StorageError
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
        return crypto.equal(crypto.MAC(KEY).tag(data), tag)

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


def make_slot(root, slot, version="1", uid="-", counter=0, key=None):
    folder = root + "slot_" + slot
    for path in (folder, folder + "/sentill"):
        if path.rsplit("/", 1)[1] not in os.listdir(path.rsplit("/", 1)[0]):
            os.mkdir(path)
    text = "sentill 1 version=%s board=SIM min=1.24.0 uid=%s counter=%d\n" % (version, uid, counter)
    for name, data in (("main.py", b"main"), ("sentill/node.mpy", version.encode() * 700), ("empty", b"")):
        write(folder + "/" + name, data)
        text += "%s %d %s\n" % (str(hexlify(sha256(data).digest()), "ascii"), len(data), name)
    mac = str(hexlify(crypto.MAC(key).tag(text.encode())), "ascii") if key else "-"
    write(folder + "/manifest", (text + "mac " + mac + "\n").encode())
    return folder


_folders = []


def fresh():
    _folders.append(scratch_path("slots%d" % len(_folders)))
    os.mkdir(_folders[-1])
    return _folders[-1] + "/"


def test_a_board_without_slots_runs_what_it_has():
    assert update.pick(fresh()) == ("", False)


def test_the_pointer_decides_and_a_whole_slot_takes_the_place_of_a_damaged_one():
    root = fresh()
    make_slot(root, "a")
    make_slot(root, "b", "2")
    assert update.pick(root) == (root + "slot_a", False)
    assert read(root + "slot") == "a"
    write(root + "slot", b"b")
    assert update.pick(root) == (root + "slot_b", False)
    write(root + "slot_b/sentill/node.mpy", b"2" * 699 + b"3")
    assert update.pick(root) == (root + "slot_a", False)
    assert read(root + "slot") == "a"
    assert "node.mpy" in read(root + update.NOTE)
    os.remove(root + "slot_a/empty")
    raises(StorageError, update.pick, root)
    assert read(root + update.NOTE).endswith("slot_a: empty is not what the manifest says"), "why not the proven one"


def test_a_garbled_pointer_still_leads_to_a_whole_slot():
    root = fresh()
    make_slot(root, "b")
    for garbage in (b"", b"c", b"b x a", b"b 3", b"\xff\xfe", b"b -1 b", b"a 3 b"):
        write(root + "slot", garbage)
        assert update.pick(root) == (root + "slot_b", False), garbage
        assert read(root + "slot") == "b", garbage


def test_a_trial_counts_its_boots_and_returns_to_the_proven_slot():
    root = fresh()
    make_slot(root, "a")
    make_slot(root, "b", "2")
    write(root + "slot", b"b 2 a")
    assert update.pick(root) == (root + "slot_b", True)
    assert read(root + "slot") == "b 1 a"
    assert update.pick(root) == (root + "slot_b", True)
    write(root + update.NOTE, b"sampler: OSError(5,)")
    assert update.pick(root) == (root + "slot_a", False)
    assert read(root + "slot") == "a"
    told = read(root + update.NOTE)
    assert "slot_b: not proven" in told and "sampler: OSError(5,)" in told, told
    # It is no version any more: not even a damaged a leads back to it.
    os.remove(root + "slot_a/main.py")
    raises(StorageError, update.pick, root)


def test_a_trial_of_a_slot_that_is_not_whole_does_not_begin():
    root = fresh()
    make_slot(root, "a")
    make_slot(root, "b", "2")
    write(root + "slot_b/sentill/node.py", b"hides node.mpy")
    write(root + "slot", b"b 3 a")
    assert update.pick(root) == (root + "slot_a", False)
    assert "not in the manifest" in read(root + update.NOTE)


def test_what_is_no_manifest_is_refused():
    root = fresh()
    folder = make_slot(root, "a")
    whole = read(folder + "/manifest").encode()
    other = whole.replace(b"sentill 1", b"sentill 2")
    for text in (b"", b"sentill 1 \n", whole[:-1], whole[:200], other, b"x" * 20_000):
        write(folder + "/manifest", text)
        assert update.fault(folder), text[:60]
    write(folder + "/manifest", whole)
    assert update.fault(folder) == ""


def test_with_keys_only_a_manifest_signed_for_this_board_and_new_enough_runs():
    root = fresh()
    good = make_slot(root, "a", uid="0123", counter=5, key=KEY)
    assert update.fault(good, Verifier()) == ""
    assert update.fault(good, Verifier(5)) == ""
    assert "older" in update.fault(good, Verifier(6))
    assert "signature" in update.fault(make_slot(root, "b", uid="0123", counter=5, key=b"other"), Verifier())
    assert "another board" in update.fault(make_slot(root, "b", uid="4567", counter=5, key=KEY), Verifier())
    assert "not at all" in update.fault(make_slot(root, "b"), Verifier())
    forged = read(good + "/manifest").replace("counter=5", "counter=9")
    write(good + "/manifest", forged.encode())
    assert "signature" in update.fault(good, Verifier())
    write(good + "/manifest", forged.replace(" 5", " 4").encode()[: forged.find("mac")] + b"mac zz\n")
    assert update.fault(good, Verifier())


def signed_slots(a, b, pointer):
    root = fresh()
    make_slot(root, "a", "1", uid="0123", counter=a, key=KEY)
    make_slot(root, "b", "2", uid="0123", counter=b, key=KEY)
    write(root + "slot", pointer)
    return root


def test_a_trial_raises_what_is_accepted_to_the_version_beside_it():
    verifier = Verifier()
    root = signed_slots(5, 6, b"b 3 a")
    assert update.pick(root, verifier) == (root + "slot_b", True)
    assert verifier.least == 5
    write(root + "slot", b"b")
    os.remove(root + "slot_b/main.py")
    assert update.pick(root, verifier) == (root + "slot_a", False), "the version before stays good"
    verifier = Verifier(5)
    root = signed_slots(5, 6, b"a 3 b")
    assert update.pick(root, verifier) == (root + "slot_a", True), "so does the way back to it"
    assert verifier.least == 5
    root = signed_slots(4, 6, b"a 3 b")
    assert update.pick(root, verifier) == (root + "slot_b", False)
    assert "older" in read(root + update.NOTE)


def test_what_ran_when_the_keys_came_counts_as_signed():
    root = fresh()
    with open(make_slot(root, "a") + "/manifest", "rb") as file:
        digest = sha256(file.read()).digest()
    make_slot(root, "b", "2", uid="0123", counter=9, key=KEY)
    write(root + "slot", b"b 3 a")
    verifier = Verifier(0, digest)
    assert update.pick(root, verifier) == (root + "slot_b", True)
    assert verifier.least == 0, "it has no counter"
    write(root + "slot", b"a")
    assert update.pick(root, verifier) == (root + "slot_a", False)
    write(root + "slot_a/main.py", b"other")
    assert "main.py" in update.fault(root + "slot_a", verifier)
    make_slot(root, "a", "3")
    assert "not at all" in update.fault(root + "slot_a", verifier)


def test_what_ran_when_new_keys_came_stays_good_whatever_counter_it_has():
    root = fresh()
    with open(make_slot(root, "a", uid="0123", counter=5, key=b"former" * 6) + "/manifest", "rb") as file:
        digest = sha256(file.read()).digest()
    make_slot(root, "b", "2", uid="0123", counter=9, key=KEY)
    write(root + "slot", b"b 3 a")
    verifier = Verifier(0, digest)
    assert update.pick(root, verifier) == (root + "slot_b", True)
    assert verifier.least == 0, "above 0 it would not be known any more"
    write(root + "slot", b"b 0 a")
    assert update.pick(root, verifier) == (root + "slot_a", False)


class Worn(Verifier):
    def raise_floor(self, n):
        raise StorageError("flash", "the flash does not keep what is written")


def test_a_trial_that_cannot_be_counted_leaves_the_proven_slot_running():
    root = signed_slots(5, 6, b"b 3 a")
    assert update.pick(root, Worn()) == (root + "slot_a", False)
    assert read(root + "slot") == "a" and "does not keep" in read(root + update.NOTE)
    assert not update.fault(root + "slot_b", Worn()), "it stays a version"
    write(root + "slot", b"b 0 a")
    os.mkdir(root + update.NOTE + ".new")  # the reason cannot be written
    assert update.pick(root, Worn()) == (root + "slot_a", False)
