"""The journal verifier: good journals pass, 10,000 mutated ones are detected and rightly named."""

import random
import struct
from collections import Counter
from dataclasses import dataclass, field
from functools import cache

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sentill.journal import chain as journal
from sentill.journal import recovery
from sentill_host.errors import UsageError
from sentill_host.journal.verify import Checkpoint, Fault, lab_root, tag, verify

A, B = b"device-A", b"device-B"
ROOTS = {A: b"root of device A, 32 bytes long.", B: b"root of device B, 32 bytes long."}
MUTATIONS = 10_000
seen: Counter[str] = Counter()


@dataclass(frozen=True)
class Chain:
    """A journal: its head, its records, the key of each."""

    seed: int
    head: bytes = field(repr=False)
    records: list[bytes] = field(repr=False)
    keys: list[bytes] = field(repr=False)

    @property
    def first(self) -> int:
        return struct.unpack_from("<I", self.records[0], 3)[0]

    @property
    def last(self) -> Checkpoint:
        return Checkpoint(self.first + len(self.records) - 1, self.records[-1][-16:])

    def signed(self, i: int, by: int, data: bytes = b"forged") -> bytes:
        """Record i with another payload, under the key of record `by`, which may be behind the last."""
        key = self.keys[min(by, len(self.keys) - 1)]
        for _ in range(by - len(self.keys) + 1):
            key = journal.next_key(key)
        before = self.records[i - 1][-16:] if i else self.head[-16:]
        body = struct.pack("<HBII", 27 + len(data), journal.VERDICT, self.first + i, 7) + data
        return body + tag(key, before, body)


@cache
def chain(seed: int, device: bytes = A) -> Chain:
    """A journal of 4 to 16 records, perhaps with the oldest gone, perhaps with new generations of keys."""
    dice = random.Random(seed)
    held = dice.randint(4, 16)
    gone = dice.choice([0, 0, dice.randint(1, 60)])
    renewals = {0: 1, **{dice.randint(1, gone + held): 2 for _ in range(dice.randint(0, 1))}}
    previous, generation, start, key = recovery.first_tag(device), 0, 0, b""
    head, records, keys = b"", [], []
    for i in range(gone + held):
        kind, data = dice.choice([2, 3, 4, 9]), dice.randbytes(dice.choice([0, 5, 37, 37, 37, 200]))
        if i in renewals:
            key = recovery.first_key(ROOTS[device], renewals[i])
            kind, data = journal.GENERATION, struct.pack("<H", renewals[i])
        if i == gone:
            head = journal.file_head(device, generation, start, previous)
        if i in renewals:
            generation, start = renewals[i], i
        body = struct.pack("<HBII", 27 + len(data), kind, i, 1000 + i) + data
        previous = tag(key, previous, body)
        if i >= gone:
            records.append(body + previous)
            keys.append(key)
        key = journal.next_key(key)
    return Chain(seed, head, records, keys)


def named(a: Chain, records: list[bytes], *points: Checkpoint) -> tuple[int, str] | None:
    """Where in the journal the fault is, counted from its first record, and which."""
    finding = verify(a.head + b"".join(records), ROOTS, points).finding
    return finding and (finding.sequence - a.first, str(finding.fault))


@given(st.integers(0, 400))
def test_a_good_journal_passes(seed: int) -> None:
    a = chain(seed)
    report = verify(a.head + b"".join(a.records), ROOTS, (a.last, Checkpoint(a.first, a.records[0][-16:])))
    assert report.finding is None and len(report.records) == len(a.records) and report.checkpoint == a.last


@st.composite
def mutations(draw: st.DrawFn) -> tuple[str, Chain, list[bytes], tuple[int, str]]:
    """(what was done, to which journal, what its records are now, where and as what it must be found)."""
    seed = draw(st.integers(0, 400))
    a, b = chain(seed), chain(seed, B)
    old, n = a.records, len(a.records)
    i = draw(st.integers(0, n - 1))
    what = draw(st.sampled_from(["flip", "drop", "swap", "repeat", "splice", "one of B", "cut", "forge", "rewrite"]))
    if what == "flip":
        bad = bytearray(old[i])
        bad[draw(st.integers(0, len(bad) - 1))] ^= 1 << draw(st.integers(0, 7))
        return what, a, [*old[:i], bytes(bad), *old[i + 1 :]], (i, Fault.ALTERED)
    if what == "drop":
        # Before what is the first record, nothing tells whether some are missing, unless the journal began there.
        i = max(i, 1) if a.first else i
        k = draw(st.integers(1, 5))
        return what, a, [*old[:i], *old[i + k :]], (i, Fault.MISSING if i + k < n else Fault.TRUNCATED)
    if what == "swap":
        j = draw(st.integers(0, n - 2))
        i, j = sorted((i, j if j < i else j + 1))
        new = list(old)
        new[i], new[j] = new[j], new[i]
        return what, a, new, (i, Fault.REORDERED)
    if what == "repeat":
        i = max(i, 1)
        again = old[draw(st.integers(0, i - 1))]
        new = [*old[:i], again, *old[i + draw(st.integers(0, 1)) :]]
        return what, a, new, (i, Fault.REORDERED)
    if what == "splice":
        i = min(i, n - 2)
        k = draw(st.integers(2, 5))
        return what, a, [*old[:i], *b.records[i : i + k], *old[i + k :]], (i, Fault.WRONG_DEVICE)
    if what == "one of B":
        # Its tag follows that of B's record before, which is not here: only of the first one can be told whose it is.
        fault = Fault.ALTERED if i or a.first else Fault.WRONG_DEVICE
        return what, a, [*old[:i], b.records[i], *old[i + 1 :]], (i, fault)
    if what == "cut":
        whole = b"".join(old)
        # Of an empty journal that did not begin at 0 nothing tells where it did.
        at = draw(st.integers(len(old[0]) if a.first else 0, len(whole) - 1))
        ends = [len(b"".join(old[:k])) for k in range(n)]
        return what, a, [whole[:at]], (sum(end <= at for end in ends) - 1, Fault.TRUNCATED)
    by = draw(st.integers(i + 1, i + 60))
    data = draw(st.binary(max_size=40))
    if what == "forge":
        return what, a, [*old[:i], a.signed(i, by, data), *old[i + 1 :]], (i, Fault.FORGED)
    # The thief has the key of record `by` and all that follow, and writes the whole rest anew.
    new = Chain(seed, a.head, list(old), a.keys)
    for j in range(i, n):
        new.records[j] = new.signed(j, max(by, j), data)
    return what, a, new.records, (i, Fault.FORGED)


@settings(max_examples=MUTATIONS)
@given(mutations())
def test_every_mutation_is_detected_and_rightly_named(case: tuple[str, Chain, list[bytes], tuple[int, str]]) -> None:
    what, a, records, wanted = case
    seen[what] += 1
    assert named(a, records, a.last) == wanted, what


def test_the_mutations_were_many() -> None:
    if not seen:
        pytest.skip("the test before this one did not run")
    print(dict(seen))
    assert sum(seen.values()) >= MUTATIONS and len(seen) == 9 and min(seen.values()) > MUTATIONS // 50, seen


@given(st.integers(0, 400))
def test_the_last_records_rewritten_with_their_own_keys_are_seen_against_a_checkpoint(seed: int) -> None:
    # Whoever takes the board has the key on flash, a few records old: what it signs is right, but not what was seen.
    a = chain(seed)
    i = len(a.records) - 1
    assume(a.records[i][2] != journal.GENERATION)  # whose key is not the one of the thief
    new = [*a.records[:i], a.signed(i, i)]
    assert named(a, new) is None
    assert named(a, new, a.last) == (i, Fault.FORGED)


@given(st.integers(0, 400), st.integers(1, 100))
def test_a_cut_at_a_record_is_seen_only_against_the_checkpoint(seed: int, left: int) -> None:
    a = chain(seed)
    left = min(left, len(a.records) - 1)
    assert named(a, a.records[:left]) is None
    assert named(a, a.records[:left], a.last) == (left, Fault.TRUNCATED)


def test_records_that_gave_way_too_early_are_seen_against_a_checkpoint() -> None:
    a = next(a for seed in range(400) if (a := chain(seed)).first > 10)
    assert named(a, a.records, Checkpoint(a.first - 1, a.head[-16:])) is None
    assert named(a, a.records, Checkpoint(a.first - 2, bytes(16))) == (-1, Fault.MISSING)


def test_a_journal_of_another_device() -> None:
    b = chain(1, B)
    finding = verify(b.head + b"".join(b.records), ROOTS, device=A).finding
    assert finding is not None and finding.fault == Fault.WRONG_DEVICE
    forged = chain(1).head + b"".join(b.records)  # under the head of A
    finding = verify(forged, ROOTS).finding
    assert finding is not None and finding.fault == Fault.WRONG_DEVICE


def test_boards_with_the_lab_key_are_not_taken_for_one_another() -> None:
    a = chain(1)
    lab = dict.fromkeys((A, B), ROOTS[A])
    bad = [*a.records[:2], a.records[2][:-1] + bytes([a.records[2][-1] ^ 1]), *a.records[3:]]
    finding = verify(a.head + b"".join(bad), lab).finding
    assert finding is not None and (finding.sequence - a.first, finding.fault) == (2, Fault.ALTERED)


def test_a_generation_without_a_key_is_asked_for() -> None:
    a = chain(1)
    data = a.head + b"".join(a.records)
    with pytest.raises(UsageError, match="no key for generation 1 of device"):
        verify(data, {A: lab_root})
    assert verify(data, {A: lambda generation: ROOTS[A] if generation else None}).finding is None


def test_what_is_no_journal() -> None:
    for data in (b"", b"SJL1", b"PK" + bytes(100)):
        with pytest.raises(UsageError, match="no journal file"):
            verify(data, ROOTS)
    with pytest.raises(UsageError, match="no key for device"):
        verify(journal.file_head(b"device-C", 0, 0, bytes(16)), ROOTS)


@given(st.binary(max_size=300), st.booleans())
def test_any_bytes_end_in_a_report(data: bytes, behind: bool) -> None:
    a = chain(3)
    whole = a.head + (b"".join(a.records) if behind else b"") + data
    report = verify(whole, ROOTS)
    assert (report.finding is None) == (not data), report.finding
