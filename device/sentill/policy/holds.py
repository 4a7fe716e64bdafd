"""What was counted lately and may have to be taken off again, found by the ref of the transaction."""

from array import array

from sentill.compat import const

_KEY = const(8)


class Holds:
    """The latest `capacity` payments that were counted: `times`, `amounts`, `types` (as a place in
    transaction.TYPES, +16 for a refund that was given back), what they `matched` (4 words each), whose they are."""

    def __init__(self, capacity: int):
        self.capacity = capacity
        self.times = array("i", bytes(4 * capacity))
        self.amounts = array("i", bytes(4 * capacity))
        self.matched = array("H", bytes(8 * capacity))
        self.types = bytearray(capacity)
        self._low = array("H", bytes(2 * capacity))
        self._high = array("H", bytes(2 * capacity))
        self._keys = bytearray(2 * _KEY * capacity)
        self._state = bytearray(capacity)  # 0 free, else 1 + the length of the card's key * 16 + that of the group's
        self._next = 0

    def find(self, ref: int) -> int:
        """The place of `ref` (0..2^32-1), -1 when it is not held."""
        low = ref & 0xFFFF
        high = ref >> 16
        for i in range(self.capacity):
            if self._low[i] == low and self._high[i] == high and self._state[i]:
                return i
        return -1

    def add(self, ref: int, card, group) -> int:
        """A place for `ref` of these holders (keys of at most 8 bytes); the oldest one gives way."""
        i = self._next
        self._next = i + 1 if i + 1 < self.capacity else 0
        self._low[i] = ref & 0xFFFF
        self._high[i] = ref >> 16
        self._state[i] = 1 + len(card) * 16 + len(group)
        at = 2 * _KEY * i
        self._keys[at : at + len(card)] = card
        self._keys[at + _KEY : at + _KEY + len(group)] = group
        return i

    def card(self, i: int) -> bytes:
        """Key of the card at place `i`."""
        at = 2 * _KEY * i
        return bytes(self._keys[at : at + (self._state[i] - 1 >> 4)])

    def group(self, i: int) -> bytes:
        """Key of the group at place `i`."""
        at = 2 * _KEY * i + _KEY
        return bytes(self._keys[at : at + (self._state[i] - 1 & 15)])

    def drop(self, i: int) -> None:
        """Forget what is at place `i`."""
        self._state[i] = 0
