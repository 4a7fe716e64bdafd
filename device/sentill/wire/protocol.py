"""Frames on the wire, between the node and the terminal (UART) and between the node and people (USB).

A frame is one line:

    #T {"q":7,"ref":4711,"v":"approve"}*9a0b1c2d CR LF

`#`, one capital letter for the type, one space, a flat JSON object, `*`, the CRC-32 (IEEE 802.3, as in zlib) of the bytes
between `#` and `*` as 8 lower-case hex digits, CR LF. A receiver accepts a bare LF too. A line has at most MAX = 240 bytes,
CR LF included, all of them printable ASCII. A frame may start anywhere in a line: what precedes it is noise. At a REPL
prompt an echoed frame is a comment.

The object is flat and written without white space. A value is an integer (no sign but `-`, no leading zeros, no fraction,
at most 2^32-1 in magnitude), a string (escapes: `\\"`, `\\\\`, `\\/`), `true` or `false`. A key occurs once. Readers
ignore keys they do not know.

`q` comes first and counts the frames of a sender on this line from 1 to 2^30-1, then from 1 again, so that gaps show. Node
time `t` is in seconds since 2024-01-01 UTC (since power-on while the clock is not set). Money is in cents, 0..2^30-1.

| type | direction | fields |
|------|-----------|--------|
| T    | terminal to node: a transaction about to be sent | q, ref (0..2^32-1), t (0..2^30-1), amt (0..2^30-1), card (a token: 1..32 of `0-9A-Za-z_-`); optional profile of the card: pm (robust mean, 0..65535), pn (its transactions, 0..255; 0: no profile), ph (of the last 7 days with a high ratio, 0..255) |
| T    | node to terminal: the verdict | q, ref, v ("approve", "review", "decline"), s (score), tr, td (thresholds for review, decline), m (model id), why (reason codes, comma separated), us (from the end of the request to the first byte of the verdict, microseconds), j (number of its record, where there is one) |
| P    | terminal to node: a transaction turned out a fraud | q, ref, fraud=1; answered by R |
| C    | to the node: a command | q, cmd and its arguments; answered by R |
| R    | node: the answer to P and C, and to a T that cannot be judged | q, re (the q answered, 0 if it cannot be told), ok, then fields of the answer, or err (a code) and msg (a sentence); on a T also ref |
| I    | node: who it is, at boot and on the command identify | q, t, sw, board, uid, fw, mpy, ... |
| H    | node: health, at the configured rate | q, t; a summary, or with `ch` one channel's row |
| E    | node: an event | q, t, ev and what belongs to it |
| A    | node: journal records, after the command audit | q, n (sequence of the first record), d (whole records, base64); of a record that is too long, in parts: at (offset of the part), of (length of the record); at the end n (sequence of the next) and end=true |

Amount 0 is a transaction like any other (account verification). A refund is not judged: amounts below 0 are refused.
A CRC is no proof of origin. Frames with what looks like a card number are refused (code "pan") and never echoed.

A terminal that gets no verdict in time sends the request again: the same fields, but q counts on. A node answers each of
the latest 4 requests once more with the verdict it gave, same j: it is judged, remembered and recorded once. The same
ref with other fields is another request. So it is with P: what a node knows already it confirms, and nothing more; one
that is signed may come again as it is, q included, as long as no other has come since.

`us` is measured where the line is received by DMA (rp2), else from when the node has read the end of the request. It
counts on to when the last verdict but this one had gone from its last look at the clock onto a free line.

The command `audit` with `from` (a sequence number) is answered by an R with first (the oldest record held), next (the
one after the last that is kept), from (where the A frames begin: the `from` asked for, moved into first..next), head
(base64: a journal file's head for records from `first` on, see journal/chain.py) and tag (base64: tag of record next-1,
a checkpoint). The A frames follow, with records in order; what is kept meanwhile is sent as well.
Whoever lost frames asks again from the first record missing. The head and the records from `first` on, one after the
other, are a journal file. Only kept records are sent. Status and H summaries tell jn, the number of the next record,
and jk: the records below it survive a power cut.

An H summary tells, as the answer to the command `status` does: up (uptime, s), hz (H frames per second), st (worst
state of the channels), ap, rv, dc (verdicts), jn, jk, miss (audit records that could not be made of late: they
are nowhere), free (KB free for files, as of a minute ago), heap (bytes free), and counts since the start: fr (frauds
reported), rej (requests refused), crash (tasks), drop (frames without room), gap (frames missing), crc, bad (lines);
`foreign` where there is code beside the node's. In a summary too long for a frame the last of them are left out.

The command `set-time` with `t` sets the clock: at most 600 s back behind the latest time known to the node, at most an
hour ahead of what it shows, or 400 days where it was off; else the refusal "clock" tells that latest time. With
`force`=true any `t` is taken; one that lies back begins a new epoch, which the journal records, and the history of the
terminal starts anew. The answer tells t, was (the latest time known before, 0 for none) and epoch.

Where the clock is set, the t of a request may be an hour ahead of it. A later one counts for the hour and the weekday
of that request alone; the terminal's history goes by the clock then, and an E frame `leap` tells the t (`at`), once an
hour at most.

The command `vitals` is answered with up and asleep (seconds since the start, of them in light sleep), erases (flash
blocks erased over the board's life, an estimate) and the starts by cause: power, brownout, watchdog, hard, deepsleep,
soft, planned, unknown. A node in light sleep loses what wakes it: send CR LF, wait 10 ms, then the frame.

On a board with keys, P and those C that change something carry `c` (a counter) and, last, `mac`: see keys/vault.py. The
commands challenge, unlock, order, lock and provision are described in access*.py. The I frame tells prof ("open",
"service", "sealed"), gen (generation of its keys, 0 for none) and, once it was tampered with, tamper (by what).

What nobody has signed gets a quarter of the node's time, of which it saves up a second. Beyond that a frame on USB has
to wait for its turn; on the terminal's line C and P are refused unread, with the code "busy" and re 0, to be sent again later.

With a full heap a node tells what it can in short: an R frame has the code and no msg, an E frame `memory` says `of` what
event there was no room to tell.

Codes in R frames: json, field, range, amount, card, pan, type, command, unknown, state, storage, memory, busy, crash, clock; and of
boards with keys: mac, stale, locked, sealed, wait, tampered.
"""  # noqa: E501

from collections import OrderedDict

from sentill.compat import const, crc32
from sentill.errors import FrameError

MAX = 240
MAX_Q = 0x3FFFFFFF
MAX_AMOUNT = 0x3FFFFFFF
MAX_TIME = 0x3FFFFFFF
MAX_INT = 0xFFFFFFFF
_MAX = const(240)
_TAIL = const(9)  # `*` and the CRC
_LEAST = const(14)  # `#T {}*01234567`
_QUOTE = const(34)
_BACKSLASH = const(92)


def encode(kind: str, pairs) -> bytes:
    """One line, CR LF included, for a frame of type `kind` with ordered (key, value) `pairs`.

    Raises FrameError: "long" above MAX bytes, "value" for anything but integers, booleans and strings, "json"
    for a string that is not printable ASCII; integers beyond ±(2^32-1) are a "value" too.
    """
    parts = []
    for key, value in pairs:
        if value is True:
            text = "true"
        elif value is False:
            text = "false"
        elif isinstance(value, int):
            if not -MAX_INT <= value <= MAX_INT:
                raise FrameError("value", "integer out of range in " + key)
            text = str(value)
        elif isinstance(value, str):
            text = '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
        else:
            raise FrameError("value", "only integers, strings and booleans travel, not " + key)
        parts.append('"' + key + '":' + text)
    body = (kind + " {" + ",".join(parts) + "}").encode()
    if len(body) + _TAIL + 3 > _MAX:
        raise FrameError("long", "frame of %d bytes" % (len(body) + _TAIL + 3))
    _check_printable(body)
    return b"#" + body + b"*%08x\r\n" % crc32(body)


def fit(kind: str, pairs) -> bytes:
    """Like `encode`, but cuts what is too long: the last string is shortened, then dropped, then the one before."""
    pairs = list(pairs)
    while True:
        try:
            return encode(kind, pairs)
        except FrameError as error:
            if error.code != "long" or not pairs:
                raise
        key, value = pairs.pop()
        if isinstance(value, str) and len(value) > 8:
            pairs.append((key, value[: len(value) - 8]))


def printable(text: str, most: int = 80) -> str:
    """`text` with every byte of it that is no printable ASCII replaced by `?`, at most `most` characters."""
    # As bytes: every character that a loop takes from a string is interned for good, and the table for that can grow
    # only where the heap has a piece of many kilobytes left.
    data = bytearray(text[:most].encode())
    for i in range(len(data)):
        if not 32 <= data[i] <= 126:
            data[i] = 63
    return str(data[:most], "utf-8")


def decode(line) -> tuple:
    """The frame in `line` (bytes, with or without the line end) as (type, dict of its fields in order of arrival).

    Raises FrameError: "none" without a frame, "long", "crc", or "json" when the CRC is right and the object is not.
    """
    line = bytes(line)
    if len(line) > _MAX:
        raise FrameError("long", "line of %d bytes" % len(line))
    end = len(line)
    while end and line[end - 1] in (10, 13):
        end -= 1
    star = end - _TAIL
    at = line.find(b"#")
    seen = False
    while 0 <= at and star - at >= 5:
        if _is_start(line, at) and line[star] == 42:
            seen = True
            if b"%08x" % crc32(line[at + 1 : star]) == line[star + 1 : end]:
                return chr(line[at + 1]), parse_fields(line[at + 3 : star])
        at = line.find(b"#", at + 1)
    raise FrameError("crc", "wrong checksum") if seen else FrameError("none", "no frame")


def _is_start(buf, at) -> bool:
    return buf[at] == 35 and 65 <= buf[at + 1] <= 90 and buf[at + 2] == 32 and buf[at + 3] == 123


def parse_fields(data: bytes) -> dict:
    """The fields of a flat JSON object as specified above, in order of arrival.

    Raises FrameError "json" with the column of the fault.
    """
    _check_printable(data)
    fields: dict = OrderedDict()  # a card number may be split over fields
    if data == b"{}":
        return fields
    at = 0
    opening = 123
    try:
        while True:
            if data[at] != opening:
                raise _fault(at)
            opening = 44
            key, at = _string(data, at + 1)
            if key in fields or data[at] != 58:
                raise _fault(at)
            c = data[at + 1]
            if c == _QUOTE:
                fields[key], at = _string(data, at + 1)
            elif c == 116 and data[at + 1 : at + 5] == b"true":
                fields[key], at = True, at + 5
            elif c == 102 and data[at + 1 : at + 6] == b"false":
                fields[key], at = False, at + 6
            else:
                fields[key], at = _integer(data, at + 1)
            if data[at] == 125:
                if at + 1 != len(data):
                    raise _fault(at + 1)
                return fields
    except IndexError:
        raise _fault(len(data))


def _fault(at):
    return FrameError("json", "not flat JSON at column %d" % at)


def _string(data, at):
    # The string at `at` and the position after it.
    if data[at] != _QUOTE:
        raise _fault(at)
    start = at + 1
    at = start
    escaped = False
    while data[at] != _QUOTE:
        if data[at] == _BACKSLASH:
            at += 1
            escaped = True
            if data[at] not in b'"\\/':
                raise _fault(at)
        at += 1
    text = data[start:at].decode()
    if escaped:
        # A line holds no control characters, so NUL can stand in for an escaped backslash.
        text = text.replace("\\\\", "\0").replace("\\", "").replace("\0", "\\")
    return text, at + 1


def _integer(data, at):
    start = at
    if data[at] == 45:
        at += 1
    first = at
    while 48 <= data[at] <= 57:
        at += 1
    digits = at - first
    if not digits or (data[first] == 48 and (digits > 1 or first > start)):
        raise _fault(at)
    # Capped before conversion: a hostile number must not cost memory.
    value = int(data[start:at]) if digits <= 10 else MAX_INT + 1
    if not -MAX_INT <= value <= MAX_INT:
        raise FrameError("range", "integer beyond 32 bits at column %d" % start)
    return value, at


def _check_printable(data):
    for c in data:
        if not 32 <= c <= 126:
            raise FrameError("json", "not printable ASCII")


class Sequence:
    """Counts the gaps in the `q` of one sender: `missed` frames, `restarts` of its count."""

    def __init__(self):
        self.last = 0
        self.missed = 0
        self.restarts = 0

    def seen(self, q: int) -> int:
        """Take note of a frame's q (1..2^30-1); returns how many frames are missing before it."""
        last = self.last
        self.last = q
        if q == last + 1 or not last:
            return 0
        if q > last:
            gap = q - last - 1
            self.missed = min(self.missed + gap, MAX_Q)
            return gap
        if not (q == 1 and last == MAX_Q):
            self.restarts += 1
        return 0


def next_q(q: int) -> int:
    """The count after `q`: 1..2^30-1, then 1 again."""
    return q + 1 if q < MAX_Q else 1


def is_int(value) -> bool:
    """Whether `value` is an integer and not a boolean."""
    return isinstance(value, int) and value is not True and value is not False


def argument(fields: dict, key: str, least: int, most: int) -> int:
    """An integer field within least..most. Raises FrameError "field" or "range", naming the key and the range."""
    value = fields.get(key)
    if not is_int(value):
        raise FrameError("field", "%s must be an integer" % key)
    if not least <= value <= most:
        raise FrameError("range", "%s must be %d..%d" % (key, least, most))
    return value
