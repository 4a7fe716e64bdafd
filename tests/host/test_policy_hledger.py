"""Month and week totals, and what is left of a budget, against hledger: books that somebody else adds up."""

import csv
import io
import os
import shutil
import subprocess
from datetime import date, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sentill import transaction
from sentill.policy import engine, profile
from sentill_host.policy import compiler, source

HLEDGER = shutil.which("hledger")
pytestmark = pytest.mark.skipif(
    not HLEDGER and not os.environ.get("SENTILL_REQUIRE_PARTS"),
    reason="hledger is not installed (Debian: apt install hledger)",
)
FIRST = date(2026, 1, 1)
DAYS = 120
CARDS = ("anna", "boris", "chen")
BUDGET_CENTS = 40_000
PROFILE = f"""
id = "books"
version = 1
currency = "EUR"
[[limit]]
id = "month"
window = "month"
amount = "{BUDGET_CENTS / 100:.2f}"
action = "warn"
[[limit]]
id = "week"
window = "week"
amount = "{BUDGET_CENTS / 100:.2f}"
action = "warn"
"""

payments = st.lists(
    st.tuples(
        st.integers(0, DAYS * 86_400 - 1),
        st.sampled_from(CARDS),
        st.integers(0, 9_000),
        st.sampled_from(("purchase", "purchase", "purchase", "cash", "refund")),
        st.sampled_from(("approved", "approved", "partial", "declined", "reversed", "none")),
        st.integers(0, 100),
    ),
    max_size=40,
)


class _Store(dict):
    def put(self, key, data):
        self[bytes(key)] = bytes(data)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(payments)
def test_totals_are_hledger_s(tmp_path, drawn):
    words = profile.load(compiler.compile_profile(source.parse(PROFILE), FIRST).data)
    one = engine.Engine(words, lambda at, n: words[at : at + n], _Store(), 400)
    begin = (FIRST - date(2024, 1, 1)).days * 86_400
    lines = []
    left: dict[tuple[str, str, str], int] = {}
    for ref, (second, card, cents, kind, ending, percent) in enumerate(sorted(drawn)):
        t = begin + second
        day = (datetime(2024, 1, 1) + timedelta(seconds=t)).date()
        key = card.encode()
        if kind == "refund":
            # What was never spent cannot come back: hledger would go below zero, the node does not.
            cents = min(cents, *(BUDGET_CENTS - one.balance(i, t, key) for i in (0, 1)))
        row = [ref, t, cents, transaction.TYPES.index(kind), 978, 0, 0, 0, 0, 0]
        action = one.judge(row, True, key)
        assert action == (1 if kind != "refund" and cents > min(one.balance(i, t, key) for i in (0, 1)) else 0)
        if action:
            continue
        one.take(row)
        final = {"declined": 0, "reversed": 0, "partial": cents * percent // 100}.get(ending, cents)
        if ending == "none" and kind == "refund":
            final = 0  # it has not happened yet
        if ending != "none":
            one.outcome(ref, transaction.OUTCOMES.index(ending), final)
        sign = -1 if kind == "refund" else 1
        lines.append(f"{day} {kind}\n  spent:{card}  EUR {sign * final / 100:.2f}\n  cash\n")
        for i, period in enumerate(("monthly", "weekly")):
            start = day.replace(day=1) if i == 0 else day - timedelta(days=day.weekday())
            left[period, card, start.isoformat()] = one.balance(i, t, key)
    book = tmp_path / "book.journal"
    book.write_text("commodity EUR 1000.00\n" + "\n".join(lines))
    totals = {**added_up(book, "monthly"), **added_up(book, "weekly")}
    for where, rest in left.items():
        assert BUDGET_CENTS - totals.get(where, 0) == rest, (where, totals, lines)


def added_up(book: Path, period: str) -> dict[tuple[str, str, str], int]:
    """Cents by period, card and first day, as hledger adds them up."""
    command = [HLEDGER or "hledger", "-f", str(book), "balance", "spent", f"--{period}", "-O", "csv", "--empty"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    rows = list(csv.reader(io.StringIO(done.stdout)))
    totals = {}
    for row in rows[1:]:
        card = row[0].removeprefix("spent:")
        if card not in CARDS:
            continue
        for name, value in zip(rows[0][1:], row[1:], strict=True):
            # Columns are "2026-01", and "2025-12-29W01" or "2026-W02".
            first = f"{name}-01" if period == "monthly" else name[:10]
            if period == "weekly" and name[5] == "W":
                first = date.fromisocalendar(int(name[:4]), int(name[6:]), 1).isoformat()
            totals[period, card, first] = round(float(value.replace("EUR", "").replace(",", "") or 0) * 100)
    return totals
