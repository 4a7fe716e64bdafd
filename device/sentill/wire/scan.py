"""Byte work on frames where every microsecond of a decision counts, in plain bytecode.

`scan_viper.py` has the same functions in native code, `scan_thumb.py` in the instructions of ARM chips. Only reader.py,
port.py and request_verdict.py call any, with buffers they own and positions they have checked: a kernel trusts its
caller.
"""

from sentill.compat import crc32


def next_frame(buf, s, table) -> int:
    """The type of the next frame, or 0 when none is complete; reader.py tells what is in `s`, an array("i")."""
    while True:
        at = buf.find(b"\n", s[1], s[2])
        if at < 0:
            s[1] = s[2]
            if s[2] - s[0] > 240:
                s[0] = s[2]
                if not s[6]:
                    s[6] = 1
                    _count(s, 10)
            return 0
        low = s[0]
        s[0] = s[1] = at + 1
        s[5] = at + 1 - low
        if s[6]:
            s[6] = 0
        elif s[5] > 240:
            _count(s, 10)
        else:
            kind = _frame(buf, s, low, at)
            if kind:
                return kind


def _frame(buf, s, pos, end):
    # The frame in the line buf[pos:end], or 0 with the reason counted.
    if end > pos and buf[end - 1] == 13:
        end -= 1
    if end == pos:
        return 0
    end -= 9
    why = 8
    while end - pos >= 5:
        if buf[pos] == 35 and buf[pos + 2] == 32 and buf[pos + 3] == 123 and 65 <= buf[pos + 1] <= 90:
            why = 9
            if buf[end : end + 9] == b"*%08x" % crc32(memoryview(buf)[pos + 1 : end]):
                s[3] = pos + 3
                s[4] = end
                _count(s, 7)
                return buf[pos + 1]
        pos += 1
    _count(s, why)
    return 0


def _count(s, what):
    if s[what] < 0x3FFFFFFF:
        s[what] += 1


def finish(buf, pos: int, table) -> int:
    """Close the frame in buf[:pos]: an asterisk, the checksum of what follows the `#`, CR, LF; returns its length."""
    buf[pos : pos + 11] = b"*%08x\r\n" % crc32(memoryview(buf)[1:pos])
    return pos + 11


def put_text(buf, place: int, key: str, text: str) -> int:
    """Write `"key":"text",` to buf[pos:], a line from buf[0] on; returns the position after it.

    `place` is pos (0..255) and, times 256, the length of `text`, negative for a word without quotes: a kernel has four
    arguments. 0 when the line would get longer than MAX bytes with its end, or something is not printable ASCII.
    """
    quote = '"' if place >= 0 else ""
    pos = place & 255
    data = ('"' + key + '":' + quote + text.replace("\\", "\\\\").replace('"', '\\"') + quote + ",").encode()
    if pos + len(data) > 229:
        return 0
    for c in data:
        if not 32 <= c <= 126:
            return 0
    buf[pos : pos + len(data)] = data
    return pos + len(data)
