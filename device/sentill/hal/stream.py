"""A byte stream that never makes its caller wait."""

import select

from sentill.compat import ticks_us


class Stream:
    """Reads `rx` and writes `tx`, two pollable stream objects (or one and the same).

    `chunk` is the number of bytes that a write which polls as possible takes without waiting. `rx` is read byte by
    byte, unless `greedy` says that it reads only what is there, or `counted` that its `any()` tells how much that is.
    `rx` is also what asyncio waits for.
    """

    def __init__(self, rx, tx, chunk: int, greedy: bool, counted: bool = False):
        self.rx = rx
        self.came_us = ticks_us()  # when the latest byte had come in, as far as is known
        self._tx = tx
        self._chunk = chunk
        self._greedy = greedy
        self._counted = counted
        self._in = select.poll()
        self._in.register(rx, select.POLLIN)
        self._out = select.poll()
        self._out.register(tx, select.POLLOUT)
        self._one = memoryview(bytearray(1))

    def readable(self) -> bool:
        """Whether a byte can be read now."""
        for _, events in self._in.ipoll(0):
            return bool(events & select.POLLIN)
        return False

    def rest_ms(self, waiting: int, usual: int) -> int:
        """Milliseconds after which to look for bytes again: -1 for at once, 0 to wait until `rx` has some.

        `waiting` is the number of bytes of a line whose rest is still to come, `usual` the length of the line before.
        """
        return 0

    def still(self) -> None:
        """Called before the chip is stopped for a while: what comes in next came after this."""

    def readinto(self, buf) -> int:
        """Read what is there, at most len(buf) bytes; returns the count, 0 when there is nothing."""
        self.came_us = ticks_us()
        if self._counted:
            n = self.rx.any()
            return (self.rx.readinto(buf, min(n, len(buf))) or 0) if n else 0
        if self._greedy:
            return (self.rx.readinto(buf) or 0) if self.readable() else 0
        n = 0
        one = self._one
        while n < len(buf) and self.readable():
            if not self.rx.readinto(one):
                break
            buf[n] = one[0]
            n += 1
        return n

    def writable(self) -> bool:
        """Whether a byte can be written now."""
        for _, events in self._out.ipoll(0):
            return bool(events & select.POLLOUT)
        return False

    def write(self, view, at: int, end: int) -> int:
        """Write of view[at:end] what goes out without waiting; returns the count, 0 when no more is taken now."""
        if not self.writable():
            return 0
        return self._tx.write(view, at, min(end - at, self._chunk)) or 0

    def close(self) -> None:
        """Receive no more: the line is for somebody else now."""
