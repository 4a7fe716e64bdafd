"""A heap that is full: whatever a node tells then is told without it, and what it could not keep is counted."""

import gc

from sentill.compat import native
from sentill.errors import SentillError
from sentill.journal import chain
from sentill.node import commands
from sentill.node.terminal import Terminal
from sentill.pan import looks_like_pan
from sentill.wire import protocol
from sentill.wire.port import Port
from support import MICROPYTHON, SkipTest, no_alloc
from test_journal import Board

FORM = b'#R {"q":\x01,"re":\x02,"ref":\x0b,"ok":false,\0'
PIECE = 16
MOST = 60  # pieces


class Line:
    """A stream that takes all, or nothing while it is `shut`."""

    rx = None
    came_us = 0
    shut = False

    def __init__(self):
        self.out = bytearray(960)
        self.n = 0

    def write(self, view, at, end):
        if self.shut:
            return 0
        for i in range(at, end):
            self.out[self.n] = view[i]
            self.n += 1
        return end - at

    def frames(self):
        """What was sent, decoded."""
        return [protocol.decode(line) for line in bytes(self.out[: self.n]).split(b"\r\n") if line]


def starve(pieces, function):
    """The MemoryError of `function()` with no more than so many small pieces of heap, or None."""
    if not MICROPYTHON or gc.mem_free() > 1 << 20:
        raise SkipTest("a heap that fills up at once is MicroPython's on a board and on the Unix port")
    held = [None] * 4000
    gc.collect()
    n = 0
    for size in (PIECE, 1024, 128, 32):
        try:
            while size != PIECE or n < MOST:  # those lie side by side
                held[n] = bytearray(size)
                n += 1
        except MemoryError:
            pass
    for i in range(pieces):
        held[i] = None
    gc.collect()
    try:
        function()
        return None
    except MemoryError as error:
        return error
    finally:
        held = None
        gc.collect()


def test_a_record_is_made_whole_or_not_at_all():
    board = Board(raw=True)
    made = refused = 0
    board.journal.append(chain.VERDICT, 999, b"first")
    board.journal.commit()
    first = board.journal.next
    payload = bytes(37)

    def add():
        board.journal.append(chain.VERDICT, 1000, payload)

    for pieces in range(MOST):
        if starve(pieces, add):
            refused += 1
        else:
            made += 1
            board.journal.commit()
        assert board.journal.next == first + made, (pieces, made, board.journal.next)
    board.journal.commit()
    if made < MOST:
        assert made > 5 < refused, (made, refused)
    else:  # it takes no heap at all, as where ARM instructions make its tag: then it does with none
        import micropython

        micropython.heap_lock()
        try:
            add()
        finally:
            micropython.heap_unlock()
    assert len(board.verified()) == board.journal.next


def test_a_short_frame_takes_no_heap():
    if not native("wire", "scan_viper"):
        raise SkipTest("without native kernels a frame takes heap")
    stream = Line()
    port = Port("uart", stream, 720, True, lambda: None)
    no_alloc(lambda: port.tell(FORM, 7, 4_000_000, "err", "memory"), 400)
    for kind, fields in stream.frames():
        assert (kind, list(fields.values())[1:]) == ("R", [7, 4_000_000, False, "memory"]), fields
    stream.shut = True
    no_alloc(lambda: port.tell(FORM, 7, 4, "err", "busy"), 400)
    waits = port.pending()
    assert waits > 100, waits
    stream.shut = False
    stream.n = 0
    port.pump()
    assert len(stream.frames()) == 3, stream.frames()


class Hal:
    def now_s(self):
        return 5


class Counts:
    """An audit that counts what it could not keep."""

    full = False

    def __init__(self):
        self.missed = []

    def next(self):
        if self.full:
            raise MemoryError
        return 3

    def count(self, kind):
        self.missed.append(kind)

    def verdict(self, payload):
        raise AssertionError("never comes here")


class Card:
    def tag_of(self, buf, at, n):
        raise MemoryError


class Thing:
    busy = refusing = False
    generation = 0
    card = Card()


def asked(terminal, stream, ref):
    """Have `terminal` judge a request that fails with a MemoryError; the frames that it sent."""
    port = Port("uart", stream, 720, True, lambda: None)
    line = protocol.encode("T", [("q", 9), ("ref", ref), ("t", 1000), ("amt", 500), ("card", "tok")])
    port.reader.window()[: len(line)] = line
    port.reader.received(len(line))
    assert port.reader.next() == 84
    terminal.judge(port)
    return stream.frames()


def test_a_request_gets_an_answer_and_a_verdict_a_record_or_a_count():
    audit = Counts()
    terminal = Terminal(None, looks_like_pan, audit, Thing, Thing)
    ((kind, fields),) = asked(terminal, Line(), 4711)
    assert (kind, fields["ref"], audit.missed) == ("T", 4711, [chain.VERDICT]), (fields, audit.missed)
    audit.full = True
    ((kind, fields),) = asked(terminal, Line(), 4712)
    assert (kind, fields["re"], fields["ref"], fields["err"]) == ("R", 9, 4712, "memory"), fields
    assert audit.missed == [chain.VERDICT] and terminal.refused == 1, audit.missed


def bare(Node, Audit):
    """A node with what its own reports need, and no more."""

    class Bare(Node):
        def __init__(self):
            self.hal = Hal()
            self.guard = looks_like_pan
            self.console = Port("usb", Line(), 960, True, lambda: None)
            self.crashes = 0
            self.flaw = ""
            self.audit = Audit(self)

    return Bare()


def test_a_task_that_dies_of_a_full_heap_is_told_and_goes_on():
    if not MICROPYTHON:
        raise SkipTest("CPython has no heap lock")
    try:
        import asyncio
    except ImportError:
        raise SkipTest("no asyncio in this interpreter")
    import micropython

    from sentill.journal.recorder import Audit
    from sentill.node.node import Node
    from sentill.node.supervised_task import Loop

    node = bare(Node, Audit)
    node.tasks = node.terminal = Thing()
    node.tasks.busy = True
    runs = 0
    error = MemoryError()

    def run(loop):
        # The heap is full from the moment it dies until it is started again.
        nonlocal runs
        if runs:
            micropython.heap_unlock()
        runs += 1
        micropython.heap_lock()
        raise error

    async def main():
        task = asyncio.create_task(Loop("terminal", run).keep(node._crashed))
        while runs < 3:
            await asyncio.sleep_ms(10)
        micropython.heap_unlock()
        task.cancel()

    asyncio.run(main())
    assert runs == node.crashes == node.audit.missed == 3, (runs, node.crashes, node.audit.missed)
    assert node.flaw == "terminal", node.flaw
    told = [(kind, fields["ev"], fields["task"], fields["err"]) for kind, fields in node.console.stream.frames()]
    assert told == [("E", "task_crash", "terminal", "memory")] * 3, told


class Ticks:
    """The milliseconds of `commands`, moved by hand."""

    def __init__(self):
        self.now = 0

    def __call__(self):
        return self.now


def test_unsigned_work_gets_a_quarter_of_the_time():
    ticks = Ticks()
    was, commands.ticks_ms = commands.ticks_ms, ticks
    try:
        budget = Thing()
        budget.due = 0
        for ms in (0, 100_000, 100_000, 1 << 28, 1 << 29, 100_000):  # and after days without any
            ticks.now = ticks.now + ms & 0x3FFFFFFF
            began = ticks.now
            worked = 0
            while ticks.now - began < 60_000:
                if commands.wait(budget):
                    ticks.now += 1
                    continue
                start = ticks.now
                ticks.now += 40
                worked += 40
                commands.spent(budget, start)
            assert 13_000 <= worked <= 17_000, (ms, worked)
        start = ticks.now
        ticks.now += 300_000  # one that takes for ever does not shut the others out for longer than that
        commands.spent(budget, start)
        assert commands.wait(budget) == 10_000, commands.wait(budget)
    finally:
        commands.ticks_ms = was


def test_what_cannot_be_told_is_no_error():
    """An event for which there is no heap is told in short, and its record counted."""
    if not MICROPYTHON:
        raise SkipTest("CPython has no heap lock")
    import micropython

    try:
        from sentill.journal.recorder import Audit
        from sentill.node.node import Node
    except ImportError:
        raise SkipTest("no asyncio in this interpreter")

    node = bare(Node, Audit)
    pairs = [("by", "case")]
    error = SentillError("full", "no room")
    micropython.heap_lock()
    try:
        node.event("tamper", pairs, chain.TAMPER)
        node.report("journal", error)
    finally:
        micropython.heap_unlock()
    told = [(fields["ev"], fields["of"]) for _, fields in node.console.stream.frames()]
    assert told == [("memory", "tamper"), ("memory", "journal")], told
    assert node.audit.missed == 1, node.audit.missed
