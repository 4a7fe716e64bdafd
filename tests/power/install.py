"""Power cuts while versions are installed on a board with keys; runs inside the Unix port, as life.py does.

    micropython install.py DEVICE TESTS '{"raw": false, "prog": 256, "bug": "", "share": [part, of]}' AGENT

The deploy agent fills, seals and points to slots on a littlefs mounted at `/`; update/slots.py picks what runs, with
the real keys behind its verifier, in raw blocks or in pinned ones; node/files.py ends trials. The board gets another
configuration, another model, goes back to the version before, tries a version that never proves itself, and is offered
one with a forged signature and one that is too old. Each program and erase is cut; the next start must find a whole
version that may run, also when it is cut itself, and an install must still go through from there. Both of these are
tried after one cut in eight.
"""

import json
import os
import select  # noqa: F401  (the agent's; no module can be imported once the root is the board's)
import sys
from binascii import a2b_base64, hexlify
from hashlib import sha256

sys.path[:0] = sys.argv[1:3]

import life
import vfs
from flash_model import Nor
from scenario import Part
from sentill.keys import location, store_open, pinned, derivation  # noqa: F401
from sentill import crypto  # noqa: F401
from sentill.update import slots as update  # noqa: F401
from sentill.update import verifier as update_verifier  # noqa: F401
from sentill.errors import SentillError
from sentill.node.files import Store
from struct import pack, unpack, unpack_from
from sweep import MODES, Fault, carry_out, check, torn

import sentill_start  # last: it lets nothing but its own be imported

sys.path[:] = sentill_start.path

FILES = 48  # blocks of the littlefs
HEAD = (1, 1, 7, life.DEVICE)
ROOT = life.given(1)
SIGN = derivation.derive(derivation.kept(ROOT), b"sign")
PIECE = 3000  # bytes of a request


class Machine:
    """The module `machine`, as far as the agent wants it here."""

    unique_id = staticmethod(lambda: b"life-001")


class Hal(life.Hal):
    root = "/"


def noise(seed, size):
    """Bytes of a file that look like no other's."""
    digest = sha256(b"%d" % seed).digest()
    return (digest * (size // 32 + 1))[:size]


def number(value):
    """As ROMFS writes it, in three bytes."""
    return bytes((value >> 14 | 0x80, value >> 7 & 0x7F | 0x80, value & 0x7F))


class Version:
    """What a bundle is for a board: its archive, as sentill_host.bundle.archive makes it, signed with `key` unless that
    is None."""

    def __init__(self, name, counter=0, code=1, model=1, config=1, key=SIGN, uid=life.UID):
        self.name = name
        self.counter = counter
        self.root = {"main.py": noise(code, 900), "sentill_start.mpy": noise(code + 50, 2500)}
        files = {
            "head.txt": b"sentill 2 version=%s board=SIM min=1.24.0 bundle=0123456789abcdef\n" % name.encode(),
            "config.json": b'{"rate_hz":%d}' % config,
            "update.mpy": noise(code + 100, 1500),
            "node.mpy": noise(code + 200, 5000),
            "local.stm": noise(model + 300, 3000),
        }
        files.update(self.root)
        names = sorted(files)
        names.remove("head.txt")
        names.insert(0, "head.txt")
        end = 12 + sum([len(name) + 11 for name in names])
        self.parts = []  # name, place and size
        at = end + 5
        index = b""
        for name in names:
            size = len(files[name])
            record = bytes((len(name),)) + name.encode() + b"\x03\x06" + number(size) + number(at - 7)
            index += bytes((5, len(record))) + record
            self.parts.append((name, at, size))
            at += size
        data = b"".join([files[name] for name in names])
        image = b"\x01\x03" + number(end) + index + b"\x02\x80" + number(len(data)) + data
        image = b"\xd2\xcd\x31\x80" + number(len(image)) + image
        check(len(image) == at and len(index) == end - 12, "the archive is not laid out right")
        found = sha256(image).digest()
        self.archive = image + found
        self.sha = hexlify(found).decode()
        line = b"sentill 2 uid=%s counter=%d sha=%s\n" % (uid.encode(), counter, self.sha.encode())
        self.seal = line + b"mac " + hexlify(crypto.mac(key).tag(line)) + b"\n" if key else b""


FIRST = Version("first", key=None)
CONFIG = Version("config", 20, config=2)
MODEL = Version("model", 30, code=2, model=2, config=2)
HANGS = Version("hangs", 40, code=3)
FORGED = Version("forged", 9999, code=4, key=b"of somebody else................")
OLD = Version("old", 10, code=5)
LATER = Version("later", 50, code=6, model=2, config=2)
LAST = Version("last", 60, code=7, model=3, config=3)


class Options:
    def __init__(self, raw=False, prog=256, bug=""):
        self.raw = raw
        self.prog = prog
        self.bug = bug


def plan_for(version, table):
    """The plan for the agent, and what is sent: what the other slot has by its `table` is not."""
    known = {}
    for i in range(0, len(table), 16):
        beginning, at, size = unpack_from("<8sII", table, i)
        known[beginning, size] = at
    steps = []
    sent = b""
    at = 0
    for _, start, size in version.parts:
        place = known.get((sha256(version.archive[start : start + size]).digest()[:8], size))
        if place:
            steps += [(0, start - at), (place, size)]
            sent += version.archive[at:start]
            at = start + size
    steps.append((0, len(version.archive) - at))
    return b"".join([pack("<II", *step) for step in steps if step[1]]), sent + version.archive[at:]


class Board:
    """The board on a flash image; off until `on`."""

    code = None  # of the agent, compiled
    wrong: dict = {}  # names of it that a seeded bug replaces
    order = ("build", "data", "seal", "point", "tidy")

    def __init__(self, flash, options):
        self.flash = flash
        self.files = Part(flash, FILES)
        self.prog = options.prog
        self.hal = Hal(
            (life.Behind(flash, FILES), 2, options.prog) if options.raw else None, (self.files, FILES, options.prog)
        )

    def on(self):
        self.hal.keys = None
        vfs.mount(vfs.VfsLfs2(self.files, progsize=self.prog, readsize=32), "/")

    def off(self):
        try:
            vfs.umount("/")
        except OSError:
            pass  # it was not on

    def start(self):
        """What sentill_start does: (slot, on trial)."""
        return update.pick("/", update_verifier.verifier(self.hal), sentill_start._Slots()._digest)

    def verifier(self):
        """What the flash holds of the keys, read anew."""
        self.hal.keys = None
        return update_verifier.verifier(self.hal)

    def agent(self):
        """The agent's names, as in a board's REPL; what it would tell the host is not sent."""
        names = {}
        exec(Board.code, names)
        names["_say"] = lambda value: None
        names.update(Board.wrong)
        return names

    def deploy(self, version, step=None):
        """What the deployer has the agent do; `step(name, slot, function)` carries out each part."""
        agent = self.agent()
        step = step or (lambda name, slot, function: function())
        proven = agent["do_about"](None, b"")["pointer"][-1]
        slot = "b" if proven == "a" else "a"
        state = {}

        def build():
            table = a2b_base64(agent["do_parts"]({"slot": proven}, b"")["parts"])
            plan, state["sent"] = plan_for(version, table)
            agent["do_build"]({"slot": slot}, plan)

        def data():
            for at in range(0, len(state["sent"]), PIECE):
                found = agent["do_data"]({}, state["sent"][at : at + PIECE])
            check(not found["left"], "more is wanted:", found["left"])

        def seal():
            told = agent["do_seal"]({"sha": version.sha, "sig": version.seal.decode()}, b"")
            check(told["sha"] == version.sha, "not sealed")

        def point():
            agent["do_point"]({"text": "%s %d %s" % (slot, update.TRIES, proven)}, b"")

        def tidy():
            agent["do_tidy"](None, b"")

        parts = {"build": build, "data": data, "seal": seal, "point": point, "tidy": tidy}
        for name in Board.order:
            step(name, slot, parts[name])

    def back(self, slot):
        """Point to what the other slot holds, as `sentill rollback` does."""
        agent = self.agent()
        fault = agent["do_check"]({"slot": slot}, b"")["fault"]
        check(
            fault in ("", "/main.py is another", "/sentill_start.mpy is another"), "the other slot is not whole", fault
        )
        agent["do_point"]({"text": "%s %d %s" % (slot, update.TRIES, "b" if slot == "a" else "a")}, b"")

    def prove(self, slot):
        Store("/", "/app/").prove()


class Run:
    """What was done, and between which operations which state of the board was a good one.

    A state: what the next start runs ("runs": slot, version, on trial), what the "other" slot must hold for a return,
    whose main.py and sentill_start.mpy are there ("main": a version), the lowest counter ("floor") and whether the
    first version is still "adopted", the archive in each slot ("a", "b": a version or None), what an install or a way
    back is under way for ("aim").
    """

    def __init__(self):
        self.log = []
        self.base = None
        self.state = {
            "runs": ("a", FIRST, False),
            "other": None,
            "main": FIRST,
            "floor": 0,
            "adopted": True,
            "a": FIRST,
            "b": None,
            "aim": LAST,
        }
        self.notes = [(0, [self.state])]

    def step(self, function, **changes):
        """Do something after which the state has these changes; meanwhile each fact may be old or new."""
        after = dict(self.state)
        after.update(changes)
        self.notes.append((len(self.log), [self.state, after]))
        function()
        self.state = after
        self.notes.append((len(self.log), [after]))


def record(options):
    """Run the scenario once."""
    run = Run()
    flash = Nor(FILES + (2 if options.raw else 0))
    board = Board(flash, options)
    vfs.VfsLfs2.mkfs(board.files, progsize=options.prog, readsize=32)
    board.on()
    for path, data in [("slot_a.img", FIRST.archive), ("slot", b"a")] + list(FIRST.root.items()):
        make("/" + path, data)
    keys = location.open_keys(board.hal)
    derivation.store(keys, HEAD, bytearray(ROOT), bytes(FIRST.archive[-32:]))
    board.off()
    run.base = bytearray(flash.data)
    flash.log = run.log

    def start(**changes):
        board.on()
        run.step(board.start, **changes)
        slot, _, trial = run.state["runs"]
        check(found == [slot, trial], "the scenario itself started", found)
        board.off()

    def install(version, good=True):
        def step(name, slot, function):
            changes = {}
            if name == "build":
                changes = {slot: None, "other": None, "aim": version if good else LAST}
            elif name == "seal":
                changes = {slot: version}
            elif name == "point":
                changes = {"main": version}
                if good:
                    changes["runs"] = (slot, version, True)
                    changes["other"] = run.state["runs"][1]
            run.step(function, **changes)

        board.on()
        board.deploy(version, step)
        board.off()

    def back(slot, version):
        board.on()
        changes = {"main": version, "runs": (slot, version, True), "other": run.state["runs"][1], "aim": version}
        run.step(lambda: board.back(slot), **changes)
        board.off()

    def prove():
        slot, version, _ = run.state["runs"]
        board.on()
        run.step(lambda: board.prove(slot), runs=(slot, version, False))
        board.off()

    found = []
    pick = board.start

    def noted():
        found[:] = pick()

    board.start = noted

    start()
    install(CONFIG)
    start()
    prove()
    start()
    install(MODEL)
    start(floor=20, adopted=False)
    prove()
    start()
    back("b", CONFIG)
    start()
    prove()
    start()
    install(HANGS)
    start()
    board.on()
    run.step(lambda: Store("/", "/app/").write_note("sampler: OSError(5,)"))
    board.off()
    start()
    # The last of its boots: another start has none left for it.
    board.on()
    run.step(board.start, runs=("b", CONFIG, False), other=None)
    check(found == ["a", True], "no third boot", found)
    board.off()
    start(a=None)
    install(LATER)
    start()
    prove()
    start()
    for bad in (FORGED, OLD):
        install(bad, False)
        start()
    flash.log = None
    return run


def make(path, data):
    with open(path, "wb") as file:
        file.write(data)


def read(path):
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return None


def held(slot):
    """The archive in a slot, None where there is none."""
    return read("/slot_%s.img" % slot)


def whole(slot, version):
    """Raise Fault unless a slot holds a version byte by byte."""
    check(held(slot) == version.archive, "the archive of", version.name, "is not whole")


def look(board, states):
    """Start the board; raise Fault unless it is in one of the `states`, fact by fact."""
    verifier = board.verifier()
    check(verifier is not None, "the keys are gone")
    keys = verifier._keys
    check(keys.get(2) == bytearray(derivation.pack("<HBB8s", *HEAD) + derivation.kept(ROOT)), "not the root key")
    floor = counters(keys)
    check(floor in [state["floor"] for state in states], "floor", floor, "before the start")
    adopted = keys.get(6)
    check(not adopted or adopted == bytes(FIRST.archive[-32:]), "what is adopted is damaged")
    # Above 0 the floor stands alone; the entry behind it goes in the next start at the latest.
    check(bool(adopted) in [state["adopted"] for state in states], "adopted:", bool(adopted))
    for name in FIRST.root:
        check(read("/" + name) in [state["main"].root[name] for state in states], name, "is neither old nor new")
    for slot in "ab":
        found = held(slot)
        allowed = [state[slot] and state[slot].archive for state in states]
        check(found in allowed, "the archive of", slot, "is neither old nor new:", found and len(found))
    started, trial = board.start()
    state = None
    for candidate in states:
        slot, version, on_trial = candidate["runs"]
        if (started, trial) == (slot, on_trial):
            state = candidate
    check(state, "started", started, trial, "not", [(s["runs"][0], s["runs"][2]) for s in states])
    slot, version, _ = state["runs"]
    whole(slot, version)
    other = state["other"] if len(states) == 1 or states[0]["other"] is states[1]["other"] else None
    keys = board.verifier()._keys
    least = max(floor, min(version.counter, state["other"].counter)) if trial else floor
    check(counters(keys) == least, "floor", counters(keys), "after the start, not", least)
    if other:
        slot = "b" if slot == "a" else "a"
        whole(slot, other)
        slots = update._Slots("/", board.verifier(), sentill_start._Slots()._digest)
        check(not slots._fault(slot), "no return:", slots._fault(slot))


def twice(board, states, seed):
    """Cut the start after the cut, too, at each of its programs and erases; the number of these cuts."""
    flash = board.flash
    image = bytearray(flash.data)
    board.on()
    last = read("/slot").split()[1:2] == [b"1"]  # this start is the last boot of a trial
    least = counters(board.verifier()._keys)
    board.off()
    flash.data[:] = image
    flash.log = log = []
    board.on()
    board.start()
    board.off()
    flash.log = None
    allowed = [(state["runs"][0], state["runs"][1]) for state in states]
    if last:
        allowed += [("b" if slot == "a" else "a", state["other"]) for state in states for slot in state["runs"][0]]
    for number, entry in enumerate(log):
        flash.data[:] = image
        for done in log[:number]:
            carry_out(flash.data, done)
        torn(flash.data, entry, MODES[(seed + number) % 3], seed + number)
        board.on()
        started, _ = board.start()
        found = [(slot, version) for slot, version in allowed if slot == started and version]
        check(found, "started", started, "after a second cut, not", [slot for slot, _ in allowed])
        check(held(started) in [version.archive for _, version in found], "neither version after a second cut")
        floor = counters(board.verifier()._keys)
        check(floor >= least, "floor", floor, "after a second cut, was", least)
        board.off()
    return len(log)


def counters(keys):
    entry = keys.get(3)
    return unpack("<IIII", entry)[3] if entry else 0


def again(board, states):
    """Run the install under way again, from where the cut has left it, until its version is proven."""
    version = states[-1]["aim"]
    pointer = read("/slot").decode()
    slot = pointer[0]
    if len(pointer) > 1 or held(slot) != version.archive or not at_root(version):
        to = "b" if pointer[-1] == "a" else "a"
        if version is states[-1]["runs"][1] and version is not states[0]["runs"][1] and states[0][to] is version:
            board.back(to)
        else:
            board.deploy(version)
        board.off()
        board.on()
        slot, trial = board.start()
        check(trial, version.name, "is not tried:", read("/slot.note"))
        whole(slot, version)
        board.prove(slot)
        board.off()
        board.on()
    slot, trial = board.start()
    check(not trial, "not proven")
    whole(slot, version)
    check(at_root(version), "not the main.py of", version.name)
    check(not [name for name in os.listdir("/") if name.endswith(".new")], "left behind:", os.listdir("/"))


def at_root(version):
    return all([read("/" + name) == data for name, data in version.root.items()])


def main():
    o = json.loads(sys.argv[3])
    part, of = o.pop("share", (0, 1))
    stop = o.pop("stop", 0)
    options = Options(**o)
    with open(sys.argv[4]) as file:
        text = file.read()
    text = text[: text.index("\n_watch()\n_session()")]
    sys.modules["machine"] = Machine
    seed_bug(options.bug)
    Board.code = compile(text, "agent.py", "exec")
    exec(Board.code, {})  # what it imports is here from now on
    vfs.umount("/")
    try:
        run = record(options)
    except Fault as fault:
        print(json.dumps({"cuts": 0, "operations": 0, "faults": 1, "first": ["without a cut: %s" % fault]}))
        return
    flash = Nor(FILES + (2 if options.raw else 0))
    board = Board(flash, options)
    image = run.base
    tried = second = at = 0
    faults = []
    for done, entry in enumerate(run.log):
        while at + 1 < len(run.notes) and run.notes[at + 1][0] <= done:
            at += 1
        for turn, mode in enumerate(MODES):
            if (done + turn) % of != part or (stop and len(faults) >= stop):
                continue
            tried += 1
            flash.data[:] = image
            torn(flash.data, entry, mode, done * 3 + turn)
            states = run.notes[at][1]
            try:
                board.on()
                look(board, states)
                if tried % 8 == 0:
                    again(board, states)
                if tried % 8 == 4:
                    board.off()
                    flash.data[:] = image
                    torn(flash.data, entry, mode, done * 3 + turn)
                    second += twice(board, states, done + turn)
            except (Fault, SentillError, OSError, KeyError, ValueError, IndexError) as error:
                faults.append("%s at operation %d: %s %s" % (mode, done, type(error).__name__, error))
                flash.log = None
            finally:
                board.off()
        carry_out(image, entry)
    told = {"cuts": tried + second, "operations": len(run.log), "faults": len(faults), "first": faults[:5]}
    told["second"] = second
    print(json.dumps(told))


def seed_bug(bug):
    """Break the code on purpose."""
    if bug == "order":  # the pointer names what is not sealed yet
        Board.order = ("build", "data", "point", "seal", "tidy")
    elif bug == "floor":  # the version on trial decides alone what is too old
        update.min = max
    elif bug == "early":  # what a signature says counts before it was looked at
        pick = update.pick

        def trusting(root, verifier, digest):
            words = read("/slot").decode().split()
            if len(words) == 3:
                found = [read("/slot_%s.sig" % slot) or b"counter=0 " for slot in (words[0], words[2])]
                verifier.raise_floor(min([int(data.split(b"counter=")[1].split(b" ")[0]) for data in found]))
            return pick(root, verifier, digest)

        update.pick = trusting
    elif bug == "gap":  # the old one goes before the new one takes its place
        Board.wrong = {"_replace": gap}
    elif bug == "place":  # written under its name at once
        Board.wrong = {"_replace": place}
    elif bug == "trust":
        update_verifier.Verifier.verify = lambda self, data, tag: True
    elif bug == "forget":  # what was adopted is forgotten with the first start of a signed version
        raise_floor = update_verifier.Verifier.raise_floor

        def forgetful(self, n):
            raise_floor(self, n)
            self._keys.remove(6)

        update_verifier.Verifier.raise_floor = forgetful


def gap(path):
    if path.rsplit("/", 1)[1] in os.listdir(path.rsplit("/", 1)[0] or "/"):
        os.remove(path)
    os.rename(path + ".new", path)


def place(path):
    make(path, read(path + ".new"))
    os.remove(path + ".new")


if __name__ == "__main__":
    main()
