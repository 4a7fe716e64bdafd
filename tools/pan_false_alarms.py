"""How often the guard against card numbers takes a random reference for one: a row per number of digits.

    python tools/pan_false_alarms.py [--update]

`--update` writes the table into docs/security-tests.md. The references are uniformly random, from a fixed seed.
"""

import argparse
import random
from pathlib import Path

from sentill.pan import looks_like_pan

DOCUMENT = Path(__file__).parents[1] / "docs/security-tests.md"
BEGIN, END = "<!-- false alarms: tools/pan_false_alarms.py -->\n", "<!-- end of false alarms -->\n"
NUMBERS = 20_000
WHOLE = range(12, 17)  # digits of references that are tested whole
HIDING = range(17, 25)


def share(digits: int, numbers: int = NUMBERS) -> float:
    """The part of uniformly random numbers of that many digits which the guard takes for card numbers, 0..1."""
    source = random.Random(digits)
    taken = sum(looks_like_pan(b"%0*d" % (digits, source.randrange(10**digits))) for _ in range(numbers))
    return taken / numbers


def table() -> str:
    """The rows as Markdown."""
    rows = [f"| digits | taken for a card number, of {NUMBERS:,} | a number is looked for |\n|---:|---:|---|\n"]
    for digits in (*WHOLE, *HIDING):
        how = "the whole" if digits in WHOLE else "anywhere in it"
        rows.append(f"| {digits} | {share(digits):.1%} | {how} |\n")
    return "".join(rows)


def main() -> None:
    """Print the table, or write it into the document."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--update", action="store_true", help=f"write it into {DOCUMENT.name}")
    if not parser.parse_args().update:
        print(table(), end="")
        return
    before, _, rest = DOCUMENT.read_text().partition(BEGIN)
    DOCUMENT.write_text(before + BEGIN + table() + END + rest.partition(END)[2])


if __name__ == "__main__":
    main()
