"""The work on flash: one task owns its schedule, and does it in pieces that the terminal hardly feels.

An erase stops the chip for 45 ms. So records wait in RAM (journal/recorder.py), files are written a block at a time,
and one piece runs when the terminal's line has been still for 300 ms; or right after an answer, when 8 records wait, or
a file has waited for a minute, and no such gap came. Garbage is collected in the same moments.
"""

import asyncio
import gc

from sentill.compat import const, lent, ticks_add, ticks_diff, ticks_ms
from sentill.errors import SentillError

_GAP_MS = const(300)
_LOOK_MS = const(250)
_BREATH_MS = const(2)  # between two pieces, for the others
_MANY = const(8)  # records
_COUNT_MS = const(20_000)
_PATIENCE_MS = const(60_000)
_ENOSPC = const(28)
_SHORT_MS = const(2)  # less than any piece of work on flash
# Bytes of garbage, roughly counted. It waits for an answer unless it gets more: a terminal asks again within seconds.
_MOST_GARBAGE = const(12_288)
_MUCH = const(6144)  # is worth a collection after an answer
_ANSWER = const(400)
_LOOK = const(160)  # of all tasks between two looks
_MODULE = const(6000)  # of one that was borrowed


class Worker:
    """Keeps the files and records of `node`. `spent` counts bytes of garbage made, as far as those who make it tell.

    `free` is the free heap in bytes after the latest collection.
    """

    def __init__(self, node):
        self.spent = self.free = 0
        self._most = _MOST_GARBAGE
        self._node = node
        self._files = []  # (name, save), the first of them perhaps begun
        self._writing = None
        self._room = True  # the journal has not been asked for any yet
        self._counted = self._since = ticks_ms()  # when there was no file to write

    def keep(self, name: str, save) -> None:
        """Have what `save` writes kept as the file `name` (see store.Store), as it is when its turn comes."""
        if not self._files:
            self._since = ticks_ms()
        if name not in [file[0] for file in self._files[1 if self._writing else 0 :]]:
            self._files.append((name, save))

    def finish(self) -> None:
        """Keep all that waits, now. A file that was begun is written anew: its writing may have been cut short."""
        if self._writing:
            self._writing.close()
            self._writing = None
        while self._files:
            self._write()
        self._node.audit.commit()

    def piece(self) -> bool:
        """Do one piece of the work that waits; whether more does."""
        self._still()
        began = ticks_ms()
        more = self._node.audit.piece()
        if not self._files or (more or ticks_diff(ticks_ms(), began) > _SHORT_MS):
            return more or len(self._files) > 0
        self._write()
        return len(self._files) > 0

    def answered(self) -> None:
        """The terminal has its answer, and will not ask again in this moment: what cannot wait for a gap."""
        self._still()
        self.spent += _ANSWER
        if self._node.audit.waiting() >= _MANY:
            self._node.audit.piece()
        elif self._files and ticks_diff(ticks_ms(), self._since) > _PATIENCE_MS:
            self._write()
        elif self.spent > _MUCH or self.spent > self._most:
            self.collect()

    def collect(self) -> None:
        """Collect garbage; now and then see what is free, for counting that takes 8 ms."""
        self._still()
        gc.collect()
        self.spent = lent[0] = 0
        now = ticks_ms()
        if not self.free or not 0 <= ticks_diff(now, self._counted) <= _COUNT_MS:
            self._counted = now
            self.free = gc.mem_free()

    def budget(self) -> int:
        """Bytes of allocations after which MicroPython shall collect by itself, should no better moment come.

        It counts what has been given back since, too, and that is the most of it: as many as this do not fill the
        heap, and are more than are ever made between two collections here.
        """
        self.collect()
        self._most = min(_MOST_GARBAGE, self.free >> 2)
        return self.free - (self.free >> 2)

    async def run(self, loop) -> None:
        """The task."""
        while True:
            loop.beat()
            ms = self._busy_ms()
            if ms <= 0:
                if self.piece():
                    await asyncio.sleep_ms(_BREATH_MS)
                    continue
                self.spent += _LOOK + _MODULE * lent[0]
                lent[0] = 0
                if self.spent > self._most:
                    self.collect()
                ms = _LOOK_MS
            loop.due = ticks_add(ticks_ms(), ms)
            await asyncio.sleep_ms(ms)

    def _busy_ms(self):
        # Milliseconds until the terminal's line has been still for long enough.
        port = self._node.terminal_port
        if port is None:
            return 0
        if port.stream.readable():
            return _GAP_MS
        still = ticks_diff(ticks_ms(), port.heard_ms)
        if not 0 <= still <= _GAP_MS:
            port.heard_ms = ticks_add(ticks_ms(), -_GAP_MS)  # or it would come round again with the ticks
            return 0
        return _GAP_MS - still

    def _still(self):
        if self._node.terminal_port:
            self._node.terminal_port.stream.still()

    def _write(self):
        # One piece of the first file.
        name, save = self._files[0]
        try:
            if self._writing is None:
                self._writing = self._node.store.writing(name, save)
            if next(self._writing, None) is not None:
                return
        except (OSError, MemoryError, SentillError) as error:
            if error.args[0] == _ENOSPC and self._room and self._node.audit.make_room():
                self._writing = None  # once more, with what the oldest records took
                self._room = False
                return
            self._node.event("save", [("file", name), ("err", self._node.tell(error))])
        self._writing = None
        self._room = True
        self._files.pop(0)
