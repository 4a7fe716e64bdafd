"""The journal verifier: good journals pass, mutated ones are detected and rightly named."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentill import journal
from sentill_host.verify import Checkpoint, Fault, tag, verify

ROOTS = {b"device-A": b"root of device A, 32 bytes long.", b"device-B": b"root of device B, 32 bytes long."}
N = 40


def chain(device: bytes) -> list[bytes]:
    previous, key = journal.first_tag(device), journal.first_key(ROOTS[device], 1)
    records = []
    for i in range(N):
        data = struct.pack("<H", 1) if i == 0 else bytes((i * j) & 255 for j in range(i % 23 + 5))
        kind = journal.GENERATION if i == 0 else journal.VERDICT
        body = struct.pack("<HBII", 27 + len(data), kind, i, 1000 + i) + data
        previous = tag(key, previous, body)
        records.append(body + previous)
        key = journal.next_key(key)
    return records


A, B = chain(b"device-A"), chain(b"device-B")
HEAD = journal.file_head(b"device-A", 1, 0, journal.first_tag(b"device-A"))
LAST = Checkpoint(N - 1, A[-1][-16:])
at = st.integers(1, N - 2)


def named(records: list[bytes], *points: Checkpoint) -> tuple[int, str] | None:
    finding = verify(HEAD + b"".join(records), ROOTS, points).finding
    return finding and (finding.sequence, str(finding.fault))


def test_a_good_journal_passes() -> None:
    report = verify(HEAD + b"".join(A), ROOTS, (LAST,))
    assert report.finding is None and len(report.records) == N and report.checkpoint == LAST


@settings(max_examples=60, deadline=None)
@given(at, st.integers(0, 10_000), st.integers(0, 7))
def test_flip(i: int, where: int, bit: int) -> None:
    bad = bytearray(A[i])
    bad[where % len(bad)] ^= 1 << bit
    assert named([*A[:i], bytes(bad), *A[i + 1 :]]) == (i, Fault.ALTERED)


@settings(max_examples=60, deadline=None)
@given(at, st.integers(1, 5))
def test_drop(i: int, n: int) -> None:
    left = [*A[:i], *A[i + n :]]
    assert named(left, LAST) == (i, Fault.MISSING if i + n < N else Fault.TRUNCATED)


@settings(max_examples=60, deadline=None)
@given(at, at)
def test_swap(i: int, j: int) -> None:
    if i != j:
        i, j = sorted((i, j))
        bad = list(A)
        bad[i], bad[j] = bad[j], bad[i]
        assert named(bad) == (i, Fault.REORDERED)


@settings(max_examples=60, deadline=None)
@given(at)
def test_splice_of_another_device(i: int) -> None:
    # B's record at the same place: its tag follows B's previous tag, which this file does not hold.
    assert named([*A[:i], B[i], *A[i + 1 :]]) in ((i, Fault.ALTERED), (i, Fault.WRONG_DEVICE))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000))
def test_cut(where: int) -> None:
    whole = HEAD + b"".join(A)
    cut = len(HEAD) + where % (len(whole) - len(HEAD))
    finding = verify(whole[:cut], ROOTS, (LAST,)).finding
    assert finding is not None and finding.fault == Fault.TRUNCATED, (cut, finding)


@settings(max_examples=60, deadline=None)
@given(at, st.integers(1, 30), st.binary(max_size=40))
def test_signed_again_with_a_later_key(i: int, ahead: int, data: bytes) -> None:
    key = journal.first_key(ROOTS[b"device-A"], 1)
    for _ in range(i + ahead):
        key = journal.next_key(key)
    body = struct.pack("<HBII", 27 + len(data), journal.VERDICT, i, 7) + data
    forged = [body + tag(key, A[i - 1][-16:], body)]
    assert named([*A[:i], *forged, *A[i + 1 :]]) == (i, Fault.FORGED)


def test_a_journal_of_another_device() -> None:
    finding = verify(HEAD + b"".join(B), ROOTS).finding
    assert finding is not None and finding.fault == Fault.WRONG_DEVICE


@pytest.mark.parametrize("end", [1, 20, N - 1])
def test_a_cut_at_a_record_is_seen_against_the_checkpoint(end: int) -> None:
    assert named(A[:end]) is None
    assert named(A[:end], LAST) == (end, Fault.TRUNCATED)
