"""HMAC-SHA256 (RFC 2104), HKDF (RFC 5869) and the comparison of tags; MicroPython has SHA-256 but neither of them."""

from hashlib import sha256

from .compat import const

LAB_ROOT = bytes(32)  # stands for the root key of a board that has been given none

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


def hkdf(key, info, length: int = 32, salt=b"") -> bytes:
    """`length` (1..8160) bytes derived from `key` for the purpose `info` by HKDF-SHA256, RFC 5869."""
    if not 0 < length <= 8160:
        raise ValueError("length")
    mac = MAC(salt)
    pseudo_random = mac.tag(key)
    mac.rekey(pseudo_random)
    out = b""
    block = b""
    count = 1
    while len(out) < length:
        block = mac.tag(block, info, bytes((count,)))
        out += block
        count += 1
    mac.wipe()
    return out[:length]


def equal(a, b) -> bool:
    """Whether two byte strings are equal. Every byte is looked at: the time does not tell where they differ."""
    n = len(a)
    if n != len(b):
        return False
    difference = 0
    for i in range(n):
        difference |= a[i] ^ b[i]
    return difference == 0


def wipe(buffer) -> None:
    """Overwrite a bytearray with zeros."""
    for i in range(len(buffer)):
        buffer[i] = 0
