"""The words of a transaction, for both sides of the wire: what kind it is, how the card was read, how it ended.

A transaction is a row of SLOTS integers, at these places. 0 means that the terminal did not say, but for REF, T and
AMOUNT, which every request has, and TYPE, where it stands for a purchase.
"""

# Number at the terminal; seconds of node time; amount in minor units of the currency; place in TYPES; ISO 4217 number;
# ISO 18245 category or the till's own (1..9999); ISO 3166-1 number of the issuer's country; place in ENTRIES; place in
# VERIFICATIONS; 1 when the terminal is offline.
REF, T, AMOUNT, TYPE, CURRENCY, CATEGORY, COUNTRY, ENTRY, VERIFIED, OFFLINE, SLOTS = range(11)

TYPES = ("purchase", "refund", "cash", "load", "void", "preauth", "completion", "check")
ENTRIES = ("unknown", "chip", "contactless", "stripe", "keyed", "online")
VERIFICATIONS = ("unknown", "none", "pin", "signature", "device")
OUTCOMES = ("approved", "partial", "declined", "reversed", "expired")

MAX_AMOUNT = 0x3FFFFFFF
MAX_TIME = 0x3FFFFFFF

# Currencies whose minor unit is not a hundredth, by number (ISO 4217, list one).
_EXPONENTS = (
    (0, (108, 152, 174, 262, 324, 352, 392, 410, 548, 600, 646, 704, 800, 940, 950, 952, 953)),
    (3, (48, 368, 400, 414, 434, 512, 788)),
    (4, (927, 990)),
)


def exponent(currency: int) -> int:
    """Decimals of the minor unit of an ISO 4217 currency by its number; 2 for one that is not listed."""
    for decimals, numbers in _EXPONENTS:
        if currency in numbers:
            return decimals
    return 2
