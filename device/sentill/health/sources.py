"""Health sources besides the hardware: the node itself, and what the terminal counts for it; the summary frame."""

from sentill.compat import borrow, const

from .monitor import STATES

_MAX_COUNT = const(0x3FFFFFFF)
_LOOK_S = const(60)  # between two looks at the file system, which take some 30 ms on a chip


class Vitals:
    """Reads the `sources` of the health channels: `vital:NAME`, `count:NAME`, `wave:...`, the others from the HAL.

    Vitals: heap_free (bytes), disk_free (KB, as of the last look), unkept (audit records lost since the journal last
    worked, 1 at least while it does not), jitter_ms (worst lateness of the sampler since last read), uptime_s; over the
    board's life flash_erases (an estimate), resets (by watchdog, brownout or unknown), resets_CAUSE of starts.CAUSES;
    since boot crc_errors, bad_lines, dropped frames, crashes. The counters start at 0 and count what the terminal
    reports.
    """

    def __init__(self, node, sources):
        self.node = node
        self.sources = sources
        self.jitter_ms = 0
        self.starts = b""  # starts by cause, an array of the module starts
        self.planned = 0  # 1 when the next reset is no surprise
        self.asleep_ms = 0  # in light sleep since boot
        self._free_kb = 0
        self._look_s = 0  # uptime from which the next look at the file system is due
        self._failing = False  # the journal, at the last look
        self._known = 0  # audit.missed when the journal last worked
        self._counts = {source[6:]: 0 for source in sources if source.startswith("count:")}
        self._resets = {}
        self._waves = None
        for source in sources:
            if source.startswith("vital:resets"):
                self._resets[source[6:]] = borrow("health", "reset_log").which(source[6:])

    def count(self, name: str, n: int) -> bool:
        """Add `n` to the counter `name`; False when no channel has it as its source."""
        if name not in self._counts:
            return False
        self._counts[name] = self._counts[name] + n & _MAX_COUNT
        return True

    def read(self, source: str):
        """An integer reading, None when there is none."""
        if source.startswith("vital:"):
            return self._vital(source[6:])
        if source.startswith("count:"):
            return self._counts[source[6:]]
        if source.startswith("wave:"):
            try:
                return self._wave(source)
            except MemoryError:
                return None
        if source.startswith("wear:"):
            return None  # the monitor asks the index
        return self.node.hal.read(source)

    def _wave(self, source):
        if self._waves is None:
            from .waveforms import Waves

            self._waves = Waves(self.node.hal, self.sources, self.node.urgent)
        return self._waves.read(source)

    def _vital(self, name):
        node = self.node
        if name == "heap_free":
            return node.worker.free  # counting takes 8 ms, so that is done once per collection
        if name == "disk_free":
            return self.free_kb()
        if name == "unkept":
            return self._unkept()
        if name == "jitter_ms":
            worst = self.jitter_ms
            self.jitter_ms = 0
            return worst
        if name == "flash_erases":
            return node.store.erases + node.audit.erases()
        if name == "uptime_s":
            return node.hal.uptime_s()
        if name in self._resets:
            causes = self._resets[name]
            return sum([self.starts[i] for i in causes]) if causes else None
        if name == "crashes":
            return node.crashes
        if name == "crc_errors":
            return sum([port.reader.bad_crc for port in node.ports])
        if name == "bad_lines":
            return sum([port.reader.garbage + port.reader.too_long for port in node.ports])
        if name == "dropped":
            return sum([port.dropped for port in node.ports])
        return None

    def free_kb(self) -> int:
        """KB free for files, as of the last look: once a minute, and when the journal begins to fail or to work again.

        That is enough: while the node runs nobody else writes files.
        """
        node = self.node
        failing = node.audit.failing()
        if failing != self._failing or (node.hal.uptime_s() >= self._look_s and not (self._look_s and node.urgent())):
            self._failing = failing
            self._look_s = node.hal.uptime_s() + _LOOK_S
            self._free_kb = node.store.free_kb()
        return self._free_kb

    def _unkept(self):
        audit = self.node.audit
        lost = audit.missed - self._known
        if audit.failing():
            return max(lost, 1)
        self._known = audit.missed
        return lost

    def save(self, write) -> None:
        """Hand what outlasts a reset to `write(bytes)`, as starts.FILE says."""
        write(self._vital("flash_erases").to_bytes(4, "little"))
        write(bytes((self.planned,)))
        write(self.starts)
        write(self.node.latest_s.to_bytes(4, "little"))

    def summary(self) -> list:
        """Pairs of the summary H frame, see wire/protocol.py; should it be too long, the last of them have no room."""
        node = self.node
        seen = node.terminal.verdicts
        log = node.audit.journal
        told = [
            ("t", node.hal.now_s()),
            ("up", node.hal.uptime_s()),
            ("hz", node.rate_hz),
            ("st", STATES[node.monitor.worst()]),
            ("ap", seen[0]),
            ("rv", seen[1]),
            ("dc", seen[2]),
            ("jn", log.next if log else 0),
            ("jk", log.kept if log else 0),
            ("miss", node.audit.missed),
            ("free", self.free_kb()),
            ("heap", node.worker.free),
            ("fr", node.terminal.frauds),
            ("rej", node.terminal.refused + node.refused),
            ("crash", node.crashes),
            ("drop", self._vital("dropped")),
            ("gap", sum([port.sequence.missed for port in node.ports])),
            ("crc", self._vital("crc_errors")),
            ("bad", self._vital("bad_lines")),
        ]
        if "foreign" in node.faults:
            told.insert(1, ("foreign", True))
        return told
