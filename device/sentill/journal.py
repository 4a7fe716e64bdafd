"""The audit trail: a chain of records under a key that moves on, kept in a store that is handed in.

    record: u16 length of all of it, u8 kind, u32 sequence, u32 time (s), payload, 16-byte tag; little-endian
    tag_i = HMAC-SHA256(key_i, tag_i-1 + record without tag), its first 16 bytes
    key_i+1 = SHA-256("next" + key_i)

The tag before the first record is the first half of SHA-256("sentill journal" + device id). Sequence numbers count on
through generations of keys; a record of kind GENERATION carries the new generation (u16) and is the first one made
with that generation's first key, so `first_key` of the root key and a generation lets the host verify all of it.

The payload of a VERDICT is VERDICT_FORMAT: ref, amount (cents), score, verdict (0 approve, 1 review, 2 decline), id of
the model, token of the card; then the reason codes as in the verdict frame, left out when approved. All other payloads
are ASCII text, `key=value` separated by spaces.

A record counts as kept when `append` or `commit` says so: it is then on flash and survives a power cut. The key on
flash moves on after every `key_every` records, and at once after a record of a kind in `sealing`; the former key is
overwritten there and in RAM. Who takes the board can therefore forge at most the last `key_every` - 1 records.

A store (journal_files.FileStore, journal_raw.RawStore) has the sequence numbers `first` and `next`, open(device),
append(records, sequence), which skips what it already has, records(sequence), which yields those from there on,
drop(sequence), which cuts the tail there, tag_before(sequence), head(), the FILE_HEAD of all it holds, and tidy().
"""

from hashlib import sha256
from struct import pack, pack_into

from . import crypto
from .compat import borrow, const
from .errors import StorageError

HEAD = 11
TAG = 16
MAX = 227  # longest record
MAX_PAYLOAD = 200

BOOT = 1
VERDICT = 2
ALERT = 3
HEALTH = 4
CONFIG = 5
MODEL = 6
SOFTWARE = 7
TAMPER = 8
ACCESS = 9
COMMAND = 10
FEEDBACK = 11
GENERATION = 12
RECOVERY = 13
COMPLIANCE = 14
ERROR = 15
MISSING = 16
SEALING = (BOOT, CONFIG, MODEL, SOFTWARE, TAMPER, ACCESS, GENERATION, RECOVERY)

FILE_MAGIC = b"SJL1"
FILE_HEAD = 34  # magic, device id (8), generation u16, its first sequence u32, tag before the first record (16)

VERDICT_FORMAT = "<IIiB4s8s"

_KEY_ENTRY = const(1)  # name in the key store
_KEY_FORMAT = "<HII"


def next_key(key) -> bytes:
    """The key after `key`; there is no way back."""
    h = sha256(b"next")
    h.update(key)
    return h.digest()


def file_head(device, generation: int, start: int, tag) -> bytes:
    """Head of a journal file: FILE_HEAD bytes."""
    return FILE_MAGIC + bytes(device) + pack("<HI", generation, start) + bytes(tag)


class Journal:
    """The chain of `device` (8 bytes) in `store`, its key in `keys` (a keystore.KeyStore). Call `open` first.

    Up to `window` records wait in RAM until they are kept together; 1 keeps every record at once.
    """

    def __init__(self, store, keys, device: bytes, window: int = 1, key_every: int = 10, sealing=SEALING):
        if window < 1 or key_every < 1:
            raise StorageError("window", "window and key_every are 1 or more")
        self.next = 0  # sequence of the next record
        self.kept = 0  # records below this one survive a power cut
        self.lost = 0  # records the key says were kept, but are not there: the tail was cut
        self.dropped = 0  # unacknowledged or foreign records found behind the last whole one at `open`
        self.tag = b""
        self.generation = 0
        self.commits = 0
        self._start = 0
        self._store = store
        self._keys = keys
        self._device = bytes(device)
        self._window = window
        self._key_every = key_every
        self._sealing = sealing
        self._mac = crypto.MAC()
        self._key = bytearray(32)
        self._key_at = 0  # sequence of the key on flash
        self._buf = bytearray(window * 64 + MAX)
        self._view = memoryview(self._buf)
        self._used = 0

    def open(self) -> None:
        """Recover: find the last whole record, drop what a power cut left behind it, bring the key up to date.

        Raises StorageError("keys") without a key, or what the store raises.
        """
        borrow("journal_open").recover(self)

    def append(self, kind: int, time: int, payload=b"") -> bool:
        """Add a record of `kind` (1..255) made at `time` (s since 2024); whether it, and all before it, is kept.

        False means pending: it is kept by `commit`, or with the window's last record. The first record of a new
        generation is added by itself. Raises StorageError("size") for a payload above MAX_PAYLOAD bytes, and what the
        store raises: the record then stays pending.
        """
        if self.next == self._start and kind != GENERATION:
            self.append(GENERATION, time, pack("<H", self.generation))
        n = len(payload)
        if n > MAX_PAYLOAD:
            raise StorageError("size", "a record holds at most %d bytes" % MAX_PAYLOAD)
        if self._used + HEAD + n + TAG > len(self._buf):
            self.commit()
        at = self._used
        body = at + HEAD + n
        buf = self._buf
        pack_into("<HBII", buf, at, HEAD + n + TAG, kind, self.next, time)
        buf[at + HEAD : body] = payload
        tag = self._mac.tag(self.tag, self._view[at:body])[:TAG]
        buf[body : body + TAG] = tag
        self._used = body + TAG
        self._advance(tag)
        if kind in self._sealing or self.next - self.kept >= self._window:
            self.commit()
            if kind in self._sealing:
                self._keep_key()
            return True
        return False

    def room(self) -> int:
        """Bytes of records that can still wait without being kept first."""
        return len(self._buf) - self._used

    def commit(self) -> None:
        """Keep all pending records. Raises what the store raises; they then stay pending."""
        if self._used:
            self._store.append(self._view[: self._used], self.kept)
            self._used = 0
            self.kept = self.next
            self.commits += 1
        if self.next - self._key_at >= self._key_every:
            self._keep_key()

    def renew(self, generation: int, key, time: int) -> None:
        """Go on under the first key of a new `generation`, with a GENERATION record."""
        borrow("journal_open").renew(self, generation, key, time)

    def erase_keys(self) -> None:
        """Overwrite the key in RAM; the key store is wiped by its owner. Nothing can be appended that verifies."""
        crypto.wipe(self._key)
        self._mac.wipe()

    def _advance(self, tag):
        self.tag = tag
        self.next += 1
        self._key[:] = next_key(self._key)
        self._mac.rekey(self._key)

    def _keep_key(self):
        if self._key_at != self.next:
            entry = bytearray(pack(_KEY_FORMAT, self.generation, self._start, self.next) + self._key)
            self._keys.put(_KEY_ENTRY, entry)
            crypto.wipe(entry)
            self._key_at = self.next
