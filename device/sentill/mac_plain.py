"""HMAC-SHA256 by the firmware's hashes; on ARM chips mac_thumb.py has the same."""

from hashlib import sha256
from struct import pack_into

from sentill.compat import const
from sentill.crypto import next_key

_BLOCK = const(64)


class MAC:
    """HMAC-SHA256 under a key that can be replaced in place and overwritten.

    The padded keys are kept in two buffers made once; a tag costs two hash objects and two digests on the heap.
    """

    def __init__(self, key=b""):
        self._inner = bytearray(_BLOCK)
        self._outer = bytearray(_BLOCK)
        self._length = _BLOCK  # bytes that are not padding yet
        self.rekey(key)

    def rekey(self, key) -> None:
        """Use `key` (any length) from now on; the former one is overwritten."""
        if len(key) > _BLOCK:
            key = sha256(key).digest()
        inner = self._inner
        outer = self._outer
        n = len(key)
        for i in range(n):
            k = key[i]
            inner[i] = k ^ 0x36
            outer[i] = k ^ 0x5C
        for i in range(n, self._length):
            inner[i] = 0x36
            outer[i] = 0x5C
        self._length = n

    def wipe(self) -> None:
        """Overwrite the key; tags made from now on are worthless."""
        for i in range(_BLOCK):
            self._inner[i] = self._outer[i] = 0
        self._length = _BLOCK

    def tag(self, first, second=b"", third=b"") -> bytes:
        """The 32-byte HMAC-SHA256 of the concatenated arguments."""
        h = sha256(self._inner)
        h.update(first)
        h.update(second)
        h.update(third)
        inner = h.digest()
        h = sha256(self._outer)
        h.update(inner)
        return h.digest()

    def tag_of(self, buf, at: int, n: int):
        """The tag of `n` bytes from `at` on."""
        return self.tag(memoryview(buf)[at : at + n])

    def chain(self, key, tag, buf, at: int) -> None:
        """Tag the record at `at` of `buf`, which begins with its length (u16) and ends with 16 bytes for the tag.

        The tag is that of `tag`, which it replaces, and the record. Then the next key replaces `key`, a bytearray, and
        is used from now on.
        """
        end = at + (buf[at] | buf[at + 1] << 8)
        made = self.tag(tag, memoryview(buf)[at : end - 16])
        following = next_key(key)
        # From here on nothing takes heap: what is done by half would break the chain for good.
        pack_into("16s", buf, end - 16, made)
        pack_into("16s", tag, 0, made)
        pack_into("32s", key, 0, following)
        self.rekey(key)
