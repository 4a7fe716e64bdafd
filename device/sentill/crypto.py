"""HMAC-SHA256 (RFC 2104), HKDF (RFC 5869) and the comparison of tags; MicroPython has SHA-256 but neither of them."""

from hashlib import sha256

from sentill.compat import native

LAB_ROOT = bytes(32)  # stands for the root key of a board that has been given none
_found: list = []  # the MAC of this board, once one was asked for


def mac(key=b""):
    """A MAC under `key`, by what computes it best on this board."""
    if not _found:
        thumb = native("mac_thumb")
        if thumb:
            _found.append(thumb.MAC)
        else:
            from sentill.mac_plain import MAC

            _found.append(MAC)
    return _found[0](key)


def next_key(key) -> bytes:
    """The key after `key` in a chain; there is no way back."""
    h = sha256(b"next")
    h.update(key)
    return h.digest()


def hkdf(key, info, length: int = 32, salt=b"") -> bytes:
    """`length` (1..8160) bytes derived from `key` for the purpose `info` by HKDF-SHA256, RFC 5869."""
    if not 0 < length <= 8160:
        raise ValueError("length")
    hmac = mac(salt)
    pseudo_random = hmac.tag(key)
    hmac.rekey(pseudo_random)
    out = b""
    block = b""
    count = 1
    while len(out) < length:
        block = hmac.tag(block, info, bytes((count,)))
        out += block
        count += 1
    hmac.wipe()
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
