"""The kernels of scan.py in native code; same names, same meaning, described there.

Kept apart because native code is compiled per architecture. Arguments are trusted: positions lie within the buffers.
"""

import micropython


@micropython.viper
def next_frame(buf: ptr8, s: ptr32, table: ptr32) -> int:
    most = 0x3FFFFFFF
    mask = 0xFFFFFFF  # for a shift to the right that fills up with zeros
    low = s[0]
    at = s[1]
    high = s[2]
    while True:
        while at < high and buf[at] != 10:
            at += 1
        if at == high:
            s[1] = at
            if at - low > 240:
                s[0] = at
                if s[6] == 0:
                    s[6] = 1
                    if s[10] < most:
                        s[10] += 1
            return 0
        pos = low
        end = at
        at += 1
        low = at
        s[0] = at
        s[1] = at
        s[5] = at - pos
        count = 8
        if s[6]:
            s[6] = 0
            continue
        if at - pos > 240:
            count = 10
        else:
            if end > pos and buf[end - 1] == 13:
                end -= 1
            if end == pos:
                continue
            end -= 9
            while end - pos >= 5:
                if buf[pos] == 35 and buf[pos + 2] == 32 and buf[pos + 3] == 123 and buf[pos + 1] - 65 <= 25:
                    if buf[pos + 1] >= 65:
                        count = 9
                        if buf[end] == 42:
                            crc = -1
                            i = pos + 1
                            while i < end:
                                crc ^= buf[i]
                                crc = crc >> 4 & mask ^ table[crc & 15]
                                crc = crc >> 4 & mask ^ table[crc & 15]
                                i += 1
                            crc = -1 - crc
                            i = 28
                            while i >= 0:
                                c = crc >> i & 15
                                if buf[end + 8 - (i >> 2)] != (c + 48 if c < 10 else c + 87):
                                    break
                                i -= 4
                            if i < 0:
                                s[3] = pos + 3
                                s[4] = end
                                if s[7] < most:
                                    s[7] += 1
                                return buf[pos + 1]
                pos += 1
        if s[count] < most:
            s[count] += 1


@micropython.viper
def finish(buf: ptr8, pos: int, table: ptr32) -> int:
    mask = 0xFFFFFFF
    crc = -1
    i = 1
    while i < pos:
        crc ^= buf[i]
        crc = crc >> 4 & mask ^ table[crc & 15]
        crc = crc >> 4 & mask ^ table[crc & 15]
        i += 1
    crc = -1 - crc
    buf[pos] = 42
    i = 28
    while i >= 0:
        pos += 1
        c = crc >> i & 15
        buf[pos] = c + 48 if c < 10 else c + 87
        i -= 4
    buf[pos + 1] = 13
    buf[pos + 2] = 10
    return pos + 3


@micropython.viper
def put_text(buf: ptr8, place: int, key: ptr8, text: ptr8) -> int:
    pos = place & 255
    n = place >> 8
    end = pos + 4  # two quotes, colon, comma
    quotes = 1
    if n < 0:
        quotes = 0
        n = 0 - n
    else:
        end += 2
    i = 0
    while key[i]:  # a str ends with a zero byte
        end += 1
        i += 1
    i = 0
    while i < n:
        c = text[i]
        if c < 32 or c > 126:
            return 0
        end += 2 if c == 34 or c == 92 else 1
        i += 1
    if end > 229:
        return 0
    buf[pos] = 34
    pos += 1
    i = 0
    while key[i]:
        buf[pos] = key[i]
        pos += 1
        i += 1
    buf[pos] = 34
    buf[pos + 1] = 58
    pos += 2
    if quotes:
        buf[pos] = 34
        pos += 1
    i = 0
    while i < n:
        c = text[i]
        if c == 34 or c == 92:
            buf[pos] = 92
            pos += 1
        buf[pos] = c
        pos += 1
        i += 1
    if quotes:
        buf[pos] = 34
    buf[end - 1] = 44
    return end
