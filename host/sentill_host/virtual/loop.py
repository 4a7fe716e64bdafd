"""The supervisor's event loop: file descriptors, timers, and writers that keep what does not fit yet."""

import heapq
import itertools
import os
import selectors
import time
from collections.abc import Callable


class Timer:
    """A call to come. `cancel()` is harmless when it has passed."""

    def __init__(self, due_s: float, call: Callable[[], None]):
        self.due_s = due_s
        self.call: Callable[[], None] | None = call

    def cancel(self) -> None:
        """Forget the call."""
        self.call = None


class Loop:
    """Waits for file descriptors and timers; nothing wakes it while there is nothing to do."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._handlers: dict[int, dict[int, Callable[[], None]]] = {}
        self._running = True

    def watch(self, fd: int, event: int, call: Callable[[], None] | None) -> None:
        """Call `call` whenever `fd` is ready for `event` (selectors.EVENT_READ or EVENT_WRITE); None ends it."""
        handlers = self._handlers.setdefault(fd, {})
        before = sum(handlers)
        if call is None:
            handlers.pop(event, None)
        else:
            handlers[event] = call
        mask = sum(handlers)
        if mask == before:
            return
        if not mask:
            self._selector.unregister(fd)
            del self._handlers[fd]
        elif before:
            self._selector.modify(fd, mask)
        else:
            self._selector.register(fd, mask)

    def forget(self, fd: int) -> None:
        """Stop watching `fd`; to be called before it is closed."""
        if self._handlers.pop(fd, None):
            self._selector.unregister(fd)

    def after(self, delay_s: float, call: Callable[[], None]) -> Timer:
        """Call `call` once, `delay_s` from now."""
        timer = Timer(time.monotonic() + delay_s, call)
        heapq.heappush(self._timers, (timer.due_s, next(self._order), timer))
        return timer

    def stop(self) -> None:
        """Let run() return after the current calls."""
        self._running = False

    def run(self) -> None:
        """Serve until stop()."""
        while self._running:
            while self._timers and self._timers[0][2].call is None:
                heapq.heappop(self._timers)
            wait_s = max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else None
            for key, events in self._selector.select(wait_s):
                for event in (selectors.EVENT_READ, selectors.EVENT_WRITE):
                    # Looked up anew: an earlier call of this round may have ended the watch.
                    call = self._handlers.get(key.fd, {}).get(event)
                    if events & event and call is not None:
                        call()
            now = time.monotonic()
            while self._timers and self._timers[0][0] <= now:
                timer = heapq.heappop(self._timers)[2]
                if timer.call is not None:
                    call, timer.call = timer.call, None
                    call()


class Outlet:
    """Writes to a non-blocking descriptor; keeps what does not fit. With a pace, no faster than a serial line."""

    def __init__(self, loop: Loop, fd: int, drained: Callable[[], None] | None = None):
        self._loop = loop
        self._fd = fd
        self._drained = drained
        self._kept = bytearray()
        self._wait: Timer | None = None
        self._closed = False
        self.bytes_per_s = 0.0  # 0: as fast as it goes
        self.moved_s = time.monotonic()  # when the other side last took something, or had nothing to take

    @property
    def waiting(self) -> int:
        """Bytes not yet taken."""
        return len(self._kept)

    def write(self, data: bytes) -> None:
        """Send now or later, in order."""
        if self._closed or not data:
            return
        if not self._kept:
            self.moved_s = time.monotonic()
        self._kept += data
        if self._wait is None:
            self._flush()

    def clear(self) -> int:
        """Throw away what is kept; returns how many bytes."""
        n = len(self._kept)
        self._kept.clear()
        return n

    def close(self) -> None:
        """Stop; what is kept is lost. The descriptor stays open."""
        self._closed = True
        self._kept.clear()
        self._watch(False)
        if self._wait is not None:
            self._wait.cancel()

    def _watch(self, wanted: bool) -> None:
        self._loop.watch(self._fd, selectors.EVENT_WRITE, self._flush if wanted else None)

    def _paced(self) -> None:
        self._wait = None
        self._flush()

    def _flush(self) -> None:
        had = bool(self._kept)
        while self._kept and not self._closed:
            limit = max(1, int(self.bytes_per_s * SLICE_S)) if self.bytes_per_s else 65536
            try:
                n = os.write(self._fd, memoryview(self._kept)[:limit])
            except BlockingIOError:
                break
            except OSError:  # the other side is gone: EPIPE, EIO
                self._kept.clear()
                break
            if n == 0:
                break
            self.moved_s = time.monotonic()
            del self._kept[:n]
            if self.bytes_per_s:
                self._wait = self._loop.after(n / self.bytes_per_s, self._paced)
                break
        if self._closed:
            return
        self._watch(bool(self._kept) and self._wait is None)
        if had and not self._kept and self._drained:
            self._drained()


# A paced line moves this much time's worth of bytes at once: 57 bytes at 115200 baud.
SLICE_S = 0.005
