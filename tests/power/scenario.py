"""What runs on flash in the power-cut sweep, recorded once as a list of programs and erases; for the Unix port.

One NOR flash carries a littlefs (or a ring for raw journals) and, behind it, the two blocks of the key store. While the
scenario runs, `acked` notes after how many operations which fact was acknowledged, `tried` when it was begun.
"""

import os
from binascii import crc32
from hashlib import sha256
from struct import pack

import vfs
from flash_model import Nor
from sentill.journal import chain, fs_blocks, recovery, ring_read, next_block  # noqa: F401  (kept loaded)
from sentill.keys import store_open  # noqa: F401  (kept loaded)
from sentill.node import files as store  # noqa: F401  (kept loaded)
from sentill.flash import Region
from sentill.journal.chain import Journal
from sentill.journal.ring import Ring
from sentill.keys.store import KeyStore

DEVICE = b"sweep-01"
ROOT = b"root key of the swept device...."
BLOCKS = 34
RESERVE = 18  # blocks of the littlefs that stay free for others
LEAST = 5  # of it that the journal does not give back
RING = 6
KEY_BLOCKS = 2
KEEP = 128  # records held at least, once there were as many
PAYLOAD_BYTES = 37  # records of 64 bytes


class Part:
    """The first `count` blocks of a flash, as a block device of its own."""

    def __init__(self, flash, count):
        self.readblocks = flash.readblocks
        self.writeblocks = flash.writeblocks
        self._ioctl = flash.ioctl
        self._count = count

    def ioctl(self, operation, argument):
        return self._count if operation == 4 else self._ioctl(operation, argument)


class Options:
    """What is swept: the store (`raw`), program size, window, records of `mixed` sizes, seeded bug ("" for none)."""

    def __init__(self, raw=False, prog=32, window=1, mixed=False, appends=500, bug=""):
        self.raw = raw
        self.prog = prog
        self.window = window
        self.mixed = mixed
        self.appends = appends
        self.bug = bug
        self.blocks = RING if raw else BLOCKS


class OpenKeyStore(KeyStore):
    """Seeded bug: former values stay where they are."""

    def _zero(self, address, length):
        pass


class HastyRing(Ring):
    """Seeded bug: acknowledges what is programmed only with the next records."""

    _late = None

    def program(self, address, data):
        if self._late:
            Ring.program(self, *self._late)
        self._late = address, bytes(data)


class Calls:
    """The file calls of the mounted littlefs, as a board's node hands them over."""

    open = open
    ilistdir = os.ilistdir
    mkdir = os.mkdir
    remove = os.remove
    rename = os.rename
    statvfs = os.statvfs


_numbers = iter(range(1 << 30))


def numbered(n):
    """Bytes that no other block begins with."""
    return sha256(pack("<I", next(_numbers))).digest()[:n]


class HastyStore(store.Store):
    """Seeded bug: renames the new file before it is closed."""

    def save(self, name, save):
        path = self.path(name)
        pieces = []
        save(pieces.append)
        data = b"".join(pieces)
        with open(path + ".new", "wb") as file:
            file.write(data + crc32(data).to_bytes(4, "little"))
            os.rename(path + ".new", path)


class Machine:
    """The node's storage on a flash image; made anew for each boot."""

    def __init__(self, flash, options):
        self.flash = flash
        self.options = options
        self.fs = None

    def boot(self):
        o = self.options
        part = Part(self.flash, o.blocks)
        # Key store first: a wipe that was cut is completed before anything else.
        region = Region(self.flash, o.blocks, KEY_BLOCKS, o.prog)
        self.keys = (OpenKeyStore if o.bug == "key" else KeyStore)(region)
        self.keys.open()
        if o.raw:
            region = Region(self.flash, 0, RING, o.prog)
        else:
            self.fs = vfs.VfsLfs2(part, progsize=o.prog, readsize=o.prog)
            vfs.mount(self.fs, "/x")
            files = Calls, "/x/journal", numbered, RESERVE, LEAST, 99
            region = fs_blocks.open_region((part, o.blocks, o.prog), files)
            while region.count < 3:
                for _ in fs_blocks.extend(region):
                    pass
            self.files = (HastyStore if o.bug == "rename" else store.Store)("/x/", "/x/")
        self.store = (HastyRing if o.bug == "flush" else Ring)(region)
        self.journal = Journal(self.store, self.keys, DEVICE)
        if recovery.key_place(self.keys):
            self.journal.open()
        else:
            self.store.open(DEVICE)

    def halt(self):
        self.store.close()
        if self.fs:
            vfs.umount("/x")
            self.fs = None


def payload(i, mixed=False):
    """What tells record i from every other: 37 bytes, or with `mixed` up to 200."""
    digest = sha256(pack("<I", i)).digest()
    data = pack("<I", i) + digest + b"!"
    return (data * 6)[: 4 + digest[0] * digest[1] // 331] if mixed else data


def content(name, version):
    """What the file `name` holds in its version; config grows across the inline limit, the model is far above it."""
    size = {"config.json": 60 + version % 7 * 40, "state.bin": 700, "model.stm": 5000}[name]
    return (b"%s %d " % (name.encode(), version) * (size // 8 + 1))[:size]


class Recording:
    """The log of one run and what it must have left: records by sequence, keys by (generation, sequence)."""

    def __init__(self, options):
        self.options = options
        self.acked = []  # (operations done, fact, value)
        self.tried = []
        self.records = {}
        self.keys = {}
        self.wipe_from = None
        self.base = None
        self.log = []


def record(options):
    """Run the scenario: appends with roll-over, retention and key evolution, file changes, renewal, wipe."""
    run = Recording(options)
    flash = Nor(options.blocks + KEY_BLOCKS)
    if not options.raw:
        vfs.VfsLfs2.mkfs(Part(flash, options.blocks), progsize=options.prog, readsize=options.prog)
    machine = Machine(flash, options)
    machine.boot()
    machine.halt()
    run.base = bytearray(flash.data)
    flash.log = run.log
    run.tried.append((0, "generation", 1))
    machine.boot()
    recovery.stage_key(machine.keys, 1, 0, recovery.first_key(ROOT, 1))
    run.acked.append((len(run.log), "generation", 1))
    machine.journal.open()
    log = machine.journal
    version = 0
    for i in range(options.appends):
        if i == options.appends // 2:
            run.tried.append((len(run.log), "generation", 2))
            run.tried.append((len(run.log), "next", log.next + 1))
            log.renew(2, recovery.first_key(ROOT, 2), i)
            run.acked.append((len(run.log), "generation", 2))
        run.tried.append((len(run.log), "next", log.next + (2 if i == 0 else 1)))
        log.append(chain.CONFIG if i % 25 == 24 else chain.VERDICT, i, payload(i, options.mixed))
        if log.next - log.kept >= options.window:
            log.commit()
        run.acked.append((len(run.log), "next", log.kept))
        if i % 5 == 4:
            while log.kept == log.next and log.piece():  # what is done ahead
                pass
        if i == options.appends * 6 // 10 and not options.raw:
            hog()  # somebody else fills the disk
        if i == options.appends * 8 // 10 and not options.raw:
            os.remove("/x/hog")
        if i % 25 == 24 and not options.raw:
            for name in ("config.json", "state.bin", "model.stm")[: 3 if i % 100 == 99 else 2]:
                run.tried.append((len(run.log), name, version))
                machine.files.save(name, lambda write: write(content(name, version)))
                run.acked.append((len(run.log), name, version))
            version += 1
    run.tried.append((len(run.log), "next", log.next + 1))
    log.append(chain.TAMPER, options.appends, b"case opened")
    run.acked.append((len(run.log), "next", log.kept))
    run.wipe_from = len(run.log)
    machine.keys.wipe()
    run.acked.append((len(run.log), "wiped", True))
    expect(run)
    flash.log = None
    machine.halt()
    return run


def hog():
    """Leave three blocks of the littlefs free."""
    with open("/x/hog", "wb") as file:
        for _ in range(os.statvfs("/x")[3] - 3):
            file.write(b"x" * 4096)


def expect(run):
    """Compute what the chain must hold, apart from the code that wrote it."""
    options = run.options
    tag = recovery.first_tag(DEVICE)
    sequence = 0
    key = None

    def add(kind, time, data):
        nonlocal tag, sequence, key
        body = pack("<HBII", 27 + len(data), kind, sequence, time) + data
        run.keys[generation, sequence] = key
        tag = hmac(key, tag + body)[:16]
        run.records[sequence] = body + tag
        key = sha256(b"next" + key).digest()
        sequence += 1
        run.keys[generation, sequence] = key

    for i in range(options.appends):
        if i in (0, options.appends // 2):
            generation = 1 if i == 0 else 2
            key = recovery.first_key(ROOT, generation)
            add(chain.GENERATION, i, pack("<H", generation))
        add(chain.CONFIG if i % 25 == 24 else chain.VERDICT, i, payload(i, options.mixed))
    add(chain.TAMPER, options.appends, b"case opened")


def hmac(key, data):
    """HMAC-SHA256 for a key of 32 bytes, written out."""
    inner = sha256(bytes([b ^ 0x36 for b in key]) + b"\x36" * 32 + data).digest()
    return sha256(bytes([b ^ 0x5C for b in key]) + b"\x5c" * 32 + inner).digest()
