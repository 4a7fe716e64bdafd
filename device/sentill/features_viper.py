"""The kernels of features_plain.py in native code: same names, same meaning, described there.

Only features.py and features_pending.py call them, with arrays they own. A 64-bit machine loads an int32 without its
sign, so the time -1 (never) is told by bit 31.
"""

import micropython


@micropython.viper
def own(s: ptr32, x: ptr16):
    most = 32_767
    now = s[0]
    x[1] = s[2] if s[2] < most else most
    x[2] = s[3] if s[3] < most else most
    i = 3
    while i < 6:
        # First and last fraud, last genuine: s[4] to s[6].
        v = s[i + 1]
        v = most if v >> 31 & 1 else (now - v) // 3_600
        x[i] = v if v < most else most
        i += 1
    while i < 9:
        v = s[i + 1]
        x[i] = v if v < most else most
        i += 1


def finder(chains, low, high, follow):
    @micropython.viper
    def find(ref: int) -> int:
        starts = ptr16(chains)
        top = ref >> 16 & 0xFFFF
        ref &= 0xFFFF
        starts[256] = ref
        starts[257] = top
        slot = ref ^ top
        slot = starts[(slot ^ slot >> 8) & 255]
        if slot:
            lows = ptr16(low)
            highs = ptr16(high)
            chain = ptr16(follow)
            while slot:
                slot -= 1
                if lows[slot] == ref and highs[slot] == top:
                    return slot
                slot = chain[slot]
        return -1

    return find
