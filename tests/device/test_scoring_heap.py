"""The scoring path needs no heap: features, score, rules, reasons, verdict; with native kernels and with plain ones."""

from array import array
from hashlib import sha256
from struct import pack

from sentill.compat import crc32, native
from sentill.risk import tree_plain
from sentill.risk.assess import Assessor
from sentill.risk.features import NAMES, History
from sentill.risk.model import Model
from support import MICROPYTHON, SkipTest, no_alloc, raises

DAY = 86_400
T0 = 80_000_000


def _inner(feature, skip, threshold):
    return pack("<BBH", feature, skip, threshold + 32_768)


def _leaf(value):
    return pack("<HH", 0, value + 32_768)


def _reasons(codes):
    table = b"".join([bytes([len(code), 0]) + code.encode() for code in codes])
    return table + bytes(len(table) & 1)


def _section(kind, data):
    return pack("<HHI", kind, 0, len(data)) + data


def model(kernels=None):
    """A small model with every part: two equal trees, reasons of the features, one hard rule.

    A tree gives -32768 to amounts below 100.00; else 900, but 32767 after a fraud. The rule declines from 5,000.00 on.
    """
    tree = _inner(0, 3, 10_000) + _inner(1, 1, 1) + _leaf(32_767) + _leaf(900) + _leaf(-32_768)
    forest = pack("<HHBBH", 2, 1, 0, 0, 12) + 2 * (pack("<HH", len(tree) + 4, 0) + tree)
    rule = _inner(12, 1, 5_000) + pack("<HH", 0, 3) + pack("<HH", 0, 0)
    rules = pack("<HHBBH", 1, 4, 1, 0, 16) + pack("<HH", len(rule) + 4, 0) + rule
    body = pack("<IiiHH", 0, 0, 2_000, 12, 5)
    body += _section(1, forest) + _section(2, rules) + _section(3, bytes(24))
    body += _section(4, _reasons(NAMES)) + _section(6, _reasons(["BIG"]))
    body = pack("<I", len(body) + 4) + body
    rest = sha256(body).digest() + body
    data = pack("<4sHHII", b"STM1", 1, 0, len(rest) + 16, crc32(rest)) + rest
    return Model(array("H", data), kernels)


def kernel_sets():
    """Kernels, and what the frames of one call may take: none of the native ones takes its frame from the heap."""
    plain = (tree_plain, 4_000)
    return ((None, 0), plain) if native("risk", "tree_viper") else (plain,)


def test_the_model_of_this_file_decides():
    for kernels, _ in kernel_sets():
        a = Assessor(History(8), model(kernels), model(kernels))
        got = a.judge(T0, 9_999, 0, 0, 0), a.score, a.n_reasons
        assert got == (0, -65_536, 0), got
        got = a.judge(T0, 10_000, 4_000, 9, 0), a.score, a.reasons[0]
        assert got == (1, 1_800, b"L_amt"), got
        got = a.judge(T0, 500_000, 4_000, 9, 0), a.reasons[0]
        assert got == (2, b"BIG"), got


def test_a_model_needs_no_heap():
    x = array("h", [32_767] * 16)
    votes = array("i", [0])
    for kernels, frames in kernel_sets():
        m = model(kernels)
        m.score(x)
        no_alloc(lambda: m.score(x), frames)
        no_alloc(lambda: m.rule(x), frames)
        no_alloc(lambda: m.votes(x, votes), frames)

        def reasons():
            m.explain(x)
            while m.next_reason() >= 0:
                pass

        no_alloc(reasons, frames)


def test_a_verdict_needs_no_heap():
    for kernels, frames in kernel_sets():
        a = Assessor(History(4), model(kernels), model(kernels))
        clock = [T0]
        ref = [0]

        def decide():
            # A new ref, a full ring, a week's step: a transaction resolves, and old days leave the window.
            ref[0] += 1
            clock[0] += 3 * DAY
            a.judge(clock[0], 32_768, 65_535, 255, 255)
            a.remember(ref[0], 32_768, 65_535, 255)
            a.judge(clock[0], 22_000, 0, 0, 0)
            a.remember(ref[0], 22_000, 0, 0)
            a.feedback(ref[0])

        for _ in range(8):
            decide()
        no_alloc(decide, frames)


def leaky():
    """A model that makes one small list per score."""
    m = model()
    score = m.score
    m.score = lambda x: len([score(x)])
    return m


def test_a_planted_allocation_on_the_path_is_seen():
    if not MICROPYTHON:
        raise SkipTest("no heap lock on CPython")
    a = Assessor(History(4), model(), leaky())
    no_alloc(lambda: a.judge(T0, 100, 4_000, 9, 0), 4_000)
    raises(MemoryError, no_alloc, lambda: a.judge(T0, 100, 0, 0, 0))
