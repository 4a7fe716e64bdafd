"""A profile of limits, compiled by host/sentill_host/policy and read here: what kernel.py works on.

The file is little-endian words (i32). HEAD words come first:

    0 magic "SPL1"   1 words of the file   2 CRC-32 of the words from 4 on, low half   3 high half
    4 where the limits are, words from the file's start   5 how many (1..64)
    6, 7 clocks      8, 9 sets of categories      10, 11 sets of countries      12, 13 zone
    14 version (1..2^30-1)   15 words of a card's cells   16 of a group's   17 of the terminal's
    18 words to keep in RAM: all above; what is behind them is read when it is needed
    19, 20 valid from and until (s)   21, 22 texts   23 number that stands for the profile's id

A limit has 12 words:

    0 bits 0-1 window: 0 each payment, 1 rolling, 2 calendar or lifetime; 2-3 scope: 0 card, 1 group, 2 terminal;
      4-5 action and 6-7 action without a right clock: 0 none, 1 warn, 2 review, 3 decline; 8 an amount, else uses;
      9 part of the limit before it (its uses, where that is the amount); 10 all categories but these; 11 all countries
      but these; 12- its cell in the block of its holder
    1 the limit (0..2^30-1)   2 its clock   3 currency, 0 for uses   4 modes, weekdays, types (bits as in kernel.py)
    5 bits 16- types that give back; 0 it counts declined attempts, 1 what was reversed
      6 hours       7 categories             8 countries, 0 for all
    9-11 what the shares come to at which to alert, 0 for none

A clock has 6 words: now (number of the bucket, start of the window), until when that is so, the same of a moment in the
past, seconds of a bucket (0: a calendar), where the starts of a calendar's windows are and how many (0: one for all
time, from 0 on). A set of categories is a row `first << 14 | last` and the bits of the sets that hold these; of
countries the number and the bits. The zone is rows of a time and the seconds from UTC to local time from then on; the
first is for all before. Texts are, for each limit, a byte of length and the id.
"""

from array import array

from sentill.compat import const, crc32
from sentill.errors import PolicyError

MAGIC = 0x314C5053
HEAD = 24
LIMIT_WORDS = 12
CLOCK_WORDS = 6
MOST_WORDS = 8192

LIMITS, CLOCKS, CATEGORIES, COUNTRIES, ZONE = 4, 6, 8, 10, 12
VERSION, BLOCKS, KEEP, SINCE, UNTIL, TEXTS, NUMBER = 14, 15, 18, 19, 20, 21, 23

EACH, ROLLING, CALENDAR = 0, 1, 2
NONE, WARN, REVIEW, DECLINE = 0, 1, 2, 3
BUCKETS = 16

_HEAD = const(24)
_LIMIT = const(12)
_CLOCK = const(6)
_FULL = const(0x3FFFFFFF)
_MOST_LIMITS = const(64)
_MOST_CLOCKS = const(32)
_MOST_ROWS = const(512)
_MOST_CELLS = const(1280)


def load(data) -> array:
    """The words of the profile in `data` (bytes). Raises PolicyError for anything but a whole and sound one.

    Every place that kernel.py and engine.py follow is checked here: they trust it.
    """
    if len(data) % 4 or not 4 * _HEAD < len(data) <= 4 * MOST_WORDS:
        raise PolicyError("length", "a profile of %d bytes" % len(data))
    words = array("i", data)
    if words[0] != MAGIC or words[1] != len(words):
        raise PolicyError("magic", "no profile of limits, or a cut one")
    crc = crc32(memoryview(data)[16:])
    if words[2] != crc & 0xFFFF or words[3] != crc >> 16:
        raise PolicyError("crc", "the profile is damaged")
    check(words)
    return words


def check(words) -> None:
    """Raise PolicyError unless all that the words point at is there and in range."""
    n = words[5]
    if not 1 <= n <= _MOST_LIMITS:
        raise PolicyError("limits", "1..64 limits, not %d" % n)
    keep = words[KEEP]
    if not _HEAD <= keep <= len(words):
        raise PolicyError("place", "more to keep than there is")
    _within(words[4], _LIMIT * n, keep)
    clocks = words[7]
    if not 1 <= clocks <= _MOST_CLOCKS:
        raise PolicyError("clocks", "1..32 clocks, not %d" % clocks)
    _within(words[6], _CLOCK * clocks, keep)
    for at, end in ((8, keep), (10, keep), (12, len(words))):
        if not 0 <= words[at + 1] <= _MOST_ROWS:
            raise PolicyError("rows", "too many rows in a table")
        _within(words[at], 2 * words[at + 1], end)
    _within(words[TEXTS], words[TEXTS + 1], len(words))
    for at in (VERSION, SINCE, UNTIL, NUMBER):
        _number(words[at])
    _check_limits(words, n)
    for at in range(words[6], words[6] + _CLOCK * clocks, _CLOCK):
        _check_clock(words, at)
    _check_rows(words)
    _check_texts(words, n)


def _within(at, size, end):
    if not _HEAD <= at <= end or not 0 <= size <= end - at:
        raise PolicyError("place", "something lies outside of the profile")


def _number(value):
    if not 0 <= value <= _FULL:
        raise PolicyError("range", "a number is not 0..2^30-1")


def _check_limits(words, n):
    for scope in range(3):
        if not 0 <= words[BLOCKS + scope] <= _MOST_CELLS:
            raise PolicyError("cells", "a holder has too many cells")
    for at in range(words[4], words[4] + _LIMIT * n, _LIMIT):
        for i in range(_LIMIT):
            _number(words[at + i])
        packed = words[at]
        scope = packed >> 2 & 3
        size = 3 + BUCKETS if packed & 3 == ROLLING else 3
        if packed & 3 > CALENDAR or scope > 2 or (packed >> 12) + size > words[BLOCKS + scope]:
            raise PolicyError("limit", "a limit without a window, a holder or a cell")
        clock = words[at + 2] - words[6]
        if clock < 0 or clock % _CLOCK or clock >= _CLOCK * words[7]:
            raise PolicyError("limit", "a limit without a clock")
        width = words[words[at + 2] + 3]
        if (packed & 3 == ROLLING) != (width > 0):
            raise PolicyError("limit", "a limit with a clock of another kind")
        if (packed >> 8 & 1) != (words[at + 3] > 0):
            raise PolicyError("limit", "an amount has a currency, a count has none")


def _check_clock(words, at):
    for i in range(_CLOCK):
        _number(words[at + i])
    if words[at] or words[at + 1] or words[at + 2]:
        raise PolicyError("clock", "a clock that runs")
    first = words[at + 4]
    n = words[at + 5]
    if words[at + 3]:
        n = 0
    if not n:
        return
    _within(first, n, len(words))
    last = -1
    for i in range(first, first + n):
        if not last < words[i] <= _FULL:
            raise PolicyError("clock", "the windows of a calendar are not in order")
        last = words[i]


def _check_rows(words):
    last = -1
    for at in range(words[8], words[8] + 2 * words[9], 2):
        _number(words[at])
        _number(words[at + 1])
        if words[at] >> 14 <= last or words[at] & 0x3FFF < words[at] >> 14:
            raise PolicyError("categories", "the categories are not in order")
        last = words[at] & 0x3FFF
    last = -1
    for at in range(words[10], words[10] + 2 * words[11], 2):
        _number(words[at + 1])
        if not last < words[at] <= 999:
            raise PolicyError("countries", "the countries are not in order")
        last = words[at]
    last = -1
    if not words[13]:
        raise PolicyError("zone", "a profile without a zone")
    for at in range(words[12], words[12] + 2 * words[13], 2):
        if not last < words[at] <= _FULL or not -86400 < words[at + 1] < 86400:
            raise PolicyError("zone", "the changes of the zone are not in order")
        last = words[at]


def _check_texts(words, n):
    data = bytes(memoryview(words)[words[TEXTS] : words[TEXTS] + words[TEXTS + 1]])
    at = 0
    for _ in range(n):
        if at >= len(data) or not 0 < data[at] <= 24 or at + 1 + data[at] > len(data):
            raise PolicyError("texts", "a limit without an id")
        for c in data[at + 1 : at + 1 + data[at]]:
            if not (48 <= c <= 57 or 65 <= c <= 90 or c == 95 or c == 45 or 97 <= c <= 122):
                raise PolicyError("texts", "an id of more than 0-9 A-Z a-z _ -")
        at += 1 + data[at]


def text(words, i: int) -> str:
    """The id of limit number `i`."""
    data = bytes(memoryview(words)[words[TEXTS] : words[TEXTS] + words[TEXTS + 1]])
    at = 0
    while i:
        at += 1 + data[at]
        i -= 1
    return str(data[at + 1 : at + 1 + data[at]], "ascii")
