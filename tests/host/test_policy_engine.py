"""The policy engine against tests/host/policy_reference.py, over random profiles and payments."""

import ast
import random
import tomllib
from datetime import date
from pathlib import Path

import pytest

from sentill import transaction
from sentill.policy import engine, profile
from sentill_host.policy import compiler, source
from tests.host import policy_reference as plain

ACTIONS = ("none", "warn", "review", "decline")
WHY = ("", "limit", "currency", "clock")
CURRENCIES = {"EUR": 978, "JPY": 392, "KWD": 414, "USD": 840}
COUNTRIES = {"": 0, "DE": 276, "AT": 40, "US": 840}
ENDINGS = transaction.OUTCOMES


class Store(dict):
    """Where cells go that are not in use."""

    def put(self, key, data):
        self[bytes(key)] = bytes(data)


def start(text: str, today: date, room: int = 1500):
    compiled = compiler.compile_profile(source.parse(text), today)
    words = profile.load(compiled.data)
    return engine.Engine(words, lambda at, n: words[at : at + n], Store(), room), compiled.limits


def row(p: plain.Payment) -> list[int]:
    return [
        p.ref, p.t, p.amount, transaction.TYPES.index(p.type), CURRENCIES[p.currency], p.category,
        COUNTRIES[p.country], transaction.ENTRIES.index(p.entry), 0, 0,
    ]  # fmt: skip


def a_profile(rng: random.Random) -> str:
    currency = rng.choice(("EUR", "EUR", "JPY", "KWD"))
    zone = rng.choice(("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"))
    lines = [f'id = "p"\nversion = 1\ncurrency = "{currency}"\nzone = "{zone}"']
    for i in range(rng.randint(1, 8)):
        window = rng.choice(WINDOWS)
        lines += ["", "[[limit]]", f'id = "l{i}"', f'window = "{window}"', f'scope = "{rng.choice(SCOPES)}"']
        what = rng.choice(("amount", "count", "both"))
        if what != "count":
            decimals = transaction.exponent(CURRENCIES[currency])
            lines.append(f'amount = "{rng.choice((0, 1, 25, 300, 4000, 50000)) / 10**decimals:.{decimals}f}"')
        if what != "amount":
            lines.append(f"count = {rng.choice((0, 1, 3, 10))}")
        if rng.random() < 0.5:
            at = rng.choice(("00:00", "04:00", "02:30", "23:59"))
            lines.append(
                f'starts = {{at = "{at}", weekday = "{rng.choice(plain.DAYS)}", day = {rng.choice((1, 15, 29, 31))},'
                f" month = {rng.choice((1, 2, 7))}}}"
            )
        for key, choices in CHOICES.items():
            if rng.random() < 0.25:
                lines.append(f"{key} = {rng.choice(choices)}")
    return "\n".join(lines)


WINDOWS = (
    *("payment", "day", "day", "week", "month", "quarter", "year", "lifetime"),
    *("10 s", "15 min", "1 h", "7d", "31 d"),
)
SCOPES = ("card", "card", "group", "terminal")
CHOICES = {
    "categories": ("[5812]", '["3000-3299", 5812]', '["5000-5999"]'),
    "countries": ('["DE"]', '["DE", "AT"]'),
    "entry": ('["chip"]', '["chip", "contactless"]'),
    "hours": ('["6-22"]', '["22-6"]', '["0-1", "12-13"]'),
    "weekdays": ('["saturday", "sunday"]', '["monday"]'),
    "refunds": ("false", "true"),
    "declined": ("true",),
    "reversed": ("true",),
    "action": ('"warn"', '"review"', '"decline"', '"none"'),
    "alerts": ("[]", "[50]", "[80, 95, 100]", "[33, 100]"),
    "types": ('["purchase"]', '["purchase", "refund"]', '["cash", "load"]'),
}


def payments(rng: random.Random, since: int, n: int):
    t = since
    for ref in range(n):
        t += rng.choice((0, 1, 5, 60, 600, 3_600, 20_000, 86_400, 86_399, 200_000))
        late = rng.choice((0, 0, 0, 30, 5_000))
        yield plain.Payment(
            ref, max(t - late, since), rng.choice((0, 1, 7, 24, 25, 26, 100, 299, 4000)),
            rng.choice(("purchase",) * 6 + transaction.TYPES), rng.choice(("EUR", "EUR", "EUR", "JPY", "KWD", "USD")),
            rng.choice((0, 5812, 3001, 4000, 5999)), rng.choice(tuple(COUNTRIES)), rng.choice(transaction.ENTRIES),
            rng.choice(("", "a", "b", "c", "d", "e", "f", "g")), rng.choice(("", "x", "y")),
        )  # fmt: skip


def compare(seed: int, n: int) -> int:
    """Play `n` payments of `seed` to both; how many there were."""
    rng = random.Random(seed)
    text = a_profile(rng)
    today = date(2026, 1, 1) if seed % 2 else date(2027, 10, 15)
    one, ids = start(text, today)
    # Few in use at a time, so that holders come and go.
    book = plain.Book(tomllib.loads(text), 10 ** transaction.exponent(CURRENCIES[source.parse(text).currency]))
    since = (today - date(2024, 1, 1)).days * 86_400 + 3 * 86_400
    horizon = since + 390 * 86_400
    past: list[int] = []
    done = 0
    for p in payments(rng, since, n):
        if p.t > horizon:
            break
        expected = book.judge(p)
        action = one.judge(row(p), True, p.card.encode(), p.group.encode())
        told = (ACTIONS[action], ids[one.limit] if one.limit >= 0 else "", WHY[one.why])
        assert told == expected[:3], (seed, p, text)
        if expected[2] == "limit":
            assert one.left == expected[3], (seed, p, text)
        if action < 3:
            marks = book.take(p)
            one.take(row(p))
            numbers = {(limit["id"], quantity): i for i, (limit, quantity, _) in enumerate(book.parts)}
            wanted = sorted((numbers[name, quantity], mark) for name, quantity, mark in marks)

            reached = sorted(one.reached)
            assert reached == wanted if len(wanted) <= 8 else len(reached) == 8, (reached, wanted, seed, p, text)
            past.append(p.ref)
        if past and rng.random() < 0.4:
            ref = rng.choice(past[-20:])
            ending = rng.randrange(len(ENDINGS))
            amount = rng.choice((0, 1, 20, 5_000))
            assert one.outcome(ref, ending, amount) == book.outcome(ref, ENDINGS[ending], amount), (seed, p, text)
        done += 1
    return done


@pytest.mark.parametrize("part", range(8))
def test_equals_the_plain_reference(part):
    played = sum(compare(1000 * part + seed, 160) for seed in range(20))
    assert played > 1_500, played


def test_the_reference_is_of_its_own():
    tree = ast.parse(Path(plain.__file__).read_text())
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not [name for name in names if "sentill" in name], names
