"""The journal on both stores: chain, keys, roll-over, retention, recovery, what is durable when."""

from struct import pack, unpack_from

from flash_model import Nor, Tree
from sentill import crypto, journal, journal_open, journal_raw_read, keystore_open  # noqa: F401  (kept loaded)
from sentill.errors import StorageError
from sentill.flash import Region
from sentill.journal import Journal
from sentill.journal_files import FileStore
from sentill.journal_raw import RawStore
from sentill.keystore import KeyStore
from support import raises

DEVICE = b"\x01\x02\x03\x04\x05\x06\x07\x08"
ROOT = b"root key of the device, 32 bytes"
BLOCK = 1024  # of flash; small, for the heap of a small board
PAYLOAD = bytes(range(37))  # a record of 64 bytes


class Board:
    """A journal with what lies on flash below it; `restart` comes up again from there."""

    def __init__(self, raw, window=1, key_every=8, keep=80, prog=1, sealing=()):
        self.raw = raw
        self.args = (window, key_every, sealing)
        self.keep = keep
        self.prog = prog
        self.flash = Nor(2, BLOCK)
        self.tree = Tree()
        self.ring = Nor(6, BLOCK)
        keys = KeyStore(Region(self.flash, 0, 2, prog, BLOCK))
        keys.open()
        journal_open.stage_key(keys, 1, 0, journal_open.first_key(ROOT, 1))
        self.restart()

    def restart(self):
        self.keys = KeyStore(Region(self.flash, 0, 2, self.prog, BLOCK))
        self.keys.open()
        self.store = RawStore(Region(self.ring, 0, 6, self.prog, BLOCK)) if self.raw else self._files()
        self.journal = Journal(self.store, self.keys, DEVICE, self.args[0], self.args[1], self.args[2])
        self.journal.open()
        return self.journal

    def _files(self):
        return FileStore(self.tree, keep=self.keep, block_bytes=BLOCK)

    def verified(self):
        """The records of the store, after checking the whole chain with the keys of the host."""
        head = self.store.head()
        assert head[:12] == b"SJL1" + DEVICE, head
        generation, start = unpack_from("<HI", head, 12)
        tag = head[18:34]
        found = []
        key = None
        for record in self.store.records(0):
            kind, sequence, time, payload = journal_open.parse(record)
            if kind == journal.GENERATION:
                generation = unpack_from("<H", payload, 0)[0]
                start = sequence
                key = None
            if key is None:
                key = journal_open.first_key(ROOT, generation)
                for _ in range(sequence - start):
                    key = journal.next_key(key)
            want = crypto.MAC(key).tag(tag, record[:-16])[:16]
            assert want == record[-16:], ("tag of", sequence)
            tag = want
            key = journal.next_key(key)
            assert not found or found[-1][1] + 1 == sequence, (found[-1], sequence)
            found.append((kind, sequence, time, bytes(payload) if payload != PAYLOAD else PAYLOAD))
        return found


def fill(board, n, first_time=1000):
    for i in range(n):
        board.journal.append(journal.VERDICT, first_time + i, PAYLOAD)


def each(**options):
    for raw in (False, True):
        yield Board(raw, **options)


def test_records_and_their_order():
    for board in each():
        fill(board, 5)
        found = board.verified()
        assert [f[0] for f in found] == [journal.GENERATION] + [journal.VERDICT] * 5, found
        assert found[0][3] == pack("<H", 1)
        assert found[5] == (journal.VERDICT, 5, 1004, PAYLOAD), found[5]
        board.journal.commit()
        assert board.journal.next == 6


def test_payload_sizes():
    for board in each():
        for n in (0, 1, 37, 38, 100, 101, 102, 165, 200):
            assert board.journal.append(journal.ALERT, n, bytes(n))
        assert raises(StorageError, board.journal.append, journal.ALERT, 0, bytes(201)).code == "size"
        found = board.verified()
        assert [len(f[3]) for f in found[1:]] == [0, 1, 37, 38, 100, 101, 102, 165, 200], found
        board.restart()
        fill(board, 3)
        assert len(board.verified()) == 13


def test_rollover_and_retention():
    for board in each():
        fill(board, 400)
        board.journal.commit()
        while board.store.tidy():
            pass
        found = board.verified()
        assert found[-1][1] == 400, found[-1]
        assert 60 <= len(found) <= 80 + 5 * 16, len(found)
        assert board.store.first == found[0][1] > 0
        before = (board.store.first, board.store.next, board.journal.tag)
        board.restart()
        assert (board.store.first, board.store.next, board.journal.tag) == before
        assert board.verified() == found


def test_window_says_what_is_kept():
    for board in each(window=8):
        log = board.journal
        said = [log.append(journal.VERDICT, i, PAYLOAD) for i in range(20)]
        # The generation's own record is the first of the window.
        assert said == [False] * 6 + [True] + [False] * 7 + [True] + [False] * 5, said
        assert (log.next, log.kept) == (21, 16), (log.next, log.kept)
        log = board.restart()  # the power failed
        assert log.next == log.kept == 16, log.next
        log.append(journal.VERDICT, 99, PAYLOAD)
        log.commit()
        assert log.kept == 17
        assert len(board.verified()) == 17


def test_sealing_kinds_are_kept_at_once_and_move_the_key():
    for board in each(window=8, key_every=100, sealing=(journal.TAMPER,)):
        log = board.journal
        assert not log.append(journal.VERDICT, 1, PAYLOAD)
        assert journal_open.key_place(board.keys)[2] == 0
        assert log.append(journal.TAMPER, 2, b"case")
        assert journal_open.key_place(board.keys) == (1, 0, 3)


def test_old_keys_are_gone_from_flash():
    for board in each():
        key = journal_open.first_key(ROOT, 1)
        keys = []
        for _ in range(101):
            keys.append(bytes(key))
            key = journal.next_key(key)
        fill(board, 100)
        at = journal_open.key_place(board.keys)[2]
        assert at > 90, at
        left = [i for i, k in enumerate(keys) if bytes(board.flash.data).find(k) >= 0]
        assert left == [at], (left, at)
        log = board.restart()
        left = [i for i, k in enumerate(keys) if bytes(board.flash.data).find(k) >= 0]
        assert left == [], left  # moved on to the next record's key
        assert journal_open.key_place(board.keys)[2] == log.next


def test_cut_tail_is_seen_at_start():
    board = Board(False)
    fill(board, 20)
    # Someone removes the last files behind the journal's back.
    for path in sorted(board.tree.files)[-4:]:
        del board.tree.files[path]
    log = board.restart()
    assert log.lost > 0, log.lost
    at = log.next
    log.append(journal.RECOVERY, 5, b"lost")
    assert log.kept == at + 1
    sequences = [unpack_from("<I", r, 3)[0] for r in board.store.records(0)]
    assert sequences[-1] == at and sequences[-2] < at - 1, sequences
    log = board.restart()
    assert (log.lost, log.next) == (0, at + 1)


def test_forged_tail_is_dropped():
    for board in each(key_every=4):
        fill(board, 10)
        log = board.journal
        at = log.next
        last = log.tag
        bad = pack("<HBII", 64, journal.VERDICT, at, 0) + PAYLOAD + bytes(16)
        board.store.append(bad, at)
        log = board.restart()
        assert (log.dropped, log.next, log.tag) == (1, at, last), (log.dropped, log.next)
        fill(board, 3)
        found = board.verified()
        assert found[-1][1] == at + 2


def test_new_generation():
    for board in each():
        fill(board, 30)
        board.journal.renew(2, journal_open.first_key(ROOT, 2), 77)
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
        journal_open.stage_key(board.keys, 2, board.journal.next, journal_open.first_key(ROOT, 2))
        board.restart()
        fill(board, 2)
        kinds = [f[0] for f in board.verified()]
        assert kinds[-3:] == [journal.GENERATION, journal.VERDICT, journal.VERDICT], kinds


def test_no_key_no_journal():
    keys = KeyStore(Region(Nor(2, BLOCK), 0, 2, 1, BLOCK))
    keys.open()
    error = raises(StorageError, Journal(FileStore(Tree()), keys, DEVICE).open)
    assert error.code == "keys"


def test_records_from():
    for board in each():
        fill(board, 150)
        all_of = [unpack_from("<I", r, 3)[0] for r in board.store.records(0)]
        for sequence in (0, all_of[0], 100, 149, 150, 151, 999):
            got = [unpack_from("<I", r, 3)[0] for r in board.store.records(sequence)]
            assert got == [s for s in all_of if s >= sequence], (sequence, got)


def test_full_file_system_gives_up_the_oldest():
    board = Board(False, keep=10000)
    board.tree.room = 16000
    fill(board, 600)
    found = board.verified()
    assert found[-1][1] == 600 and len(found) > 100, len(found)
    board.tree.room = 0
    error = raises(StorageError, fill, board, 600)
    assert error.code == "full", error.code
    kept = board.journal.kept
    assert board.journal.next == kept + 1
    board.tree.room = None
    board.journal.commit()  # what waited is kept now
    assert board.verified()[-1][1] == kept


def test_files_of_others_are_left_alone():
    board = Board(False)
    fill(board, 60)
    for path in ("/journal/notes.txt", "/journal/t/README", "/journal/t/0000002g"):
        board.tree.files[path] = b"not a journal"
    log = board.restart()
    assert (log.next, log.lost) == (61, 0), log.next
    fill(board, 10)
    assert len(board.verified()) == 71
    assert "/journal/notes.txt" in board.tree.files


def test_a_full_file_system_without_room_for_a_name():
    board = Board(False, keep=10000)
    fill(board, 60)
    while board.store.tidy():
        pass
    fill(board, 25)
    first = board.store.first
    board.tree.names = len(board.tree.files)
    while board.store.tidy():
        pass
    assert board.store.first > first, board.store.first
    found = board.verified()
    assert [f[1] for f in found] == list(range(board.store.first, 86)), found


def test_program_sizes():
    for prog in (4, 32, 256):
        for board in each(prog=prog, window=4):
            fill(board, 200)
            board.restart()
            fill(board, 100)
            board.journal.commit()
            assert board.verified()[-1][1] >= 295


def test_flash_that_fails_once_loses_nothing():
    # Each program of the ring in turn does half its work and reports it; the journal goes on, then the power fails.
    for fails in range(1, 40):
        for window in (1, 9):
            board = Board(True, window=window)
            board.ring.fails = fails
            for i in range(70):
                try:
                    board.journal.append(journal.VERDICT, i, PAYLOAD)
                except OSError:
                    board.journal.commit()
            assert not board.ring.fails or window > 1, fails
            kept = board.journal.kept
            log = board.restart()
            assert (log.next, log.lost) == (kept, 0), (fails, window, log.next, kept)
            held = [f[1] for f in board.verified()]  # without a gap
            assert held[-1] + 1 == kept and len(held) >= 36, (fails, window, held)


def test_a_batch_is_one_program():
    board = Board(True, window=7, prog=256)
    fill(board, 6)
    board.ring.programmed = 0
    fill(board, 7)
    assert board.ring.programmed == 512, board.ring.programmed  # 7 slots behind 8 of 16


def test_parse_refuses_lengths():
    for bad in (b"", bytes(26), bytes(64), pack("<H", 228) + bytes(226)):
        assert raises(StorageError, journal_open.parse, bad).code == "record"
