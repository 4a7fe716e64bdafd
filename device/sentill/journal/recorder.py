"""The node's journal at work: what it decides becomes a record, what waits is kept in time, and the host can read it.

Records wait in RAM; `piece` does the flash work, one piece of it at a time, whenever the node has nothing better to do.
Nothing here raises: a node whose journal fails goes on judging. What cannot be recorded is counted in `missed`, and the
next record tells how much it was (chain.MISSING); meanwhile the count is in the key store, as entry 7: how many, of
them verdicts, node time of the first and of the last, four u32. An E frame `journal` tells the reason once until it
works again; it is tried again after growing pauses.
"""

from gc import collect
from struct import pack

from sentill.compat import MISSING, borrow, const, ticks_add, ticks_diff, ticks_ms
from sentill.errors import SentillError

from . import chain

_ERRORS = (OSError, SentillError) + MISSING
_MISSED = const(7)  # name in the key store
_FIRST_PAUSE_MS = const(1000)
_SHORT_PAUSE_MS = const(2)
_LAST_PAUSE_MS = const(60_000)
_MOST = const(0x3FFFFFFF)
_VERDICT = const(2)  # chain.VERDICT
_KNOWN = const(4)  # of Audit.lost
_TELLS = const(5)


class Audit:
    """Journal and key store of `node`, None until they are open. node/boot_flash.py fills the attributes in."""

    def __init__(self, node):
        self.node = node
        self.device = b""  # its 8-byte id
        self.keys = None
        self.journal = None
        self.store = None
        self.missed = 0  # records that could not be made
        # Of them, not told yet: how many, verdicts, node time of the first and the last; of how many the key store
        # knows; the record that tells of those before, until it is kept, else -1.
        self.lost = [0, 0, 0, 0, 0, -1]
        self.reading = None  # a pull.Pull while a host reads
        self.why = "reset"  # the code of the latest failure
        self._failing = False
        self._pause_ms = _FIRST_PAUSE_MS
        self._retry = ticks_ms()

    def note(self, kind: int, pairs) -> int:
        """Record pairs as text `key=value`, cut to fit. As `record`."""
        try:
            text = " ".join(["%s=%s" % pair for pair in pairs]).encode()[: chain.MAX_PAYLOAD]
            if self.node.guard(text):
                text = b"(hidden)"
        except MemoryError:
            self.count(kind)
            return -1
        return self.record(kind, text)

    def verdict(self, payload) -> None:
        """As `record` of a VERDICT, on the stack but for its end: MicroPython takes larger frames from the heap."""
        if self.journal:
            try:
                self.journal.append(_VERDICT, self.node.hal.now_s(), payload)
                return
            except _ERRORS:
                pass  # it was not made
        self.record(_VERDICT, payload)

    def record(self, kind: int, payload) -> int:
        """Add a record of at most MAX_PAYLOAD bytes; its sequence number, -1 when it could not be made.

        It waits, but for a kind in chain.SEALING, which is on flash with all before it when this returns.
        """
        log = self.journal
        if log is None:
            self.count(kind)
            return -1
        n = log.next
        try:
            log.append(kind, self.node.hal.now_s(), payload)
        except _ERRORS as error:
            if log.next == n:
                return self._again(log, kind, payload, error)
            self._fail(error)  # a sealing one waits
        return log.next - 1

    def _again(self, log, kind, payload, error):
        # The record could not be made. Once more, when it was for want of room to wait and that can be had.
        if not log.room() and not self._failing:
            self.commit()
            if log.room():
                return self.record(kind, payload)
        self.count(kind)
        if log.room():
            self._fail(error)
        return -1

    def next(self) -> int:
        """The number of the next record if it can be made for sure, -1 if not."""
        log = self.journal
        return log.next if log and log.room() else -1

    def waiting(self) -> int:
        """Records that are not on flash yet."""
        log = self.journal
        return log.next - log.kept if log else 0

    def failing(self) -> bool:
        """Whether records cannot be kept at present."""
        return self._failing or (self.journal is None and not (self.keys and self.keys.wiped))

    def piece(self) -> bool:
        """Do one piece of flash work: at most one erase, and programs within one block. Whether more remains."""
        if self._failing and ticks_diff(self._retry, ticks_ms()) > 0:
            return False
        try:
            return self._work(self.journal)
        except _ERRORS as error:
            self._fail(error)
            return False

    def commit(self) -> None:
        """Keep all that waits, in as many pieces as it takes."""
        if self.journal:
            try:
                self.journal.commit()
                self._works()
            except _ERRORS as error:
                self._fail(error)

    def make_room(self) -> bool:
        """Give a block of records, the oldest, back to the file system; False when the journal keeps what it has."""
        try:
            return self.store is not None and self.store.make_room()
        except _ERRORS as error:
            self._fail(error)
            return False

    def erases(self) -> int:
        """Flash blocks erased by journal and keys since the start."""
        return self.keys.erases + self.store.erases if self.store else 0

    def pull(self, port, start: int) -> list:
        """Send the records from `start` on to `port` with the following `pump`s; pairs of the reply.

        Raises StorageError("state") without a journal.
        """
        if self.reading:
            self.reading = None  # with its code: there is no room for both
            collect()
        if not self._failing:
            self.commit()
        self.reading = borrow("journal", "pull").start(self.store, port, start)
        return self.reading.about()

    def pump(self) -> bool:
        """Send what a host asked for as far as there is room; whether more is to come."""
        if self.reading:
            try:
                if self.reading.pump():
                    return True
            except _ERRORS as error:
                self._fail(error)
            self.reading = None
        return False

    def _work(self, log):
        keys = self.keys
        lost = self.lost
        if keys and keys.wiped:
            return False
        if keys and lost[_TELLS] < 0 and lost[0] > 2 * lost[_KNOWN]:  # seldom: after 1, 3, 7, ... records
            lost[_KNOWN] = lost[0]
            keys.put(_MISSED, pack("<IIII", *lost[:_KNOWN]))
            return True
        if log is None:
            self.node.recover_journal()
            self._works()
            return True
        if 0 <= lost[_TELLS] < log.kept:
            lost[_TELLS] = -1
            lost[_KNOWN] = 0
            keys.remove(_MISSED)
            return True
        if self.reading and log.kept == log.next:
            return False  # what is done ahead would take the oldest records away from whoever reads
        more = log.piece()
        self._works()
        return more or lost[_TELLS] >= 0

    def _works(self):
        self._failing = False
        self._pause_ms = _FIRST_PAUSE_MS
        if self.lost[0] and self.lost[_TELLS] < 0 and self.journal.room():
            borrow("journal", "losses").add(self)

    def count(self, kind: int) -> None:
        """Count a record of `kind` that could not be made; takes no heap."""
        self.missed = min(self.missed + 1, _MOST)
        lost = self.lost
        now = self.node.hal.now_s()
        if not lost[0]:
            lost[2] = now
        lost[0] = min(lost[0] + 1, _MOST)
        lost[1] = min(lost[1] + (kind == chain.VERDICT), _MOST)
        lost[3] = now

    def _fail(self, error):
        first = not self._failing
        self._failing = True
        if isinstance(error, MemoryError):
            collect()  # a heap in pieces looks otherwise a moment later: no reason to wait as for flash
            if first:
                self._pause_ms = _SHORT_PAUSE_MS
        if first:
            self.node.report("journal", error)
        self._retry = ticks_add(ticks_ms(), self._pause_ms)
        most = _FIRST_PAUSE_MS if isinstance(error, MemoryError) else _LAST_PAUSE_MS
        self._pause_ms = min(self._pause_ms * 2, most)
        self.why = error.code if isinstance(error, SentillError) else "flash"
