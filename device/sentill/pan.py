"""What looks like a card number must not enter the node: the one check, called on every frame with a right checksum."""

from .compat import const

_LEAST = const(13)
_MOST = const(19)


def looks_like_pan(data) -> bool:
    """Whether the bytes `data` hold what looks like a card number.

    That is 13 to 19 digits that pass the Luhn test (ISO/IEC 7812-1), single spaces, `-` or `_` between them allowed, or
    a longer run of digits, as read from a magnetic stripe.
    """
    digits = bytearray(_MOST)
    run = 0
    gap = False
    for c in data:
        if 48 <= c <= 57:
            if run < _MOST:
                digits[run] = c - 48
            run += 1
            gap = False
        elif run and not gap and (c == 32 or c == 45 or c == 95):
            gap = True
        else:
            if run >= _LEAST and (run > _MOST or _luhn(digits, run)):
                return True
            run = 0
            gap = False
    return run >= _LEAST and (run > _MOST or _luhn(digits, run))


def _luhn(digits, n: int) -> bool:
    total = 0
    double = False
    while n:
        n -= 1
        d = digits[n]
        if double:
            d += d
            if d > 9:
                d -= 9
        total += d
        double = not double
    return total % 10 == 0
