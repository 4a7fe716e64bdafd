"""A device gets its first keys, or new ones; also the only way back after a tamper event erased them."""

from binascii import a2b_base64
from hashlib import sha256
from struct import pack

from sentill import crypto
from sentill.compat import borrow, const
from sentill.errors import SentillError, StorageError
from sentill.wire.protocol import argument

_ACCESS = const(9)  # kind of record
_SEALED = const(2)
_TAMPERED = "tampered.txt"


def provision(node, port, fields) -> list:
    """Give the device a root key of generation `gen`, profile `prof` and tamper policy `pol`; then restart.

    `rec` is the SHA-256 of what will let erased keys be replaced, base64 as `key`. A device without keys takes any.
    With keys the frame has been admitted, and `key` is XORed with the key of purpose b"wrap" + gen (u16); with erased
    keys `proof` is what the former `rec` asks for.
    """
    vault = node.vault
    keys = node.audit.keys
    if keys is None:
        raise SentillError("state", "no place for keys: see the faults")
    if " " in node.store.slot():
        raise SentillError("state", "a version is on trial")
    known = borrow("keys", "renewal").load(node)
    erased = not vault.generation and vault.profile == _SEALED
    if vault.profile == _SEALED and not erased and not node.session.left_s():
        raise SentillError("sealed", "a maintenance order comes first")
    generation = argument(fields, "gen", max(vault.generation, known[0]) + 1, 0xFFFF)
    profile = argument(fields, "prof", 0, 2)
    policy = argument(fields, "pol", 0, 7)
    root = bytearray(_bytes(fields, "key"))
    if erased:
        if not crypto.equal(sha256(_bytes(fields, "proof")).digest(), known[3]):
            raise SentillError("mac", "this does not authorise new keys")
    elif vault.generation:
        _unwrap(root, keys, generation)
    seal = _bytes(fields, "rec")
    if not erased:
        node.audit.note(_ACCESS, [("ev", "provision"), ("gen", generation), ("prof", profile), ("pol", policy)])
    try:
        head = (generation, profile, policy, node.audit.device)
        borrow("keys", "derivation").store(keys, head, root, node.store.digest())
        borrow("keys", "renewal").save(node, generation, policy, profile, seal)
    except OSError:
        raise StorageError("storage", "the flash does not take the keys")
    node.store.take(_TAMPERED)
    node.after = "reboot"
    return [("gen", generation)]


def _unwrap(root, keys, generation):
    pad = borrow("keys", "derivation").key(keys, b"wrap" + pack("<H", generation))
    for i in range(32):
        root[i] ^= pad[i]


def _bytes(fields, name):
    try:
        data = a2b_base64(fields[name])
        if len(data) == 32:
            return data
    except (KeyError, TypeError, ValueError):
        pass
    raise SentillError("field", name + " must be 32 bytes in base64")
