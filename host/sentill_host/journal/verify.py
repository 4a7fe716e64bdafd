"""Verify a journal: name the first bad record and the kind of fault.

A journal file is the FILE_HEAD of sentill.journal.chain followed by records. Its head is not signed: device, generation
and previous tag are hints that only verify when they are right. What proves a record is its tag under the key that was
the device's at that sequence number, derived here from the device's root key.
"""

import hashlib
import hmac
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from statistics import mode

from sentill.crypto import LAB_ROOT
from sentill.journal import chain as journal
from sentill.journal import recovery
from sentill_host.errors import UsageError
from sentill_host.journal.journal_file import (
    LEAST,
    Head,
    Record,
    find,
    length_at,
    read_head,
    read_record,
    renewal,
    sequence_at,
)

# A key stolen after the last record signs a forged one. How many keys beyond those of the records in the file, and how
# many at most, are tried to tell that from a plain alteration; and of how many later generations.
KEYS_BEYOND = 64
LATER_KEYS = 5000
LATER_GENERATIONS = 2
# Records of one generation that are followed. What a head or a number says beyond that is not believed.
MOST_KEYS = 1 << 24
# Root key of a device's journal: one for all generations, or a function from the generation to it (None: not at hand).
Root = bytes | Callable[[int], bytes | None]


def lab_root(generation: int) -> bytes | None:
    """The root key of a board that has been given none. It is no secret."""
    return LAB_ROOT if generation == 0 else None


class Fault(StrEnum):
    """What is wrong with a journal."""

    ALTERED = "altered"
    MISSING = "missing"
    REORDERED = "reordered"
    TRUNCATED = "truncated"
    WRONG_DEVICE = "wrong device"
    FORGED = "forged after key theft"


@dataclass(frozen=True)
class Checkpoint:
    """A record known to have existed: its sequence number and tag, from an earlier pull or an A frame."""

    sequence: int
    tag: bytes


@dataclass(frozen=True)
class Finding:
    """The first bad record: its sequence number as it should be, its offset in the file, the fault, and details."""

    sequence: int
    offset: int
    fault: Fault
    detail: str


@dataclass(frozen=True)
class Report:
    """Outcome of a verification: the device, the records proven, and the first fault if there is one."""

    device: bytes
    records: list[Record]
    finding: Finding | None

    @property
    def checkpoint(self) -> Checkpoint | None:
        """The last proven record."""
        return Checkpoint(self.records[-1].sequence, self.records[-1].tag) if self.records else None


class _Chain:
    """The keys of one generation. Every STRIDE-th is remembered, and all of the stretches in use."""

    STRIDE = 1024
    STRETCHES = 16

    def __init__(self, first: bytes):
        self._marks = [first]
        self._stretches: dict[int, list[bytes]] = {}

    def at(self, distance: int) -> bytes:
        """The key of the record `distance` records after the generation's first."""
        number, rest = divmod(distance, self.STRIDE)
        while len(self._marks) <= number:
            key = self._marks[-1]
            for _ in range(self.STRIDE):
                key = hashlib.sha256(b"next" + key).digest()
            self._marks.append(key)
        stretch = self._stretches.get(number)
        if stretch is None:
            if len(self._stretches) >= self.STRETCHES:
                self._stretches.clear()
            stretch = self._stretches[number] = [self._marks[number]]
        while len(stretch) <= rest:
            stretch.append(hashlib.sha256(b"next" + stretch[-1]).digest())
        return stretch[rest]


@lru_cache(maxsize=256)
def _keys(root: bytes, generation: int) -> _Chain:
    return _Chain(recovery.first_key(root, generation))


def _chain(root: Root, generation: int) -> _Chain | None:
    """The keys of a generation, None when its root key is not at hand."""
    secret = root(generation) if callable(root) else root
    return _keys(secret, generation) if secret is not None else None


def tag(key: bytes, previous: bytes, body: bytes) -> bytes:
    """Tag of the record `body` (without tag) after a record tagged `previous`."""
    return hmac.digest(key, previous + body, "sha256")[: journal.TAG]


def verify(
    data: bytes,
    roots: Mapping[bytes, Root],
    checkpoints: tuple[Checkpoint, ...] = (),
    device: bytes | None = None,
) -> Report:
    """Check the journal file `data` against the root keys of devices (by 8-byte id) and against checkpoints.

    `device` is the one the journal should be of; by default the one its head names. Raises UsageError when the file is
    no journal or the device's root key is not at hand.
    """
    head = read_head(data)
    expected = head.device if device is None else device
    if expected not in roots:
        raise UsageError(f"no key for device {expected.hex()}", "name the key file of the fleet with --keys")
    return _Verifier(data, head, expected, roots).run(checkpoints)


class _Verifier:
    def __init__(self, data: bytes, head: Head, device: bytes, roots: Mapping[bytes, Root]):
        self.data = data
        self.head = head
        self.device = device
        self.roots = roots
        self.root = roots[device]
        self.generation = head.generation
        self.start = head.start
        self.records: list[Record] = []

    def run(self, checkpoints: tuple[Checkpoint, ...]) -> Report:
        data, device = self.data, self.device
        if self.head.device != device:
            detail = f"the head names device {self.head.device.hex()}, not {device.hex()}"
            return self._bad(0, journal.FILE_HEAD, Fault.WRONG_DEVICE, detail)
        at, previous = journal.FILE_HEAD, self.head.tag
        sequence = sequence_at(data, at)
        if sequence is not None:
            if previous == recovery.first_tag(device):
                sequence = 0
            elif not self._proves(at, previous, sequence):
                # The first number is not known and may be what was altered; those of the next records tell.
                sequence = self._first_number(at)
        while at < len(data):
            if sequence is None:
                return self._bad(self._next(), at, Fault.TRUNCATED, "less than a record is left")
            if not self._proves(at, previous, sequence):
                return self._name(at, previous, sequence)
            size = length_at(data, at)
            record = read_record(data[at : at + size])
            self._take(record)
            at, previous = at + size, record.tag
            sequence = record.sequence + 1
        return self._against(checkpoints)

    def _first_number(self, at: int) -> int:
        """What the number of the first record, which is not right as it is, should be, going by those that follow."""
        numbers: list[int] = []
        place = at
        while (number := sequence_at(self.data, place)) is not None and (size := length_at(self.data, place)):
            numbers.append(number)
            place += size
        if not numbers:
            return sequence_at(self.data, at) or 0
        likely = mode(max(0, number - i) for i, number in enumerate(numbers[:9]))
        # Either this record's number was altered, or the record stands elsewhere.
        if likely in numbers[1:] or self._proves(at, self.head.tag, likely, repair=True):
            return likely
        return numbers[0]

    def _next(self) -> int:
        return self.records[-1].sequence + 1 if self.records else 0

    def _take(self, record: Record) -> None:
        if record.kind == journal.GENERATION and len(record.payload) == 2:
            self.generation, self.start = struct.unpack("<H", record.payload)[0], record.sequence
        self.records.append(
            Record(record.sequence, record.kind, record.time, record.payload, record.tag, self.generation)
        )

    def _key(self, body: bytes, sequence: int) -> bytes | None:
        # The number of a new generation must be above the one before.
        generation = renewal(body)
        if generation is not None and generation <= self.generation and self.records:
            return None
        key = _signing_key(self.root, body, self.generation, self.start, sequence)
        wanted = self.generation if generation is None else generation
        if key is None and wanted <= self.generation + LATER_GENERATIONS and _chain(self.root, wanted) is None:
            raise UsageError(
                f"no key for generation {wanted} of device {self.device.hex()}, from record {sequence} on",
                "name the key file of the fleet with --keys",
            )
        return key

    def _proves(self, at: int, previous: bytes, sequence: int, repair: bool = False) -> bool:
        """Whether the record at `at` is whole, numbered `sequence`, and carries the right tag."""
        data = self.data
        size = length_at(data, at)
        if not size or at + size > len(data):
            return False
        body = data[at : at + size - journal.TAG]
        if repair:
            body = body[:3] + struct.pack("<I", sequence) + body[7:]
        elif struct.unpack_from("<I", body, 3)[0] != sequence:
            return False
        key = self._key(body, sequence)
        return key is not None and hmac.compare_digest(tag(key, previous, body), data[at + len(body) : at + size])

    def _bad(self, sequence: int, offset: int, fault: Fault, detail: str) -> Report:
        return Report(self.device, self.records, Finding(sequence, offset, fault, detail))

    def _name(self, at: int, previous: bytes, sequence: int) -> Report:
        """Name what is wrong with the record at `at`, which should be `sequence` after a record tagged `previous`."""
        data = self.data
        size = length_at(data, at)
        if not size or at + size > len(data):
            return self._misframed(at, previous, sequence)
        found = read_record(data[at : at + size])
        if found.sequence != sequence:
            if self._proves(at, previous, sequence, repair=True):
                return self._bad(sequence, at, Fault.ALTERED, "its sequence number was altered")
            if found.sequence > sequence:
                later = find(data, at + size, sequence)
                if later is not None:
                    return self._bad(sequence, at, Fault.REORDERED, f"record {found.sequence} stands in its place")
                if self._consistent(at, found.sequence):
                    detail = f"records {sequence} to {found.sequence - 1} are not there"
                    return self._bad(sequence, at, Fault.MISSING, detail)
            elif found.sequence < sequence and self._known(found):
                return self._bad(sequence, at, Fault.REORDERED, f"record {found.sequence} comes again in its place")
        if (stolen := self._later_key(at, size, previous, sequence)) is not None:
            return self._bad(sequence, at, Fault.FORGED, f"it is signed with the key of {stolen}")
        if (other := self._other_device(at, size, previous, sequence)) is not None:
            return self._bad(sequence, at, Fault.WRONG_DEVICE, f"it is signed by device {other.hex()}")
        detail = "its sequence number was altered" if found.sequence != sequence else "its content or tag was altered"
        return self._bad(sequence, at, Fault.ALTERED, detail)

    def _misframed(self, at: int, previous: bytes, sequence: int) -> Report:
        """The length of the record at `at` is impossible: cut off, or its length was altered."""
        data = self.data
        rest = len(data) - at
        if find(data, at + 1, sequence + 1) is not None:
            return self._bad(sequence, at, Fault.ALTERED, "its length was altered")
        if rest <= journal.MAX:
            body = struct.pack("<H", rest) + data[at + 2 : len(data) - journal.TAG]
            if len(body) >= journal.HEAD:
                key = self._key(body, sequence)
                if key is not None and tag(key, previous, body) == data[-journal.TAG :]:
                    return self._bad(sequence, at, Fault.ALTERED, "its length was altered")
        size = data[at] | data[at + 1] << 8 if rest > 1 else 0
        if rest < 2 or (rest < size <= journal.MAX and (rest < 7 or sequence_at(data, at, whole=False) == sequence)):
            return self._bad(sequence, at, Fault.TRUNCATED, f"the file ends after {rest} bytes of it")
        return self._bad(sequence, at, Fault.ALTERED, "its length or sequence number was altered")

    def _consistent(self, at: int, sequence: int) -> bool:
        """Whether what follows goes on from `sequence`, so that records are missing before it, not altered."""
        size = length_at(self.data, at)
        following = sequence_at(self.data, at + size)
        if following is not None:
            return following == sequence + 1
        # The last one: nothing behind it tells. A plausible number counts.
        return sequence - self._next() < LATER_KEYS

    def _known(self, record: Record) -> bool:
        return any(old.sequence == record.sequence and old.tag == record.tag for old in self.records[-LATER_KEYS:])

    def _later_key(self, at: int, size: int, previous: bytes, sequence: int) -> str | None:
        """The later record whose key signed the record at `at`, in words."""
        body, want = self.data[at : at + size - journal.TAG], self.data[at + size - journal.TAG : at + size]
        ahead = min(LATER_KEYS, (len(self.data) - at) // LEAST + KEYS_BEYOND)
        distance = max(0, sequence - self.start)
        for generation in range(self.generation, self.generation + 1 + LATER_GENERATIONS):
            if (chain := _chain(self.root, generation)) is None:
                continue
            own = generation == self.generation
            for later in range(distance + 1, distance + ahead + 1) if own else range(ahead):
                if tag(chain.at(later), previous, body) == want:
                    return f"record {self.start + later}" if own else f"record {later} of generation {generation}"
        return None

    def _other_device(self, at: int, size: int, previous: bytes, sequence: int) -> bytes | None:
        """The device that signed the record at `at`, or the one behind it, which tells when this one's does not."""
        data, end = self.data, at + size
        own, want = data[at : end - journal.TAG], data[end - journal.TAG : end]
        follower = data[end : end + length_at(data, end)]
        found = sequence_at(data, at)
        for device, root in self.roots.items():
            # Boards with the lab key are all alike: of those nothing tells one from another.
            if device == self.device or _chain(root, self.generation) is _chain(self.root, self.generation):
                continue
            for number in {sequence, sequence if found is None else found}:
                key = _signing_key(root, own, self.generation, self.start, number)
                befores = (previous, self.head.tag, recovery.first_tag(device))
                if key and any(tag(key, before, own) == want for before in befores):
                    return device
                renewed = renewal(own)
                place = (self.generation, self.start) if renewed is None else (renewed, number)
                body = follower[: -journal.TAG]
                key = _signing_key(root, body, *place, number + 1) if follower else None
                if key and tag(key, want, body) == follower[-journal.TAG :]:
                    return device
        return None

    def _against(self, checkpoints: tuple[Checkpoint, ...]) -> Report:
        known = {record.sequence: record.tag for record in self.records}
        end = self._next()
        for point in sorted(checkpoints, key=lambda point: point.sequence):
            if point.sequence >= end:
                detail = f"record {point.sequence} was seen before, and the journal ends at {end - 1}"
                return self._bad(end, len(self.data), Fault.TRUNCATED, detail)
            if point.sequence in known and known[point.sequence] != point.tag:
                detail = "it differs from the one seen before, though its tag is right: whoever wrote it had the key"
                return self._bad(point.sequence, 0, Fault.FORGED, detail)
        if checkpoints and self.records:
            last = max(point.sequence for point in checkpoints)
            if self.records[0].sequence > last + 1:
                detail = f"record {last} was seen before, and the journal begins at {self.records[0].sequence}"
                return self._bad(last + 1, journal.FILE_HEAD, Fault.MISSING, detail)
        return Report(self.device, self.records, None)


def _signing_key(root: Root, body: bytes, generation: int, start: int, sequence: int) -> bytes | None:
    """Key of the record `body`, number `sequence`, in a generation from `start` on; None when it cannot be of it."""
    renewed = renewal(body)
    chain = _chain(root, generation if renewed is None else renewed)
    distance = sequence - start if renewed is None else 0
    return chain.at(distance) if chain and 0 <= distance < MOST_KEYS else None
