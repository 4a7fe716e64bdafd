"""The audit trail: a chain of records under a key that moves on, kept in a store that is handed in.

    record: u16 length of all of it, u8 kind, u32 sequence, u32 time (s), payload, 16-byte tag; little-endian
    tag_i = HMAC-SHA256(key_i, tag_i-1 + record without tag), its first 16 bytes
    key_i+1 = SHA-256("next" + key_i)

The tag before the first record is the first half of SHA-256("sentill journal" + device id). Sequence numbers count on
through generations of keys; a record of kind GENERATION carries the new generation (u16) and is the first one made
with that generation's first key, so `first_key` of the root key and a generation lets the host verify all of it.
Numbers jump where records that were kept are gone: what follows is chained to the last one that is there.

The payload of a VERDICT is VERDICT_FORMAT: ref, amount (cents), score, verdict (0 approve, 1 review, 2 decline), id of
the model, token of the card; then the reason codes as in the verdict frame, left out when approved. All other payloads
are ASCII text, `key=value` separated by spaces. MISSING tells how many records could not be made (`n`), how many of
them were verdicts, between which times, and why.

A record waits in RAM, signed, until `piece` or `commit` has put it on flash: `kept` says up to where. The key on flash
moves on after `key_every` records, and at once after a record of a kind in `sealing`; the former key is overwritten
there and in RAM. Who takes the board can therefore forge at most the records that wait and `key_every` - 1 more.

The store is a ring.Ring. What waits lies in RAM as it does there: each record starts at a slot of 64 bytes.
"""

from struct import pack, pack_into

from sentill import crypto
from sentill.compat import borrow, const
from sentill.crypto import next_key
from sentill.errors import StorageError

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
_KEY_BYTES = const(42)
_HEAD = const(11)
_TAG = const(16)
_SLOT = const(64)
_BLANK = b"\xff" * 64
_LONGEST = const(256)  # bytes of slots that the longest record takes
_MOST_WAIT = const(24)
_LAST = const(_MOST_WAIT * _SLOT)  # where the buffer has room for a record
_MANY = const(8)


def file_head(device, generation: int, start: int, tag) -> bytes:
    """Head of a journal file: FILE_HEAD bytes."""
    return FILE_MAGIC + bytes(device) + pack("<HI", generation, start) + bytes(tag)


def slots(size: int) -> int:
    """Bytes of the slots that a record of `size` bytes takes."""
    return size + _SLOT - 1 & -_SLOT


class Journal:
    """The chain of `device` (8 bytes) in `store`, its key in `keys` (a store.KeyStore). Call `open` first."""

    def __init__(self, store, keys, device: bytes, key_every: int = 10, sealing=SEALING):
        if key_every < 1:
            raise StorageError("window", "key_every is 1 or more")
        self.next = 0  # sequence of the next record
        self.kept = 0  # records below this one survive a power cut
        self.lost = 0  # records the key says were kept, but are not there: the tail was cut
        self.dropped = 0  # unacknowledged or foreign records found behind the last whole one at `open`
        self.tag = bytearray(TAG)
        self.generation = 0
        self._start = 0
        self._store = store
        self._keys = keys
        self._device = bytes(device)
        self._key_every = key_every
        self._sealing = 0  # a bit for each kind
        for kind in sealing:
            self._sealing |= 1 << kind
        self._mac = crypto.mac()
        self._key = bytearray(32)
        self._key_at = 0  # sequence of the key on flash
        self._buf = bytearray(b"\xff" * (_MOST_WAIT * _SLOT + _LONGEST))  # set but for records, as blank flash is
        self._view = memoryview(self._buf)
        self._low = 0  # what waits is between the two
        self._high = 0

    def open(self) -> None:
        """Recover: find the last whole record, drop what a power cut left behind it, bring the key up to date.

        Raises StorageError("keys") without a key, or what the store raises.
        """
        borrow("journal", "recovery").recover(self)

    def append(self, kind: int, time: int, payload=b"") -> bool:
        """Add a record of `kind` (1..255) made at `time` (s since 2024); whether it, and all before it, is kept.

        False means that it waits, as those of a kind not in `sealing` do. The first record of a new generation is added
        by itself. Raises StorageError: "size" for a payload above MAX_PAYLOAD bytes, "full" when there is no room to
        wait; then there is no such record. Raises what the store raises when a sealing kind cannot be kept: it waits.
        """
        if self.next == self._start and kind != GENERATION:
            self.append(GENERATION, time, pack("<H", self.generation))
        n = len(payload)
        if n > MAX_PAYLOAD:
            raise StorageError("size", "a record holds at most %d bytes" % MAX_PAYLOAD)
        at = self._high
        if self.next - self.kept >= _MOST_WAIT:
            at = -1
        elif at > _LAST:
            at = self._move() if self._low >= _LONGEST else -1
        if at < 0:
            raise StorageError("full", "too many records wait for the flash")
        buf = self._buf
        pack_into("<HBII", buf, at, n + (_HEAD + _TAG), kind, self.next, time)
        buf[at + _HEAD : at + _HEAD + n] = payload
        self._mac.chain(self._key, self.tag, buf, at)
        self._high = at + n + (_HEAD + _TAG + _SLOT - 1) & -_SLOT
        self.next += 1
        if self._sealing >> kind & 1:
            self.commit()
            self._keep_key()
            return True
        return False

    def room(self) -> bool:
        """Whether another record can wait."""
        return self.next - self.kept < _MOST_WAIT and (self._high <= _LAST or self._low >= _LONGEST)

    def piece(self) -> bool:
        """Do one piece of flash work: at most one erase, and programs within one block. Whether more remains.

        Raises what store and key store raise; what waits then still does.
        """
        store = self._store
        if self._low == self._high:
            if self.next - self._key_at >= self._key_every:
                if not self._keys.ready(_KEY_BYTES):
                    return True
                self._keep_key()
                return False
            return store.tidy()
        waits = self.next - self.kept
        # In steady traffic there is no moment at which nothing waits.
        if _MANY <= waits <= 2 * _MANY and store.tidy():
            return True
        if not store.room(self.kept, self._buf[self._low] | self._buf[self._low + 1] << 8):
            store.advance(self.kept)
            return True
        self._flush()
        if self._low < self._high:
            return True
        if self.next - self._key_at >= self._key_every and self._keys.room(_KEY_BYTES):
            self._keep_key()
        return True

    def commit(self) -> None:
        """Keep all that waits, in as many pieces as it takes. Raises what the store raises; the rest still waits."""
        while self._low < self._high:
            self.piece()
        if self.next - self._key_at >= self._key_every:
            self._keep_key()

    def renew(self, generation: int, key, time: int) -> None:
        """Go on under the first key of a new `generation`, with a GENERATION record."""
        borrow("journal", "recovery").renew(self, generation, key, time)

    def erase_keys(self) -> None:
        """Overwrite the key in RAM; the key store is wiped by its owner. Nothing can be appended that verifies."""
        crypto.wipe(self._key)
        self._mac.wipe()

    def _move(self):
        # What waits to the beginning; its end.
        n = self._high - self._low
        end = self._high
        self._buf[:n] = self._view[self._low : end]
        self._low = 0
        self._high = n
        self._clear(n, end)
        return n

    def _clear(self, at, end):
        while at < end:
            self._buf[at : at + _SLOT] = _BLANK
            at += _SLOT

    def _advance(self):
        self.next += 1
        self._key[:] = next_key(self._key)
        self._mac.rekey(self._key)

    def _flush(self):
        # One program, or two in a fresh block.
        low = self._low
        n = self._store.write(self._view[low : self._high], self.kept)
        # First of all: what is on flash must not be written again, whatever comes.
        self._low += n
        self.kept = self._store.next
        if self._low == self._high:
            self._low = self._high = 0
        self._clear(low, low + n)

    def _keep_key(self):
        # Only when nothing waits: the key must not be ahead of the records.
        if self._key_at != self.next and self._low == self._high:
            entry = bytearray(pack(_KEY_FORMAT, self.generation, self._start, self.next) + self._key)
            self._keys.put(_KEY_ENTRY, entry)
            crypto.wipe(entry)
            self._key_at = self.next
