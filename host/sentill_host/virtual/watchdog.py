"""The watchdog of a virtual board, which its supervisor keeps: it works while the program hangs."""

import time
from collections.abc import Callable

from sentill_host.virtual.child import activity, kept_waiting_s
from sentill_host.virtual.loop import Loop, Timer

_LOOKS = 4  # in a timeout


class Watchdog:
    """Calls `bite` when a whole timeout has passed in which `feeds()` did not change.

    In the board's own time: a chip has its processor for itself, however many boards a computer runs and whatever else
    keeps it busy. What the board had to wait for the processor or a disk, and how late the computer is with our own
    looks, does not count.
    """

    def __init__(self, loop: Loop, feeds: Callable[[], int], bite: Callable[[], None]):
        self._loop = loop
        self._feeds = feeds
        self._bite = bite
        self._timer: Timer | None = None
        self._pid = 0
        self._fed = 0
        self._hungry_s = 0.0  # how long it has gone without a feed
        self._looked_s = 0.0
        self._waited_s = 0.0
        self.ms = 0

    def start(self, ms: int, pid: int) -> None:
        """Watch over process `pid` with a timeout of `ms` from now on; with 0, no more."""
        self.stop()
        self.ms, self._pid = ms, pid
        if ms:
            self._fed, self._hungry_s = self._feeds(), 0.0
            self._looked_s, self._waited_s = time.monotonic(), kept_waiting_s(pid)
            self._look_again(ms / 1000 / _LOOKS)

    def follow(self, pid: int) -> None:
        """Go on with another process: a soft reset ends the program, not the watchdog."""
        self._pid = pid
        self._waited_s = kept_waiting_s(pid)

    def feed(self) -> None:
        """As a feed of the board: by an interrupt, whatever its program does."""
        self._fed, self._hungry_s = self._feeds(), 0.0
        self._looked_s, self._waited_s = time.monotonic(), kept_waiting_s(self._pid)

    def stop(self) -> None:
        """Watch no more."""
        self.ms = 0
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _look_again(self, delay_s: float) -> None:
        self._timer = self._loop.after(delay_s, lambda: self._look(delay_s))

    def _look(self, planned_s: float) -> None:
        now, waited_s, fed = time.monotonic(), kept_waiting_s(self._pid), self._feeds()
        passed_s = min(now - self._looked_s - (waited_s - self._waited_s), planned_s)
        if activity(self._pid)[0] in "DT":  # waits for a disk, or somebody has stopped it
            passed_s = 0.0
        self._looked_s, self._waited_s = now, waited_s
        self._hungry_s += max(passed_s, 0.0)
        if fed != self._fed:
            self._fed, self._hungry_s = fed, 0.0
        left_s = self.ms / 1000 - self._hungry_s
        if left_s <= 0:
            self.stop()
            self._bite()
        else:
            # No closer together than the clock of the processor's scheduler is exact.
            self._look_again(max(0.005, min(left_s, self.ms / 1000 / _LOOKS)))
