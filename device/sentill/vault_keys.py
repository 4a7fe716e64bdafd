"""The root key in the key store, and what is derived from it. Borrowed: at the start, and when a rare key is needed."""

from struct import pack, unpack

from . import crypto
from .compat import const
from .errors import SentillError

_ROOT = const(2)
_COUNTERS = const(3)
_TRIES = const(4)
_HEAD = const(12)
_FORMAT = "<HBB8s"


def derive(root, purpose: bytes) -> bytes:
    """The key of a purpose: b"token", b"frame", b"unlock", b"sign", b"wrap" (journal keys: journal.first_key)."""
    return crypto.hkdf(root, b"sentill " + purpose)


def root(keys) -> bytearray:
    """A copy of the root key in `keys` (a keystore.KeyStore or None), for the caller to overwrite; else LAB_ROOT."""
    entry = keys.get(_ROOT) if keys else None
    if not entry:
        return bytearray(crypto.LAB_ROOT)
    found = entry[_HEAD:]
    crypto.wipe(entry)
    return found


def key(keys, purpose: bytes) -> bytes:
    """A derived key. Raises SentillError("state") when the keys were erased."""
    if keys and keys.wiped:
        raise SentillError("state", "the keys were erased")
    found = root(keys)
    derived = derive(found, purpose)
    crypto.wipe(found)
    return derived


def load(vault, keys) -> None:
    """Fill a vault.Vault from the key store."""
    entry = keys.get(_ROOT) if keys else None
    if entry:
        vault.generation, vault.profile, vault.policy, vault.device = unpack(_FORMAT, entry[:_HEAD])
        crypto.wipe(entry)
        vault.frame = crypto.MAC(key(keys, b"frame"))
        counters = keys.get(_COUNTERS)
        if counters:
            vault.kept = list(unpack("<IIII", counters))
            vault.counters = list(vault.kept)
        tries = keys.get(_TRIES)
        if tries:
            vault.failed, vault.latch = unpack("<HB", tries)
    if not (keys and keys.wiped):
        vault.card = crypto.MAC(key(keys, b"token"))


def store(keys, head: tuple, root) -> None:
    """Take a `root` key (a bytearray, overwritten) of `head`: generation, profile, policy, device id (8 bytes).

    All counters begin anew; it is in use after the next start. Where keys were erased, a power cut before the new one
    is kept leaves a device without any.
    """
    if keys.wiped:
        keys.format()
    entry = bytearray(pack(_FORMAT, *head) + root)
    crypto.wipe(root)
    keys.put(_ROOT, entry)
    crypto.wipe(entry)
    # Behind the key: with the former one, counters from 0 would let in what was used before.
    keys.remove(_COUNTERS)
    keys.remove(_TRIES)
