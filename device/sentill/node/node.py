"""The running node: what joins the ports, the risk engine, the health monitor and the journal.

All state that changes is owned here and touched from the tasks of tasks.py only. A task that crashes is reported (E
frame `task_crash`) and started again; when a task hangs, the watchdog is no longer fed. Ctrl-C ends the node and leaves
the REPL to whoever sent it.

A start-up that fails in part goes on with what works: `faults` names the parts, and an E frame tells each reason.
"""

import asyncio
import gc
from time import sleep_ms

from sentill.compat import borrow, const, ticks_add, ticks_diff, ticks_ms
from sentill.errors import SentillError
from sentill.health.monitor import Monitor
from sentill.health.sources import Vitals
from sentill.journal import chain
from sentill.journal.recorder import Audit
from sentill.keys.session import Session
from sentill.keys.tamper import Tamper
from sentill.keys.vault import Vault
from sentill.pan import looks_like_pan
from sentill.risk.assess import Assessor
from sentill.wire import protocol
from sentill.wire.port import Port

from . import commands
from .files import Store
from .flash_worker import Worker
from .tasks import Tasks
from .terminal import Terminal

_USB_ROOM = const(1536)
_FLUSH_MS = const(3000)
_ASIDE_MS = const(30_000)
_HISTORY = "history.bin"
_HEALTH = "health.bin"
_VITALS = "vitals.bin"
_OUTSIDE = ("uart", "state", "foreign")  # faults that another version would have, too


def start(hal) -> None:
    """Run the node on `hal` until Ctrl-C; returns to let the REPL take over, for a limited time on a locked board.

    After the command "maintenance" it waits half a minute for that, and restarts the board.
    """
    hal.hold_ctrl_c(True)  # until it is known whether it may stop the node
    store = Store(hal.root, hal.home)
    session = bytearray(4)
    if store.load(commands.MAINTENANCE, lambda readinto, size: readinto(session) if size == 4 else None):
        store.take(commands.MAINTENANCE)
        _stand_aside(hal, int.from_bytes(session, "little"))
        return
    node = Node(hal, store)
    node.run()


def _let_go(hal, seconds):
    # Of the watchdog, for so long: then the board restarts, and sooner when a soft reset comes. 0 is without limit.
    if seconds:
        hal.time_box(seconds * 1000)
    else:
        hal.wdt_release()


class Node:
    """Everything at work on `hal` with the files of `store`; `run` runs it."""

    # Set by boot.assemble; declared for readers and type checkers, no code on the board.
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
        self.light = None  # once it is asked for
        self.toggle = 0  # changes of the light still to come: see warden
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
        self.due = ticks_ms()  # see commands.spent
        self.worker = Worker(self)
        self.wake = asyncio.Event()  # something waits to go out
        self.console = Port("usb", hal.usb, _USB_ROOM, False, self.wake.set)
        self.ports = [self.console]
        borrow("node", "boot").assemble(self)
        self.tasks = Tasks(self)
        if self.config["light_sleep"]:
            self.attempt("light_sleep", self._add_sleeper)

    def _add_sleeper(self):
        from .light_sleep import Sleeper
        from .supervised_task import Loop

        self.tasks.loops.append(Loop("sleeper", Sleeper(self, self.tasks.loops).run))

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
        told = self.tell(error)
        if part not in _OUTSIDE:
            self.flaw = self.flaw or part + ": " + told
        self.event("fault", [("part", part), ("err", told)])

    def event(self, name: str, pairs, kind: int = 0) -> None:
        """Send an E frame, and record it in the journal as `kind` unless that is 0."""
        try:
            pairs = [("ev", name)] + pairs
            self.console.send("E", [("t", self.hal.now_s())] + pairs)
        except MemoryError:
            self.console.tell(b'#E {"q":\x01,"ev":"memory",\0', 0, 0, "of", name)
        if kind:
            self.audit.note(kind, pairs)

    def report(self, part: str, error) -> None:
        """Send an E frame that tells of an error."""
        try:
            self.event(part, [("err", self.tell(error))])
        except MemoryError:
            self.console.tell(b'#E {"q":\x01,"ev":"memory",\0', 0, 0, "of", part)

    def send_identity(self, port) -> None:
        """Send an I frame on `port`."""
        borrow("node", "identity").send(self, port)

    def recover_journal(self) -> None:
        """Open keys and journal that could not be opened at the start. Raises what stands against it."""
        borrow("node", "boot_flash").recover(self)

    def tell(self, error) -> str:
        """An error in words that may travel."""
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
        left_s = 0
        try:
            for port in self.ports:
                port.stream.close()
            left_s = self.session.left_s()
            _let_go(self.hal, left_s)
            self.vitals.planned = 1  # whoever sent the Ctrl-C resets the board
            self.keep_all()
            self.worker.finish()
            _say(self.hal, b"\r\nsentill: stopped by Ctrl-C; Ctrl-D starts it again\r\n")
        finally:
            self.vault.close()
            if self.audit.journal:
                self.audit.journal.erase_keys()
            if self.vault.profile and not left_s:  # it ended meanwhile, and 0 is without limit
                self.hal.reset()
            self.hal.hold_ctrl_c(False)

    async def _main(self):
        if self.config["watchdog"]:
            self.attempt("watchdog", self.hal.wdt_start, self.config["watchdog_ms"])
        for port in self.ports:
            self.attempt("identity", self.send_identity, port)
        # What lives for a moment stays low in the heap, and the rest of it in one piece.
        gc.threshold(self.worker.budget())
        # Not before: an import that a Ctrl-C interrupts takes the file for missing. Until now it was just a byte.
        self.hal.hold_ctrl_c(not self.may_stop())
        for loop in self.tasks.loops:
            asyncio.create_task(loop.keep(self._crashed))
        while True:
            await asyncio.sleep_ms(1 << 20)

    def _crashed(self, loop, error):
        self.tasks.busy = self.terminal.busy = False
        self.crashes += 1
        try:
            told = self.tell(error)
            self.flaw = self.flaw or loop.name + ": " + told
            self.event("task_crash", [("task", loop.name), ("err", told)], chain.ERROR)
        except MemoryError:
            self.flaw = self.flaw or loop.name
            self.console.tell(b'#E {"q":\x01,"ev":"task_crash","err":"memory",\0', 0, 0, "task", loop.name)
            self.audit.count(chain.ERROR)

    async def leave(self):
        """Replies first, then the state, then the reset."""
        end = ticks_add(ticks_ms(), _FLUSH_MS)
        while any([port.pending() for port in self.ports]) and ticks_diff(end, ticks_ms()) > 0:
            await asyncio.sleep_ms(5)
        self.vitals.planned = 1
        self.keep_all()
        self.worker.finish()
        sleep_ms(50)  # what the last bytes need on the wire
        self.hal.reset()

    # State across resets

    def keep_all(self) -> None:
        """Have all state that outlasts a reset kept."""
        if self.assessor and not self.terminal.busy:
            self.worker.keep(_HISTORY, self.assessor.save)
        if len(self.vitals.sources) and not self.tasks.busy:
            self.worker.keep(_HEALTH, self.monitor.save)
        if self.hal.clock_set:
            self.latest_s = max(self.latest_s, self.hal.now_s())
        self.worker.keep(_VITALS, self.vitals.save)


def _stand_aside(hal, seconds):
    # Whoever asked for this presses Ctrl-C; when nobody comes, the node goes back to work.
    _let_go(hal, seconds)
    hal.hold_ctrl_c(False)
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
