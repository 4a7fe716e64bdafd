"""The tasks of the node: who reads and writes which line, and what happens in which rhythm.

A request has priority: its bytes are received by hardware, it is answered as soon as it is whole, and what blocks the
chip (flash, collections) is done by flash_worker.py when the line is still, or right after an answer.
"""

import asyncio

from sentill.compat import MISSING, borrow, const, ticks_add, ticks_diff, ticks_ms
from sentill.health.monitor import WARN
from sentill.journal import chain

from . import commands
from .supervised_task import Loop, arrival

_T = const(84)
_P = const(80)
_C = const(67)
_CTRL_A = const(1)  # asks for the raw REPL
_CTRL_C = const(3)
_LOCKED = b"# sentill: this node is locked; `sentill unlock` opens it\r\n"
_SPACE = const(32)
_SPARE = const(960)  # bytes of the USB queue that health frames leave to events and replies
_REPLY = const(480)  # bytes of the longest answer: two frames
_STEP_MS = const(500)
_SAMPLES = const(600)  # bytes of garbage of a round of samples
_FRAMES = const(2100)  # of telemetry
_PULL_MS = const(100)
_SLOW_MS = const(100)  # between two looks at a line that takes nothing
_PROOF_MS = const(3000)  # a version on trial that ran this long without fault or crash is proven
_SETTLED_MS = const(4000)  # after the start: there is time to look at the flash
_HEALTH = "health.bin"


class Tasks:
    """The tasks of `node`; `loops` are they with their supervision."""

    def __init__(self, node):
        self.node = node
        self._wanted = False  # somebody wants the prompt, of a node that keeps it
        self.busy = False  # inside the monitor: an interrupt now leaves it half changed
        self._began = ticks_ms()
        self._row = 0
        console = node.console.stream
        self.loops = [
            Loop("console", self.console, lambda: not console.readable()),
            Loop("writer", self.writer, lambda: not any([port.pending() for port in node.ports])),
            Loop("sampler", self.sampler),
            Loop("telemetry", self.telemetry),
            Loop("saver", self.saver),
            Loop("worker", node.worker.run),
            Loop("reading", self.reading),
            Loop("warden", self.warden),
        ]
        if node.terminal_port:
            stream = node.terminal_port.stream
            self.loops.append(Loop("terminal", self.terminal, lambda: not stream.readable()))

    async def terminal(self, loop):
        """Answer what the terminal asks."""
        node = self.node
        port = node.terminal_port
        stream = port.stream
        reader = port.reader
        while True:
            while True:
                while port.room() < _REPLY:
                    await self._pause(loop)
                kind = reader.next()
                if not kind:
                    break
                if kind == _T:
                    node.terminal.judge(port)
                    node.worker.answered()
                elif kind == _P or kind == _C:
                    self._told(kind)
                else:  # an echo perhaps: no reply, or there would be no end
                    node.refused += 1
            ms = stream.rest_ms(reader.waiting(), reader.line)
            if ms > 0:
                loop.beat()
                await asyncio.sleep_ms(ms)
            elif not ms:
                loop.wait()
                await arrival(stream.rx)
                loop.beat()
            n = stream.readinto(reader.window())
            if n:
                port.heard_ms = ticks_ms()
                reader.received(n)

    def _told(self, kind):
        # What else the terminal sends. It cannot be made to wait: its requests come on the same line.
        node = self.node
        port = node.terminal_port
        began = ticks_ms()
        if commands.wait(node):
            node.refused += 1
            port.tell(b'#R {"q":\x01,"re":\x02,"ok":false,\0', 0, 0, "err", "busy")  # unread
        elif kind == _C:
            commands.answer(node, port)
        elif not node.terminal.feedback(port):
            commands.spent(node, began)

    async def _pause(self, loop):
        # Until a reply finds room again; what comes in meanwhile waits in the hardware.
        loop.beat()
        await asyncio.sleep_ms(5)

    async def console(self, loop):
        """Answer what people ask, and end the node for Ctrl-C."""
        node = self.node
        port = node.console
        rx = port.stream.rx
        reader = port.reader
        one = memoryview(bytearray(1))
        while True:
            while True:
                while port.room() < _REPLY or commands.wait(node):  # the cable holds the next one back
                    await self._pause(loop)
                kind = reader.next()
                if not kind:
                    break
                if kind == _C:
                    commands.answer(node, port)
                    if node.after:
                        await node.leave()  # at once: whoever asked for it waits
                else:
                    began = ticks_ms()
                    node.refused += 1
                    if kind == _T or kind == _P:
                        refusal = [("re", 0), ("ok", False), ("err", "type"), ("msg", "only on the terminal's line")]
                        port.send("R", refusal)
                    commands.spent(node, began)
            loop.wait()
            await arrival(rx)
            n = rx.readinto(one)
            loop.beat()
            if not n:
                await asyncio.sleep_ms(200)
                continue
            window = reader.window()
            window[0] = one[0]
            n = 1
            if window[0] >= _SPACE:  # what was typed behind a Ctrl-C during the start is for the prompt
                n += port.stream.readinto(window[1:])
            for c in window[:n]:
                if c == _CTRL_C or c == _CTRL_A:
                    if not node.may_stop():
                        self._wanted = True
                    elif c == _CTRL_C:
                        raise KeyboardInterrupt
            reader.received(n)

    async def writer(self, loop):
        """Send what waits."""
        wake = self.node.wake
        slow_ms = 2
        while True:
            moved = waiting = 0
            for port in self.node.ports:
                if port.pending():
                    moved += port.pump()
                    waiting += port.pending()
            loop.beat()
            if waiting:
                slow_ms = 2 if moved else min(2 * slow_ms, _SLOW_MS)
                await asyncio.sleep_ms(slow_ms)
            else:
                wake.clear()
                loop.wait()
                await wake.wait()

    async def sampler(self, loop):
        """Read the sensors."""
        node = self.node
        due = ticks_ms()
        while True:
            late = ticks_diff(ticks_ms(), due)
            if late > node.vitals.jitter_ms:
                node.vitals.jitter_ms = late
            now = node.hal.now_s()
            sources = node.vitals.sources
            for i in range(len(sources)):
                raw = node.vitals.read(sources[i])
                self.busy = True
                changed = node.monitor.sample(i, raw, now)
                self.busy = False
                if changed:
                    await self._changed(i)
                if node.urgent():
                    await asyncio.sleep_ms(1)
            node.worker.spent += _SAMPLES
            due = ticks_add(due, node.config["sample_ms"])
            left = ticks_diff(due, ticks_ms())
            if left < 0:
                due = ticks_ms()
            await loop.sleep(left)

    async def _changed(self, i):
        # A function of its own: what it builds would stay in the frame of the task until the next time.
        node = self.node
        if node.monitor.state(i) >= WARN:
            node.worker.keep(_HEALTH, node.monitor.save)  # at once: what comes next may be a power cut
            while not node.urgent() and node.worker.piece():
                await asyncio.sleep_ms(2)
        node.event("channel", node.monitor.row(i), chain.HEALTH)

    async def telemetry(self, loop):
        """Tell people how the node is."""
        node = self.node
        console = node.console
        while True:
            rate = node.rate_hz
            if rate and console.room() < _SPARE:
                console.skip()
            elif rate:
                node.worker.spent += _FRAMES
                self._tell(node.vitals.summary)
                await asyncio.sleep_ms(1)
                if len(node.vitals.sources):
                    self._row = (self._row + 1) % len(node.vitals.sources)
                    self._tell(self._next)
            await loop.sleep(1000 // rate if rate else _STEP_MS)

    def _next(self):
        return [("t", self.node.hal.now_s())] + self.node.monitor.row(self._row)

    def _tell(self, pairs):
        # What `pairs()` gives, or one frame less: whoever asks for much at once may fill the heap for a moment.
        try:
            self.node.console.send("H", pairs())
        except MISSING:
            self.node.console.skip()

    async def saver(self, loop):
        """Keep what is learnt, now and then."""
        while True:
            await loop.sleep(self.node.config["save_s"] * 1000)
            self.node.keep_all()

    async def reading(self, loop):
        """Send the records that a host reads."""
        audit = self.node.audit
        while True:
            loop.beat()
            while audit.pump():
                loop.beat()
                await asyncio.sleep_ms(5)
            await asyncio.sleep_ms(_PULL_MS)

    async def warden(self, loop):
        """Feed the watchdog while all others live; watch over case, session, trial and foreign code; blink."""
        node = self.node
        silent = None
        looks = node.vault.profile or node.vault.generation  # else other code on the flash is nobody's concern
        while True:
            now = ticks_ms()
            hung = [other.name for other in self.loops if other is not loop and other.hangs(now)]
            if not hung:
                node.hal.wdt_feed()
                if node.trial and ticks_diff(now, self._began) > _PROOF_MS:
                    self._prove()
            elif hung != silent:
                node.event("hang", [("task", ",".join(hung))], chain.ERROR)
            silent = hung
            if self._wanted:  # not at once: tools throw away what comes right after their Ctrl-C
                self._wanted = False
                node.console.put(_LOCKED, len(_LOCKED))
            node.tamper.look()
            if node.session.expired():
                node.audit.note(chain.ACCESS, [("ev", "expired")])
            if node.after:
                await node.leave()
            if looks and ticks_diff(now, self._began) > _SETTLED_MS and not node.urgent():
                try:
                    borrow("node", "foreign_code").report(node)
                    looks = 0
                except MISSING:
                    pass  # there is no room for its code just now
            if node.toggle:  # no task of its own: whoever asks need not prove anything, and may ask often
                node.toggle -= 1
                node.light.value(node.toggle & 1)
            await loop.sleep(_STEP_MS)

    def _prove(self):
        node = self.node
        node.trial = False
        if not node.flaw:
            node.attempt("slot", node.store.prove)
        slot = node.store.slot()
        if len(slot) == 1:
            node.event("proven", [("slot", slot)])
        else:
            node.attempt("note", node.store.write_note, node.flaw)
            node.event("unproven", [("slot", slot), ("why", node.flaw)])
            node.after = "reboot"  # until the boots of the trial are used up and the old version comes back
