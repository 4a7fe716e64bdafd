"""The root key in the key store, and what is derived from it. Borrowed: at the start, and when a rare key is needed.

A device is given the root key of a generation and keeps two keys made of it, from neither of which there is a way back:
the first key of its journal, which moves on with the records, and the key of all other purposes. So whoever reads the
flash later cannot compute the journal's past keys.
"""

from struct import pack, unpack

from sentill import crypto
from sentill.compat import const
from sentill.errors import SentillError

_ROOT = const(2)
_COUNTERS = const(3)
_TRIES = const(4)
_ADOPTED = const(6)  # see verifier
_NEXT = const(5)  # first journal key of a new generation, until the journal has taken it: generation u16, key (32)
_HEAD = const(12)
_FORMAT = "<HBB8s"


def kept(root) -> bytes:
    """What a device keeps of a `root` key it is given."""
    return crypto.hkdf(root, b"sentill device")


def derive(kept, purpose: bytes) -> bytes:
    """The key of a purpose: b"token", b"frame", b"unlock", b"sign", b"wrap" (journal keys: recovery.first_key)."""
    return crypto.hkdf(kept, b"sentill " + purpose)


def kept_in(keys) -> bytearray:
    """A copy of the kept key in `keys` (a store.KeyStore or None), for the caller to overwrite; else LAB_ROOT."""
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
    found = kept_in(keys)
    derived = derive(found, purpose)
    crypto.wipe(found)
    return derived


def load(vault, keys) -> None:
    """Fill a vault.Vault from the key store."""
    entry = keys.get(_ROOT) if keys else None
    if entry:
        vault.generation, vault.profile, vault.policy, vault.device = unpack(_FORMAT, entry[:_HEAD])
        crypto.wipe(entry)
        vault.frame = crypto.mac(key(keys, b"frame"))
        counters = keys.get(_COUNTERS)
        if counters:
            vault.kept = list(unpack("<IIII", counters))
            vault.counters = list(vault.kept)
        tries = keys.get(_TRIES)
        if tries:
            vault.failed, vault.latch = unpack("<HB", tries)
    if not (keys and keys.wiped):
        vault.card = crypto.mac(key(keys, b"token"))


def store(keys, head: tuple, root, running=b"") -> None:
    """Take a `root` key (a bytearray, overwritten) of `head`: generation, profile, policy, device id (8 bytes).

    `running` is the SHA-256 of the archive of what runs: signed with older keys or none, it must go on.

    All counters begin anew; it is in use after the next start. Where keys were erased, a power cut before the new one
    is kept leaves a device without any.
    """
    if keys.wiped:
        keys.format()
    if running:
        keys.put(_ADOPTED, running)
    # First: a key without its journal's would be of no use.
    _put(keys, _NEXT, pack("<H", head[0]), _first(root, head[0]))
    _put(keys, _ROOT, pack(_FORMAT, *head), kept(root))
    crypto.wipe(root)
    # Behind the key: with the former one, counters from 0 would let in what was used before.
    keys.remove(_COUNTERS)
    keys.remove(_TRIES)


def _first(root, generation):
    # As recovery.first_key, which would not fit beside what provisioning needs.
    return crypto.hkdf(root, b"sentill journal" + pack("<H", generation))


def _put(keys, name, head, key):
    entry = bytearray(head + key)
    keys.put(name, entry)
    crypto.wipe(entry)
