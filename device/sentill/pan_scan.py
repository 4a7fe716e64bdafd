"""Card numbers among the digits of values; pan.py says how they are told. Borrowed for values with enough digits."""

from sentill.compat import const
from sentill.pan import SEPARATORS

_LEAST = const(12)
_MOST = const(19)
_HIDING = const(17)
_ROOM = const(40)
_MAX_SEPARATORS = const(2)

_WHOLE = const(0x100)

# First and last number of six digits, and the lengths: bit 0 for 12 digits to bit 7 for 19. _WHOLE: so many numbers
# begin like that, that they are believed only when they stand alone.
# fmt: off
_RANGES = (
    400000, 499999, 0x92,  # Visa 13, 16, 19
    510000, 559999, 0x10,  # Mastercard
    222100, 272099, 0x10,
    340000, 349999, 0x08,  # American Express
    370000, 379999, 0x08,
    601100, 601199, 0xF0,  # Discover
    644000, 659999, 0xF0,
    620000, 629999, 0xF0,  # UnionPay
    352800, 358999, 0xF0,  # JCB
    213100, 213199, 0x08,
    300000, 305999, 0xF4,  # Diners Club
    309500, 309599, 0xF4,
    360000, 369999, 0x04,
    380000, 399999, 0x04,
    501800, 502099, 0xFF,  # Maestro, Dankort
    503800, 503899, 0xFF,
    589300, 589399, 0xFF,
    630400, 630499, 0xFF,
    670300, 670399, 0xFF,
    670600, 670699, 0xFF,
    670900, 670999, 0xFF,
    675900, 675999, 0xFF,
    676100, 676399, 0xFF,
    677100, 677199, 0xFF,
    506099, 506198, 0x90,  # Verve
    507865, 507964, 0x90,
    508500, 508999, 0x10,  # RuPay
    606985, 608500, 0x10,
    817200, 820199, 0x10,
    506700, 506799, 0x10,  # Elo
    509000, 509999, 0x10,
    636200, 636399, 0x10,
    220000, 220599, 0xF0,  # Mir, Borica
    561400, 561499, 0x10,  # Uzcard, Humo
    860000, 860099, 0x10,
    986000, 986099, 0x10,
    979200, 979299, 0x10,  # Troy
    194600, 194699, 0x10,  # GPN
    605474, 605474, 0x10,
    100000, 194599, 0x108,  # UATP
    194700, 199999, 0x108,
)
# fmt: on


def scan(values) -> bool:
    """Whether the `values` (bytes each), one after the other, hold a card number."""
    # Digits go into `digits` until their run ends, also from one value to the next. `long`: the run began before them.
    digits = bytearray(_ROOM)
    n = gap = 0
    long = False
    for data in values:
        gap = 0
        for c in data:
            if 48 <= c <= 57:
                if n == _ROOM:
                    if _test(digits, n, True):
                        return True
                    # All windows that begin before the last _MOST - 1 digits are whole by now.
                    long = True
                    n = _MOST - 1
                    digits[:n] = digits[_ROOM - n :]
                digits[n] = c - 48
                n += 1
                gap = 0
            elif n and gap < _MAX_SEPARATORS and c in SEPARATORS:
                gap += 1
            else:
                if n >= _LEAST and _test(digits, n, long):
                    return True
                n = gap = 0
                long = False
    return n >= _LEAST and _test(digits, n, long)


def _test(digits, n: int, long: bool) -> bool:
    # Whether the run of `n` digits holds a card number.
    if long or n >= _HIDING:
        for start in range(n - _LEAST + 1):
            for length in range(_LEAST, min(_MOST, n - start) + 1):
                if _fits(digits, start, length, False):
                    return True
        return False
    if _fits(digits, 0, n, True):
        return True
    if n >= 15 and (_fits(digits, 0, n - 1, False) or _fits(digits, 1, n - 1, False)):
        return True
    told = digits[0] * 10 + digits[1]
    for start in (2, 3):
        left = n - start
        if left >= _LEAST and (told == left or told == (left + 1) >> 1) and _fits(digits, start, left, False):
            return True
        told = told * 10 + digits[2]
    return False


def _fits(digits, start: int, n: int, whole: bool) -> bool:
    # Whether the `n` digits from `start` on are a card number; `whole`: they stand alone.
    total = 0
    for i in range(n):
        d = digits[start + n - 1 - i]
        if i & 1:
            d = d * 2 - 9 if d > 4 else d * 2
        total += d
    if total % 10:
        return False
    first = 0
    for i in range(start, start + 6):
        first = first * 10 + digits[i]
    for i in range(0, len(_RANGES), 3):
        if _RANGES[i] <= first <= _RANGES[i + 1]:
            lengths = _RANGES[i + 2]
            if lengths >> (n - _LEAST) & 1 and (whole or not lengths & _WHOLE):
                return True
    return False
