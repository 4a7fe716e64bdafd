"""The start of the journal: where it lies, its first key, and what the start is remembered by.

Keys and, where there is room for it, the records lie on flash that no file system uses (HAL.raw_flash): its first two
blocks hold the keys, three or more behind them the records. Else the records are files of the file system.

A board without keys of its own starts with generation 0 of LAB_ROOT, which is no secret: its journal shows damage, but
proves nothing about who wrote it.
"""

import os
from binascii import unhexlify

from . import journal
from .audit import WINDOW
from .compat import borrow, const
from .crypto import LAB_ROOT
from .errors import StorageError
from .flash import Region
from .keystore import KeyStore

_KEY_BLOCKS = const(2)
_LEAST_RING = const(3)
_KNOWN = "known.txt"


def open_journal(audit) -> None:
    """Open the key store and the journal of `audit`. Raises StorageError, OSError."""
    node = audit.node
    raw = node.hal.raw_flash()
    if raw is None or raw[1] < _KEY_BLOCKS:
        raise StorageError("raw", "no flash for keys: no journal")
    flash, blocks, prog = raw
    audit.keys = keys = KeyStore(Region(flash, 0, _KEY_BLOCKS, prog))
    keys.open()
    audit.store = store = _store(node, flash, blocks - _KEY_BLOCKS, prog)
    device = device_id(node.hal.uid())
    start = borrow("journal_open")
    if not keys.wiped and start.key_place(keys) is None:
        store.open(device)
        start.stage_key(keys, 0, store.next, journal.first_key(LAB_ROOT, 0))
    log = journal.Journal(store, keys, device, WINDOW)
    log.open()
    audit.journal = log


def device_id(uid: str) -> bytes:
    """The 8 bytes that name a device in its journal, from its unique id in hex."""
    return (unhexlify(uid) + bytes(8))[:8]


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


def _store(node, flash, ring, prog):
    # Raw flash where there is enough of it: it wears least.
    if ring >= _LEAST_RING:
        from .journal_raw import RawStore

        return RawStore(Region(flash, _KEY_BLOCKS, ring, prog))
    from .journal_files import FileStore

    return FileStore(_files(), node.hal.root + "journal", tail_bytes=node.hal.inline_bytes)


def _files():
    # What FileStore wants of a file system, as functions of a class, which does not bind them.
    class Files:
        pass

    for name, function in (("open", open), ("ilistdir", os.ilistdir), ("mkdir", os.mkdir), ("remove", os.remove)):
        setattr(Files, name, function)
    return Files
