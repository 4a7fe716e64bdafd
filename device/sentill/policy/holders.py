"""Who has limits: the cells of the cards, groups and the terminal in use, in one array behind the profile's words.

Those that have not been used for longest give way, to a store with `get(key)`, their bytes or None, and `put(key,
bytes)`. What is stored of a holder is for each word that is not 0 its place (u16) and itself (u32).
"""

from array import array
from struct import pack_into, unpack_from

from sentill.compat import const
from sentill.errors import PolicyError

from . import profile

_BYTES = const(6)


class Holders:
    """The cells of `count` holders, `size` words each, from word `start` of `m` on.

    `mend(at)` makes cells that come from the store fit for the kernels. `hits` and `misses` count what was asked for.
    """

    def __init__(self, m, start: int, size: int, count: int, store, mend):
        self.hits = self.misses = 0
        self._mend = mend
        self._m = m
        self._start = start
        self._size = size
        self._keys = [b""] * count
        self._used = array("i", bytes(4 * count))
        self._turn = 0
        self._store = store

    def find(self, key) -> int:
        """Where the cells of `key` (bytes) begin in `m`; 0 for b"" and where such holders have no limit."""
        if not key or not self._size:
            return 0
        keys = self._keys
        self._turn += 1
        if self._turn == 0x3FFFFFFF:
            self._turn = 1
            for i in range(len(keys)):
                self._used[i] = 0
        if key in keys:
            self.hits += 1
            i = keys.index(key)
        else:
            self.misses += 1
            i = self._bring(key)
        self._used[i] = self._turn
        return self._start + i * self._size

    def _bring(self, key) -> int:
        used = self._used
        i = 0
        for k in range(1, len(used)):
            if used[k] < used[i]:
                i = k
        self.put(i)
        self._keys[i] = b""
        self.fill(i, self._store.get(key))
        self._mend(self._start + i * self._size)
        self._keys[i] = key
        return i

    def mend_all(self) -> None:
        """The same for all that are in use."""
        for i in range(len(self._keys)):
            self._mend(self._start + i * self._size)

    def put(self, i: int) -> None:
        """Hand what holder number `i` has to the store."""
        if self._keys[i]:
            self._store.put(self._keys[i], self.image(i))

    def put_all(self) -> None:
        """Hand all to the store."""
        for i in range(len(self._keys)):
            self.put(i)

    def image(self, i: int) -> bytes:
        """What is stored of holder number `i`."""
        m = self._m
        start = self._start + i * self._size
        n = 0
        for at in range(start, start + self._size):
            if m[at]:
                n += 1
        data = bytearray(_BYTES * n)
        n = 0
        for at in range(start, start + self._size):
            if m[at]:
                pack_into("<HI", data, n, at - start, m[at])
                n += _BYTES
        return bytes(data)

    def fill(self, i: int, data) -> None:
        """Give holder number `i` the cells of `data`, an image, or empty ones. Raises PolicyError for another's."""
        m = self._m
        start = self._start + i * self._size
        for at in range(start, start + self._size):
            m[at] = 0
        if not data:
            return
        if len(data) % _BYTES:
            raise PolicyError("state", "cells were cut")
        for n in range(0, len(data), _BYTES):
            place, value = unpack_from("<HI", data, n)
            if place >= self._size or value > 0x3FFFFFFF:
                raise PolicyError("state", "cells of another profile")
            m[start + place] = value


def sound(m, cell: int, kind: int, now: int) -> None:
    """Make a cell from a store fit for kernel.py: buckets that add up, and nothing that lies ahead of `now`.

    What was counted ahead, by a clock that was wrong, counts as of now.
    """
    if kind != profile.ROLLING:
        if m[cell] > now:
            m[cell] = now
        return
    total = 0
    for i in range(cell + 3, cell + 3 + profile.BUCKETS):
        if m[i] > 0x3FFFFFFF - total:
            m[i] = 0x3FFFFFFF - total
        total += m[i]
    if m[cell] > now:
        m[cell] = now
        for i in range(cell + 3, cell + 3 + profile.BUCKETS):
            m[i] = 0
        m[cell + 3 + (now & 15)] = total
    m[cell + 2] = total
