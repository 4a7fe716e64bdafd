"""Keys in pinned blocks on a real littlefs: found again, never beside the file, no copy left, whatever is done to it.

Runs inside the Unix port, one function a time: `micropython pinned.py DEVICE TESTS test_a_full_file_system`.
"""

import os
import sys

sys.path[:0] = sys.argv[1:3]

import vfs
from flash_model import Nor
from sentill.keys import store_open, pinned  # noqa: F401  (kept loaded)
from sentill.errors import StorageError
from sentill.keys.store import KeyStore
from sentill.keys.pinned import MAGIC
from support import raises
from sweep import MODES, carry_out, torn

BLOCKS = 24
BLOCK = 4096
SECRET = b"this key must be found nowhere.."


class Computer:
    """A board's flash with a littlefs on it, mounted at /x."""

    def __init__(self, prog=256, blocks=BLOCKS):
        self.prog = prog
        self.flash = Nor(blocks)
        self.blocks = blocks
        self.format()

    def format(self):
        vfs.VfsLfs2.mkfs(self.flash, progsize=self.prog, readsize=32)

    def __enter__(self):
        vfs.mount(vfs.VfsLfs2(self.flash, progsize=self.prog, readsize=32), "/x")
        return self

    def __exit__(self, *exc):
        vfs.umount("/x")

    def region(self, flash=None):
        return pinned.open_region((flash or self.flash, self.blocks, self.prog), "/x/", os.urandom, os.remove)

    def keys(self):
        keys = KeyStore(self.region())
        keys.open()
        return keys

    def places(self):
        return [i for i in range(self.blocks) if self.flash.data[i * BLOCK : i * BLOCK + len(MAGIC)] == MAGIC]

    def empty(self):
        """The block of keys without the secret."""
        at = bytes(self.flash.data).find(SECRET)
        return [block for block in self.places() if block != at // BLOCK][0]

    def has(self, secret=SECRET):
        return bytes(self.flash.data).count(secret)


def fill(name, size, seed=1):
    """Write a file that looks like no other."""
    with open("/x/" + name, "wb") as file:
        for i in range(0, size, 64):
            file.write(bytes([(seed * 31 + i // 64 * 7 + j) & 255 for j in range(min(64, size - i))]))


def intact(name, size, seed=1):
    with open("/x/" + name, "rb") as file:
        for i in range(0, size, 64):
            if file.read(64) != bytes([(seed * 31 + i // 64 * 7 + j) & 255 for j in range(min(64, size - i))]):
                return False
        return file.read(1) == b""


def copy(name, other):
    with open("/x/" + name, "rb") as source, open("/x/" + other, "wb") as target:
        for _ in range(16):
            target.write(source.read(256))


def test_the_blocks_stay_while_the_file_system_works():
    for prog in (16, 256):
        computer = Computer(prog)
        with computer:
            keys = computer.keys()
            keys.put(1, SECRET)
            places = computer.places()
            assert len(places) == 2, places
        for turn in range(12):
            with computer:
                for i in range(6):
                    fill("f%d" % i, 700 + 900 * (i + turn) % 5000, i)
                if turn % 3 == 2:
                    os.remove("/x/f%d" % (turn % 6))
                keys = computer.keys()
                assert keys.get(1) == SECRET and computer.places() == places, turn
                for i in range(60):  # moves from block to block now and then
                    keys.put(2, bytes([turn, i] * 20))
                assert keys.get(2) == bytes([turn, 59] * 20)
                for i in range(6):
                    gone = turn % 3 == 2 and i == turn % 6
                    assert gone or intact("f%d" % i, 700 + 900 * (i + turn) % 5000, i), (turn, i)
        assert keys.erases > 0 and computer.has() == 1
        keys.wipe()
        assert computer.has() == 0


def test_removed_files_take_the_keys_along():
    computer = Computer()
    with computer:
        keys = computer.keys()
        keys.put(1, SECRET)
        os.remove("/x/keys0")
        os.remove("/x/keys1")
        assert computer.has() == 1, "littlefs leaves it"
        again = computer.keys()
        assert again.get(1) is None and computer.has() == 0 and len(computer.places()) == 2


def test_blocks_that_went_to_others_are_theirs():
    computer = Computer()
    with computer:
        computer.keys().put(1, SECRET)
        os.remove("/x/keys0")
        os.remove("/x/keys1")
        free = os.statvfs("/x")[3]
        names = []
        try:
            while True:  # until all blocks have had their turn
                names.append("g%d" % len(names))
                fill(names[-1], 4000, len(names))
        except OSError:
            os.remove("/x/" + names.pop())
        assert len(names) > free - 3 and computer.has() == 0
        os.remove("/x/" + names.pop())
        os.remove("/x/" + names.pop())
        keys = computer.keys()
        keys.put(1, SECRET)
        for i in range(200):
            keys.put(2, bytes([i] * 40))
        keys.wipe()
        assert all([intact(names[i], 4000, i + 1) for i in range(len(names))])


def test_a_file_that_was_rewritten_is_not_written_behind_its_back():
    computer = Computer()
    with computer:
        computer.keys().put(1, SECRET)
        copy("keys0", "backup")
        keys = computer.keys()
        assert keys.get(1) == SECRET and computer.has() == 1, "the copy is destroyed"
        fill("keys0", 4096)
        keys = computer.keys()
        assert keys.get(1) is None and computer.has() == 0 and len(computer.places()) == 2
        keys.put(1, SECRET)
        fill("keys1", 10000)
        keys = computer.keys()
        assert keys.get(1) == SECRET and computer.has() == 1 and len(computer.places()) == 2
        copy("keys0", "keys1")
        keys = computer.keys()
        assert keys.get(1) == SECRET and computer.has() == 1 and len(computer.places()) == 2


def test_an_old_copy_put_back_is_taken_for_what_it_is():
    computer = Computer()
    with computer:
        keys = computer.keys()
        keys.put(1, b"old")
        with open("/x/keys0", "rb") as file:
            old = file.read()
        keys.put(1, SECRET)
        with open("/x/keys0", "wb") as file:
            file.write(old)
        keys = computer.keys()
        assert keys.get(1) == b"old" and computer.has() == 0 and len(computer.places()) == 2
        keys.put(1, SECRET)
        assert computer.keys().get(1) == SECRET and computer.has() == 1


def test_copies_without_end_end_the_keys():
    computer = Computer()
    with computer:
        computer.keys().put(1, SECRET)
        for i in range(60):
            copy("keys0", "c")
            assert computer.keys().get(1) == SECRET and computer.has() == 1 and len(computer.places()) == 2, i
        for block in computer.places():
            computer.flash.data[block * BLOCK + 32 : block * BLOCK + 256] = bytes(224)
        assert computer.keys().get(1) == SECRET, "no mark is left, none is needed"
        copy("keys0", "c")
        keys = computer.keys()
        assert keys.get(1) is None and computer.has() == 0 and len(computer.places()) == 2
        keys.put(1, SECRET)
        assert computer.keys().get(1) == SECRET


def test_an_erase_that_was_cut_short():
    computer = Computer()
    for half in (0, 1):
        with computer:
            keys = computer.keys()
            keys.put(1, SECRET)
            keys = computer.keys()
            at = computer.empty() * BLOCK
            computer.flash.data[at : at + 2048] = b"\xff" * 2048
            if half:
                computer.flash.data[at : at + 7] = MAGIC[:7]
            keys = computer.keys()
            assert keys.get(1) == SECRET and len(computer.places()) == 2
            for i in range(100):
                keys.put(2, bytes([i] * 40))
            assert computer.keys().get(2) == bytes([99] * 40) and computer.has() == 1


def test_a_full_file_system():
    computer = Computer()
    with computer:
        names = []
        try:
            while True:
                names.append("g%d" % len(names))
                fill(names[-1], 4096, len(names))
        except OSError:
            os.remove("/x/" + names.pop())
        for name in ("keys0", "keys1"):
            assert raises(StorageError, computer.keys).code == "full"
            os.remove("/x/" + names.pop())
        keys = computer.keys()
        keys.put(1, SECRET)
        names.append("h")
        fill("h", 60, len(names))
        computer.flash.ioctl(6, computer.empty())
        assert computer.keys().get(1) == SECRET, "no room but that of the damaged file"
        assert all([intact(names[i], 4096, i + 1) for i in range(len(names) - 1)])


def test_a_new_file_system_on_old_flash():
    computer = Computer()
    with computer:
        computer.keys().put(1, SECRET)
    computer.format()
    assert computer.has() == 1
    with computer:
        assert computer.keys().get(1) is None and computer.has() == 0 and len(computer.places()) == 2


def test_another_flash_is_not_touched():
    computer = Computer()
    other = Nor(BLOCKS)
    with computer:
        computer.keys().put(1, SECRET)
        other.data[:] = computer.flash.data  # all as it is there, but for what comes
        other.data[computer.places()[0] * BLOCK + 3000] = 0
        before = bytes(other.data)
        assert raises(StorageError, computer.region, other).code == "keys"
        assert bytes(other.data) == before


def test_flash_that_does_not_keep_bits():
    # As encrypted flash, which reads back something else when it is programmed twice.
    computer = Computer()

    class Garbling:
        readblocks = computer.flash.readblocks

        @staticmethod
        def writeblocks(block, data, offset):
            computer.flash.writeblocks(block, bytes([b | 1 for b in data]), offset)

        ioctl = computer.flash.ioctl

    with computer:
        fill("f", 9000)
        error = raises(StorageError, computer.region, Garbling)
        assert error.code == "flash", error
        assert intact("f", 9000)


def secret(i):
    """The key that is the i-th to be kept."""
    return b"secret %3d of a key" % i


def cuts(step=1):
    """Cut the power at every operation while keys are replaced, their files copied, and removed; what is wrong then."""
    computer = Computer()
    with computer:
        fill("f", 9000)
    flash = computer.flash
    image = bytearray(flash.data)
    log = flash.log = []
    kept = []  # operations after which a key was the one to keep, None: none need be

    def replace(keys, first, last):
        for i in range(first, last):
            keys.put(1, secret(i) + bytes(180))
            kept.append((len(log), i))

    with computer:
        replace(computer.keys(), 0, 40)
        copy("keys0", "copy0")
        copy("keys1", "copy1")
        replace(computer.keys(), 40, 44)
        kept.append((len(log), None))
        os.remove("/x/keys0")
        os.remove("/x/keys1")
        replace(computer.keys(), 44, 48)
    flash.log = None
    faults = []
    newest = None
    at = tried = 0
    for done, entry in enumerate(log):
        while at < len(kept) and kept[at][0] <= done:
            newest = kept[at][1]
            at += 1
        for turn, mode in enumerate(MODES):
            if (done + turn) % step:
                continue
            tried += 1
            flash.data[:] = image
            torn(flash.data, entry, mode, done * 3 + turn)
            with computer:
                keys = computer.keys()
                got = keys.get(1)
                i = None if got is None else int(got[7:10])
                if got and got[:19] != secret(i):
                    faults.append("%s at %d: not a key" % (mode, done))
                if newest is not None and i not in (newest, newest + 1) and not (i is None and newest == 43):
                    faults.append("%s at %d: key %s in place of %s" % (mode, done, i, newest))
                left = bytes(flash.data).count(b" of a key")
                if left != (got is not None) or len(computer.places()) != 2:
                    faults.append("%s at %d: %d keys left, places %s" % (mode, done, left, computer.places()))
                if not intact("f", 9000):
                    faults.append("%s at %d: a file is damaged" % (mode, done))
        carry_out(image, entry)
    return tried, faults


def test_power_cuts():
    tried, faults = cuts()
    print(tried, "cuts")
    assert tried > 300 and not faults, (tried, len(faults), faults[:5])


def test_a_seeded_bug_is_caught():
    pinned._destroy = lambda whole, block: None
    tried, faults = cuts(5)
    assert any(["keys left" in fault for fault in faults]), (tried, faults[:5])


if __name__ == "__main__":
    globals()[sys.argv[3]]()
    print("passed")
