"""Pull a node's journal over its port: only what is new, and only what goes on from what was pulled before.

The node sends records as A frames after the command `audit` (sentill.wire.protocol). Frames that got lost are asked for
again; what has arrived is on the disk when the port goes away, and the next pull goes on behind it. The last record
held is read once more: a node that shows another one there has another past than it had.
"""

import base64
import binascii
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sentill.journal import chain
from sentill.wire import protocol
from sentill_host import user_files
from sentill_host.errors import LinkError, VerifyError
from sentill_host.journal import ledger
from sentill_host.journal.journal_file import Head, read_head
from sentill_host.journal.store import Appender, Last, Terminal
from sentill_host.node.client import NodeClient
from sentill_host.node.frames import Frame

_SILENCE_S = 5.0
_ATTEMPTS = 5
_SYNC_EVERY = 256  # records

# Called with the number of records pulled and how many there are.
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Pulled:
    """What a pull brought: the new records, numbered `start`..`end` - 1.

    `gone` of them before it gave way on the node before they were pulled, `missing` among them the node does not have.
    """

    uid: str
    start: int
    end: int
    gone: int
    missing: int

    @property
    def count(self) -> int:
        """How many records are new."""
        return self.end - self.start - self.missing


@dataclass(frozen=True)
class Offer:
    """What the node answers to `audit`: the records it holds (first..next-1), where A frames begin, head, last tag."""

    first: int
    next: int
    start: int
    head: bytes
    tag: bytes

    @property
    def parsed(self) -> Head:
        """The head, read."""
        return read_head(self.head)


def ask(client: NodeClient, start: int) -> Offer:
    """Have the node send its records from `start` on. Raises LinkError when it has none, refuses or is silent."""
    fields = client.command("audit", timeout_s=_SILENCE_S, **{"from": start})
    try:
        head, tag = _binary(fields["head"]), _binary(fields["tag"])
        offer = Offer(fields["first"], fields["next"], fields["from"], head, tag)
        if not 0 <= offer.first <= offer.start <= offer.next or len(tag) not in (0, chain.TAG):
            raise ValueError("its numbers are out of order")
        if len(head) != chain.FILE_HEAD or not head.startswith(chain.FILE_MAGIC):
            raise ValueError("its head is none")
    except (KeyError, TypeError, ValueError) as error:
        raise VerifyError(f"{client.link.port}: what the node says of its journal makes no sense: {error}") from None
    return offer


def identify(client: NodeClient) -> str:
    """The uid of the node's journal: its device id in hex."""
    return ask(client, protocol.MAX_INT).parsed.device.hex()


def pull(client: NodeClient, terminal: Terminal, progress: Progress | None = None) -> Pulled:
    """Append the records of the node at `client` that `terminal` does not hold yet.

    Raises VerifyError when the node is another one, or its journal does not go on from what was pulled before (what
    was pulled stays as it is); LinkError, PortGone when the line fails, with all that came kept for the next pull;
    UsageError, PlatformError when it cannot be written. The ledger tells of pulls, and of those refused for the former.
    """
    try:
        return _pull(client, terminal, progress)
    except VerifyError as error:
        terminal.ledger.append(ledger.REFUSED, uid=terminal.uid, why=str(error))
        raise


def _pull(client: NodeClient, terminal: Terminal, progress: Progress | None) -> Pulled:
    port = client.link.port
    last = terminal.last()
    offer = ask(client, last.sequence if last else 0)
    if offer.parsed.device != terminal.device:
        raise VerifyError(
            f"{port}: wrong device: the journal there is of {offer.parsed.device.hex()}, not {terminal.uid}",
            "plug in the right board, or leave --device out",
        )
    noted = terminal.checkpoints()
    seen = max([last.sequence if last else -1, *(int(line["sequence"]) for line in noted)])
    if offer.next <= seen:
        raise VerifyError(
            f"{port}: the node's journal ends at record {offer.next - 1}, but record {seen} was pulled before",
            "its tail was cut or its flash replaced: inspect the terminal; where the board was erased on purpose (or a "
            f"virtual one made anew), move {terminal.folder} away",
        )
    fresh = last is None or offer.start > last.sequence
    start = offer.start if last is None or fresh else last.sequence + 1
    gone = start - last.sequence - 1 if last else 0
    try:
        with terminal.append(offer.head if fresh else None) as target:
            reader = _Reader(client, target, None if fresh else last, offer, progress)
            try:
                reader.run()
            finally:
                target.sync()
                if reader.last and (reader.complete or reader.last is not last):
                    span = {"start": start, "gone": gone, "missing": reader.missing}
                    held = {"generation": offer.parsed.generation, "first": offer.first, "next": offer.next}
                    terminal.note(reader.last, **span, **held)
    except OSError as error:
        raise user_files.failure(f"cannot write {terminal.folder}", error) from None
    return Pulled(terminal.uid, start, max(start, reader.expected), gone, reader.missing)


class _Reader:
    """Takes A frames in from the first of `offer` on; `known` is that record when it is held already."""

    def __init__(
        self, client: NodeClient, target: Appender, known: Last | None, offer: Offer, progress: Progress | None
    ):
        self.expected = self._begin = offer.start
        self.last = known
        self.missing = 0
        self.complete = False
        self._known = known
        self._client = client
        self._target = target
        self._offer = offer
        self._progress = progress
        self._part = b""
        self._unsynced = 0
        self._jump = (0, 0)  # a number that came in place of the expected one, and how often in a row

    def run(self) -> None:
        """Read to the end of what the node keeps. Raises LinkError, VerifyError."""
        port, failures = self._client.link.port, 0
        while True:
            before = self.expected
            if self._read():
                break
            failures = failures + 1 if self.expected == before else 1
            if failures > _ATTEMPTS:
                raise LinkError(
                    f"{port}: the journal does not come through", "check the cable; what came is kept, run this again"
                )
            self._part = b""
            self._offer = ask(self._client, self.expected)
            if self._offer.start != self.expected:
                raise VerifyError(f"{port}: record {self.expected} gave way meanwhile", "run this again")
        offer = self._offer
        if self.last and offer.next - 1 == self.last.sequence and offer.tag and offer.tag != self.last.tag:
            raise VerifyError(f"{port}: the last record is not the one the node speaks of", "inspect the terminal")
        self.complete = True

    def _read(self) -> bool:
        """Read until the end (True), or until frames are missing or nothing comes (False)."""
        deadline = time.monotonic() + _SILENCE_S
        first = True
        while (left := deadline - time.monotonic()) > 0:
            item = self._client.receive(left)
            if not isinstance(item, Frame) or item.kind != "A":
                continue
            deadline = time.monotonic() + _SILENCE_S
            fields = item.fields
            n = fields.get("n")
            if fields.get("end"):
                return n == self.expected
            if n != self.expected and not (first and self._jumps(fields)):
                return False
            if fields.get("at", 0) != len(self._part):
                return False
            first = False
            self._take(fields)
            if self._progress:
                self._progress(self.expected - self._begin, max(self._offer.next - self._begin, 1))
        return False

    def _jumps(self, fields: dict[str, Any]) -> bool:
        """Whether records are missing on the node: asked for one, it begins with a later one, time and again."""
        n = fields.get("n")
        if not isinstance(n, int) or n < self.expected or fields.get("at", 0) != 0:
            return False
        self._jump = (n, self._jump[1] + 1 if self._jump[0] == n else 1)
        if self._jump[1] < _ATTEMPTS - 1:
            return False
        self.missing += n - self.expected
        self.expected = n
        return True

    def _take(self, fields: dict[str, Any]) -> None:
        try:
            data = _binary(fields["d"])
        except (KeyError, ValueError):
            raise self._nonsense() from None
        size = fields.get("of")
        if size is None:
            while data:
                size = int.from_bytes(data[:2], "little")
                self._add(data[:size], size)
                data = data[size:]
            return
        self._part += data
        if not isinstance(size, int) or size > chain.MAX or len(self._part) > size:
            raise self._nonsense()
        if len(self._part) == size:
            record, self._part = self._part, b""
            self._add(record, size)

    def _add(self, record: bytes, size: int) -> None:
        if not chain.HEAD + chain.TAG <= size <= chain.MAX or len(record) != size:
            raise self._nonsense()
        if struct.unpack_from("<HxI", record) != (size, self.expected):
            raise self._nonsense()
        if self._known and self._known.sequence == self.expected:
            if record != self._known.record:
                raise VerifyError(
                    f"{self._client.link.port}: record {self.expected} differs from the one pulled before",
                    "the node's past was rewritten, or it is another board with the same id; inspect the terminal",
                )
        else:
            self._target.add(self.expected, record)
            self.last = Last(self.expected, record)
            self._unsynced += 1
            if self._unsynced >= _SYNC_EVERY:
                self._target.sync()
                self._unsynced = 0
        self.expected += 1

    def _nonsense(self) -> VerifyError:
        return VerifyError(f"{self._client.link.port}: record {self.expected} is malformed on the node")


def _binary(text: Any) -> bytes:
    if not isinstance(text, str):
        raise ValueError("no text")
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from None
