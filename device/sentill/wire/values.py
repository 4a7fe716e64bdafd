"""The integers of a decision, read from a request and written into a verdict, in plain bytecode; as scan.py.

Only request_verdict.py and journal/pull.py call this, values_viper.py or values_thumb.py. The slots of a scanned
request are those of request_verdict.py.
"""


def numbers(n: int):
    """Room for `n` integers that `fill` writes."""
    return [0] * n


def put(buf, pos: int, src, n: int) -> int:
    """Copy the first `n` bytes of `src` to buf[pos:]; returns the position after them."""
    buf[pos : pos + n] = src[:n]
    return pos + n


def fill(buf, pos: int, form: bytes, values) -> int:
    """Copy `form` up to its zero byte to buf[pos:]; returns the position after it. Bytes 1..15 stand for integers.

    1..7 is `values[k - 1]`, from -2^30 on; 9..15 is `values[k - 9]`, 0..2^32-1; in decimal. `values` is from `numbers`.
    """
    for c in form:
        if not c:
            return pos
        if c < 16:
            text = b"%d" % values[(c & 7) - 1]
            buf[pos : pos + len(text)] = text
            pos += len(text)
        else:
            buf[pos] = c
            pos += 1
    return pos


def scan_request(buf, pos: int, end: int, out) -> int:
    """Read the object of a T frame, buf[pos:end], into `out`, an array("I") of SLOTS words.

    Returns 1 when it is a plain, complete and valid request: CARD and CARD_LEN tell where in `buf` the token lies; PM,
    PN and PH are 0 where absent. Returns 0 for everything else, which the slow path then judges or refuses: unknown
    keys, escapes, values out of range, a token in which 13 digits follow each other (`-` and `_` aside). `buf` must be
    readable for 8 bytes beyond `end`.
    """
    if end - pos < 3 or buf[pos] != 123 or buf[end - 1] != 125:
        return 0
    out[4] = out[5] = out[6] = 0
    seen = 0
    while pos < end - 1:
        # Here at the opening brace or a comma: ,"key":
        if buf[pos + 1] != 34:
            return 0
        a = buf[pos + 2]
        b = buf[pos + 3]
        c = buf[pos + 4]
        if b == 34:
            slot = 0 if a == 113 else 2 if a == 116 else 9
            pos += 4
        elif c == 34:
            slot = 9
            if a == 112:
                slot = 4 if b == 109 else 5 if b == 110 else 6 if b == 104 else 9
            pos += 5
        elif buf[pos + 5] == 34:
            slot = 9
            if a == 114 and b == 101 and c == 102:
                slot = 1
            elif a == 97 and b == 109 and c == 116:
                slot = 3
            pos += 6
        else:
            slot = 9
            if a == 99 and b == 97 and c == 114 and buf[pos + 5] == 100 and buf[pos + 6] == 34:
                slot = 7
            pos += 7
        if slot == 9 or buf[pos] != 58 or seen >> slot & 1:
            return 0
        seen |= 1 << slot
        pos += 1
        if slot == 7:
            if buf[pos] != 34:
                return 0
            pos += 1
            start = pos
            run = 0
            while True:
                c = buf[pos]
                if 48 <= c <= 57:
                    run += 1
                    if run > 12:
                        return 0
                elif 65 <= c <= 90 or 97 <= c <= 122:
                    run = 0
                elif c != 45 and c != 95:
                    break
                pos += 1
            if c != 34 or pos == start or pos - start > 32:
                return 0
            out[7] = start
            out[8] = pos - start
            pos += 1
        else:
            start = pos
            value = 0
            c = buf[pos]
            while 48 <= c <= 57 and pos - start < 9:
                value = value * 10 + c - 48
                pos += 1
                c = buf[pos]
            if pos == start or (buf[start] == 48 and pos - start > 1):
                return 0
            if 48 <= c <= 57:
                # The tenth digit: up to 2^32-1 for a ref, 2^30-1 for the others.
                most = 429496729 if slot == 1 else 107374182
                if value > most or (value == most and c > (53 if slot == 1 else 51)):
                    return 0
                value = value * 10 + c - 48
                pos += 1
            elif slot > 4 and value > 255 or slot == 4 and value > 65535:
                return 0
            if slot > 3 and pos - start > 9:
                return 0
            out[slot] = value
        c = buf[pos]
        if c != 44 and pos != end - 1:
            return 0
    return 1 if seen & 143 == 143 and pos == end - 1 else 0
