"""An anchor: a few letters, or a page, that leave this computer, and later tell whether the ledger is still that one.

    40-Q2BY54W-M5609FW-MD67ZG0-FP52MEC      entries, then 128 bits of the chain and 12 of a checksum in base 32

The letters are Crockford's: no I, L, O, U; what is read in their place is understood. The page (`text`) holds the code
and, for when everything else is gone, which terminals were held up to which record.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from sentill_host.errors import UsageError
from sentill_host.journal.ledger import Head, Reading

_LETTERS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_READ_AS = str.maketrans("ILO", "110")
_BITS, _CHECK_BITS, _GROUP = 128, 12, 7
_DIGITS = (_BITS + _CHECK_BITS) // 5
_CODE = re.compile(r"(?m)^[>\s]*Code:\s*(\S+)")
_ROW = re.compile(r"(?m)^[>\s]*([0-9a-f]{16})\s+(\d+)\s+([0-9a-f]{32})\b[ \t]*(.*?)\s*$")
_HELP = "a code as `sentill journal anchor` prints it, or the file it wrote"


@dataclass(frozen=True)
class Held:
    """A terminal as the page names it: up to which record it was held, that one's tag, and what people call it."""

    uid: str
    sequence: int
    tag: str
    label: str = ""


@dataclass(frozen=True)
class Anchor:
    """Of a ledger with `count` entries: the first 32 hex digits of the chain of the last; and the page's terminals."""

    count: int
    chain: str
    terminals: tuple[Held, ...] = ()

    @classmethod
    def of(cls, head: Head, terminals: Sequence[Held] = ()) -> "Anchor":
        """The anchor of a ledger with this head."""
        return cls(head.count, head.chain[: _BITS // 4], tuple(terminals))

    @property
    def code(self) -> str:
        """The short code."""
        number = int(self.chain, 16) << _CHECK_BITS | self._check()
        digits = "".join(_LETTERS[number >> 5 * i & 31] for i in reversed(range(_DIGITS)))
        return "-".join([str(self.count), *(digits[i : i + _GROUP] for i in range(0, _DIGITS, _GROUP))])

    def _check(self) -> int:
        digest = hashlib.sha256(f"{self.count} {self.chain}".encode()).digest()
        return int.from_bytes(digest[:2], "big") & (1 << _CHECK_BITS) - 1

    @classmethod
    def read(cls, code: str) -> "Anchor":
        """The anchor of a code as somebody typed it. Raises UsageError for none, or one with a slip of the pen."""
        count, _, rest = code.strip().upper().translate(_READ_AS).partition("-")
        digits = re.sub(r"[-\s]", "", rest)
        if not re.fullmatch(r"\d{1,12}", count) or len(digits) != _DIGITS or set(digits) - set(_LETTERS):
            raise UsageError(f"{code!r} is no anchor", _HELP)
        number = 0
        for digit in digits:
            number = number << 5 | _LETTERS.index(digit)
        made = cls(int(count), f"{number >> _CHECK_BITS:032x}")
        if made._check() != number & (1 << _CHECK_BITS) - 1:
            raise UsageError(f"{code!r} is no anchor as it was printed: a letter is wrong", "compare it once more")
        return made

    @classmethod
    def parse(cls, text: str) -> "Anchor":
        """The anchor of a page, as it was or quoted in a mail. Raises UsageError."""
        found = _CODE.search(text)
        if not found:
            raise UsageError("there is no anchor in this file", _HELP)
        made = cls.read(found[1])
        rows = [Held(uid, int(sequence), tag, label) for uid, sequence, tag, label in _ROW.findall(text)]
        return cls(made.count, made.chain, tuple(rows))

    def text(self, title: str) -> str:
        """The page, at most 79 columns, for a file, a printer or a mail; `title` says of what, when and by whom."""
        lines = [title, "", f"Code: {self.code}", ""]
        if self.terminals:
            lines.append(f"{'terminal':16} {'up to':>8}  {'tag of that record':32}  name")
        lines += [f"{t.uid} {t.sequence:>8}  {t.tag}  {t.label}"[:79].rstrip() for t in self.terminals]
        lines += ["", "Keep this away from that computer. There", "    sentill journal verify --anchor FILE"]
        lines += ["finds, with this page or with the code alone, what was changed or is gone."]
        return "\n".join(lines) + "\n"

    def against(self, reading: Reading) -> str:
        """What is wrong with a ledger that should go on from this anchor; "" when it does."""
        held = len(reading.entries)
        if held < self.count:
            there = f"it ends after {held}" if held else "there is none"
            return f"the anchor is of a ledger with {self.count} entries, and {there}: it was cut, put back or removed"
        if not reading.head_at(self.count).chain.startswith(self.chain):
            return f"its first {self.count} entries are not those of the anchor: it was replaced"
        return ""
