"""The start of keys and journal: where they lie, what they begin with, and what a start is remembered by.

Keys and, where there is room for it, the records lie on flash that no file system uses (HAL.raw_flash): its first two
blocks hold the keys, three or more behind them the records. Else both lie in blocks of the file system's that are
written past it (keys/pinned.py, journal/fs_blocks.py).
"""

import os
from binascii import unhexlify
from gc import collect
from struct import unpack, unpack_from

from sentill import crypto
from sentill.compat import borrow, const
from sentill.errors import StorageError
from sentill.flash import Region
from sentill.journal import chain
from sentill.journal.ring import Ring
from sentill.keys.tamper import FILE, Tamper
from sentill.keys.vault import ERASE, REFUSE, Vault

_SEALED = const(2)
_KEY_BLOCKS = const(2)
_LEAST_RING = const(3)
_LEAST = const(16)  # blocks of the file system that the journal keeps
_MOST = const(128)
_SPARE = const(16)
_GROWTH = const(8)  # that the next version may be larger by
_ENOSPC = const(28)
_KNOWN = "known.txt"
_MISSED = const(7)  # see audit
_ROOT = const(2)  # the kept key in the key store, see vault
_NEXT = const(5)  # the journal's next first key in the key store, see derivation


def open_all(node) -> None:
    """Give `node` its vault, its journal and its tamper detection, with what is there; what is not is a fault."""
    node.audit.device = (unhexlify(node.hal.uid()) + bytes(8))[:8]
    raw = node.hal.raw_flash()
    node.audit.keys = node.attempt("keys", borrow("keys", "location").open_keys, node.hal)
    node.vault = Vault(node.audit.keys)
    borrow("keys", "derivation").load(node.vault, node.audit.keys)
    _open_tamper(node)
    if node.audit.keys:
        _remember(node.audit)
        node.attempt("journal", _open_journal, node, raw)
    if node.vault.latch:
        # Whoever cuts the power in that moment must not keep it out of the journal.
        node.event("tamper", [("by", node.tampered), ("late", True)], chain.TAMPER)
        if node.vault.policy & ERASE:  # the response was cut short
            node.tamper.erase()
    elif node.vault.generation and node.vault.device != node.audit.device:
        node.tamper.trip("board")


def _remember(audit):
    # What the key store knows of records that were lost before this start.
    entry = audit.keys.get(_MISSED)
    if entry:
        lost = unpack("<IIII", entry)
        audit.lost[:5] = list(lost + lost[:1])
        audit.missed = lost[0]


def recover(node) -> None:
    """Open what could not be opened at the start. Raises what stands against it."""
    keys = node.audit.keys or borrow("keys", "location").open_keys(node.hal)
    entry = keys.get(_ROOT)
    generation = unpack_from("<H", entry, 0)[0] if entry else 0
    if entry:
        crypto.wipe(entry)
    if generation != node.vault.generation:  # the journal takes them up at the next start: its first key stays theirs
        raise StorageError("keys", "there are other keys now; restart the node")
    node.audit.keys = node.vault.keys = keys
    _open_journal(node, node.hal.raw_flash())
    for part in ("keys", "journal"):
        if part in node.faults:
            node.faults.remove(part)
    node.event("journal", [("ok", True)])


def _open_journal(node, raw):
    keys = node.audit.keys
    device = node.audit.device
    node.audit.store = store = _store(node, raw)
    log = chain.Journal(store, keys, device)
    generation = node.vault.generation
    start = borrow("journal", "recovery")
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
    generation, policy, _, _ = borrow("keys", "renewal").load(node)
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
    if audit.journal and audit.lost[0]:
        borrow("journal", "losses").add(audit)
    audit.note(chain.BOOT, [("rst", node.hal.reset_cause())] + facts)
    log = audit.journal
    if log and (log.lost or log.dropped):
        audit.note(chain.ERROR, [("lost", log.lost), ("dropped", log.dropped)])
    for part in faults:
        audit.note(chain.ERROR, [("fault", part)])
    known = " ".join(["%s=%s" % fact for fact in facts]).encode()
    was = bytearray()

    def restore(readinto, size):
        was.extend(bytes(min(size, chain.MAX_PAYLOAD)))
        readinto(was)

    node.attempt("state", node.store.load, _KNOWN, restore)
    if was == known:
        return
    before = bytes(was).split(b" ")
    for fact in known.split(b" "):
        if fact not in before:
            name = fact[:2]
            kind = chain.SOFTWARE if name == b"sw" else chain.CONFIG if name == b"cf" else chain.MODEL
            audit.record(kind, fact)
    try:
        node.store.save(_KNOWN, lambda write: write(known))
    except OSError as error:
        node.report("journal", error)


def _store(node, raw):
    # Raw flash where there is enough of it: nobody else can fill it.
    if raw and raw[1] >= _KEY_BLOCKS + _LEAST_RING:
        return Ring(Region(raw[0], _KEY_BLOCKS, raw[1] - _KEY_BLOCKS, raw[2]))
    flash = node.hal.file_flash()
    if not flash:
        raise StorageError("raw", "no flash for the journal")
    blocks = borrow("journal", "fs_blocks")
    files = _calls(), node.hal.root + "journal", node.hal.urandom, _reserve(node), _LEAST, _MOST
    region = blocks.open_region(flash, files)
    try:
        while region.count < _LEAST_RING:
            for _ in blocks.extend(region):
                pass
    except OSError as error:
        if error.args[0] != _ENOSPC:
            raise
        raise StorageError("full", "no room for the journal")
    return Ring(region)


def _reserve(node):
    # Blocks that stay free: for saved state and the like, and for a second slot where there is only one yet.
    names = [entry[0] for entry in os.ilistdir(node.hal.root)]
    images = [os.stat(node.hal.root + name)[6] for name in names if name[:5] == "slot_" and name[6:] == ".img"]
    return _SPARE + (images[0] // 4096 + _GROWTH if len(images) == 1 else 0)


def _calls():
    # What fs_blocks wants of a file system, as functions of a class, which does not bind them.
    class Files:
        pass

    for name in ("ilistdir", "mkdir", "remove", "rename", "statvfs"):
        setattr(Files, name, getattr(os, name))
    setattr(Files, "open", open)
    return Files
