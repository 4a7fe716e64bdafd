"""The transactions whose label is not known yet: a bounded ring in time order, seven bytes each.

Of its time a transaction keeps the seconds since the one before it: both are pending at once, so less than 7 days lie
between them. Refs are looked for one by one, in a kernel. A ref above 2^30 is a heap object on a 32-bit board, so it is
moved by bytes, and nothing here allocates but the constructor, `save` and `restore`.
"""

from array import array
from struct import pack_into, unpack_from

from sentill.compat import const
from sentill.errors import StorageError

EXPLAINED = 1  # flags
FRAUD = 2

_EXPLAINED = const(1)
_FRAUD = const(2)
_TOLD = const(3)
_PENDING = const(4)
_HIGH = const(4)  # from this bit on: the upper bits of the seconds
_MOST = const(0xFFFFF)  # seconds that fit
_RECORD = const(9)  # u32 ref, u32 t, u8 flags
_IMAGE = const(252)  # bytes of as many records as are saved at once


class Pending:
    """A ring of `capacity` (1..65534) slots. `flags` go by slot; `head` is the oldest, `oldest` its time (seconds).

    `kernels` is features_thumb or features_plain.
    """

    def __init__(self, capacity: int, kernels):
        if not 1 <= capacity <= 65_534:
            raise ValueError("capacity must be 1..65534")
        self.capacity = capacity
        self.count = 0
        self.head = 0
        self.oldest = 0
        self._newest = 0
        self.flags = bytearray(capacity)
        self._since = array("H", bytes(2 * capacity))
        self._refs = bytearray(4 * capacity + 4)  # by slot, and the one that `find` looked for last
        self._find = kernels.find
        self._keep = kernels.keep

    def clear(self) -> None:
        """Forget all."""
        while self.count:
            self.pop()

    def find(self, ref: int) -> int:
        """The slot of `ref` (0..2^32-1), or -1."""
        return self._find(self._refs, self.flags, self.capacity, ref)

    def push(self, t: int, flags: int) -> None:
        """Append the ref that `find` just did not find. The ring must have room and `t` not precede the newest."""
        slot = self.head + self.count
        if slot >= self.capacity:
            slot -= self.capacity
        if not self.count:
            self.oldest = self._newest = t
        self.count += 1
        self._keep(self._refs, slot, self.capacity)
        t -= self._newest
        self._newest += t
        self._since[slot] = t & 0xFFFF
        self.flags[slot] = flags | _PENDING | t >> 16 << _HIGH

    def pop(self) -> int:
        """Remove the oldest and return its slot, whose flags stay readable until the next `push`."""
        slot = self.head
        self.flags[slot] ^= _PENDING
        self.head = slot + 1 if slot + 1 < self.capacity else 0
        self.count -= 1
        if self.count:
            self.oldest += self._seconds(self.head)
        return slot

    def _seconds(self, slot):
        return self._since[slot] | self.flags[slot] >> _HIGH << 16

    def save(self, write) -> None:
        """Hand the transactions to `write(bytes)`, oldest first, 9 bytes each: u32 ref, u32 t, u8 flags."""
        image = bytearray(_IMAGE)
        slot = self.head
        t = self.oldest
        at = 0
        for i in range(self.count):
            if i:
                t += self._seconds(slot)
            image[at : at + 4] = self._refs[4 * slot : 4 * slot + 4]
            pack_into("<iB", image, at + 4, t, self.flags[slot] & _TOLD)
            slot = slot + 1 if slot + 1 < self.capacity else 0
            at += _RECORD
            if at == _IMAGE:
                write(image)
                at = 0
        write(image[:at])

    def restore(self, readinto) -> None:
        """Append the next transaction that `save` wrote. Needs room. Raises StorageError when it cannot be the next."""
        image = bytearray(_RECORD)
        readinto(image)
        t, flags = unpack_from("<iB", image, 4)
        if t < 0 or (self.count and not 0 <= t - self._newest <= _MOST):
            raise StorageError("history", "saved history is not in order")
        self._refs[4 * self.capacity :] = image[:4]
        self.push(t, flags & _TOLD)
