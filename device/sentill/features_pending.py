"""The transactions whose label is not known yet: a bounded ring in time order, with every ref found in O(1).

Refs hang in 256 chains by the exclusive-or of their bytes. A ref above 2^30 is a heap object on a 32-bit board, so refs
are kept and compared as two 16-bit halves and nothing here allocates but the constructor, `save` and `restore`.
"""

from array import array
from struct import pack_into, unpack_from

from .compat import const

EXPLAINED = 1  # flags
FRAUD = 2

_EXPLAINED = const(1)
_FRAUD = const(2)
_CHAINS = const(256)
_RECORD = const(9)  # u32 ref, u32 t, u8 flags
_IMAGE = const(252)  # bytes of as many records as are saved at once


class Pending:
    """A ring of `capacity` (1..65534) slots. `times` (seconds) and `flags` go by slot; `head` is the oldest.

    `finder` is that of features_viper.py or features_plain.py.
    """

    def __init__(self, capacity: int, finder):
        if not 1 <= capacity <= 65_534:
            raise ValueError("capacity must be 1..65534")
        self.capacity = capacity
        self.count = 0
        self.head = 0
        self.times = array("i", bytes(4 * capacity))
        self.flags = bytearray(capacity)
        self._low = array("H", bytes(2 * capacity))
        self._high = array("H", bytes(2 * capacity))
        self._next = array("H", bytes(2 * capacity))  # slot + 1 of the next in the chain, 0 ends it
        self._chains = array("H", bytes(2 * _CHAINS + 4))  # and the ref `find` looked for last, as two halves
        # (ref) -> slot of `ref` (0..2^32-1), or -1
        self.find = finder(self._chains, self._low, self._high, self._next)

    def clear(self) -> None:
        """Forget all."""
        self.count = self.head = 0
        for i in range(_CHAINS):
            self._chains[i] = 0

    def push(self, t: int, flags: int) -> None:
        """Append the ref that `find` just did not find. The ring must have room and `t` not precede the newest."""
        chains = self._chains
        slot = self.head + self.count
        if slot >= self.capacity:
            slot -= self.capacity
        self.count += 1
        self.times[slot] = t
        self.flags[slot] = flags
        self._low[slot] = chains[_CHAINS]
        self._high[slot] = chains[_CHAINS + 1]
        t = chains[_CHAINS] ^ chains[_CHAINS + 1]
        t = (t ^ t >> 8) & 255
        self._next[slot] = chains[t]
        chains[t] = slot + 1

    def pop(self) -> int:
        """Remove the oldest and return its slot, whose time and flags stay readable until the next `push`."""
        slot = self.head
        chain = self._low[slot] ^ self._high[slot]
        chain = (chain ^ chain >> 8) & 255
        link = self._chains[chain]
        slot += 1
        if link == slot:
            self._chains[chain] = 0  # chains grow at the front, so the oldest is the last link
        else:
            follow = self._next
            while follow[link - 1] != slot:
                link = follow[link - 1]
            follow[link - 1] = 0
        self.head = slot if slot < self.capacity else 0
        self.count -= 1
        return slot - 1

    def save(self, write) -> None:
        """Hand the transactions to `write(bytes)`, oldest first, 9 bytes each: u32 ref, u32 t, u8 flags."""
        image = bytearray(_IMAGE)
        slot = self.head
        at = 0
        for _ in range(self.count):
            pack_into("<HHiB", image, at, self._low[slot], self._high[slot], self.times[slot], self.flags[slot])
            slot = slot + 1 if slot + 1 < self.capacity else 0
            at += _RECORD
            if at == _IMAGE:
                write(image)
                at = 0
        write(image[:at])

    def restore(self, readinto) -> None:
        """Append the next transaction that `save` wrote. Needs room."""
        image = bytearray(_RECORD)
        readinto(image)
        self._chains[_CHAINS], self._chains[_CHAINS + 1], t, flags = unpack_from("<HHiB", image, 0)
        self.push(t, flags)
