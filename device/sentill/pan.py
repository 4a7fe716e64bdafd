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

from sentill.compat import borrow, const

SEPARATORS = b" -_./"
# Integers of frames whose own ranges keep them short, and which differ from frame to frame.
NUMBERS = ("q", "ref", "t", "amt", "pm", "pn", "ph", "fraud", "c", "n", "from", "hz", "min", "gen", "prof", "pol")

_LEAST = const(12)
_MAX_SEPARATORS = const(2)


def looks_like_pan(data) -> bool:
    """Whether the bytes `data`, one decoded value, hold what looks like a card number."""
    return _scan((data,))


def fields_hide_pan(fields: dict, exempt=()) -> bool:
    """Whether a key or value of decoded `fields`, or values that follow one another, hold a card number.

    Values are strings, integers, booleans, or lists and dicts of them; their order is that of the dict. Those of the
    keys in `exempt` are not looked at: integers that their own ranges keep below 12 digits.
    """
    values: list = []
    keys: list = []
    _collect(fields, exempt, values, keys)
    return _scan(values) or _scan(keys)


def frame_hides_pan(fields: dict) -> bool:
    """The same of the decoded fields of a frame, in order of arrival; integers of NUMBERS are not looked at."""
    return fields_hide_pan(fields, [key for key in fields if key in NUMBERS and isinstance(fields[key], int)])


def _collect(value, exempt, values, keys):
    # The bytes of a value, and of those within it; keys stand for themselves.
    if isinstance(value, dict):
        for key in value:
            keys.append(b"x" + key.encode())
            _collect(b"x" if key in exempt else value[key], (), values, keys)
    elif isinstance(value, list):
        for item in value:
            _collect(item, (), values, keys)
    else:
        values.append(value if isinstance(value, bytes) else str(value).encode())


def _scan(values) -> bool:
    # Nearly always there are too few digits in a row to look any further.
    n = gap = 0
    for data in values:
        gap = 0
        for c in data:
            if 48 <= c <= 57:
                n += 1
                gap = 0
                if n == _LEAST:
                    return borrow("pan_scan").scan(values)
            elif gap < _MAX_SEPARATORS and c in SEPARATORS:
                gap += 1
            else:
                n = 0
    return False
