"""Slots: two folders that hold a whole version each, a pointer that names the one to run, and the trial of a new one.

The pointer is the file `/slot`. "a" or "b" is the proven slot. "b 3 a" puts b on trial: it has three boots to prove
itself, then a runs again. The proven slot is always the last letter, so main.py lets that slot's copy of this file
decide, and the other's when that one cannot: no single copy of anything but main.py has to be whole.

`/slot_a/manifest` lists all that belongs to the slot; a slot that differs from it in any byte or holds more code does
not run. It is text, one item a line:

    sentill 1 version=0.1.0 board=SIM min=1.24.0 uid=- counter=0 bundle=0123456789abcdef
    SHA-256-IN-HEX BYTES PATH
    ...
    mac HEX

`bundle` names what was built; the configuration is not part of it. `uid` is the board the manifest was signed for,
`counter` grows with every signed deploy, `mac` is the HMAC-SHA256 of all before its line under the board's key for
signatures; the three are "-", 0 and "-" where no keys are in use.

A board with keys (update_verifier.py) runs what is signed for it and not older than the version before the proven one:
that one must stay good to return to. What it held when it was given its keys counts as signed.
"""

import os
from binascii import hexlify, unhexlify
from hashlib import sha256

from .errors import StorageError

POINTER = "slot"
NOTE = "slot.note"  # why a slot was given up, for people
MANIFEST = "manifest"
TRIES = 3
_MOST = 16_384  # bytes of a manifest


def pick(root: str = "/", verifier=None) -> tuple:
    """The folder to run from and whether it is on trial; ("", False) on a board without slots.

    Counts the boots of a trial and ends it when they are used up. `verifier` is an update_verifier.Verifier; without
    one unsigned manifests are accepted. Raises StorageError when no slot can run.
    """
    names = os.listdir(root)
    if "slot_a" not in names and "slot_b" not in names:
        return "", False
    words = []
    if POINTER in names:
        with open(root + POINTER, "rb") as file:
            words = [str(word, "ascii") for word in file.read(16).split() if max(word) < 128]
    why = "no slot is whole"
    if len(words) == 3:
        slot, left, proven = words
        why = "slot_%s: not proven in its boots: %s" % (slot, _noted(root))
        if left.isdigit() and int(left) > 0:
            why = fault(root + "slot_" + slot, verifier)
            if not why:
                try:
                    if verifier:
                        folders = root + "slot_" + slot, root + "slot_" + proven
                        verifier.raise_floor(min([_counter(folder, verifier) for folder in folders]))
                    _replace(root + POINTER, "%s %d %s" % (slot, int(left) - 1, proven))
                    return root + "slot_" + slot, True
                except (StorageError, OSError) as error:  # a boot that cannot be counted is none
                    why = "slot_%s: no trial: %r" % (slot, error)
        _tell(root, why)
        if left == "0" and proven != slot and "slot_" + slot in names:
            # Without its manifest it is no version any more, whatever becomes of the proven one.
            if MANIFEST in os.listdir(root + "slot_" + slot):
                os.remove(root + "slot_" + slot + "/" + MANIFEST)
    proven = words[-1] if words and words[-1] in ("a", "b") else "a"
    for slot in (proven, "a" if proven == "b" else "b"):
        reason = fault(root + "slot_" + slot, verifier)
        if not reason:
            if words != [slot]:
                _replace(root + POINTER, slot)
            return root + "slot_" + slot, False
        why = why + "; " + reason
        if slot == proven:
            _tell(root, reason)
    raise StorageError("slot", why)


def fault(folder: str, verifier=None) -> str:
    """Why the slot in `folder` must not run, in words; "" when it is whole and, by the `verifier`, meant for here."""
    try:
        check(folder, verifier)
    except (StorageError, OSError, ValueError, IndexError, KeyError) as error:
        return (
            folder[1:] + ": " + (error.message if isinstance(error, StorageError) else "manifest is missing or damaged")
        )
    return ""


def check(folder: str, verifier=None) -> dict:
    """The header of the manifest in `folder` when everything is as it says; raises StorageError with the reason."""
    head, data, at, end = _read(folder, verifier)
    count = 0
    while at < end:
        stop = data.find(b"\n", at)
        digest, size, path = str(data[at:stop], "ascii").split(" ")
        if hash_file(folder + "/" + path) != (int(size), digest):
            raise StorageError("file", path + " is not what the manifest says")
        if path.endswith("py"):
            count += 1
        at = stop + 1
    if _code(folder) > count:
        raise StorageError("file", "code that is not in the manifest")
    return head


def hash_file(path: str) -> tuple:
    """Bytes and SHA-256 in hex of a file; (-1, "") when it cannot be read."""
    digest = sha256()
    block = bytearray(512)
    view = memoryview(block)
    size = 0
    try:
        with open(path, "rb") as file:
            while True:
                n = file.readinto(block)
                if not n:
                    break
                size += n
                digest.update(view[:n])
    except OSError:
        return -1, ""
    return size, str(hexlify(digest.digest()), "ascii")


def _read(folder, verifier):
    # The header of the manifest, all of it, and where its list of files begins and ends. The files are not looked at.
    with open(folder + "/" + MANIFEST, "rb") as file:
        data = file.read(_MOST + 1)
    end = data.rfind(b"mac ")
    if len(data) > _MOST or not data.startswith(b"sentill 1 ") or not data.endswith(b"\n"):
        raise StorageError("manifest", "the manifest is not one")
    at = data.find(b"\n") + 1
    head = dict([word.split("=") for word in str(data[: at - 1], "ascii").split()[2:]])
    if verifier and verifier.adopted(sha256(data).digest()):
        head["counter"] = "0"  # what it says is of former keys
    elif verifier:
        if head["uid"] != verifier.uid:
            raise StorageError("foreign", "signed for another board or not at all")
        if not verifier.verify(data[:end], unhexlify(data[end + 4 :].strip())):
            raise StorageError("signature", "the signature is not this board's")
        floor = verifier.floor()
        if int(head["counter"]) < floor:
            raise StorageError("old", "older than this board accepts: %d" % floor)
    return head, data, at, end


def _counter(folder, verifier):
    try:
        return int(_read(folder, verifier)[0]["counter"])
    except (StorageError, OSError, ValueError, IndexError, KeyError):
        return 0


def _code(folder):
    # How many files of code: a stray x.py would hide the x.mpy beside it.
    n = 0
    for name in os.listdir(folder):
        path = folder + "/" + name
        n += _code(path) if os.stat(path)[0] & 0x4000 else name.endswith("py")
    return n


def _noted(root):
    # What the version on trial, or main.py, has left as the reason.
    try:
        with open(root + NOTE) as file:
            return file.read(100)
    except OSError:
        return "it did not say why"


def _tell(root, why):
    try:
        _replace(root + NOTE, why)
    except OSError:
        pass  # on a full flash the way back counts for more than the reason


def _replace(path, text):
    with open(path + ".new", "w") as file:
        file.write(text)
    os.rename(path + ".new", path)
