"""The journal on both kinds of flash: chain, keys, roll-over, retention, recovery, what is durable when."""

from gc import collect
from struct import pack, unpack_from

from flash_model import Nor, Tree
from sentill import crypto  # noqa: F401  (kept loaded)
from sentill.errors import StorageError
from sentill.flash import Region
from sentill.journal import chain, fs_blocks, next_block, recovery, ring_read  # noqa: F401  (kept loaded)
from sentill.journal.chain import Journal
from sentill.journal.ring import Ring
from sentill.keys import store_open  # noqa: F401  (kept loaded)
from sentill.keys.store import KeyStore
from support import raises

DEVICE = b"\x01\x02\x03\x04\x05\x06\x07\x08"
ROOT = b"root key of the device, 32 bytes"
BLOCK = 1024  # of flash; small, for the heap of a small board
PAYLOAD = bytes(range(37))  # a record of 64 bytes
MOST_WAIT = 24


class Board:
    """A journal with what lies on flash below it; `restart` comes up again from there."""

    def __init__(self, raw, key_every=8, prog=1, sealing=(), reserve=16, blocks=24):
        collect()  # the heap of a small board is in pieces after some of these
        self.raw = raw
        self.args = (key_every, sealing)
        self.prog = prog
        self.reserve = reserve
        self.flash = Nor(2, BLOCK)
        self.ring = Nor(6 if raw else blocks, BLOCK)
        self.tree = Tree(self.ring)
        self.numbers = iter(range(1 << 16))
        keys = KeyStore(Region(self.flash, 0, 2, prog, BLOCK))
        keys.open()
        recovery.stage_key(keys, 1, 0, recovery.first_key(ROOT, 1))
        self.restart()

    def restart(self):
        self.keys = KeyStore(Region(self.flash, 0, 2, self.prog, BLOCK))
        self.keys.open()
        self.region = Region(self.ring, 0, 6, self.prog, BLOCK) if self.raw else self._blocks()
        self.store = Ring(self.region)
        self.journal = Journal(self.store, self.keys, DEVICE, self.args[0], self.args[1])
        self.journal.open()
        return self.journal

    def _blocks(self):
        def numbered(n):
            return pack("<II", 0x51EE7, next(self.numbers)) * (n // 8)

        files = self.tree, "/journal", numbered, self.reserve, 4, 99
        region = fs_blocks.open_region((self.ring, self.ring.count, self.prog), files, BLOCK)
        while region.count < 3:
            for _ in fs_blocks.extend(region):
                pass
        return region

    def places(self):
        """The blocks of the flash that the ring's are."""
        return range(6) if self.raw else self.region.files[7]

    def blocks(self):
        """How many blocks the ring has."""
        return next_block._count(self.store)

    def verified(self):
        """The records of the store, after checking the whole chain with the keys of the host."""
        head = self.store.head()
        assert head[:12] == b"SJL1" + DEVICE, head
        generation, start = unpack_from("<HI", head, 12)
        tag = head[18:34]
        found = []
        key = None
        for record in self.store.records(0):
            kind, sequence, time, payload = recovery.parse(record)
            if kind == chain.GENERATION:
                generation = unpack_from("<H", payload, 0)[0]
                start = sequence
                key = None
            if key is None:
                key = recovery.first_key(ROOT, generation)
                for _ in range(sequence - start):
                    key = chain.next_key(key)
            want = crypto.mac(key).tag(tag, record[:-16])[:16]
            assert want == record[-16:], ("tag of", sequence)
            tag = want
            key = chain.next_key(key)
            assert not found or found[-1][1] + 1 == sequence, (found[-1], sequence)
            found.append((kind, sequence, time, bytes(payload) if payload != PAYLOAD else PAYLOAD))
        return found


def fill(board, n, first_time=1000, together=1):
    """Append `n` records, `together` of them at a time."""
    log = board.journal
    for i in range(n):
        log.append(chain.VERDICT, first_time + i, PAYLOAD)
        if log.next - log.kept >= together:
            log.commit()
        if i % 5 == 4 and log.kept == log.next:
            while log.piece():
                pass


def each(**options):
    for raw in (False, True):
        board = Board(raw, **options)
        yield board
        # Who asked still holds it, and a small heap does not hold two.
        board.flash = board.ring = board.tree = board.region = board.store = board.keys = board.journal = None


def test_records_and_their_order():
    for board in each():
        fill(board, 5)
        found = board.verified()
        assert [f[0] for f in found] == [chain.GENERATION] + [chain.VERDICT] * 5, found
        assert found[0][3] == pack("<H", 1)
        assert found[5] == (chain.VERDICT, 5, 1004, PAYLOAD), found[5]
        assert board.journal.next == 6


def test_payload_sizes():
    for board in each():
        for n in (0, 1, 37, 38, 100, 101, 102, 165, 200):
            assert not board.journal.append(chain.ALERT, n, bytes(n))
        assert raises(StorageError, board.journal.append, chain.ALERT, 0, bytes(201)).code == "size"
        board.journal.commit()
        found = board.verified()
        assert [len(f[3]) for f in found[1:]] == [0, 1, 37, 38, 100, 101, 102, 165, 200], found
        board.restart()
        fill(board, 3)
        assert len(board.verified()) == 13


def test_rollover_and_retention():
    for board in each():
        fill(board, 400)
        found = board.verified()
        assert found[-1][1] == 400, found[-1]
        assert 45 <= len(found) <= 8 * 15, len(found)
        assert board.store.first == found[0][1] > 0
        before = (board.store.first, board.store.next, bytes(board.journal.tag))
        board.restart()
        assert (board.store.first, board.store.next, bytes(board.journal.tag)) == before
        assert board.verified() == found


def test_records_wait_until_they_are_kept():
    for board in each():
        log = board.journal
        for i in range(20):
            assert not log.append(chain.VERDICT, i, PAYLOAD)
        assert (log.next, log.kept) == (21, 0), (log.next, log.kept)
        pieces = 1
        while log.piece():
            pieces += 1
            assert 0 <= log.kept <= 21
        assert log.kept == 21 and pieces <= 40, (log.kept, pieces)
        log.append(chain.VERDICT, 99, PAYLOAD)
        log = board.restart()  # the power failed
        assert log.next == log.kept == 21, log.next
        assert len(board.verified()) == 21


def test_so_many_may_wait_and_no_more():
    for board in each():
        log = board.journal
        for i in range(MOST_WAIT - 1):
            assert log.room()
            log.append(chain.VERDICT, i, PAYLOAD)
        assert not log.room() and log.next == MOST_WAIT
        assert raises(StorageError, log.append, chain.VERDICT, 0, PAYLOAD).code == "full"
        assert log.next == MOST_WAIT
        log.commit()
        for _ in range(20):  # the longest records fill the room sooner
            while log.room():
                log.append(chain.ALERT, 0, bytes(200))
            assert raises(StorageError, log.append, chain.VERDICT, 0, b"").code == "full"
            while not log.room():
                log.piece()
        log.commit()
        numbers = [f[1] for f in board.verified()]
        assert numbers == list(range(numbers[0], log.next)), numbers


def test_a_piece_erases_one_block_at_most():
    for board in each(key_every=4):
        log = board.journal
        for i in range(900):
            log.append(chain.VERDICT, i, PAYLOAD)
            if i % 7 == 6:
                while True:
                    before = board.ring.erased + board.flash.erased
                    blocks = board.ring.log = []
                    more = log.piece()
                    erased = board.ring.erased + board.flash.erased - before
                    touched = set([e[0] if e[1] is None else e[0] // BLOCK for e in blocks])
                    assert erased <= 1 and len(touched) <= 1, (i, erased, touched)
                    if not more:
                        break


def test_sealing_kinds_are_kept_at_once_and_move_the_key():
    for board in each(key_every=100, sealing=(chain.TAMPER,)):
        log = board.journal
        assert not log.append(chain.VERDICT, 1, PAYLOAD)
        assert recovery.key_place(board.keys)[2] == 0
        assert log.append(chain.TAMPER, 2, b"case")
        assert recovery.key_place(board.keys) == (1, 0, 3)
        assert log.kept == 3


def test_the_key_on_flash_is_never_ahead_of_the_records():
    for board in each(key_every=1):
        log = board.journal
        for i in range(200):
            log.append(chain.VERDICT, i, PAYLOAD)
            if i % 3 or not log.room():
                while log.piece() and not log.room():
                    pass
            assert recovery.key_place(board.keys)[2] <= log.kept


def test_old_keys_are_gone_from_flash():
    for board in each():
        key = recovery.first_key(ROOT, 1)
        keys = []
        for _ in range(101):
            keys.append(bytes(key))
            key = chain.next_key(key)
        fill(board, 100)
        at = recovery.key_place(board.keys)[2]
        assert at > 90, at
        left = [i for i, k in enumerate(keys) if bytes(board.flash.data).find(k) >= 0]
        assert left == [at], (left, at)
        log = board.restart()
        left = [i for i, k in enumerate(keys) if bytes(board.flash.data).find(k) >= 0]
        assert left == [], left  # moved on to the next record's key
        assert recovery.key_place(board.keys)[2] == log.next


def test_cut_tail_is_seen_at_start():
    for board in each():
        fill(board, 40)
        # Someone takes the last block behind the journal's back.
        last = board.store._firsts[board.store._block]
        known = recovery.key_place(board.keys)[2]
        board.region.program(board.store._block * BLOCK, bytes(64))
        log = board.restart()
        assert board.store.next == last and log.lost == known - last > 0, (log.lost, last)
        at = log.next
        log.append(chain.RECOVERY, 5, b"lost")
        log.commit()
        assert log.kept == at + 1
        sequences = [unpack_from("<I", r, 3)[0] for r in board.store.records(0)]
        assert sequences[-1] == at and sequences[-2] == last - 1, sequences
        log = board.restart()
        assert (log.lost, log.next) == (0, at + 1), (log.lost, log.next, at)


def test_forged_tail_is_dropped():
    for board in each(key_every=4):
        fill(board, 10)
        log = board.journal
        at = log.next
        last = bytes(log.tag)
        bad = pack("<HBII", 64, chain.VERDICT, at, 0) + PAYLOAD + bytes(16)
        assert board.store.write(bad, at) == 64
        log = board.restart()
        assert (log.dropped, log.next, bytes(log.tag)) == (1, at, last), (log.dropped, log.next)
        fill(board, 3)
        found = board.verified()
        assert found[-1][1] == at + 2


def test_new_generation():
    for board in each():
        fill(board, 30)
        board.journal.renew(2, recovery.first_key(ROOT, 2), 77)
        fill(board, 30)
        board.restart()
        fill(board, 300)
        board.restart()
        found = board.verified()
        assert found[-1][1] == 361, found[-1]
        assert board.journal.generation == 2


def test_renewal_that_is_cut_before_its_record():
    for board in each():
        fill(board, 30)
        recovery.stage_key(board.keys, 2, board.journal.next, recovery.first_key(ROOT, 2))
        board.restart()
        fill(board, 2)
        kinds = [f[0] for f in board.verified()]
        assert kinds[-3:] == [chain.GENERATION, chain.VERDICT, chain.VERDICT], kinds


def test_no_key_no_journal():
    keys = KeyStore(Region(Nor(2, BLOCK), 0, 2, 1, BLOCK))
    keys.open()
    error = raises(StorageError, Journal(Ring(Region(Nor(3, BLOCK), 0, 3, 1, BLOCK)), keys, DEVICE).open)
    assert error.code == "keys"


def test_records_from():
    for board in each():
        fill(board, 150)
        all_of = [unpack_from("<I", r, 3)[0] for r in board.store.records(0)]
        for sequence in (0, all_of[0], 100, 149, 150, 151, 999):
            got = [unpack_from("<I", r, 3)[0] for r in board.store.records(sequence)]
            assert got == [s for s in all_of if s >= sequence], (sequence, got)


def test_a_reader_goes_on_while_the_ring_does():
    for board in each():
        fill(board, 60)
        reader = board.store.reader(0)
        seen = []
        for i in range(200):
            assert reader.step()
            seen.append(unpack_from("<I", reader.record(), 3)[0])
            fill(board, 2, i)
        assert reader.sequence == seen[-1]
        assert seen == sorted(set(seen)) and seen[0] == 0, seen
        assert len(seen) == 200 and seen[-1] > 300  # what gave way meanwhile is left out
        while reader.step():
            pass
        assert reader.sequence == board.store.next - 1
        fill(board, 1)
        assert reader.step() and reader.sequence == board.store.next - 1


def test_the_ring_takes_what_is_free_and_gives_it_back():
    board = Board(False, reserve=10)
    fill(board, 300)
    assert board.blocks() == 14, board.blocks()
    held = board.store.next - board.store.first
    assert held >= 12 * 15, held
    board.tree.taken = 10  # somebody fills the disk
    fill(board, 60)
    assert board.tree.statvfs("")[3] == 4 and board.blocks() == 10
    board.tree.taken = 22
    fill(board, 200)
    assert board.blocks() == 4, board.blocks()
    assert board.verified()[-1][1] == 560
    board.restart()
    board.tree.taken = 0
    fill(board, 400)
    assert board.blocks() == 14, board.blocks()
    assert board.verified()[-1][1] == 960


def test_room_is_made_for_others_down_to_the_least():
    board = Board(False, reserve=10)
    fill(board, 300)
    board.tree.taken = 10
    given = 0
    while board.store.make_room():
        given += 1
    assert (given, board.blocks()) == (10, 4), given
    assert not board.store.make_room()
    found = board.verified()
    assert found[-1][1] == 300 and found[0][1] == board.store.first
    assert not Board(True).store.make_room()


def test_what_littlefs_counts_below_zero_is_nothing_free():
    board = Board(False)
    board.tree.statvfs = lambda path: (4096, 4096, 24, 0xFFFFFFFF)
    assert fs_blocks.look(board.region, 8) == -1


def test_a_full_disk_wears_no_block_out():
    board = Board(False, reserve=10)
    fill(board, 100)
    board.tree.taken = 24
    before = board.ring.erased
    fill(board, 600)
    assert board.ring.erased - before <= 600 // 15 + 2, board.ring.erased - before
    assert board.verified()[-1][1] == 700


def test_files_of_others_are_left_alone():
    board = Board(False)
    fill(board, 60)
    for name in ("notes.txt", "README", "002g", "0000002a"):
        board.tree.files["/journal/" + name] = None
    board.tree.files["/journal/new"] = None  # left by a power cut
    log = board.restart()
    assert (log.next, log.lost) == (61, 0), log.next
    fill(board, 10)
    assert len(board.verified()) == 71
    assert "/journal/notes.txt" in board.tree.files and "/journal/new" not in board.tree.files


def test_a_block_that_is_no_longer_its_files_is_not_written():
    board = Board(False, reserve=14)
    fill(board, 100)
    # Somebody has copied a file away and back: its name tells a block that now is another's.
    ring = board.store
    oldest = next_block._oldest(ring)
    place = board.places()[oldest]
    path = "/journal/%04x" % place
    elsewhere = board.tree.place()
    board.ring.data[elsewhere * BLOCK : (elsewhere + 1) * BLOCK] = board.ring.data[place * BLOCK : (place + 1) * BLOCK]
    board.tree.files[path] = elsewhere
    board.tree.files["/theirs"] = place
    foreign = bytes([i & 255 for i in range(BLOCK)])
    for whole in (True, False):  # with what the journal had there, then with what the other wrote
        if not whole:
            board.ring.data[place * BLOCK : (place + 1) * BLOCK] = foreign
        board.restart()
        fill(board, 120)
        if not whole:
            assert bytes(board.ring.data[place * BLOCK : (place + 1) * BLOCK]) == foreign
    numbers = [f[1] for f in board.verified()]
    assert numbers[-1] == 340 and numbers == list(range(numbers[0], 341)), numbers


def test_a_current_block_that_is_no_longer_its_files():
    board = Board(False, reserve=14)
    fill(board, 100)
    place = board.places()[board.store._block]
    elsewhere = board.tree.place()
    board.tree.files["/journal/%04x" % place] = elsewhere
    board.ring.ioctl(6, elsewhere)
    was = bytes(board.ring.data[place * BLOCK : (place + 1) * BLOCK])
    log = board.restart()
    assert log.lost > 0  # the records in it are gone, and it shows
    at = log.next
    fill(board, 200)
    assert bytes(board.ring.data[place * BLOCK : (place + 1) * BLOCK]) == was or place in board.places()
    assert board.store.next == at + 200


def test_many_starts_use_the_marks_up():
    board = Board(False)
    for i in range(60):
        board.restart()
        if i % 20 == 0:
            fill(board, 1)
    fill(board, 30)
    assert board.verified()[-1][1] == 33


def test_program_sizes():
    for prog in (4, 32, 256):
        for board in each(prog=prog):
            fill(board, 200, together=4)
            board.restart()
            fill(board, 100, together=4)
            board.journal.commit()
            assert board.verified()[-1][1] >= 295
            board = None  # before the next one takes its room


def test_flash_that_fails_once_loses_nothing():
    # Each program in turn does half its work and reports it; the journal goes on, then the power fails.
    for fails in range(1, 40):
        for together in (1, 9):
            board = Board(True)
            board.ring.fails = fails
            log = board.journal
            for i in range(70):
                log.append(chain.VERDICT, i, PAYLOAD)
                if log.next - log.kept >= together:
                    try:
                        log.commit()
                    except OSError:
                        log.commit()
            assert not board.ring.fails or together > 1, fails
            kept = log.kept
            log = board.restart()
            assert (log.next, log.lost) == (kept, 0), (fails, together, log.next, kept)
            held = [f[1] for f in board.verified()]  # without a gap
            assert held[-1] + 1 == kept and len(held) >= 36, (fails, together, held)


def test_flash_that_does_not_keep_what_is_written():
    for board in each():
        fill(board, 20)
        log = board.journal
        block = board.places()[board.store._block]
        board.ring.data[block * BLOCK + board.store._end + 20] = 0  # a worn out cell
        log.append(chain.VERDICT, 1, PAYLOAD)
        assert raises(StorageError, log.commit).code == "flash"
        assert log.kept == 21 and log.next == 22
        log.commit()  # in another block
        fill(board, 5)
        board.restart()
        assert [f[1] for f in board.verified()] == list(range(27))


def test_a_batch_is_one_program():
    board = Board(True, prog=256)
    fill(board, 6, together=7)
    board.ring.programmed = 0
    fill(board, 7, together=7)
    assert board.ring.programmed == 512, board.ring.programmed  # 7 slots behind 8 of 16


def test_parse_refuses_lengths():
    for bad in (b"", bytes(26), bytes(64), pack("<H", 228) + bytes(226)):
        assert raises(StorageError, recovery.parse, bad).code == "record"
