"""The start of a journal: its key on flash, the recovery after a power cut, the step to a new generation of keys."""

from hashlib import sha256
from struct import pack, unpack, unpack_from

from sentill import crypto
from sentill.compat import const
from sentill.errors import StorageError

from .chain import GENERATION, HEAD, MAX, TAG

_KEY_ENTRY = const(1)
_NEXT = const(5)  # see given_key
_KEY_FORMAT = "<HII"


def first_tag(device: bytes) -> bytes:
    """What stands for the tag before the first record of `device` (its 8-byte id)."""
    return sha256(b"sentill journal" + bytes(device)).digest()[:TAG]


def first_key(root, generation: int) -> bytes:
    """The first journal key of a generation (0..65535), derived from the device's root key."""
    return crypto.hkdf(root, b"sentill journal" + pack("<H", generation))


def given_key(keys, generation: int) -> bytearray:
    """`first_key` as derivation.store has left it, for the caller to overwrite, here and as entry 5 of the key store.

    That of generation 0 is no secret. Raises StorageError("keys") without one.
    """
    if not generation:
        return bytearray(first_key(crypto.LAB_ROOT, 0))
    entry = keys.get(_NEXT)
    if not entry or unpack_from("<H", entry, 0)[0] != generation:
        raise StorageError("keys", "the journal has no first key")
    key = entry[2:]
    crypto.wipe(entry)
    return key


def stage_key(keys, generation: int, sequence: int, key) -> None:
    """Make `key` the first of `generation`, from record `sequence` on; the current key is overwritten."""
    entry = bytearray(pack(_KEY_FORMAT, generation, sequence, sequence) + bytes(key))
    keys.put(_KEY_ENTRY, entry)
    crypto.wipe(entry)


def key_place(keys):
    """(generation, its first sequence, sequence of the key on flash) or None when there is no key."""
    entry = keys.get(_KEY_ENTRY)
    if entry is None:
        return None
    place = unpack_from(_KEY_FORMAT, entry, 0)
    crypto.wipe(entry)
    return place


def recover(log) -> None:
    """What Journal.open does."""
    store = log._store
    store.open(log._device)
    entry = log._keys.get(_KEY_ENTRY)
    if entry is None:
        raise StorageError("keys", "the journal has no key")
    log.generation, log._start, at = unpack_from(_KEY_FORMAT, entry, 0)
    log._key[:] = memoryview(entry)[10:42]
    crypto.wipe(entry)
    log._key_at = at
    log.lost = max(0, at - store.next)
    log.dropped = 0
    log._mac.rekey(log._key)
    log.tag[:] = store.tag_before(min(at, store.next))
    log.next = at
    for record in store.records(at):
        body = len(record) - TAG
        tag = log._mac.tag(log.tag, memoryview(record)[:body])[:TAG]
        if unpack_from("<I", record, 3)[0] != log.next or not crypto.equal(tag, memoryview(record)[body:]):
            break
        log.tag[:] = tag
        log._advance()
    if store.next > log.next:
        log.dropped = store.next - log.next
    if at <= store.next:
        store.drop(log.next)
    log.kept = log.next
    log._low = log._high = 0
    log._keep_key()


def renew(log, generation: int, key, time: int) -> None:
    """What Journal.renew does."""
    log.commit()
    stage_key(log._keys, generation, log.next, key)
    log.generation = generation
    log._start = log._key_at = log.next
    log._key[:] = key
    log._mac.rekey(log._key)
    log.append(GENERATION, time, pack("<H", generation))
    log.commit()


def parse(record):
    """(kind, sequence, time, payload) of one record. Raises StorageError("record") when its length is wrong."""
    if len(record) < HEAD + TAG or len(record) > MAX or unpack("<H", record[:2])[0] != len(record):
        raise StorageError("record", "a record of a wrong length")
    _, kind, sequence, time = unpack_from("<HBII", record, 0)
    return kind, sequence, time, record[HEAD:-TAG]
