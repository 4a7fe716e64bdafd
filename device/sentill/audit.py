"""The node's journal at work: what it decides becomes a record, what waits is kept in time, and the host can read it.

Nothing here raises: a node whose journal fails goes on judging. What could not be recorded is counted in `missed`, and
an E frame `journal` tells the reason once until it works again.
"""

from . import journal
from .compat import borrow
from .errors import SentillError, StorageError

_ERRORS = (OSError, MemoryError, SentillError)


class Audit:
    """Journal and key store of `node`, None until they are open. audit_open fills the attributes in."""

    window = 4  # records that may wait to be kept together: a page of raw flash, mostly

    def __init__(self, node):
        self.node = node
        self.device = b""  # its 8-byte id
        self.keys = None
        self.journal = None
        self.store = None
        self.missed = 0  # records that could not be made
        self.reading = None  # an audit_pull.Pull while a host reads
        self._failing = False

    def note(self, kind: int, pairs) -> int:
        """Record pairs as text `key=value`, cut to fit. As `record`."""
        text = " ".join(["%s=%s" % pair for pair in pairs]).encode()[: journal.MAX_PAYLOAD]
        return self.record(kind, b"(hidden)" if self.node.guard(text) else text)

    def record(self, kind: int, payload) -> int:
        """Add a record of at most MAX_PAYLOAD bytes; its sequence number, -1 when it could not be made."""
        log = self.journal
        if log is None:
            self._miss()
            return -1
        n = log.next
        try:
            self._rewind()
            log.append(kind, self.node.hal.now_s(), payload)
            self._failing = False
        except _ERRORS as error:
            self._fail(error)
        if log.next == n:
            self._miss()
            return -1
        return log.next - 1

    def next(self) -> int:
        """The number of the next record if it can be made for sure, -1 if not."""
        log = self.journal
        return log.next if log and log.room() >= journal.MAX else -1

    def commit(self) -> None:
        """Keep what waits, and tidy up when nothing does."""
        log = self.journal
        if log is None:
            return
        try:
            if log.kept < log.next:
                self._rewind()
                log.commit()
                self._failing = False
            elif self.reading is None:
                self.store.tidy()
        except _ERRORS as error:
            self._fail(error)

    def failing(self) -> bool:
        """Whether records cannot be kept at present."""
        return self._failing or self.journal is None

    def erases(self) -> int:
        """Flash blocks erased by journal and keys since the start; on a file system an estimate, 1 in 4 commits."""
        log = self.journal
        return self.keys.erases + getattr(self.store, "erases", log.commits // 4) if log else 0

    def pull(self, port, start: int) -> list:
        """Send the records from `start` on to `port` with the following `pump`s; pairs of the reply.

        Raises StorageError("state") without a journal.
        """
        if self.store is None:
            raise StorageError("state", "this node keeps no journal; see its faults")
        self.commit()
        self._rewind()
        self.reading = borrow("audit_pull").Pull(self, port, start)
        return self.reading.about()

    def pump(self) -> bool:
        """Send what a host asked for as far as there is room; whether more is to come."""
        if self.reading:
            try:
                if self.reading.pump():
                    return True
            except _ERRORS as error:
                self._fail(error)
            self._rewind()
            self.reading = None
        return False

    def _rewind(self):
        if self.reading:
            self.reading.rewind()

    def _miss(self):
        if self.missed < 0x3FFFFFFF:
            self.missed += 1

    def _fail(self, error):
        if not self._failing:
            self._failing = True
            self.node.report("journal", error)
