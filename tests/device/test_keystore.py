"""Secrets on raw flash: replaced whole, former values overwritten, power cuts at every program and erase."""

from flash_model import Nor, program
from sentill.errors import StorageError
from sentill.flash import Region
from sentill.keys.store import MAX, KeyStore
from support import raises

BLOCK = 1024


def opened(flash, prog=1):
    keys = KeyStore(Region(flash, 0, flash.count, prog, BLOCK))
    keys.open()
    return keys


def secret(name, i):
    """32 bytes that look like no other secret's."""
    return bytes([name, i & 255, i >> 8]) + b"-secret-" + bytes([(i * 7 + j * 13 + name) & 255 for j in range(21)])


def test_put_get_remove():
    for prog in (1, 32, 256):
        flash = Nor(2, BLOCK)
        keys = opened(flash, prog)
        assert keys.get(1) is None
        for i in range(100):
            keys.put(1, secret(1, i))
            keys.put(2, secret(2, i)[: i % 20])
            if i % 7 == 0:
                keys = opened(flash, prog)
            assert keys.get(1) == secret(1, i) and keys.get(2) == secret(2, i)[: i % 20], i
            for j in range(max(0, i - 5), i):
                assert bytes(flash.data).find(secret(1, j)[3:]) < 0, (i, j)
        keys.remove(1)
        keys.remove(9)
        keys = opened(flash, prog)
        assert keys.get(1) is None and keys.get(2) == secret(2, 99)[:19]
        assert bytes(flash.data).find(secret(1, 99)) < 0


def test_limits():
    keys = opened(Nor(2, BLOCK))
    for name, size in ((0, 1), (251, 1), (255, 1), (1, MAX + 1)):
        assert raises(StorageError, keys.put, name, bytes(size)).code == "size", (name, size)
    for name in range(1, 5):
        keys.put(name, bytes(range(MAX)))
    assert raises(StorageError, keys.put, 5, bytes(MAX)).code == "size"
    assert all([keys.get(name) == bytes(range(MAX)) for name in range(1, 5)])
    assert raises(StorageError, KeyStore, Region(Nor(1, BLOCK), 0, 1, 1, BLOCK)).code == "keys"


def test_a_move_is_announced_a_step_before():
    """So that loading the module for it and the erase need not come at once."""
    flash = Nor(2, BLOCK)
    keys = opened(flash)
    while keys.room(32):
        keys.put(1, secret(1, 1))
    erases = keys.erases
    assert not keys.ready(32) and keys.ready(32) and keys.erases == erases
    keys.put(1, secret(1, 2))
    assert keys.erases > erases and keys.ready(32) and opened(flash).get(1) == secret(1, 2)


def test_flash_that_does_not_keep_what_is_written():
    flash = Nor(2, BLOCK)
    keys = opened(flash)
    keys.put(1, b"old")
    flash.data[40:44] = bytes(4)  # worn out cells
    assert raises(StorageError, keys.put, 1, b"newer value, 30 bytes of it ok").code == "flash"
    assert keys.get(1) == b"old"
    assert opened(flash).get(1) == b"old"


def test_wipe_and_format():
    flash = Nor(2, BLOCK)
    keys = opened(flash)
    for i in range(50):
        keys.put(1, secret(1, i))
    keys.put(2, secret(2, 0))
    keys.wipe()
    for _ in range(2):
        assert keys.wiped and keys.get(1) is None and keys.get(2) is None
        assert raises(StorageError, keys.put, 1, b"x").code == "wiped"
        assert bytes(flash.data).find(b"-secret-") < 0
        keys = opened(flash)
    keys.format()
    assert not keys.wiped
    keys.put(1, b"new")
    keys = opened(flash)
    assert keys.get(1) == b"new" and not keys.wiped


def test_a_wipe_on_worn_flash_still_overwrites():
    flash = Nor(2, BLOCK)
    keys = opened(flash)
    for i in range(5):
        keys.put(1, secret(1, i))
    flash.fails = 1  # the mark
    assert isinstance(raises(OSError, keys.wipe), OSError)
    assert keys.wiped and keys.get(1) is None
    assert bytes(flash.data).find(b"-secret-") < 0


def torn(image, entry, mode, noise):
    """`image` after a power cut in a program or erase: none, a half, or some bytes of it done."""
    at, data = entry
    if data is None:
        at, data = at * BLOCK, b"\xff" * BLOCK
        if mode == 1:
            image[at : at + BLOCK // 2] = data[: BLOCK // 2]
        elif mode == 2:
            image[at + BLOCK // 2 : at + BLOCK] = data[: BLOCK // 2]
        elif mode == 3:
            for i in range(0, BLOCK, 3 + noise % 5):
                image[at + i] = 0xFF
    elif mode == 1:
        program(image, at, data[: len(data) // 2])
    elif mode == 2:
        program(image, at + len(data) // 2, data[len(data) // 2 :])
    elif mode == 3:
        for i in range(noise % 3, len(data), 2 + noise % 3):
            program(image, at + i, data[i : i + 1])


def test_power_cuts():
    # Two entries replaced in turns, blocks moved; then a wipe. Each cut image must come up with what was acknowledged.
    flash = Nor(2, BLOCK)
    flash.log = []
    keys = opened(flash)
    done = []  # operations after which (name, i) was acknowledged
    for i in range(40):
        for name in (1, 2):
            keys.put(name, secret(name, i))
            done.append((len(flash.log), name, i))
    wipe_from = len(flash.log)
    keys.wipe()
    image = bytearray(b"\xff" * (2 * BLOCK))
    other = Nor(2, BLOCK)
    step = 0
    have = {1: -1, 2: -1}
    for at, entry in enumerate(flash.log):
        while step < len(done) and done[step][0] <= at:
            have[done[step][1]] = done[step][2]
            step += 1
        for mode in range(4):
            other.data[:] = image
            torn(other.data, entry, mode, at)
            keys = opened(other)
            held = bytes(other.data)
            if keys.wiped:
                assert at >= wipe_from
                assert held.find(b"-secret-") < 0, ("left after a wipe", at, mode)
                continue
            assert at <= wipe_from, (at, wipe_from)
            for name in (1, 2):
                got = keys.get(name)
                # The one being written when the power failed may be there too.
                next_i = have[name] + 1
                assert got == (secret(name, have[name]) if have[name] >= 0 else None) or got == secret(name, next_i), (
                    at,
                    mode,
                    name,
                    have[name],
                    got,
                )
            count = held.count(b"-secret-")
            assert count <= 2, ("former values left", at, mode, count)
            keys.put(3, b"goes on")
            assert opened(other).get(3) == b"goes on"
        if entry[1] is None:
            image[entry[0] * BLOCK : (entry[0] + 1) * BLOCK] = b"\xff" * BLOCK
        else:
            program(image, entry[0], entry[1])


def test_a_wipe_that_was_cut_is_completed_at_the_next_start():
    flash = Nor(2, BLOCK)
    keys = opened(flash)
    keys.put(1, secret(1, 1))
    flash.log = []
    keys.wipe()
    mark = flash.log[0]
    flash = Nor(2, BLOCK)
    keys = opened(flash)
    keys.put(1, secret(1, 1))
    program(flash.data, mark[0], mark[1])  # the mark is there, the key too
    keys = opened(flash)
    assert keys.wiped and bytes(flash.data).find(b"-secret-") < 0
