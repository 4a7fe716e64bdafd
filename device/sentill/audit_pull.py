"""A host reads the journal: its records as A frames, at the pace of the line (protocol.py tells their fields)."""

from binascii import b2a_base64
from struct import unpack_from

from .compat import const

_PART = const(120)  # bytes of a record per A frame
_ROOM = const(960)  # two A frames, and what events and replies may need meanwhile


class Pull:
    """The records of `audit` from `start` on, to `port`, until all that is kept has been sent."""

    def __init__(self, audit, port, start: int):
        self._audit = audit
        self._port = port
        self._at = min(max(start, audit.store.first), audit.store.next)
        self._tail = None

    def about(self) -> list:
        """Pairs of the reply to the command."""
        store = self._audit.store
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
        port = self._port
        while port.room() >= _ROOM:
            record = None
            if self._at < self._audit.store.next:
                if self._tail is None:
                    self._tail = self._audit.store.records(self._at)
                record = next(self._tail, None)
            if record is None:
                port.send("A", [("n", self._at), ("end", True)])
                return False
            self._at = unpack_from("<I", record, 3)[0]  # more than asked for where records are missing
            for at in range(0, len(record), _PART):
                part = _base64(record[at : at + _PART])
                port.send("A", [("n", self._at), ("at", at), ("of", len(record)), ("d", part)])
            self._at += 1
        return True

    def rewind(self) -> None:
        """Close what is open: the store is about to change."""
        if self._tail is not None:
            self._tail.close()
            self._tail = None


def _base64(data) -> str:
    return b2a_base64(data)[:-1].decode()
