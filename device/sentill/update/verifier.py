"""What slots.py asks about a version: is it signed for this device, and not older than what ran before.

Runs before the node, by the code of the proven slot. Key store entries are those of keys/vault.py, and 6: the SHA-256
of the archive of the version that ran when the device was given its keys.
"""

from struct import pack, unpack

from sentill import crypto
from sentill.compat import borrow, const
from sentill.errors import StorageError

ADOPTED = 6
_ROOT = const(2)
_COUNTERS = const(3)
_FLOOR = const(3)  # place in the counters


def verifier(hardware):
    """The Verifier of the device with this HAL. None without keys: nothing can be told of a signature.

    Keys that were erased or cannot be read are no keys: the node then refuses its work, and says so.
    """
    try:
        keys = borrow("keys", "location").open_keys(hardware)
    except (StorageError, OSError):
        return None
    root = keys.get(_ROOT)
    if keys.wiped or not root:
        return None
    crypto.wipe(root)
    return Verifier(keys, hardware.uid())


class Verifier:
    """Answers for the device `uid` (hex) with what `keys` (store.KeyStore) hold."""

    def __init__(self, keys, uid: str):
        self.uid = uid
        self._keys = keys

    def adopted(self, digest) -> bool:
        """Whether `digest` is the SHA-256 of the archive that ran when the device was given its keys."""
        known = self._keys.get(ADOPTED)
        return bool(known) and crypto.equal(known, digest)

    def verify(self, data, tag) -> bool:
        """Whether `tag` (32 bytes) is the HMAC-SHA256 of `data` under the key of purpose b"sign"."""
        mac = crypto.mac(borrow("keys", "derivation").key(self._keys, b"sign"))
        good = crypto.equal(mac.tag(data), tag)
        mac.wipe()
        return good

    def floor(self) -> int:
        """The lowest counter that is accepted."""
        return self._counters()[_FLOOR]

    def raise_floor(self, n: int) -> None:
        """Accept nothing below `n` any more. Above 0 both slots hold signed versions: nothing stays adopted."""
        counters = self._counters()
        if n > counters[_FLOOR]:
            counters[_FLOOR] = n
            self._keys.put(_COUNTERS, pack("<IIII", *counters))
        if n:
            self._keys.remove(ADOPTED)

    def _counters(self):
        entry = self._keys.get(_COUNTERS)
        return list(unpack("<IIII", entry)) if entry else [0, 0, 0, 0]
