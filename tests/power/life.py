"""Power cuts over the life of a device's keys; runs inside the Unix port, as sweep.py does and with the same options.

    micropython life.py DEVICE TESTS '{"raw": false, "pinned": false, "prog": 256, "bug": "", "share": [part, of]}'

A device starts with the lab key, is given keys, uses counters, is given new keys, is tampered with, which erases them,
and is given keys again; all of it by the node's own code, on one flash with a littlefs, the keys, and a ring of raw
blocks for records or the littlefs for them; with `pinned` all of it is in the littlefs, the keys in pinned blocks. Each
program and erase is cut; the next start must find a whole state.
"""

import json
import os
import sys
from binascii import b2a_base64
from hashlib import sha256
from struct import pack, unpack_from

sys.path[:0] = sys.argv[1:3]

import vfs
from flash_model import Nor
from scenario import Part
from sentill.keys import provision, derivation
from sentill.node import boot_flash
from sentill import crypto
from sentill.journal import chain, recovery
from sentill.update import verifier
from sentill.journal.recorder import Audit
from sentill.errors import SentillError
from sentill.node.files import Store
from sweep import BLOCK, MODES, Facts, Fault, carry_out, check, torn

UID = "6c6966652d303031"
DEVICE = b"life-001"
FILES = 24  # blocks of the littlefs
POLICY = 7
IMAGE = b"archive of the version that runs" + bytes(range(32))
RECORDS = 12  # between two events
LAB = crypto.LAB_ROOT
OTHERS = (
    ("slot", b"a"),
    ("slot_a.img", IMAGE),
    ("small", b"a few bytes"),
    ("large", bytes([i * i >> 3 & 255 for i in range(9000)])),
)


def given(generation):
    """The root key of a generation."""
    return sha256(b"root %d" % generation).digest() if generation else LAB


def proof(generation):
    """What lets the keys after this generation's be replaced once they are erased."""
    return sha256(b"recovery %d" % generation).digest()


class Board:
    TAMPER = ()


class Hal:
    """Of the hardware only the flash is there."""

    root = "/x/"
    board = Board

    def __init__(self, raw, files=None):
        self._raw = raw
        self._files = files
        self.keys = None

    def raw_flash(self):
        return self._raw

    def file_flash(self):
        return self._files

    def urandom(self, n):
        return os.urandom(n)

    def remove(self, path):
        os.remove(path)

    def uid(self):
        return UID

    def now_s(self):
        return 1000

    def reset_cause(self):
        return "power"


class Session:
    def left_s(self):
        return 60

    def end(self):
        pass


class Node:
    """What keys, journal and tamper detection want of a node."""

    def __init__(self, hal):
        self.hal = hal
        self.store = Store(hal.root, hal.root)
        self.session = Session()
        self.audit = Audit(self)
        self.tampered = self.after = ""
        self.faults = []
        self.errors = []

    def guard(self, text):
        return False

    def attempt(self, part, function, *args):
        try:
            return function(*args)
        except (SentillError, OSError) as error:
            self.fault(part, error)

    def fault(self, part, error):
        self.faults.append(part)
        self.errors.append((part, error))

    def event(self, name, pairs, kind=0):
        if kind:
            self.audit.note(kind, [("ev", name)] + pairs)

    def report(self, part, error):
        self.errors.append((part, error))


class Options:
    def __init__(self, raw=False, prog=256, bug="", pinned=False):
        self.raw = raw
        self.prog = prog
        self.bug = bug
        self.pinned = pinned
        self.blocks = 0 if pinned else 2 + (4 if raw else 0)


class Machine:
    """The device on a flash image."""

    def __init__(self, flash, options):
        self.flash = flash
        self.options = options
        self.fs = None

    def boot(self):
        o = self.options
        files = Part(self.flash, FILES)
        self.fs = vfs.VfsLfs2(files, progsize=o.prog, readsize=32)
        vfs.mount(self.fs, "/x")
        raw = None if o.pinned else (Behind(self.flash, FILES), o.blocks, o.prog)
        self.node = node = Node(Hal(raw, (files, FILES, o.prog)))
        boot_flash.open_all(node)
        boot_flash.note_start(node.audit, [("sw", "1"), ("cfg", "%d" % node.vault.generation)], node.faults)
        node.audit.commit()
        return node

    def halt(self):
        if self.fs:
            vfs.umount("/x")
            self.fs = None


class Behind:
    """The blocks behind the littlefs, as a block device of its own."""

    def __init__(self, flash, first):
        self._flash = flash
        self._first = first

    def readblocks(self, block, buffer, offset=0):
        self._flash.readblocks(self._first + block, buffer, offset)

    def writeblocks(self, block, data, offset=0):
        self._flash.writeblocks(self._first + block, data, offset)

    def ioctl(self, operation, argument):
        return self._flash.ioctl(operation, self._first + argument)


def frame(node, generation):
    """The fields of the command that gives a node keys."""
    root = given(generation)
    old = node.vault.generation
    if old:
        pad = derivation.derive(derivation.kept(given(old)), b"wrap" + pack("<H", generation))
        root = bytes([a ^ b for a, b in zip(root, pad)])
    fields = {
        "gen": generation,
        "prof": 1,
        "pol": POLICY,
        "key": text(root),
        "rec": text(sha256(proof(generation)).digest()),
    }
    if node.tampered:
        fields["proof"] = text(proof(generation - 1))
    return fields


def text(data):
    return b2a_base64(data)[:-1].decode()


class Run:
    """The operations of the scenario, and after how many of them which fact was begun and acknowledged."""

    def __init__(self, options):
        self.options = options
        self.tried = []
        self.acked = []
        self.log = []
        self.base = None

    def fact(self, name, value, function):
        self.tried.append((len(self.log), name, value))
        function()
        self.acked.append((len(self.log), name, value))


def record(options):
    """Run the scenario once."""
    run = Run(options)
    flash = Nor(FILES + options.blocks)
    files = Part(flash, FILES)
    vfs.VfsLfs2.mkfs(files, progsize=options.prog, readsize=32)
    vfs.mount(vfs.VfsLfs2(files, progsize=options.prog, readsize=32), "/x")
    for name, data in OTHERS:
        with open("/x/" + name, "wb") as file:
            file.write(data)
    vfs.umount("/x")
    run.base = bytearray(flash.data)
    flash.log = run.log
    machine = Machine(flash, options)
    made = 0
    for step in (1, 2, "tamper", 3, ""):
        run.tried.append((len(run.log), "start", step))
        node = machine.boot()
        check(not node.errors or node.tampered, node.errors)
        for _ in range(RECORDS if node.audit.journal else 0):

            def one():
                node.audit.record(chain.VERDICT, b"%d" % made)
                node.audit.commit()
                node.audit.piece()  # what is done ahead

            run.fact("records", made, one)
            made += 1
        for _ in range(3 if node.vault.generation else 0):
            c = node.vault.counters[0] + 40
            run.fact("counter", (node.vault.generation, c), lambda: node.vault.use(0, c))
        if step == "tamper":
            run.fact("tamper", True, lambda: node.tamper.trip("case"))
        elif step:
            run.fact("keys", step, lambda: provision.provision(node, None, frame(node, step)))
            if step == 3:
                run.acked.append((len(run.log), "tamper", False))
        machine.halt()
    flash.log = None
    return run


def journal_keys(generation, count=50):
    """The first journal keys of a generation."""
    key = recovery.first_key(given(generation), generation)
    keys = []
    for _ in range(count):
        keys.append(key)
        key = chain.next_key(key)
    return keys


def look(run, machine, facts, chains):
    """Raise Fault unless the device that started is one that could be, and keeps no key it should not."""
    node = machine.node
    acked, tried = facts.acked, facts.tried
    generation = node.vault.generation
    wiped = node.audit.keys.wiped
    tamper_begun = tried.get("tamper", False)
    least, most = acked.get("keys", 0), tried.get("keys", 0)
    check(not [e for e in node.errors if not (node.tampered and e[0] == "journal")], node.errors)
    if acked.get("tamper"):
        # Erased; from then on only the next keys count.
        check(generation == 0 or (most == 3 and generation == 3), "generation", generation, "after the erasure")
    elif tamper_begun and generation == 0:
        check(wiped and node.tampered, "no keys, and not tampered")
    else:
        check(least <= generation <= most, "generation", generation, "not", least, "to", most)
    if generation == 0 and (acked.get("keys") or wiped):
        check(node.tampered and node.tamper.refusing, "keys are gone and the node does not mind")
        check(wiped or most == 3, "without keys, but not wiped")
        check(node.audit.journal is None, "a journal without keys")
    else:
        check(
            node.audit.journal.generation == generation, "the journal is of generation", node.audit.journal.generation
        )
    if generation:
        may_run = verifier.Verifier(node.audit.keys, UID).adopted(IMAGE[-32:])
        check(may_run, "what ran when the keys came must not start any more")
    # Counters that were used stay used, as long as the keys are those they were used with.
    counter = acked.get("counter", (0, 0))
    check(generation != counter[0] or node.vault.counters[0] > counter[1] or not generation, "a used counter is free")
    records(run, node, facts, chains)
    held(machine, generation, chains)
    for name, data in OTHERS:
        with open("/x/" + name, "rb") as file:
            check(file.read() == data, "the file", name, "is damaged")


def records(run, node, facts, chains):
    # The chain, with the keys a host has; every acknowledged record is in it.
    store = node.audit.store
    at = store.first
    tag = store.head()[-16:]
    generation, start = unpack_from("<HI", store.head(), 12)
    mac = crypto.mac()
    found = -1
    tampered = False
    for found_record in store.records(at):
        kind, sequence, _, payload = recovery.parse(found_record)
        check(sequence == at, "record", sequence, "in place of", at)
        if kind == chain.GENERATION:
            generation, start = unpack_from("<H", payload, 0)[0], sequence
        mac.rekey(chains[generation][sequence - start])
        want = mac.tag(tag, bytes(found_record[:-16]))[:16]
        check(want == bytes(found_record[-16:]), "tag of", sequence)
        tag = want
        tampered = tampered or kind == chain.TAMPER
        if kind == chain.VERDICT:
            found = max(found, int(bytes(payload)))
        at += 1
    check(tampered or not node.audit.keys.wiped, "keys were erased and no record tells why")
    check(found >= facts.acked.get("records", -1), "records up to", found, "acknowledged", facts.acked.get("records"))


def held(machine, generation, chains):
    # What must not be read from flash: keys given, keys of the past, all of them once they are erased.
    image = memoryview(machine.flash.data)
    where = range(FILES) if machine.options.pinned else (FILES, FILES + 1)
    blocks = [bytes(image[i * BLOCK : (i + 1) * BLOCK]).rstrip(b"\xff") for i in where]
    flash = b"\xff".join(blocks)
    log = machine.node.audit.journal
    for g in (1, 2, 3):
        check(flash.find(given(g)) < 0, "the root of generation", g, "is left")
        if g != generation:
            check(flash.find(derivation.kept(given(g))) < 0, "the kept key of generation", g, "is left")
        for i, key in enumerate(chains[g]):
            present = log and g == log.generation and i == log._key_at - log._start
            check(present or flash.find(key) < 0, "journal key", i, "of generation", g, "is left")


def main():
    o = json.loads(sys.argv[3])
    part, of = o.pop("share", (0, 1))
    stop = o.pop("stop", 0)
    options = Options(**o)
    seed_bug(options.bug)
    run = record(options)
    flash = Nor(FILES + options.blocks)
    machine = Machine(flash, options)
    facts = Facts(run)
    chains = [journal_keys(g) for g in range(4)]
    image = run.base
    tried = 0
    faults = []
    for done, entry in enumerate(run.log):
        facts.move(done)
        for turn, mode in enumerate(MODES):
            if (done + turn) % of != part or (stop and len(faults) >= stop):
                continue
            tried += 1
            flash.data[:] = image
            torn(flash.data, entry, mode, done * 3 + turn)
            try:
                machine.boot()
                look(run, machine, facts, chains)
                if tried % 8 == 0:
                    machine.halt()
                    machine.boot()
                    look(run, machine, facts, chains)
            except (Fault, SentillError, OSError, KeyError, ValueError, IndexError) as error:
                faults.append("%s at operation %d: %s %s" % (mode, done, type(error).__name__, error))
            finally:
                machine.halt()
        carry_out(image, entry)
    print(json.dumps({"cuts": tried, "operations": len(run.log), "faults": len(faults), "first": faults[:5]}))


def seed_bug(bug):
    """Break the code on purpose."""
    if bug == "order":  # counters are forgotten before the new keys are there
        store = derivation.store

        def hasty(keys, head, root, running):
            keys.remove(3)
            store(keys, head, root, running)

        derivation.store = hasty
    elif bug == "adopt":  # the keys come first: until the next write nothing may run
        store = derivation.store

        def late(keys, head, root, running):
            store(keys, head, root)
            keys.put(6, running)

        derivation.store = late
    elif bug == "latch":  # the keys go first, and what is behind them is left when the power fails
        from sentill.keys.store import KeyStore

        KeyStore.wipe = lambda self: [self.remove(name) for name in list(self._entries)]


if __name__ == "__main__":
    main()
