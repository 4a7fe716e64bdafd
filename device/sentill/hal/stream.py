"""A byte stream that never makes its caller wait."""

import select


class Stream:
    """Reads `rx` and writes `tx`, two pollable stream objects (or one and the same).

    `chunk` is the number of bytes that a write which polls as possible takes without waiting. `greedy` says that `rx`
    reads only what is there; else it is read byte by byte.
    """

    def __init__(self, rx, tx, chunk: int, greedy: bool):
        self.rx = rx
        self._tx = tx
        self._chunk = chunk
        self._greedy = greedy
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

    def readinto(self, buf) -> int:
        """Read what is there, at most len(buf) bytes; returns the count, 0 when there is nothing."""
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

    def write(self, view) -> int:
        """Write what goes out without waiting; returns the count, 0 when the other side does not take more now."""
        for _, events in self._out.ipoll(0):
            if events & select.POLLOUT:
                return self._tx.write(view if len(view) <= self._chunk else view[: self._chunk]) or 0
        return 0
