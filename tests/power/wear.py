"""Flash wear and cost of the journal on the Unix port, one JSON line: `micropython wear.py DEVICE TESTS OPTIONS`.

OPTIONS: {"raw", "prog", "window", "key_every", "records", "keep"}. Counts all programs and erases, those of the key
store included, over records of 64 bytes, `window` of them kept together, after as many as fit; then restarts and times
the scan.
"""

import gc
import json
import os
import sys

sys.path[:0] = sys.argv[1:3]

import micropython
import vfs
from flash_model import Nor
from scenario import DEVICE, KEY_BLOCKS, ROOT, Calls, Part, payload
from sentill.journal import chain as journal  # noqa: F401  (kept loaded)
from sentill.journal import fs_blocks, recovery, next_block  # noqa: F401  (kept loaded)
from sentill.compat import ticks_diff, ticks_us
from sentill.flash import Region
from sentill.journal.chain import Journal
from sentill.journal.ring import Ring
from sentill.keys.store import KeyStore


class Metered(Nor):
    """Flash that measures what its own model costs: `us` microseconds and `heap` bytes. Call `calibrate` first."""

    us = heap = 0
    _call_us = _call_heap = 0  # of a call of one of its methods, as far as that cannot be measured inside

    def readblocks(self, block, buffer, offset=0):
        before, start = micropython.mem_total(), ticks_us()
        Nor.readblocks(self, block, buffer, offset)
        self._meter(before, start)

    def writeblocks(self, block, data, offset=0):
        before, start = micropython.mem_total(), ticks_us()
        Nor.writeblocks(self, block, data, offset)
        self._meter(before, start)

    def ioctl(self, operation, argument):
        before, start = micropython.mem_total(), ticks_us()
        result = Nor.ioctl(self, operation, argument)
        self._meter(before, start)
        return result

    def _meter(self, before, start):
        self.us += ticks_diff(ticks_us(), start) + self._call_us
        self.heap += micropython.mem_total() - before + self._call_heap

    def calibrate(self, calls=200, rounds=30):
        buffer = bytearray(32)
        readblocks = self.readblocks
        best = None
        for _ in range(rounds):  # the quickest: the computer may do something else meanwhile
            self.us = self.heap = 0
            before, start = micropython.mem_total(), ticks_us()
            for _ in range(calls):
                readblocks(0, buffer, 0)
            spent, allocated = ticks_diff(ticks_us(), start), micropython.mem_total() - before
            cost = (spent - self.us) / calls, (allocated - self.heap) // calls
            best = cost if best is None else min(best, cost)
        self._call_us, self._call_heap = best


def main():
    o = json.loads(sys.argv[3])
    prog, raw, keep, records = o["prog"], o["raw"], o["keep"], o["records"]
    ring = keep // 62 + 3
    blocks = ring if raw else ring + 16
    flash = Metered(blocks + KEY_BLOCKS)

    flash.calibrate()

    def boot():
        keys = KeyStore(Region(flash, blocks, KEY_BLOCKS, prog))
        keys.open()
        if raw:
            region = Region(flash, 0, blocks, prog)
        else:
            part = Part(flash, blocks)
            vfs.mount(vfs.VfsLfs2(part, progsize=prog, readsize=prog), "/x")
            files = Calls, "/x/journal", os.urandom, 6, 16, ring
            region = fs_blocks.open_region((part, blocks, prog), files)
            while region.count < 3:
                for _ in fs_blocks.extend(region):
                    pass
        store = Ring(region)
        if not recovery.key_place(keys):
            recovery.stage_key(keys, 1, 0, recovery.first_key(ROOT, 1))
        log = Journal(store, keys, DEVICE, o["key_every"], ())
        log.open()
        return log, store

    if not raw:
        vfs.VfsLfs2.mkfs(Part(flash, blocks), progsize=prog, readsize=prog)
    log, store = boot()
    data = payload(1)
    warm = (ring + 2) * 63  # until flash is full and the oldest records give way
    for i in range(warm):
        log.append(journal.VERDICT, i, data)
        while log.piece():
            pass
    log.commit()
    flash.programmed = flash.set = flash.erased = 0
    spent = []
    keeping = allocated = 0
    gc.collect()
    for i in range(records):
        flash.us = flash.heap = 0
        before = micropython.mem_total()
        start = ticks_us()
        log.append(journal.VERDICT, i, data)
        spent.append(ticks_diff(ticks_us(), start) - flash.us)
        allocated += micropython.mem_total() - before - flash.heap
        start = ticks_us()
        if log.next - log.kept >= o["window"]:
            while log.piece():
                pass
        keeping += ticks_diff(ticks_us(), start)
    log.commit()
    bytes_each, erases_each = flash.programmed / records, flash.erased / records
    set_each = flash.set / records
    tag, held = log.tag, store.next - store.first
    if not raw:
        vfs.umount("/x")
    gc.collect()
    start = ticks_us()
    log, store = boot()
    scan = ticks_diff(ticks_us(), start)
    if (log.tag, log.next) != (tag, warm + records + 1):
        raise SystemExit("the journal did not come back")
    chain_us, chain_bytes = chain()
    print(
        json.dumps(
            {
                "bytes": bytes_each,
                "set": set_each,
                "erases": erases_each,
                "append_us": trimmed(spent),
                "keep_us": keeping / records,
                "alloc_bytes": allocated / records,
                "chain_us": chain_us,
                "chain_alloc_bytes": chain_bytes,
                "held": held,
                "scan_ms": scan / 1000,
            }
        )
    )


class Nothing:
    """A store and a key store that keep nothing: what is left is the cost of the chain."""

    next = 0

    def room(self, *what):
        return True

    def write(self, records, sequence):
        self.next += len(records) // 64
        return len(records)

    def put(self, name, payload):
        pass


def chain(records=2000):
    """Microseconds and bytes of heap per record for tag, key and buffer alone."""
    log = Journal(Nothing(), Nothing(), DEVICE, 10, ())
    log.append(journal.BOOT, 0)
    data = payload(1)
    gc.collect()
    spent = []
    allocated = 0
    for i in range(records):
        before = micropython.mem_total()
        start = ticks_us()
        log.append(journal.VERDICT, i, data)
        spent.append(ticks_diff(ticks_us(), start))
        allocated += micropython.mem_total() - before
        log.commit()
    return trimmed(spent), allocated / records


def trimmed(times):
    """The mean of all but the slowest hundredth, when the computer did something else."""
    kept = sorted(times)[: len(times) - len(times) // 100]
    return sum(kept) / len(kept)


main()
