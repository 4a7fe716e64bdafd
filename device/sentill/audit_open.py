"""The start of keys and journal: where they lie, what they begin with, and what a start is remembered by.

Keys and, where there is room for it, the records lie on flash that no file system uses (HAL.raw_flash): its first two
blocks hold the keys, three or more behind them the records. Else the records are files of the file system, and the keys
lie in two pinned blocks of it (pinned_open.py).
"""

import os
from binascii import unhexlify
from gc import collect

from . import crypto, journal
from .compat import borrow, const
from .errors import StorageError
from .flash import Region
from .tamper import FILE, Tamper
from .vault import ERASE, REFUSE, Vault

_SEALED = const(2)
_KEY_BLOCKS = const(2)
_LEAST_RING = const(3)
_KNOWN = "known.txt"
_NEXT = const(5)  # the journal's next first key in the key store, see vault_keys


def open_all(node) -> None:
    """Give `node` its vault, its journal and its tamper detection, with what is there; what is not is a fault."""
    node.audit.device = (unhexlify(node.hal.uid()) + bytes(8))[:8]
    raw = node.hal.raw_flash()
    node.audit.keys = node.attempt("keys", borrow("audit_keys").open_keys, node.hal)
    node.vault = Vault(node.audit.keys)
    borrow("vault_keys").load(node.vault, node.audit.keys)
    _open_tamper(node)
    if node.audit.keys:
        node.attempt("journal", _open_journal, node, raw)
    if node.vault.latch:
        # Whoever cuts the power in that moment must not keep it out of the journal.
        node.event("tamper", [("by", node.tampered), ("late", True)], journal.TAMPER)
        if node.vault.policy & ERASE:  # the response was cut short
            node.tamper.erase()
    elif node.vault.generation and node.vault.device != node.audit.device:
        node.tamper.trip("board")


def _open_journal(node, raw):
    keys = node.audit.keys
    device = node.audit.device
    node.audit.store = store = _store(node, raw)
    log = journal.Journal(store, keys, device, node.audit.window)
    generation = node.vault.generation
    start = borrow("journal_open")
    erased = node.vault.profile and not generation
    if erased or start.key_place(keys) is None:
        store.open(device)
        if erased:  # what was recorded can still be read
            keys.remove(_NEXT)  # of new keys that a power cut kept away
            raise StorageError("wiped", "the keys were erased")
        key = start.given_key(keys, generation)
        start.stage_key(keys, generation, store.next, key)
        crypto.wipe(key)
    log.open()
    if log.generation != generation:
        key = start.given_key(keys, generation)
        log.renew(generation, key, node.hal.now_s())
        crypto.wipe(key)
    keys.remove(_NEXT)  # the journal has moved on from it, or it is of a provisioning that was cut short
    node.audit.journal = log


def _open_tamper(node):
    vault = node.vault
    node.tamper = Tamper(node, getattr(node.hal.board, "TAMPER", ()))
    generation, policy, _, _ = borrow("recovery").load(node)
    if not vault.generation and (generation or node.audit.keys and node.audit.keys.wiped):
        vault.profile = _SEALED
        node.tamper.refusing = bool(policy & REFUSE) or not generation
    elif vault.latch:
        node.tamper.refusing = bool(vault.policy & REFUSE)
    else:
        return
    if node.tamper.refusing:
        node.assessor = None  # what judges is needed no more, but room for the code that gives new keys
        collect()
    name = bytearray()
    node.attempt("state", node.store.load, FILE, lambda readinto, size: _take(name, readinto, size))
    node.tampered = name.decode() or "keys lost"


def _take(name, readinto, size):
    name.extend(bytes(min(size, 16)))
    readinto(name)


def note_start(audit, facts, faults) -> None:
    """Record the start: BOOT with the reset cause and `facts` (pairs); what of them is new; what failed."""
    node = audit.node
    audit.note(journal.BOOT, [("rst", node.hal.reset_cause())] + facts)
    log = audit.journal
    if log and (log.lost or log.dropped):
        audit.note(journal.ERROR, [("lost", log.lost), ("dropped", log.dropped)])
    for part in faults:
        audit.note(journal.ERROR, [("fault", part)])
    known = " ".join(["%s=%s" % fact for fact in facts]).encode()
    was = bytearray()

    def restore(readinto, size):
        was.extend(bytes(min(size, journal.MAX_PAYLOAD)))
        readinto(was)

    node.attempt("state", node.store.load, _KNOWN, restore)
    if was == known:
        return
    before = bytes(was).split(b" ")
    for fact in known.split(b" "):
        if fact not in before:
            name = fact[:2]
            kind = journal.SOFTWARE if name == b"sw" else journal.CONFIG if name == b"cf" else journal.MODEL
            audit.record(kind, fact)
    try:
        node.store.save(_KNOWN, lambda write: write(known))
    except OSError as error:
        node.report("journal", error)


def _store(node, raw):
    # Raw flash where there is enough of it: it wears least.
    if raw and raw[1] >= _KEY_BLOCKS + _LEAST_RING:
        from .journal_raw import RawStore

        return RawStore(Region(raw[0], _KEY_BLOCKS, raw[1] - _KEY_BLOCKS, raw[2]))
    from .journal_files import FileStore

    return FileStore(_files(), node.hal.root + "journal", tail_bytes=node.hal.inline_bytes)


def _files():
    # What FileStore wants of a file system, as functions of a class, which does not bind them.
    class Files:
        pass

    for name, function in (("open", open), ("ilistdir", os.ilistdir), ("mkdir", os.mkdir), ("remove", os.remove)):
        setattr(Files, name, function)
    return Files
