"""Files of the node: whole, checked and read in pieces."""

import os

from sentill.errors import StorageError
from sentill.node.files import Store, free_kb
from sentill.risk.features import History
from support import raises, scratch_path


def _store():
    path = scratch_path("")
    for name in ("state.bin", "state.bin.new"):
        if name in os.listdir(path):
            os.remove(path + name)
    return Store(path, path)


class _Kept:
    """Remembers what it was given back, in buffers of `piece` bytes."""

    def __init__(self, data=b"", piece=100):
        self.data = data
        self.piece = piece
        self.calls = 0

    def save(self, write):
        for at in range(0, len(self.data), self.piece):
            write(self.data[at : at + self.piece])

    def restore(self, readinto, size):
        self.calls += 1
        self.data = b""
        while size:
            buffer = bytearray(min(size, self.piece))
            readinto(buffer)
            self.data += buffer
            size -= len(buffer)


def test_what_is_saved_comes_back():
    store = _store()
    kept = _Kept()
    assert store.load("state.bin", kept.restore) is False and kept.calls == 0
    for size in (0, 1, 255, 256, 257, 5000):
        data = bytes([i * 7 & 255 for i in range(size)])
        store.save("state.bin", _Kept(data).save)
        kept = _Kept(piece=64)
        assert store.load("state.bin", kept.restore) is True
        assert kept.data == data, size
    assert store.erases == 6, store.erases
    assert store.take("state.bin") and not store.take("state.bin")


def test_damage_is_seen_before_anything_is_given_back():
    store = _store()
    history = History(16)
    for i in range(9):
        history.add(i, 1000 * i, 500, 0, 0, 0)
    store.save("state.bin", history.save)
    with open(store.path("state.bin"), "rb") as file:
        image = file.read()
    bad = [image[:size] for size in range(0, len(image), 11)] + [image + b"\0", b"", b"abc"]
    for at in range(0, len(image), 5):
        changed = bytearray(image)
        changed[at] ^= 1 << at % 8
        bad.append(bytes(changed))
    for content in bad:
        with open(store.path("state.bin"), "wb") as file:
            file.write(content)
        kept = _Kept()
        error = raises(StorageError, store.load, "state.bin", kept.restore)
        assert (error.code, kept.calls) == ("damaged", 0), (error, len(content))


def test_a_save_that_fails_leaves_the_old_file():
    store = _store()
    store.save("state.bin", _Kept(b"old").save)

    def failing(write):
        write(b"new")
        raise OSError(28)

    raises(OSError, store.save, "state.bin", failing)
    kept = _Kept()
    store.load("state.bin", kept.restore)
    assert kept.data == b"old", kept.data


def test_asking_for_more_than_there_is_raises():
    store = _store()
    store.save("state.bin", _Kept(b"short").save)
    error = raises(StorageError, store.load, "state.bin", lambda readinto, size: readinto(bytearray(10)))
    assert error.code == "damaged", error


def test_a_full_file_system_has_nothing_free_whatever_littlefs_says():
    for free, told in ((30, 120), (64, 256), (0, 0), (4294967294, 0), (-2, 0)):
        assert free_kb((4096, 4096, 64, free, free)) == told, (free, told)


def test_writing_goes_in_steps_and_asks_once():
    """Power may go after every step: there is the old file or the new one."""
    store = _store()
    old = bytes(range(200))
    store.save("state.bin", _Kept(old).save)
    new = bytes([i * 11 & 255 for i in range(9000)])
    source = _Kept(new)
    steps = 0
    for _ in store.writing("state.bin", source.save):
        steps += 1
        source.data = b"changed since"
        kept = _Kept()
        assert store.load("state.bin", kept.restore) and kept.data == old, steps
    assert steps == 9, steps  # the image, the file, four halves of blocks, the rest, its checksum, the folder
    assert store.load("state.bin", kept.restore) and kept.data == new


def test_arrays_are_saved_as_their_bytes():
    from array import array

    store = _store()
    store.save("state.bin", lambda write: write(array("H", (1, 2, 65535))))
    kept = _Kept()
    assert store.load("state.bin", kept.restore) and kept.data == bytes((1, 0, 2, 0, 255, 255)), kept.data
