"""One supervised task of the node."""

import asyncio
from asyncio import core  # type: ignore[attr-defined]

from sentill.compat import const, ticks_add, ticks_diff, ticks_ms

_STEP_MS = const(500)  # no task sleeps longer without a sign of life
_HANG_MS = const(5000)
_FIRST_BACKOFF_MS = const(100)
_LAST_BACKOFF_MS = const(10_000)
_CALM_MS = const(60_000)  # a task that ran this long starts anew with the first backoff


class Loop:
    """The task `name`: `run(loop)` is its coroutine. When it last showed a sign of life, and whether it waits for the
    outside; then `idle()` tells that there is nothing that should have woken it.
    """

    def __init__(self, name: str, run, idle=bool):
        self.name = name
        self._job = run
        self._idle = idle
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

    async def keep(self, crashed) -> None:
        """Run the task for good: when it ends, `crashed(loop, error)` is told, and it starts again."""
        backoff = _FIRST_BACKOFF_MS
        ended = RuntimeError("ended")
        error: Exception = ended
        while True:
            began = ticks_ms()
            self.beat()
            try:
                await self._job(self)
                error = ended
            except Exception as caught:
                error = caught
            # From here to the next start nothing takes heap: perhaps there is none.
            try:
                crashed(self, error)
            except Exception:
                pass  # the task has to go on, whatever becomes of the report
            if ticks_diff(ticks_ms(), began) > _CALM_MS:
                backoff = _FIRST_BACKOFF_MS
            began = ticks_add(ticks_ms(), backoff)
            while ticks_diff(began, ticks_ms()) > 0:
                self.beat()
                await asyncio.sleep_ms(min(backoff, _STEP_MS))
            backoff = min(backoff * 2, _LAST_BACKOFF_MS)

    async def sleep(self, ms: int) -> None:
        """Sleep with signs of life."""
        end = ticks_add(ticks_ms(), ms)
        while True:
            self.beat()
            left = ticks_diff(end, ticks_ms())
            if left <= 0:
                return
            left = left if left < _STEP_MS else _STEP_MS
            self.due = ticks_add(ticks_ms(), left)  # type: ignore[assignment]
            await asyncio.sleep_ms(left)


def arrival(stream):
    """Wait until `stream` has something to read, as asyncio.StreamReader does, without 2 KB of asyncio.stream."""
    yield core._io_queue.queue_read(stream)
