"""A host reads the journal: its records as A frames, at the pace of the line (wire/protocol.py tells their fields)."""

from binascii import b2a_base64

from sentill.compat import const, kernels
from sentill.errors import StorageError
from sentill.wire.protocol import MAX
from sentill.wire.reader import CRC_TABLE

_WHOLE = const(141)  # bytes of whole records per A frame
_PART = const(126)  # bytes of a longer record's part
_ROOM = const(960)  # two A frames, and what events and replies may need meanwhile
# Frames up to their data, see values.fill: with q, n, at, of.
_RECORDS = b'#A {"q":\x01,"n":\x0a,"d":"\0'
_PIECE = b'#A {"q":\x01,"n":\x0a,"at":\x03,"of":\x04,"d":"\0'
_LAST = b'#A {"q":\x01,"n":\x0a,"end":true}\0'


def start(store, port, at: int):
    """A Pull of the records from `at` on. Raises StorageError("state") without a journal."""
    if store is None:
        raise StorageError("state", "this node keeps no journal; see its faults")
    return Pull(store, port, at)


class Pull:
    """The records of `store` from `start` on, to `port`, until all that is kept has been sent."""

    def __init__(self, store, port, start: int):
        self._store = store
        self._port = port
        self._at = min(max(start, store.first), store.next)
        self._reader = store.reader(self._at)
        self._record = None  # read and not sent yet
        # Written as bytes: MicroPython looks for each new str among all names there are.
        self._values = kernels("wire", "values")
        self._numbers = self._values.numbers(4)
        self._finish = kernels("wire", "scan").finish
        self._line = memoryview(bytearray(MAX))

    def about(self) -> list:
        """Pairs of the reply to the command."""
        store = self._store
        kept = store.next
        return [
            ("first", store.first),
            ("next", kept),
            ("from", self._at),
            ("head", _base64(store.head())),
            ("tag", _base64(store.tag_before(kept))),
        ]

    def pump(self) -> bool:
        """Send what the port has room for; whether more is to come. Raises what the store raises."""
        while self._port.room() >= _ROOM:
            if not self._send():
                return False
        return True

    def _send(self) -> bool:
        # One frame of whole records, or a long one in parts.
        record = self._next()
        if record is None:
            self._frame(_LAST, self._at)
            return False
        self._record = None
        self._at = first = self._reader.sequence  # more than asked for where records are missing
        size = len(record)
        if size > _WHOLE:
            for at in range(0, size, _PART):
                self._numbers[2] = at
                self._numbers[3] = size
                self._frame(_PIECE, first, record[at : at + _PART])
            self._at += 1
            return True
        while True:
            self._at += 1
            more = self._next()
            if more is None or self._reader.sequence != self._at or len(record) + len(more) > _WHOLE:
                break
            record += more
            self._record = None
        self._frame(_RECORDS, first, record)
        return True

    def _frame(self, form, n, data=b""):
        line = self._line
        self._numbers[0] = self._port.next_q()
        self._numbers[1] = n
        at = self._values.fill(line, 0, form, self._numbers)
        if data:
            text = b2a_base64(data)
            at = self._values.put(line, at, text, len(text) - 1)
            line[at : at + 2] = b'"}'
            at += 2
        self._port.put(line, self._finish(line, at, CRC_TABLE))

    def _next(self):
        # The next record, which stays in _record until it is sent; None at the end.
        if self._record is None and self._reader.step():
            self._record = self._reader.record()
        return self._record


def _base64(data) -> str:
    return b2a_base64(data)[:-1].decode()
