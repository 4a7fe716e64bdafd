"""Limits held against a payment, in plain bytecode; `kernel_viper.py` has the same functions in native code.

Only engine.py calls either. `m` is an array("i") with all there is: the profile as profile.py describes it, and behind
it the cells of the holders in use. `f` is an array("i") of FACTS words about the payment; what is found goes into it.

A cell is what one limit has counted for one holder, an amount or uses: its window (the start of it, or for a rolling
one the number of the latest bucket), its marks, the total. A rolling one goes on with its 16 buckets, number k at
k % 16. Totals stay within 0..2^30-1: what would go beyond is full. Marks are bits 0..3: the three shares that the
limit names were reached, and all of it was exceeded.
"""

# What is known of the payment: amount, a bit each for entry mode (0..7), weekday (8..14), type (16..27) and hour, bits
# of the sets that hold the category and the country, currency, the cells of card, group and terminal (0 where there is
# none), and whether the clock is right.
AMOUNT, MODE, DAY, TYPE, HOUR, CATEGORIES, COUNTRIES, CURRENCY, CARD, GROUP, TERMINAL, CLOCK = range(12)
# What is found: the limit that decides (-1: none) and why, what it leaves, the limits that count the payment (64 bits
# in 4 words), how many marks are new, and the first 8 of them, limit * 4 + mark.
LIMIT, WHY, LEFT, MATCHED, MARKS, NEW, FACTS = 12, 13, 14, 15, 19, 20, 28
# Why a limit is not held.
BY_LIMIT, BY_CURRENCY, BY_CLOCK = 1, 2, 3


def check(m, f) -> int:
    """The sternest action that a limit asks for: 0 none, 1 warn, 2 review, 3 decline.

    `f` tells by which limit, why, and what it leaves; of equals the first decides. Nothing is counted yet.
    """
    f[12] = f[14] = -1
    f[13] = f[15] = f[16] = f[17] = f[18] = 0
    sternest = i = 0
    at = m[4]
    while i < m[5]:
        cell = _cell(m, at, f)
        if cell:
            f[15 + (i >> 4)] |= 1 << (i & 15)
            why = _why(m, at, cell, f)
            if why:
                action = m[at] >> (6 if why == 3 else 4) & 3
                if action > sternest:
                    sternest = action
                    f[12] = i
                    f[13] = why
                    f[14] = m[at + 1] - m[cell + 2] if m[at + 1] > m[cell + 2] else 0
                if why > 1:  # it cannot be counted
                    f[15 + (i >> 4)] ^= 1 << (i & 15)
        at += 12
        i += 1
    return sternest


def take(m, f) -> None:
    """Count the payment in the limits that MATCHED names, right after `check`: their cells are up to date.

    MARKS and NEW tell which marks are reached by that.
    Where its type gives back, `refund` does that once it is final.
    """
    f[19] = i = 0
    at = m[4]
    while i < m[5]:
        if not m[at + 5] & f[3] and f[15 + (i >> 4)] >> (i & 15) & 1:
            _take(m, at, f, i << 2)
        at += 12
        i += 1


def refund(m, f, again: int) -> None:
    """Take AMOUNT off what the limits that MATCHED names have counted and TYPE gives back, off the newest first.

    With `again`, 1, the refund did not last: it is counted again, as of now.
    """
    i = 0
    at = m[4]
    while i < m[5]:
        cell = f[8 + (m[at] >> 2 & 3)] if m[at + 5] & f[3] else 0
        if cell and f[15 + (i >> 4)] >> (i & 15) & 1:
            cell += m[at] >> 12
            _advance(m, at, cell)
            if again:
                _add(m, cell, f[0], m[at] & 3)
            else:
                _give_back(m, cell, f[0], m[at] & 3)
        at += 12
        i += 1


def restore(m, f, uses: int) -> None:
    """Take off again what was counted in the limits that MATCHED names: AMOUNT, and `uses` (0 or 1).

    The clocks tell when that was. A limit whose window has ended since keeps what it has, and so does one that counts
    declined attempts (bit 0 of its word 5) or what was reversed (bit 1), as MODE says what this is.
    """
    i = 0
    at = m[4]
    while i < m[5]:
        cell = 0 if m[at + 5] & (f[1] | f[3]) else f[8 + (m[at] >> 2 & 3)]
        if cell and f[15 + (i >> 4)] >> (i & 15) & 1:
            _restore(m, at, cell + (m[at] >> 12), f[0] if m[at] & 256 else uses)
        at += 12
        i += 1


def _cell(m, at, f) -> int:
    # Where the cell of the limit at `at` is; 0 when it does not look at this payment, or its holder is not known.
    seen = m[at + 4]
    if not seen & f[1] or not seen & f[2] or not seen & f[3] or not m[at + 6] & f[4]:
        return 0
    packed = m[at]
    seen = m[at + 7]
    if seen and (seen & f[5] == 0) ^ (packed >> 10 & 1):
        return 0
    seen = m[at + 8]
    if seen and (seen & f[6] == 0) ^ (packed >> 11 & 1):
        return 0
    seen = f[8 + (packed >> 2 & 3)]
    return seen + (packed >> 12) if seen else 0


def _why(m, at, cell, f) -> int:
    # Why the limit is not held by this payment; 0 when it is.
    packed = m[at]
    if packed & 3 == 2 and not f[11]:
        return 3
    if packed & 256 and m[at + 3] != f[7]:
        return 2
    _advance(m, at, cell)
    if m[at + 5] & f[3]:
        return 0  # it gives back
    used = m[cell + 2]
    most = m[at + 1]
    return 1 if used > most or (f[0] if packed & 256 else 1) > most - used else 0


def _advance(m, at, cell) -> None:
    # Bring a cell up to the clock of its limit: what is out of the window is taken off.
    kind = m[at] & 3
    now = m[m[at + 2]]
    behind = now - m[cell]
    if behind <= 0 and kind:
        return
    m[cell] = now
    if kind != 1:
        m[cell + 1] = m[cell + 2] = 0
        return
    if behind > 16:
        behind = 16
    while behind:
        i = cell + 3 + (now & 15)
        m[cell + 2] -= m[i]
        m[i] = 0
        now -= 1
        behind -= 1
    # What is no longer reached can be reached once more.
    m[cell + 1] &= _reached(m, at, m[cell + 2])


def _take(m, at, f, name) -> None:
    packed = m[at]
    cell = f[8 + (packed >> 2 & 3)] + (packed >> 12)
    _add(m, cell, f[0] if packed & 256 else 1, packed & 3)
    if packed & 3:  # else each payment would be the first
        fresh = _reached(m, at, m[cell + 2]) & ~m[cell + 1]
        m[cell + 1] |= fresh
        _tell(f, fresh, name)


def _add(m, cell, amount, kind) -> None:
    if amount > 0x3FFFFFFF - m[cell + 2]:
        amount = 0x3FFFFFFF - m[cell + 2]
    m[cell + 2] += amount
    if kind == 1:
        m[cell + 3 + (m[cell] & 15)] += amount


def _give_back(m, cell, amount, kind) -> None:
    if amount > m[cell + 2]:
        amount = m[cell + 2]
    m[cell + 2] -= amount
    if kind == 1:
        k = m[cell]
        while amount:
            i = cell + 3 + (k & 15)
            part = amount if amount < m[i] else m[i]
            m[i] -= part
            amount -= part
            k -= 1


def _restore(m, at, cell, amount) -> None:
    then = m[m[at + 2] + 2]
    kind = m[at] & 3
    if kind == 1:
        if m[cell] < then or m[cell] - then > 15:
            return
        then = cell + 3 + (then & 15)
        if amount > m[then]:
            amount = m[then]
        m[then] -= amount
    elif not kind or m[cell] != then:
        return
    m[cell + 2] -= amount if amount < m[cell + 2] else m[cell + 2]
    if kind == 1:
        m[cell + 1] &= _reached(m, at, m[cell + 2])


def _reached(m, at, used) -> int:
    # The marks that a total has come to.
    if not used:
        return 0
    marks = 8 if used > m[at + 1] else 0
    if m[at + 9] and used >= m[at + 9]:
        marks |= 1
    if m[at + 10] and used >= m[at + 10]:
        marks |= 2
    if m[at + 11] and used >= m[at + 11]:
        marks |= 4
    return marks


def _tell(f, fresh, name) -> None:
    while fresh:
        if fresh & 1:
            if f[19] < 8:
                f[20 + f[19]] = name
            f[19] += 1
        fresh >>= 1
        name += 1
