"""Slots: two files that hold a whole version each, a pointer that names the one to run, and the trial of a new one.

The pointer is the file `/slot`. "a" or "b" is the proven slot. "b 3 a" puts b on trial: it has three boots to prove
itself, then a runs again. The proven slot is always the last letter, so sentill_start.py lets that slot's copy of this
file decide, and the other's when that one cannot.

`/slot_a.img` is the archive of a version (host/sentill_host/bundle/archive.py): the same for all boards of a kind, and
closed by its own SHA-256. One that differs from it in any byte does not run. `/slot_a.sig` signs it for one board:

    sentill 2 uid=0123456789abcdef counter=215000000 sha=SHA-256-OF-THE-ARCHIVE-IN-HEX
    mac HMAC-OF-THE-LINE-ABOVE-IN-HEX

`counter` grows with every signed deploy, `mac` is the HMAC-SHA256 of the first line, its end included, under the
board's key for signatures. A board without keys needs no such file.

A board with keys (verifier.py) runs what is signed for it and not older than the version before the proven one:
that one must stay good to return to. What it held when it was given its keys counts as signed.
"""

import os
from binascii import hexlify, unhexlify

from sentill.errors import StorageError

POINTER = "slot"
NOTE = "slot.note"  # why a slot was given up, for people
IMAGE = "slot_%s.img"
SIGNATURE = "slot_%s.sig"
TRIES = 3
_MOST = 400  # bytes of a signature


def pick(root: str, verifier, digest) -> tuple:
    """The slot to run, "a" or "b", and whether it is on trial. Raises StorageError when none can run.

    Counts the boots of a trial and ends it when they are used up. `digest(slot)` is the SHA-256 of a slot's archive,
    b"" when that is missing or damaged. `verifier` is an verifier.Verifier; with None no signature is asked for.
    """
    slots = _Slots(root, verifier, digest)
    words = slots._words()
    why = "no slot is whole"
    if len(words) == 3:
        slot, left, proven = words
        why = "slot_%s: not proven in its boots: %s" % (slot, slots._noted())
        if left.isdigit() and int(left) > 0:
            why = slots._fault(slot)
            if not why:
                try:
                    if verifier:
                        verifier.raise_floor(min([slots._counter(name) for name in (slot, proven)]))
                    slots._replace(POINTER, "%s %d %s" % (slot, int(left) - 1, proven))
                    return slot, True
                except (StorageError, OSError) as error:  # a boot that cannot be counted is none
                    why = "slot_%s: no trial: %r" % (slot, error)
        slots._tell(why)
        if left == "0" and proven != slot:
            slots._drop(slot)  # it is no version any more, whatever becomes of the proven one
    proven = words[-1] if words and words[-1] in ("a", "b") else "a"
    for slot in (proven, "a" if proven == "b" else "b"):
        reason = slots._fault(slot)
        if not reason:
            if words != [slot]:
                slots._replace(POINTER, slot)
            return slot, False
        why = why + "; " + reason
        if slot == proven:
            slots._tell(reason)
    raise StorageError("slot", why)


class _Slots:
    """The files in the folder `root` (with its slash) that make the slots; `verifier`, `digest`: see pick."""

    def __init__(self, root: str, verifier, digest):
        self._root = root
        self._verifier = verifier
        self._digest = digest

    def _words(self) -> list:
        """Those of the pointer; none when there is no pointer, or it is not one."""
        try:
            with open(self._root + POINTER, "rb") as file:
                return [str(word, "ascii") for word in file.read(16).split() if max(word) < 128]
        except OSError:
            return []

    def _fault(self, slot: str) -> str:
        """Why a slot must not run, in words; "" when it is whole and, by the verifier, meant for here."""
        try:
            self._check(slot)
        except (StorageError, OSError, ValueError, IndexError, KeyError) as error:
            return "slot_%s: %s" % (
                slot,
                error.message if isinstance(error, StorageError) else "the signature is missing or damaged",
            )
        return ""

    def _counter(self, slot: str) -> int:
        """The counter a slot is signed with; 0 when it has none that counts."""
        try:
            return self._check(slot)
        except (StorageError, OSError, ValueError, IndexError, KeyError):
            return 0

    def _check(self, slot):
        # The counter of a slot that may run; raises StorageError with the reason, others for a damaged signature.
        found = self._digest(slot)
        if not found:
            raise StorageError("file", "the archive is missing or damaged")
        verifier = self._verifier
        if not verifier or verifier.adopted(found):
            return 0  # what its signature says is of former keys
        with open(self._root + SIGNATURE % slot, "rb") as file:
            data = file.read(_MOST)
        end = data.index(b"\n") + 1
        head = dict([word.split("=") for word in str(data[:end], "ascii").split()[2:]])
        if not data.startswith(b"sentill 2 ") or data[end : end + 4] != b"mac ":
            raise ValueError
        if head["uid"] != verifier.uid:
            raise StorageError("foreign", "signed for another board")
        if not verifier.verify(data[:end], unhexlify(data[end + 4 :].strip())):
            raise StorageError("signature", "the signature is not this board's")
        if head["sha"] != str(hexlify(found), "ascii"):
            raise StorageError("signature", "the signature is not of this archive")
        floor = verifier.floor()
        if int(head["counter"]) < floor:
            raise StorageError("old", "older than this board accepts: %d" % floor)
        return int(head["counter"])

    def _noted(self) -> str:
        """What the version on trial, or its start, has left as the reason."""
        try:
            with open(self._root + NOTE) as file:
                return file.read(100)
        except OSError:
            return "it did not say why"

    def _tell(self, why: str) -> None:
        """Leave the reason for people."""
        try:
            self._replace(NOTE, why)
        except OSError:
            pass  # on a full flash the way back counts for more than the reason

    def _replace(self, name: str, text: str) -> None:
        """Write a small file whole. Raises OSError."""
        path = self._root + name
        with open(path + ".new", "w") as file:
            file.write(text)
        os.rename(path + ".new", path)

    def _drop(self, slot: str) -> None:
        """Remove what a slot holds. Raises OSError."""
        for name in (IMAGE % slot, SIGNATURE % slot):
            if name in os.listdir(self._root):
                os.remove(self._root + name)
