"""Light sleep between readings: a task that stops the chip while all others wait for a time that is yet to come.

Every task tells when it will wake (Loop.due). When nothing is on its way in or out, and nothing has come in for a
while, the chip sleeps until just before the first of them; asyncio then finds that time has passed. After the start and
after anything that came in the node stays awake, so that people and the terminal can talk to it.
"""

import asyncio

from sentill.compat import const, ticks_add, ticks_diff, ticks_ms
from sentill.errors import ConfigError

_AWAKE_MS = const(5_000)  # after the last byte that came in
_BOOT_MS = const(10_000)
_EARLY_MS = const(1)  # waking takes time, too
_LEAST_MS = const(5)


class Sleeper:
    """Puts `node` to sleep between what its `loops` do. Raises ConfigError where nothing could wake it in time."""

    def __init__(self, node, loops):
        if not node.hal.can_sleep():
            raise ConfigError("light_sleep", "the terminal's line cannot wake this chip")
        self._node = node
        self._loops = loops
        self._heard = self._count()
        self._until = ticks_add(ticks_ms(), _BOOT_MS)

    async def run(self, loop) -> None:
        """The task: `loop` is its own."""
        while True:
            loop.beat()
            ms = self._spare(loop)
            if ms:
                before = ticks_ms()
                self._node.hal.light_sleep(ms)
                slept = ticks_diff(ticks_ms(), before)
                self._node.vitals.asleep_ms += slept
                if slept < ms - _EARLY_MS:  # woken: what follows must not be lost
                    self._until = ticks_add(ticks_ms(), _AWAKE_MS)
                await asyncio.sleep_ms(1)  # the others first
            else:
                await asyncio.sleep_ms(_LEAST_MS)

    def _spare(self, own):
        # Milliseconds the chip may sleep from now on, 0 for not at all.
        node = self._node
        now = ticks_ms()
        for port in node.ports:
            if port.pending() or port.stream.readable():
                return 0
        heard = self._count()
        if heard != self._heard:
            self._heard = heard
            self._until = ticks_add(now, _AWAKE_MS)
        if ticks_diff(self._until, now) > 0:
            return 0
        self._until = now  # or it would come round again with the ticks
        spare = 1000
        for loop in self._loops:
            if loop is not own and loop.due is not None:
                left = ticks_diff(loop.due, now) - _EARLY_MS
                spare = left if left < spare else spare
        return spare if spare >= _LEAST_MS else 0

    def _count(self):
        # Changes with every byte that comes in.
        return sum([port.reader.heard for port in self._node.ports]) & 0x3FFFFFFF
