"""What looks like a card number (PAN) must not enter the node: one guard over decoded values, on the node and the host.

A run is digits with at most two of the separators space `-` `_` `.` `/` between any two of them.

- A run of 12 to 16 digits is tested whole; 14 digits also within 15, and 15 within 16: a digit before or behind; and
  what follows its own length, in digits or in bytes of two.
- In a run of 17 digits and more a number of any length may hide: behind its length or its tag, before the expiry date
  or the security code, as on a magnetic stripe. There every window is tested.

Tested means: a range that a card scheme issues, with one of its lengths, and the Luhn digit right (ISO/IEC 7812-1). The
ranges are from the schemes' public documents. Of uniformly random numbers of 16 digits 2.9 % pass, of the other lengths
that are tested whole fewer; docs/security-tests.md has the figures, and the ranges left out to keep them there.
"""

from .compat import const

_LEAST = const(12)
_MOST = const(19)
_HIDING = const(17)
_ROOM = const(40)
_SEPARATORS = b" -_./"
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


class _Scanner:
    # Feeds bytes into runs. `found` stays true once a run held a card number.

    def __init__(self):
        self.found = False
        self._digits = bytearray(_ROOM)
        self._n = 0
        self._long = False  # the run began before what is in _digits
        self._gap = 0

    def feed(self, data) -> None:
        for c in data:
            if 48 <= c <= 57:
                if self._n == _ROOM:
                    self._shift()
                self._digits[self._n] = c - 48
                self._n += 1
                self._gap = 0
            elif self._n and self._gap < _MAX_SEPARATORS and c in _SEPARATORS:
                self._gap += 1
            else:
                self.end()

    def border(self) -> None:
        # Between two values: what is split over them is one run.
        self._gap = 0

    def end(self) -> None:
        if self._n >= _LEAST:
            self._test()
        self._n = self._gap = 0
        self._long = False

    def _shift(self):
        # All windows that begin before the last _MOST - 1 digits are whole by now.
        self._long = True
        self._test()
        keep = _MOST - 1
        self._digits[:keep] = self._digits[_ROOM - keep :]
        self._n = keep

    def _test(self):
        n = self._n
        if self.found:
            return
        if self._long or n >= _HIDING:
            for start in range(n - _LEAST + 1):
                lengths = _hidden(self._digits, start)
                for length in range(_LEAST, min(_MOST, n - start) + 1):
                    if _fits(lengths, self._digits, start, length):
                        self.found = True
                        return
            return
        digits = self._digits
        self.found = _fits(_lengths(digits, 0), digits, 0, n)
        if n == 15 or n == 16:
            for start in (0, 1):
                self.found = self.found or _fits(_hidden(digits, start), digits, start, n - 1)
        told = digits[0] * 10 + digits[1]
        for start in (2, 3):
            left = n - start
            if left >= _LEAST and (told == left or told == (left + 1) >> 1):
                self.found = self.found or _fits(_hidden(digits, start), digits, start, left)
            told = told * 10 + digits[2]


def looks_like_pan(data) -> bool:
    """Whether the bytes `data`, one decoded value, hold what looks like a card number."""
    scanner = _Scanner()
    scanner.feed(data)
    scanner.end()
    return bool(scanner.found)


def fields_hide_pan(fields: dict, exempt=()) -> bool:
    """Whether a key or value of decoded `fields`, or values that follow one another, hold a card number.

    Values are strings, integers, booleans, or lists and dicts of them; their order is that of the dict. Those of the
    keys in `exempt` are not looked at: integers that their own ranges keep below 12 digits.
    """
    scanner = _Scanner()
    _feed_dict(scanner, fields, exempt)
    scanner.end()
    return bool(scanner.found)


def _feed_dict(scanner, fields, exempt):
    for key in fields:
        if looks_like_pan(key.encode()):
            scanner.found = True
            return
        if key in exempt:
            scanner.end()
        else:
            _feed_value(scanner, fields[key])


def _feed_value(scanner, value):
    if isinstance(value, dict):
        _feed_dict(scanner, value, ())
    elif isinstance(value, list):
        for item in value:
            _feed_value(scanner, item)
    else:
        scanner.border()
        scanner.feed(value.encode() if isinstance(value, str) else str(value).encode())


def _lengths(digits, start) -> int:
    # The lengths of card numbers that begin with the six digits at `start`, as in _RANGES.
    first = 0
    for i in range(start, start + 6):
        first = first * 10 + digits[i]
    lengths = 0
    for i in range(0, len(_RANGES), 3):
        if _RANGES[i] <= first <= _RANGES[i + 1]:
            lengths |= _RANGES[i + 2]
    return lengths


def _hidden(digits, start) -> int:
    lengths = _lengths(digits, start)
    return 0 if lengths & _WHOLE else lengths


def _fits(lengths, digits, start, length) -> bool:
    return bool(lengths >> (length - _LEAST) & 1) and _luhn(digits, start, length)


def _luhn(digits, start: int, n: int) -> bool:
    total = 0
    double = False
    at = start + n
    while at > start:
        at -= 1
        d = digits[at]
        if double:
            d += d
            if d > 9:
                d -= 9
        total += d
        double = not double
    return total % 10 == 0
