"""Power cuts at the programs and erases of a recorded scenario; runs inside the Unix port.

    micropython sweep.py DEVICE TESTS '{"raw": false, "prog": 32, "window": 1, "share": [part, of], ...}'

For each operation and each torn mode (nothing done, half of it, random bytes of it) the flash image of that moment is
rebuilt, booted and looked at. Prints one line of JSON: counts and the first faults.
"""

import json
import sys

sys.path[:0] = sys.argv[1:3]

import scenario
from flash_model import Nor, program
from sentill.journal import chain, recovery
from sentill.errors import SentillError

MODES = ("none", "half", "random")
BLOCK = 4096


class Fault(Exception):
    """Something acknowledged is lost, or something is there that should not be."""


def loaded(files, name):
    """The bytes of a saved file, None when there is none."""
    data = bytearray()

    def restore(readinto, size):
        data.extend(bytes(size))
        readinto(data)

    return bytes(data) if files.load(name, restore) else None


def carry_out(image, entry):
    """Do an operation: an erase of a block, which has no data, or a program."""
    if entry[1] is None:
        image[entry[0] * BLOCK : (entry[0] + 1) * BLOCK] = b"\xff" * BLOCK
    else:
        program(image, entry[0], entry[1])


def torn(image, entry, mode, seed):
    """Do part of an operation."""
    at, data = entry
    if mode == "none":
        return
    if data is None:
        at, length = at * BLOCK, BLOCK
        blank = b"\xff" * BLOCK
        if mode == "half":
            image[at : at + length // 2] = blank[: length // 2]
            return
    else:
        length = len(data)
        if mode == "half":
            program(image, at, data[: length // 2])
            return
    x = seed | 1
    i = 0
    while i < length:
        x = (x * 1103515245 + 12345) & 0x7FFFFFFF
        n = 1 + (x >> 16) % (7 if data else 97)
        if x >> 24 & 1:
            if data is None:
                image[at + i : at + min(i + n, length)] = blank[: min(n, length - i)]
            else:
                program(image, at + i, data[i : min(i + n, length)])
        i += n


class Facts:
    """What was acknowledged, and what was begun, when the power failed at an operation."""

    def __init__(self, run):
        self._run = run
        self._at = [0, 0]
        self.acked = {}
        self.tried = {}

    def move(self, done):
        for which, (notes, facts) in enumerate(((self._run.acked, self.acked), (self._run.tried, self.tried))):
            i = self._at[which]
            while i < len(notes) and notes[i][0] <= done:
                facts[notes[i][1]] = notes[i][2]
                i += 1
            self._at[which] = i


def check(condition, *what):
    if not condition:
        raise Fault(" ".join([str(w) for w in what]))


def look(run, machine, facts, thorough):
    """Raise Fault unless what booted is what was acknowledged, whole, and without old keys."""
    acked = facts.acked
    tried = facts.tried
    store = machine.store
    keys = machine.keys
    at = run.options.blocks * BLOCK
    blocks = [bytes(memoryview(machine.flash.data)[i : i + BLOCK]) for i in range(at, len(machine.flash.data), BLOCK)]
    held = b"".join([block.rstrip(b"\xff") + b"\xff" for block in blocks])
    place = recovery.key_place(keys)
    if keys.wiped:
        check("next" in acked, "wiped too early")
        for old in run.keys.values():
            check(held.find(old) < 0, "a key is left after the wipe")
    else:
        check(not acked.get("wiped"), "the wipe is undone")
        if place is None:
            check("generation" not in acked, "the key is lost")
        else:
            generation, _, at = place
            check(acked.get("generation", 0) <= generation <= tried["generation"], "generation", generation)
            log = machine.journal
            check(log.lost == 0, log.lost, "records lost")
            check(at == log.next, "key of", at, "next is", log.next)
            check(bytes(keys.get(1)[10:]) == run.keys[generation, at], "not the key of", generation, at)
            for back in range(12):
                for g in (1, 2):
                    if (g, at - back) != (generation, at):
                        old = run.keys.get((g, at - back))
                        check(old is None or held.find(old) < 0, "key", g, at - back, "is left; next is", at)
    check(acked.get("next", 0) <= store.next <= tried.get("next", 0), "next", store.next, "acknowledged", acked)
    count = 0
    sequence = store.first if thorough else max(store.first, store.next - 3)
    check(store.next - store.first >= min(store.next, scenario.KEEP), "retained", store.first, store.next)
    for found in store.records(sequence):
        check(bytes(found) == run.records[sequence], "record", sequence, "differs")
        sequence += 1
        count += 1
    check(sequence == store.next, "records end at", sequence, "not", store.next)
    if not run.options.raw:
        for name in ("config.json", "state.bin", "model.stm"):
            data = loaded(machine.files, name)
            wanted = [scenario.content(name, facts[name]) for facts in (acked, tried) if name in facts]
            if name not in acked:
                wanted.append(None)
            check(data in wanted, name, "has", len(data or b""), "bytes of neither version")
    if thorough and place and not keys.wiped:
        machine.journal.append(chain.BOOT, 1, b"on")
        at = machine.journal.next
        machine.halt()
        machine.boot()
        check(machine.journal.next == at, "what was appended after the cut is lost")


def sweep(options, part=0, of=1, stop=0, thorough=16):
    """Cut at every operation in every mode; (cuts, operations, faults). Ends at `stop` faults.

    With `of` above 1 only in one of that many, from `part` on, the modes taking turns.
    """
    run = scenario.record(options)
    flash = Nor(options.blocks + scenario.KEY_BLOCKS)
    machine = scenario.Machine(flash, options)
    facts = Facts(run)
    image = run.base
    tried = 0
    faults = []
    number = 0
    for done, entry in enumerate(run.log):
        facts.move(done)
        for turn, mode in enumerate(MODES):
            number += 1
            if (done + turn) % of != part:
                continue
            tried += 1
            flash.data[:] = image
            torn(flash.data, entry, mode, number)
            try:
                machine.boot()
                look(run, machine, facts, tried % thorough == 0)
            except (Fault, SentillError, OSError, KeyError, ValueError) as error:
                faults.append("%s at operation %d: %s %s" % (mode, done, type(error).__name__, error))
                if stop and len(faults) >= stop:
                    return tried, len(run.log), faults
            finally:
                machine.halt()
        carry_out(image, entry)
    return tried, len(run.log), faults


def main():
    given = json.loads(sys.argv[3])
    part, of = given.pop("share", (0, 1))
    stop = given.pop("stop", 0)
    tried, operations, faults = sweep(scenario.Options(**given), part, of, stop)
    print(json.dumps({"cuts": tried, "operations": operations, "faults": len(faults), "first": faults[:5]}))


if __name__ == "__main__":
    main()
