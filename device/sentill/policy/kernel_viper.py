"""The kernels of kernel.py in native code, for ports with MicroPython's viper emitter.

They check nothing: a pointer to anything but an array of the right type and length crashes the board. A call of one
native function by another costs more than what most steps do, so what each limit takes stands within the loops. A ptr32
load is unsigned on 64-bit machines: no word of `m` is negative.
"""

import micropython


@micropython.viper
def _marks(limit: ptr32, used: int) -> int:
    # The marks that a total has come to.
    marks = 0
    if used:
        if used > limit[1]:
            marks = 8
        if limit[9] and used >= limit[9]:
            marks |= 1
        if limit[10] and used >= limit[10]:
            marks |= 2
        if limit[11] and used >= limit[11]:
            marks |= 4
    return marks


@micropython.viper
def _roll(limit: ptr32, cell: ptr32, behind: int):
    # Take off what has left a rolling window whose latest bucket went on by `behind`.
    k = cell[0]
    if behind > 16:
        behind = 16
    while behind:
        at = 3 + (k & 15)
        cell[2] = cell[2] - cell[at]
        cell[at] = 0
        k -= 1
        behind -= 1
    # What is no longer reached can be reached once more.
    cell[1] = cell[1] & int(_marks(limit, cell[2]))


@micropython.viper
def check(m: ptr32, f: ptr32) -> int:
    """As kernel.check."""
    f[12] = f[14] = 0 - 1
    f[13] = f[15] = f[16] = f[17] = f[18] = 0
    sternest = i = 0
    limit = ptr32(int(m) + (m[4] << 2))
    while i < m[5]:
        packed = limit[0]
        seen = limit[4]
        block = f[8 + (packed >> 2 & 3)]
        if block and seen & f[1] and seen & f[2] and seen & f[3] and limit[6] & f[4]:
            seen = 0
            if limit[7] and (0 if limit[7] & f[5] else 1) ^ (packed >> 10 & 1):
                seen = 1
            if limit[8] and (0 if limit[8] & f[6] else 1) ^ (packed >> 11 & 1):
                seen = 1
            if not seen:
                cell = ptr32(int(m) + (block + (packed >> 12) << 2))
                why = 0
                if packed & 3 == 2 and not f[11]:
                    why = 3
                elif packed & 256 and limit[3] != f[7]:
                    why = 2
                else:
                    now = m[limit[2]]
                    behind = now - cell[0]
                    if behind > 0 or not packed & 3:
                        cell[0] = now
                        if packed & 3 != 1:
                            cell[1] = cell[2] = 0
                        else:
                            _roll(limit, cell, behind)
                    if not limit[5] & f[3]:
                        seen = limit[1] - cell[2]
                        if seen < 0 or (f[0] if packed & 256 else 1) > seen:
                            why = 1
                if why < 2:
                    f[15 + (i >> 4)] = f[15 + (i >> 4)] | 1 << (i & 15)
                if why:
                    seen = packed >> (6 if why == 3 else 4) & 3
                    if seen > sternest:
                        sternest = seen
                        f[12] = i
                        f[13] = why
                        seen = limit[1] - cell[2]
                        f[14] = seen if seen > 0 else 0
        limit = ptr32(int(limit) + 48)
        i += 1
    return sternest


@micropython.viper
def take(m: ptr32, f: ptr32):
    """As kernel.take."""
    f[19] = i = 0
    limit = ptr32(int(m) + (m[4] << 2))
    while i < m[5]:
        if not limit[5] & f[3] and f[15 + (i >> 4)] >> (i & 15) & 1:
            packed = limit[0]
            cell = ptr32(int(m) + (f[8 + (packed >> 2 & 3)] + (packed >> 12) << 2))
            amount = f[0] if packed & 256 else 1
            used = cell[2]
            if amount > 0x3FFFFFFF - used:
                amount = 0x3FFFFFFF - used
            if packed & 3 == 1:
                at = 3 + (cell[0] & 15)
                cell[at] = cell[at] + amount
            used += amount
            cell[2] = used
            if packed & 3:
                at = cell[1]
                now = int(_marks(limit, used))
                cell[1] = at | now
                now = (now | at) ^ at
                at = i << 2
                while now:
                    if now & 1:
                        if f[19] < 8:
                            f[20 + f[19]] = at
                        f[19] = f[19] + 1
                    now >>= 1
                    at += 1
        limit = ptr32(int(limit) + 48)
        i += 1


@micropython.viper
def refund(m: ptr32, f: ptr32, again: int):
    """As kernel.refund."""
    i = 0
    limit = ptr32(int(m) + (m[4] << 2))
    while i < m[5]:
        packed = limit[0]
        block = f[8 + (packed >> 2 & 3)]
        if block and limit[5] & f[3] and f[15 + (i >> 4)] >> (i & 15) & 1:
            cell = ptr32(int(m) + (block + (packed >> 12) << 2))
            now = m[limit[2]]
            behind = now - cell[0]
            if behind > 0 or not packed & 3:
                cell[0] = now
                if packed & 3 != 1:
                    cell[1] = cell[2] = 0
                else:
                    _roll(limit, cell, behind)
            amount = f[0]
            used = cell[2]
            if again:
                if amount > 0x3FFFFFFF - used:
                    amount = 0x3FFFFFFF - used
                cell[2] = used + amount
                if packed & 3 == 1:
                    at = 3 + (cell[0] & 15)
                    cell[at] = cell[at] + amount
            else:
                if amount > used:
                    amount = used
                cell[2] = used - amount
                if packed & 3 == 1:
                    now = cell[0]
                    while amount:
                        at = 3 + (now & 15)
                        part = cell[at]
                        if part > amount:
                            part = amount
                        cell[at] = cell[at] - part
                        amount -= part
                        now -= 1
        limit = ptr32(int(limit) + 48)
        i += 1


@micropython.viper
def restore(m: ptr32, f: ptr32, uses: int):
    """As kernel.restore."""
    i = 0
    limit = ptr32(int(m) + (m[4] << 2))
    while i < m[5]:
        packed = limit[0]
        block = f[8 + (packed >> 2 & 3)]
        if block and packed & 3 and not limit[5] & (f[1] | f[3]) and f[15 + (i >> 4)] >> (i & 15) & 1:
            cell = ptr32(int(m) + (block + (packed >> 12) << 2))
            amount = f[0] if packed & 256 else uses
            then = m[limit[2] + 2]
            behind = cell[0] - then
            if packed & 3 == 1 and 0 <= behind and behind < 16 or packed & 3 == 2 and not behind:
                used = cell[2]
                if packed & 3 == 1:
                    then = 3 + (then & 15)
                    if amount > cell[then]:
                        amount = cell[then]
                    cell[then] = cell[then] - amount
                used -= amount if amount < used else used
                cell[2] = used
                if packed & 3 == 1:
                    cell[1] = cell[1] & int(_marks(limit, used))
        limit = ptr32(int(limit) + 48)
        i += 1
