"""The running node: asyncio tasks that join the ports, the risk engine and the health monitor.

All state that changes is owned here and touched from these tasks only. A task that crashes is reported (E frame
`task_crash`) and started again; when a task hangs, the watchdog is no longer fed. Ctrl-C ends the node and leaves the
REPL to whoever sent it.

A start-up that fails in part goes on with what works: `faults` names the parts, and an E frame tells each reason.
"""

import asyncio
import gc
from asyncio import core  # type: ignore[attr-defined]
from time import sleep_ms

from . import commands, journal, protocol
from .audit import Audit
from .compat import borrow, const, ticks_add, ticks_diff, ticks_ms, ticks_us
from .errors import SentillError
from .health import WARN, Monitor
from .pan import looks_like_pan
from .port import Port
from .risk import Assessor
from .session import Session
from .store import Store
from .tamper import Tamper
from .terminal import Terminal
from .vault import Vault
from .vitals import Vitals

_T = const(84)
_P = const(80)
_C = const(67)
_CTRL_C = const(3)
_SPACE = const(32)
_USB_ROOM = const(1536)
_SPARE = const(960)  # bytes of the USB queue that health frames leave to events and replies
_UART_ROOM = const(720)
_REPLY = const(480)  # bytes of the longest answer: two frames
_STEP_MS = const(500)  # no task sleeps longer without a sign of life
_HANG_MS = const(5000)
_FIRST_BACKOFF_MS = const(100)
_LAST_BACKOFF_MS = const(10_000)
_CALM_MS = const(60_000)  # a task that ran this long starts anew with the first backoff
_FLUSH_MS = const(3000)
_ASIDE_MS = const(30_000)
_PULL_MS = const(100)
_MANY = const(8)  # records wait: no longer for a pause of the terminal's
_CHURN_BYTES = const(4096)
_MOST_CHURN_BYTES = const(8192)
_PROOF_MS = const(3000)  # a version on trial that ran this long without fault or crash is proven
_HISTORY = "history.bin"
_HEALTH = "health.bin"
_VITALS = "vitals.bin"
_OUTSIDE = ("uart", "state")  # faults that another version would have, too


def start(hal) -> None:
    """Run the node on `hal` until Ctrl-C; returns to let the REPL take over, for a limited time on a locked board.

    After the command "maintenance" it waits half a minute for that, with no watchdog armed, and restarts the board.
    """
    hal.hold_ctrl_c(True)  # until it is known whether it may stop the node
    store = Store(hal.root, hal.home)
    session = bytearray(4)
    if store.load(commands.MAINTENANCE, lambda readinto, size: readinto(session) if size == 4 else None):
        store.take(commands.MAINTENANCE)
        _stand_aside(hal, int.from_bytes(session, "little"))
        return
    node = Node(hal, store)
    gc.collect()
    # What lives for a moment stays low in the heap, and the rest of it in one piece. In steady traffic the sampler
    # collects before this limit is reached.
    gc.threshold(_MOST_CHURN_BYTES)
    node.run()


def _arrival(stream):
    # Waits until there is something to read, as asyncio.StreamReader does, without 2 KB of asyncio.stream.
    yield core._io_queue.queue_read(stream)


def _leave_repl(hal, seconds):
    # To a person, for so long; 0 is without limit.
    if seconds:
        hal.time_box(seconds * 1000)
    hal.hold_ctrl_c(False)


class Loop:
    """One supervised task: when it last showed a sign of life, and whether it waits for the outside."""

    def __init__(self, name: str, run, idle):
        self.name = name
        self.run = run
        self._idle = idle  # tells that there is nothing the waiting task should have woken up for
        self._waiting = False
        self._seen = ticks_ms()
        self.due = None  # ticks when it wakes by itself, None while the outside wakes it

    def beat(self) -> None:
        """A sign of life."""
        self._waiting = False
        self._seen = ticks_ms()

    def wait(self) -> None:
        """What comes next may take forever."""
        self._waiting = True
        self.due = None
        self._seen = ticks_ms()

    def hangs(self, now) -> bool:
        """Whether it should have shown a sign of life since."""
        if self._waiting and self._idle():
            self._seen = now
        return ticks_diff(now, self._seen) > _HANG_MS


class Node:
    """Everything at work on `hal` with the files of `store`; `run` runs it."""

    # Set by setup.assemble; declared for readers and type checkers, no code on the board.
    config: dict
    config_id: str
    rate_hz: int
    monitor: Monitor
    vitals: Vitals
    terminal_port: Port
    assessor: Assessor
    model_ids: list
    vault: Vault
    tamper: Tamper
    terminal: Terminal

    def __init__(self, hal, store):
        self.hal = hal
        self.store = store
        self.guard = looks_like_pan
        self.faults: list = []
        self.after = ""  # "reboot" or "maintenance" once the replies are out
        self.crashes = 0
        self.refused = 0
        self.audit = Audit(self)
        self.trial = " " in store.slot()  # the version that runs has yet to prove itself
        self.flaw = ""  # why the version that runs does not prove itself: its first fault or crash
        self.session = Session(hal)
        self.tampered = ""  # the event that latched
        self.nonce = b""  # of the last challenge
        self.failed_s = 0  # uptime at the last failed unlock
        self.latest_s = 0  # the latest time the clock was known to show
        self._sampling = False  # inside the monitor: an interrupt now leaves it half changed
        self.wake = asyncio.Event()
        self.console = Port("usb", hal.usb, _USB_ROOM, False, self.wake.set)
        self.ports = [self.console]
        borrow("setup").assemble(self)
        gc.collect()
        self._began = ticks_ms()
        self._row = 0
        self._loops = [
            Loop("console", self._console, lambda: not self.console.stream.readable()),
            Loop("writer", self._writer, lambda: not any([port.pending() for port in self.ports])),
            Loop("sampler", self._sampler, bool),
            Loop("telemetry", self._telemetry, bool),
            Loop("saver", self._saver, bool),
            Loop("journal", self._journal, bool),
            Loop("warden", self._warden, bool),
        ]
        port = self.terminal_port
        if port:
            self._loops.append(Loop("terminal", self._terminal, lambda: not port.stream.readable()))
        if self.config["light_sleep"]:
            self.attempt("light_sleep", self._add_sleeper)

    def _add_sleeper(self):
        from .sleeper import Sleeper

        self._loops.append(Loop("sleeper", Sleeper(self, self._loops).run, bool))

    def may_stop(self) -> bool:
        """Whether Ctrl-C ends the node: on an open board, and in a session."""
        return not self.vault.profile or self.session.left_s() > 0

    def attempt(self, part: str, function, *args):
        """The result of `function(*args)`. None when it fails: `part` joins the faults, and an E frame tells why."""
        try:
            return function(*args)
        except Exception as error:
            self.fault(part, error)
            return None

    def urgent(self) -> bool:
        """Whether the terminal waits for something: what takes long has to give way."""
        port = self.terminal_port
        return port is not None and (port.stream.readable() or port.reader.waiting() > 0)

    def fault(self, part: str, error) -> None:
        """Note that a part of the start-up failed."""
        if part not in self.faults:
            self.faults.append(part)
        told = self._tell(error)
        if part not in _OUTSIDE:
            self.flaw = self.flaw or part + ": " + told
        self.event("fault", [("part", part), ("err", told)])

    def event(self, name: str, pairs, kind: int = 0) -> None:
        """Send an E frame, and record it in the journal as `kind` unless that is 0."""
        self.console.send("E", [("t", self.hal.now_s()), ("ev", name)] + pairs)
        if kind:
            self.audit.note(kind, [("ev", name)] + pairs)

    def report(self, part: str, error) -> None:
        """Send an E frame that tells of an error."""
        self.event(part, [("err", self._tell(error))])

    def send_identity(self, port) -> None:
        """Send an I frame on `port`."""
        borrow("setup_identity").send(self, port)

    def _tell(self, error):
        # An error in words that may travel.
        text = error.message if isinstance(error, SentillError) else repr(error)
        text = protocol.printable(text, 100)
        return "(hidden)" if self.guard(text.encode()) else text

    # Running

    def run(self) -> None:
        """Run until Ctrl-C."""
        try:
            asyncio.run(self._main())
        except KeyboardInterrupt:
            pass
        finally:
            # What ran is half done; the next asyncio.run must not meet it.
            asyncio.new_event_loop()
        self.hal.hold_ctrl_c(True)
        try:
            for port in self.ports:
                port.stream.close()
            self.hal.wdt_release()
            self.vitals.planned = 1  # whoever sent the Ctrl-C resets the board
            self._save()
            _say(self.hal, b"\r\nsentill: stopped by Ctrl-C; Ctrl-D starts it again\r\n")
        finally:
            self.vault.close()
            if self.audit.journal:
                self.audit.journal.erase_keys()
            left_s = self.session.left_s()
            if self.vault.profile and not left_s:  # it ended meanwhile, and 0 is without limit
                self.hal.reset()
            _leave_repl(self.hal, left_s)

    async def _main(self):
        if self.config["watchdog"]:
            self.attempt("watchdog", self.hal.wdt_start, self.config["watchdog_ms"])
        for port in self.ports:
            self.attempt("identity", self.send_identity, port)
        for loop in self._loops:
            asyncio.create_task(self._keep(loop))
        while True:
            await asyncio.sleep_ms(1 << 20)

    async def _keep(self, loop):
        backoff = _FIRST_BACKOFF_MS
        while True:
            began = ticks_ms()
            loop.beat()
            try:
                await loop.run(loop)
                error: Exception = RuntimeError("ended")
            except Exception as caught:
                error = caught
                self._sampling = self.terminal.busy = False
            self.crashes += 1
            told = self._tell(error)
            self.flaw = self.flaw or loop.name + ": " + told
            self.event("task_crash", [("task", loop.name), ("err", told)], journal.ERROR)
            if ticks_diff(ticks_ms(), began) > _CALM_MS:
                backoff = _FIRST_BACKOFF_MS
            await self._sleep(loop, backoff)
            backoff = min(backoff * 2, _LAST_BACKOFF_MS)

    async def _sleep(self, loop, ms):
        # Sleep with signs of life.
        end = ticks_add(ticks_ms(), ms)
        while True:
            loop.beat()
            left = ticks_diff(end, ticks_ms())
            if left <= 0:
                return
            left = left if left < _STEP_MS else _STEP_MS
            loop.due = ticks_add(ticks_ms(), left)
            await asyncio.sleep_ms(left)

    # The tasks

    async def _terminal(self, loop):
        port = self.terminal_port
        stream = port.stream
        reader = port.reader
        started = ticks_us()
        while True:
            while True:
                while port.room() < _REPLY:
                    await self._pause(loop)
                kind = reader.next()
                if not kind:
                    break
                if kind == _T:
                    self.terminal.judge(port, started)
                    if self.audit.waiting() >= _MANY:
                        self.audit.piece()
                elif kind == _P:
                    self.terminal.feedback(port)
                elif kind == _C:
                    commands.answer(self, port)
                else:  # an echo perhaps: no reply, or there would be no end
                    self.refused += 1
                started = ticks_us()
            ms = stream.rest_ms(reader.waiting(), reader.line)
            if ms:
                loop.beat()
                await asyncio.sleep_ms(ms)
            else:
                loop.wait()
                await _arrival(stream.rx)
                loop.beat()
            n = stream.readinto(reader.window())
            started = ticks_us()
            if n:
                reader.received(n)

    async def _pause(self, loop):
        # Until a reply finds room again; what comes in meanwhile waits in the hardware.
        loop.beat()
        await asyncio.sleep_ms(5)

    async def _console(self, loop):
        port = self.console
        rx = port.stream.rx
        reader = port.reader
        one = memoryview(bytearray(1))
        while True:
            while True:
                while port.room() < _REPLY:
                    await self._pause(loop)
                kind = reader.next()
                if not kind:
                    break
                if kind == _C:
                    commands.answer(self, port)
                    if self.after:
                        await self._leave()  # at once: whoever asked for it waits
                else:
                    self.refused += 1
                    if kind == _T or kind == _P:
                        refusal = [("re", 0), ("ok", False), ("err", "type"), ("msg", "only on the terminal's line")]
                        port.send("R", refusal)
            loop.wait()
            await _arrival(rx)
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
                if c == _CTRL_C and self.may_stop():
                    raise KeyboardInterrupt
            reader.received(n)

    async def _writer(self, loop):
        wake = self.wake
        while True:
            moved = waiting = 0
            for port in self.ports:
                if port.pending():
                    moved += port.pump()
                    waiting += port.pending()
            loop.beat()
            if waiting:
                await asyncio.sleep_ms(0 if moved else 20)
            else:
                wake.clear()
                loop.wait()
                await wake.wait()

    async def _sampler(self, loop):
        due = ticks_ms()
        churn = 0
        while True:
            late = ticks_diff(ticks_ms(), due)
            if late > self.vitals.jitter_ms:
                self.vitals.jitter_ms = late
            now = self.hal.now_s()
            sources = self.vitals.sources
            for i in range(len(sources)):
                raw = self.vitals.read(sources[i])
                self._sampling = True
                changed = self.monitor.sample(i, raw, now)
                self._sampling = False
                if changed:
                    self._changed(i)
            if gc.mem_alloc() - churn > _CHURN_BYTES and not self.urgent():
                # Now, rather than between a request and its verdict.
                gc.collect()
                churn = gc.mem_alloc()
            due = ticks_add(due, self.config["sample_ms"])
            left = ticks_diff(due, ticks_ms())
            if left < 0:
                due = ticks_ms()
            await self._sleep(loop, left)

    def _changed(self, i):
        # A function of its own: what it builds would stay in the frame of the task until the next time.
        self.event("channel", self.monitor.row(i), journal.HEALTH)
        if self.monitor.state(i) >= WARN:
            self.keep_file(_HEALTH, self.monitor.save)  # what comes next may be a power cut

    async def _telemetry(self, loop):
        while True:
            rate = self.rate_hz
            if rate and self.console.room() < _SPARE:
                self.console.skip()
            elif rate:
                self.console.send("H", self.vitals.summary())
                if len(self.vitals.sources):
                    self._row = (self._row + 1) % len(self.vitals.sources)
                    self.console.send("H", [("t", self.hal.now_s())] + self.monitor.row(self._row))
            await self._sleep(loop, 1000 // rate if rate else _STEP_MS)

    async def _saver(self, loop):
        while True:
            await self._sleep(loop, self.config["save_s"] * 1000)
            self._save()

    async def _journal(self, loop):
        while True:
            while self.audit.piece():
                await self._pause(loop)
            for _ in range(self.config["journal_ms"] // _PULL_MS):
                loop.beat()
                while self.audit.pump():
                    loop.beat()
                    await asyncio.sleep_ms(5)
                await asyncio.sleep_ms(_PULL_MS)

    async def _warden(self, loop):
        silent = None
        while True:
            now = ticks_ms()
            hung = [other.name for other in self._loops if other is not loop and other.hangs(now)]
            if not hung:
                self.hal.wdt_feed()
                if self.trial and ticks_diff(now, self._began) > _PROOF_MS:
                    self._prove()
            elif hung != silent:
                self.event("hang", [("task", ",".join(hung))], journal.ERROR)
            silent = hung
            self.tamper.look()
            if self.session.expired():
                self.audit.note(journal.ACCESS, [("ev", "expired")])
            if self.after:
                await self._leave()
            await self._sleep(loop, _STEP_MS)

    def _prove(self):
        self.trial = False
        if not self.flaw:
            self.attempt("slot", self.store.prove)
        slot = self.store.slot()
        if len(slot) == 1:
            self.event("proven", [("slot", slot)])
        else:
            self.attempt("note", self.store.write_note, self.flaw)
            self.event("unproven", [("slot", slot), ("why", self.flaw)])
            self.after = "reboot"  # until the boots of the trial are used up and the old version comes back

    async def _leave(self):
        # Replies first, then the state, then the reset.
        end = ticks_add(ticks_ms(), _FLUSH_MS)
        while any([port.pending() for port in self.ports]) and ticks_diff(end, ticks_ms()) > 0:
            await asyncio.sleep_ms(5)
        self.vitals.planned = 1
        self._save()
        sleep_ms(50)  # what the last bytes need on the wire
        self.hal.reset()

    # State across resets

    def _save(self):
        if self.assessor and not self.terminal.busy:
            self.keep_file(_HISTORY, self.assessor.save)
        if len(self.vitals.sources) and not self._sampling:
            self.keep_file(_HEALTH, self.monitor.save)
        if self.hal.clock_set:
            self.latest_s = max(self.latest_s, self.hal.now_s())
        self.keep_file(_VITALS, self.vitals.save)
        self.audit.commit()

    def keep_file(self, name: str, save) -> None:
        """Save the bytes that `save` writes as the file `name` (see store.Store); an E frame tells when that fails."""
        try:
            self.store.save(name, save)
        except (OSError, MemoryError, SentillError) as error:
            self.event("save", [("file", name), ("err", self._tell(error))])


def _stand_aside(hal, seconds):
    # No watchdog runs. Whoever asked for this presses Ctrl-C; when nobody comes, the node goes back to work.
    hal.wdt_release()
    _leave_repl(hal, seconds)
    try:
        _say(hal, b"sentill: maintenance, the node runs again after the next reset\r\n")
        sleep_ms(_ASIDE_MS)
        hal.reset()
    except KeyboardInterrupt:
        pass


def _say(hal, text):
    # A plain line for people; given up when nobody reads.
    end = ticks_add(ticks_ms(), 100)
    view = memoryview(text)
    at = 0
    while at < len(text) and ticks_diff(end, ticks_ms()) > 0:
        at += hal.usb.write(view, at, len(text))
