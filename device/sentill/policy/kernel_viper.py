"""The kernels of kernel.py in native code, for ports with MicroPython's viper emitter.

They check nothing: a pointer to anything but an array of the right type and length crashes the board. A call of one
native function by another costs more than what most of them do, so the steps stand within each other. A ptr32 load is
unsigned on 64-bit machines: no word of `m` is negative. Arguments are used again for something else, because the
emitter keeps the first locals in registers.
"""

import micropython


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
                            if behind > 16:
                                behind = 16
                            while behind:
                                seen = 3 + (now & 15)
                                cell[2] = cell[2] - cell[seen]
                                cell[seen] = 0
                                now -= 1
                                behind -= 1
                            seen = cell[2]
                            now = 8 if seen > limit[1] else 0
                            if limit[9] and seen >= limit[9]:
                                now |= 1
                            if limit[10] and seen >= limit[10]:
                                now |= 2
                            if limit[11] and seen >= limit[11]:
                                now |= 4
                            cell[1] = cell[1] & now if seen else 0
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
            now = m[limit[2]]
            behind = now - cell[0]
            if behind > 0 or not packed & 3:
                cell[0] = now
                if packed & 3 != 1:
                    cell[1] = cell[2] = 0
                else:
                    if behind > 16:
                        behind = 16
                    while behind:
                        at = 3 + (now & 15)
                        cell[2] = cell[2] - cell[at]
                        cell[at] = 0
                        now -= 1
                        behind -= 1
                    behind = 1
            else:
                behind = 0
            amount = f[0] if packed & 256 else 1
            used = cell[2]
            if amount > 0x3FFFFFFF - used:
                amount = 0x3FFFFFFF - used
            if packed & 3 == 1:
                at = 3 + (cell[0] & 15)
                cell[at] = cell[at] + amount
            used += amount
            # A cell that was rolled on has lost what is no longer reached before anything is counted.
            at = cell[2]
            cell[2] = used
            if packed & 3:
                now = 0
                if behind and packed & 3 == 1:
                    if at:
                        now = 8 if at > limit[1] else 0
                        if limit[9] and at >= limit[9]:
                            now |= 1
                        if limit[10] and at >= limit[10]:
                            now |= 2
                        if limit[11] and at >= limit[11]:
                            now |= 4
                    cell[1] = cell[1] & now
                if used:
                    now = 8 if used > limit[1] else 0
                    if limit[9] and used >= limit[9]:
                        now |= 1
                    if limit[10] and used >= limit[10]:
                        now |= 2
                    if limit[11] and used >= limit[11]:
                        now |= 4
                    at = cell[1]
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
                    if behind > 16:
                        behind = 16
                    while behind:
                        at = 3 + (now & 15)
                        cell[2] = cell[2] - cell[at]
                        cell[at] = 0
                        now -= 1
                        behind -= 1
                    at = cell[2]
                    now = 0
                    if at:
                        now = 8 if at > limit[1] else 0
                        if limit[9] and at >= limit[9]:
                            now |= 1
                        if limit[10] and at >= limit[10]:
                            now |= 2
                        if limit[11] and at >= limit[11]:
                            now |= 4
                    cell[1] = cell[1] & now
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
                    then = 0
                    if used:
                        then = 8 if used > limit[1] else 0
                        if limit[9] and used >= limit[9]:
                            then |= 1
                        if limit[10] and used >= limit[10]:
                            then |= 2
                        if limit[11] and used >= limit[11]:
                            then |= 4
                    cell[1] = cell[1] & then
        limit = ptr32(int(limit) + 48)
        i += 1
