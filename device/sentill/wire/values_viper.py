"""The kernels of values.py in native code; same names, same meaning, described there.

Kept apart because native code is compiled per architecture. Arguments are trusted: positions lie within the buffers.
"""

from array import array

import micropython


def numbers(n: int):
    return array("i", bytes(4 * n))  # a value from 2^31 on is kept as its 32 bits


@micropython.viper
def put(buf: ptr8, pos: int, src: ptr8, n: int) -> int:
    i = 0
    while i < n:
        buf[pos] = src[i]
        pos += 1
        i += 1
    return pos


@micropython.viper
def fill(buf: ptr8, pos: int, form: ptr8, values: ptr32) -> int:
    most = 1  # 2^31-1, which as a constant would be an object on 32 bits
    most = (most << 30) - 1 + (most << 30)
    i = 0
    while True:
        c = form[i]
        i += 1
        if c > 15:
            buf[pos] = c
            pos += 1
            continue
        if c == 0:
            return pos
        value = values[(c & 7) - 1]
        if c < 8 and value >> 31 & 1:
            buf[pos] = 45
            pos += 1
            value = 0 - value & most
        start = pos
        if value < 0:
            # 32 bits take an integer from 2^31 on for negative; the last digit without an unsigned division.
            tens = (value >> 1 & most) // 5
            buf[pos] = 48 + value - tens * 10
            pos += 1
            value = tens
        while True:
            tens = value // 10
            buf[pos] = 48 + value - tens * 10
            pos += 1
            value = tens
            if value == 0:
                break
        end = pos - 1
        while start < end:
            c = buf[start]
            buf[start] = buf[end]
            buf[end] = c
            start += 1
            end -= 1


@micropython.viper
def scan_request(buf: ptr8, pos: int, end: int, out: ptr32) -> int:
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
