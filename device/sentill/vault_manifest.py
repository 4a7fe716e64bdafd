"""What update.py asks about a manifest: is it signed for this device, and not older than what ran before."""

from . import crypto
from .compat import borrow
from .vault import FLOOR


class Verifier:
    """Answers for the device `uid` (hex) with the keys in `keys` (keystore.KeyStore) and the counters of `vault`."""

    def __init__(self, vault, keys, uid: str):
        self.uid = uid
        self._vault = vault
        self._keys = keys

    def verify(self, data, tag) -> bool:
        """Whether `tag` (32 bytes) is the HMAC-SHA256 of `data` under the key of purpose b"sign"."""
        mac = crypto.MAC(borrow("vault_keys").key(self._keys, b"sign"))
        good = crypto.equal(mac.tag(data), tag)
        mac.wipe()
        return good

    def floor(self) -> int:
        """The lowest counter of a manifest that is accepted."""
        return self._vault.counters[FLOOR]

    def raise_floor(self, n: int) -> None:
        """Accept nothing below `n` any more."""
        if n > self._vault.counters[FLOOR]:
            self._vault.use(FLOOR, n - 1)
