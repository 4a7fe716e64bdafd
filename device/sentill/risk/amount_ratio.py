"""How an amount compares with the robust mean of card_profile.py, and whether it explains a fraud by itself."""

from sentill.compat import const

BIG_CENTS = const(22_000)
HIGH_Q6 = const(144)
MIN_COUNT = const(5)


def ratio_q6(amt: int, mean: int) -> int:
    """`amt * 64 // (mean + 1)`, at most 32767, for 0 <= amt < 2^30 and 0 <= mean <= 65535; no step exceeds 2^30."""
    mean += 1
    if amt < 16_777_216:
        ratio = (amt << 6) // mean
        return ratio if ratio < 32_767 else 32_767
    whole = amt // mean
    if whole >= 512:
        return 32_767
    return (whole << 6) + ((amt - whole * mean) << 6) // mean


def explained(amt: int, pm: int, pn: int) -> bool:
    """Whether a fraud of `amt` cents is explained by its amount: large, or high for a card with this profile."""
    # A ratio above 144 is at least 145/64 of the mean; both products stay far below 2^30.
    return amt > BIG_CENTS or (pn >= MIN_COUNT and (pm + 1) * (HIGH_Q6 + 1) <= amt << 6)
