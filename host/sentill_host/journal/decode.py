"""What a journal record says, for people and for tables."""

import struct
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from sentill.journal import chain
from sentill_host.journal.journal_file import Record

EPOCH = datetime(2024, 1, 1, tzinfo=UTC)
CLOCK_IS_SET_S = 2 * 365 * 86_400  # node time before that, earlier than any node, counts from power-on
VERDICTS = ("approve", "review", "decline")
_VERDICT_BYTES = struct.calcsize(chain.VERDICT_FORMAT)


@dataclass(frozen=True)
class Verdict:
    """A judged transaction: amount in cents, model and card token in hex, reason codes separated by commas."""

    ref: int
    amount_cents: int
    score: int
    verdict: str
    model: str
    card: str
    reasons: str


def date_and_time(node_s: int) -> str:
    """Node time, in seconds since 2024-01-01, as a date and the time of day in UTC."""
    return f"{EPOCH + timedelta(seconds=node_s):%Y-%m-%d %H:%M:%S}"


def when(record: Record) -> str:
    """When a record was made, for people: UTC, or the time since power-on where the node's clock was not set."""
    return _at(record.time)


def _at(node_s: int) -> str:
    if node_s >= CLOCK_IS_SET_S:
        return date_and_time(node_s)
    return f"power-on +{node_s // 3600:02}:{node_s // 60 % 60:02}:{node_s % 60:02}"


def unrecorded(record: Record) -> int:
    """How many records the node says in this one that it could not make; 0 in those of other kinds."""
    count = read(record).fields.get("n", "") if record.kind == chain.MISSING else ""
    return int(count) if count.isdecimal() else 0


@dataclass(frozen=True)
class Entry:
    """A record read: its time (UTC; counted from power-on where the node's clock was not set), and what it tells."""

    record: Record
    at: datetime
    fields: dict[str, str] = field(default_factory=dict)
    verdict: Verdict | None = None
    text: str = ""

    @property
    def proof(self) -> str:
        """Whose key signed it: "device", or "lab", which is no secret."""
        return "device" if self.record.generation else "lab"


def read(record: Record) -> Entry:
    """The entry of a record; one whose payload is not understood has its bytes in hex as text."""
    at = EPOCH + timedelta(seconds=record.time)
    if record.kind == chain.GENERATION and len(record.payload) == 2:
        return Entry(record, at, {"generation": str(record.generation)}, text=f"keys of generation {record.generation}")
    if record.kind == chain.VERDICT and len(record.payload) >= _VERDICT_BYTES:
        ref, amount, score, code, model, card = struct.unpack_from(chain.VERDICT_FORMAT, record.payload)
        word = VERDICTS[code] if code < len(VERDICTS) else str(code)
        reasons = record.payload[_VERDICT_BYTES:].decode("ascii", "replace")
        verdict = Verdict(ref, amount, score, word, model.hex(), card.hex(), reasons)
        text = f"{word} ref {ref} amount {amount / 100:.2f} score {score}" + (f" because {reasons}" if reasons else "")
        return Entry(record, at, {}, verdict, text)
    try:
        text = record.payload.decode("ascii")
    except UnicodeDecodeError:
        return Entry(record, at, {}, text=record.payload.hex())
    fields = _pairs(text)
    return Entry(record, at, fields, text=_loss(fields) or text if record.kind == chain.MISSING else text)


def _loss(fields: dict[str, str]) -> str:
    """A record of kind MISSING in words, "" when it is not understood."""
    count, verdicts, since, until = (fields.get(key, "") for key in ("n", "verdicts", "from", "to"))
    if not all(number.isdecimal() for number in (count, verdicts, since, until)):
        return ""
    why = f", because of {fields['why']}" if fields.get("why") else ""
    what = f"{count} record{'s' * (count != '1')} COULD NOT BE MADE, {verdicts} of them verdicts"
    return f"{what}, {_at(int(since))} to {_at(int(until))}{why}"


def _pairs(text: str) -> dict[str, str]:
    """The `key=value` pairs of a text; a value may hold spaces, a word without `=` goes on with the one before."""
    pairs: dict[str, str] = {}
    key = ""
    for word in text.split(" "):
        name, equals, value = word.partition("=")
        if equals and name.isidentifier():
            key = name
            pairs[key] = value
        elif key:
            pairs[key] += " " + word
    return pairs
