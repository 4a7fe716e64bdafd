"""A journal file: its head, and the records in it as they lie there. Nothing is proven here; verify.py does that."""

import struct
from dataclasses import dataclass

from sentill.journal import chain, recovery
from sentill_host.errors import UsageError

KINDS = {
    getattr(chain, name.upper()): name
    for name in (
        *("boot", "verdict", "alert", "health", "config", "model", "software", "tamper", "access", "command"),
        *("feedback", "generation", "recovery", "compliance", "error", "missing"),
    )
}

# Fewest bytes of a record.
LEAST = chain.HEAD + chain.TAG


@dataclass(frozen=True)
class Record:
    """One record; `time` in seconds since 2024-01-01 UTC."""

    sequence: int
    kind: int
    time: int
    payload: bytes
    tag: bytes
    generation: int = 0

    @property
    def name(self) -> str:
        """The kind as a word, or its number."""
        return KINDS.get(self.kind, str(self.kind))


@dataclass(frozen=True)
class Head:
    """Head of a journal file."""

    device: bytes
    generation: int
    start: int
    tag: bytes


def read_head(data: bytes) -> Head:
    """Head of a journal file. Raises UsageError when it is none."""
    if len(data) < chain.FILE_HEAD or not data.startswith(chain.FILE_MAGIC):
        raise UsageError("this is no journal file", "journal files begin with SJL1; `sentill journal pull` writes them")
    generation, start = struct.unpack_from("<HI", data, 12)
    return Head(data[4:12], generation, start, data[18 : chain.FILE_HEAD])


def generations(data: bytes) -> set[int]:
    """The generations of keys that a journal file speaks of, whether rightly or not."""
    found = {read_head(data).generation} if len(data) > chain.FILE_HEAD else set()
    at = chain.FILE_HEAD
    while size := length_at(data, at):
        body = data[at : at + size - chain.TAG]
        if (generation := renewal(body)) is not None:
            found.add(generation)
        at += size
    return found


def renewal(body: bytes) -> int | None:
    """The generation of keys that the record `body` begins, None when it is another record."""
    if len(body) == chain.HEAD + 2 and body[2] == chain.GENERATION:
        return int(struct.unpack_from("<H", body, chain.HEAD)[0])
    return None


def length_at(data: bytes, at: int) -> int:
    """Length of the record at `at`, 0 when that is impossible."""
    size = data[at] | data[at + 1] << 8 if at + 2 <= len(data) else 0
    return size if chain.HEAD + chain.TAG <= size <= chain.MAX else 0


def sequence_at(data: bytes, at: int, whole: bool = True) -> int | None:
    """Sequence number of the record at `at`, None when there is no (whole) head."""
    if at + (chain.HEAD if whole else 7) > len(data):
        return None
    return int(struct.unpack_from("<I", data, at + 3)[0])


def read_record(data: bytes) -> Record:
    """The record that `data` is. Raises StorageError."""
    kind, sequence, time, payload = recovery.parse(data)
    return Record(sequence, kind, time, bytes(payload), data[-chain.TAG :])


def find(data: bytes, at: int, sequence: int) -> int | None:
    """Offset, from `at` on, of what looks like the record `sequence`."""
    mark = struct.pack("<I", sequence)
    found = data.find(mark, at + 3)
    while found >= 0:
        size = length_at(data, found - 3)
        end = found - 3 + size
        if size and (end == len(data) or length_at(data, end)):
            return found - 3
        found = data.find(mark, found + 1)
    return None
