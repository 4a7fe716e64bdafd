"""Features of a terminal's history and of a card: hand-made cases, bounds, allocation, save and restore."""

from array import array
from binascii import crc32
from struct import pack_into

import support
from sentill.errors import StorageError
from sentill.risk import features
from sentill.risk.amount_ratio import ratio_q6
from sentill.risk.card_profile import Profile
from sentill.risk.features import NAMES, SCHEMA_ID, History, N

DAY = 86_400
HOUR = 3_600
T0 = 1_000 * DAY
NEVER = 32_767
BIG_REF = 0xFFFF_FFF0  # a heap object on 32-bit boards


def row(h, t, amt=1_000, pm=0, pn=0, ph=0):
    x = array("h", bytes(2 * N))
    h.fill(x, t, amt, pm, pn, ph)
    return dict(zip(NAMES, x))


def check(found, **wanted):
    for name, value in wanted.items():
        assert found[name] == value, (name, found[name], value)


def test_schema_id_is_the_hash_of_the_names():
    assert len(NAMES) == N, len(NAMES)
    wanted = crc32(("min12/1:" + ",".join(NAMES)).encode()) & 0xFFFFFFFF
    assert wanted == SCHEMA_ID, (SCHEMA_ID, wanted)


def test_an_empty_history():
    check(row(History(4), T0), L_amt=1_000, F_runf=0, F_rung=0, F_hfirst=NEVER, F_hlast=NEVER, F_hgen=NEVER, F_n30=0)


def test_a_transaction_counts_after_seven_days_and_not_a_second_before():
    h = History(4)
    h.add(1, T0, 500, 0, 0, 0)
    check(row(h, T0 + features.DELAY_S - 1), F_rung=0, F_n30=0, F_hgen=NEVER)
    check(row(h, T0 + features.DELAY_S), F_rung=1, F_n30=1, F_hgen=168)


def test_runs_and_hours():
    h = History(16)
    for i, fraud in enumerate((0, 1, 1, 0, 1, 1, 1)):
        h.add(i, T0 + i * DAY, 500, 0, 0, 0)
        if fraud:
            assert h.feedback(i) == 1
    check(row(h, T0 + 9 * DAY), F_runf=2, F_rung=0, F_hfirst=192, F_hlast=168, F_hgen=216, F_n30=3, F_f30=2)
    check(row(h, T0 + 10 * DAY + HOUR), F_runf=0, F_rung=1, F_hfirst=217, F_hlast=193, F_hgen=169, F_f30=2)
    check(row(h, T0 + 13 * DAY), F_runf=3, F_hfirst=9 * 24, F_hlast=168, F_hgen=240, F_n30=7, F_f30=5, G_unx30=5)


def test_the_window_spans_thirty_days():
    h = History(16)
    h.add(1, T0, 500, 0, 0, 0)
    h.feedback(1)
    check(row(h, T0 + 36 * DAY + DAY - 1), F_n30=1, F_f30=1, G_unx30=1)
    check(row(h, T0 + 37 * DAY), F_n30=0, F_f30=0, G_unx30=0, F_runf=1)
    check(row(h, T0 + 10_000 * DAY), F_hfirst=NEVER, F_hgen=NEVER, F_n30=0)


def test_a_transaction_resolved_after_a_long_silence_misses_the_window_but_not_the_run():
    h = History(16)
    h.add(1, T0, 500, 0, 0, 0)
    check(row(h, T0 + 400 * DAY), F_rung=1, F_n30=0, F_hgen=9_600)


def test_what_explains_a_fraud():
    for amt, pm, pn, explained in (
        (22_000, 0, 0, 0),
        (22_001, 0, 0, 1),
        (2_265, 999, 5, 0),  # 144.96 in Q6
        (2_266, 999, 5, 1),  # 145.02
        (2_266, 999, 4, 0),
        (22_000, 65_535, 255, 0),
    ):
        h = History(4)
        h.add(1, T0, amt, pm, pn, 0)
        h.feedback(1)
        found = row(h, T0 + 8 * DAY)
        assert found["G_unx30"] == 1 - explained, (amt, pm, pn, found["G_unx30"])


def test_values_saturate():
    h = History(4)
    check(row(h, T0, 2**30 - 1, 0, 1, 255), L_amt=32_767, G_rew=32_767, G_ewmean=0, G_hi7=255)
    check(row(h, T0, 2**30 - 1, 65_535, 1, 0), G_rew=32_767, G_ewmean=32_767)
    check(row(h, T0, 16_777_216, 65_535, 255, 0), G_rew=16_384)
    check(row(h, T0, 1_000, 9_999, 0, 9), G_rew=0, G_ewmean=0, G_hi7=0)


def test_the_ratio_is_exact():
    for amt in (0, 1, 22_000, 16_777_215, 16_777_216, 33_553_919, 33_553_920, 2**30 - 1):
        for mean in (0, 1, 999, 32_767, 65_534, 65_535):
            wanted = min(32_767, amt * 64 // (mean + 1))
            assert ratio_q6(amt, mean) == wanted, (amt, mean, ratio_q6(amt, mean), wanted)


def test_time_going_backwards_is_clamped_and_counted():
    h = History(4)
    h.add(1, T0, 500, 0, 0, 0)
    row(h, T0 - 5)
    assert (h.now, h.backwards) == (T0, 1), (h.now, h.backwards)
    h.add(2, T0 - 9 * DAY, 500, 0, 0, 0)
    assert (h.now, h.pending) == (T0, 2), (h.now, h.pending)
    check(row(h, T0 + 7 * DAY), F_n30=2, F_hgen=168)


def test_duplicates_and_unknown_feedback():
    h = History(4)
    assert h.add(BIG_REF, T0, 500, 0, 0, 0) is True
    assert h.add(BIG_REF, T0 + 1, 500, 0, 0, 0) is False
    assert h.feedback(BIG_REF) == 1
    assert h.feedback(BIG_REF) == features.KNOWN
    assert h.feedback(BIG_REF - 1) == 0
    assert h.feedback(BIG_REF & 0xFFFF) == 0
    row(h, T0 + 7 * DAY)
    assert h.feedback(BIG_REF) == 0, "resolved already"
    assert (h.duplicates, h.unknown, h.pending) == (1, 3, 0), (h.duplicates, h.unknown, h.pending)
    assert h.add(BIG_REF, T0 + 7 * DAY, 500, 0, 0, 0) is True, "a resolved ref may come again"


def test_a_full_ring_resolves_the_oldest_early():
    h = History(3)
    for i in range(5):
        h.add(i, T0 + i, 500, 0, 0, 0)
        h.feedback(i)
    assert (h.pending, h.overflows) == (3, 2), (h.pending, h.overflows)
    check(row(h, T0 + 5), F_runf=2, F_f30=2, F_hfirst=0)
    check(row(h, T0 + 7 * DAY), F_runf=2)
    check(row(h, T0 + 7 * DAY + 4), F_runf=5)


def test_capacity_is_checked():
    for capacity in (0, 65_535):
        support.raises(ValueError, History, capacity)
    assert History(1).add(1, T0, 500, 0, 0, 0)


def busy(capacity=16):
    """A history with resolved and pending transactions, chains longer than one, and day totals in several buckets."""
    h = History(capacity)
    for i in range(60):
        h.add(BIG_REF - 256 * (i % 40), T0 + i * DAY // 2, 400 * i, 900, 9, 0)
        if i % 3 == 1:
            h.feedback(BIG_REF - 256 * (i % 40))
    return h


def test_a_damaged_order_is_refused_and_leaves_nothing():
    h = History(16)
    for i in range(3):
        h.add(i, T0 + i * DAY, 500, 0, 0, 0)
    image = bytearray(support.saved(h))
    for at, t in ((-5, T0 + DAY - 1), (-14, T0 + 3 * DAY), (-5, T0 + DAY + (1 << 20)), (-23, -1)):
        damaged = image[:]
        pack_into("<i", damaged, len(damaged) + at, t)
        other = History(16)
        other.add(9, T0, 500, 0, 0, 0)
        support.raises(StorageError, support.restored, other, bytes(damaged))
        assert (other.pending, other.now) == (0, 0)
    pack_into("<i", image, len(image) - 5, T0 + DAY + (1 << 20) - 1)
    support.restored(other, bytes(image))
    assert support.saved(other)[-27:] == bytes(image)[-27:]


def test_every_ref_is_found_and_no_other():
    """Also 0, refs with equal bytes, and those that were pending before in the same slots."""
    h = History(5)
    refs = [0, 1 << 24, 1, 256, 65536, 0x01010101, BIG_REF, 0xFFFFFFFF, 2, 0x00FF00FF, 0xFF00FF00, 3]
    for i in range(len(refs)):
        assert h.add(refs[i], T0 + i, 500, 0, 0, 0)
        for k in range(len(refs)):
            assert (h._pending.find(refs[k]) >= 0) == (i - 5 < k <= i), (i, k)


def test_a_restored_history_goes_on_as_the_old_one():
    h = busy()
    other = History(16)
    support.restored(other, support.saved(h))
    for i in range(40):
        t = T0 + 30 * DAY + i * DAY
        assert row(h, t) == row(other, t), (row(h, t), row(other, t))
        assert h.add(i, t, 700, 0, 0, 0) == other.add(i, t, 700, 0, 0, 0)
        assert h.feedback(i & 252) == other.feedback(i & 252)
    assert support.saved(h) == support.saved(other)
    assert (h.unknown, h.overflows) == (other.unknown, other.overflows)


def test_restoring_into_a_smaller_ring_resolves_the_oldest():
    h = busy()
    other = History(4)
    support.restored(other, support.saved(h))
    assert (other.pending, other.overflows) == (4, h.overflows + h.pending - 4), (other.pending, other.overflows)
    assert row(h, T0 + 60 * DAY) == row(other, T0 + 60 * DAY)


def test_an_image_that_does_not_fit_is_refused_and_changes_nothing():
    h = busy()
    image = support.saved(h)
    other = History(16)
    other.add(1, T0, 500, 0, 0, 0)
    before = support.saved(other)
    for at in range(6):
        damaged = bytearray(image)
        damaged[at] ^= 1 << at % 8
        support.raises(StorageError, support.restored, other, bytes(damaged))
    for size in range(0, len(image), 7):
        support.raises(StorageError, support.restored, other, image[:size])
    support.raises(StorageError, support.restored, other, image + b"\0")
    assert support.saved(other) == before


def test_nothing_is_allocated_on_the_way():
    h = busy(64)
    x = array("h", bytes(2 * N))
    clock = [T0 + 30 * DAY]

    def fill():
        clock[0] += HOUR
        h.fill(x, clock[0], 2**30 - 1, 65_535, 255, 255)

    def catch_up():  # resolves three or four, and moves the window
        clock[0] += 2 * DAY
        h.advance(clock[0])

    def add():
        clock[0] += 60
        h.add(clock[0], clock[0], 22_000, 65_535, 9, 0)

    def again():
        h.add(BIG_REF, clock[0], 22_000, 65_535, 9, 0)
        h.feedback(BIG_REF)
        h.feedback(7)
        h.advance(5)

    support.no_alloc(fill)
    support.no_alloc(catch_up)
    support.no_alloc(add)
    support.no_alloc(again)
    small = History(1)

    def overflow():
        clock[0] += 60
        small.add(clock[0], clock[0], 22_000, 65_535, 9, 0)

    support.no_alloc(overflow)
    assert small.overflows == 2, small.overflows


def test_the_card_profile():
    p = Profile()
    assert p.at(T0) == (0, 0, 0)
    p.update(50_000, T0)
    assert p.at(T0) == (22_000, 1, 0), p.at(T0)
    p.update(100, T0)
    assert p.at(T0) == (11_050, 2, 0), p.at(T0)
    p.update(100_000, T0)
    assert p.at(T0) == (11_050 + (27_625 - 11_050) // 3, 3, 0), p.at(T0)
    for i in range(300):
        p.update(1_000, T0 + i)
    assert p.pn == 255 and 990 <= p.pm <= 1_000, (p.pn, p.pm)
    p.update(5_000, T0 + 400)
    p.update(5_000, T0 + 500)
    assert p.at(T0 + 500)[2] == 2
    assert p.at(T0 + 400 + 7 * DAY)[2] == 2
    assert p.at(T0 + 401 + 7 * DAY)[2] == 1
    assert p.at(T0 + 501 + 7 * DAY)[2] == 0
