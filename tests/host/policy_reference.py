"""What limits mean, said plainly: every payment is kept, and each window is added up anew. Imports nothing of Sentill.

book = Book(tomllib.loads(text))
book.judge(payment) -> (action, id of the limit or "", why, left)
book.take(payment) -> marks reached as (id, quantity, mark)
book.outcome(ref, ending, amount)
"""

from calendar import monthrange
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from fractions import Fraction
from zoneinfo import ZoneInfo

EPOCH = datetime(2024, 1, 1, tzinfo=UTC)
DAYS = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
STERN = ["none", "warn", "review", "decline"]
UNITS = {"s": 1, "min": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True)
class Payment:
    """One transaction: `t` seconds since 2024, amount in minor units; the rest in words, category a number."""

    ref: int
    t: int
    amount: int
    type: str = "purchase"
    currency: str = "EUR"
    category: int = 0
    country: str = ""
    entry: str = "unknown"
    card: str = ""
    group: str = ""


@dataclass
class Count:
    """What one limit has counted of one holder: by bucket or by the start of its window."""

    parts: dict[int, int] = field(default_factory=dict)
    marks: set[int] = field(default_factory=set)
    window: int = -1


class Book:
    """The limits of a profile as written, and all that was counted."""

    def __init__(self, profile: dict, minor: int = 100, ranges: dict | None = None):
        self.profile = profile
        self.zone = ZoneInfo(profile.get("zone", "UTC"))
        self.minor = minor
        self.ranges = ranges or {}
        self.now = 0
        self.counts: dict[tuple[str, str, str], Count] = {}
        self.taken: dict[int, dict] = {}
        self.parts = []
        for limit in profile["limit"]:
            if "amount" in limit:
                self.parts.append((limit, "amount", int(Fraction(str(limit["amount"])) * minor)))
            if "count" in limit:
                self.parts.append((limit, "count", limit["count"]))

    # Which payments a limit looks at

    def looks_at(self, limit: dict, quantity: str, p: Payment) -> bool:
        types = limit.get("types", ["purchase", "cash", "preauth"])
        refund = p.type == "refund" and limit.get("refunds", True) and quantity == "amount" and "refund" not in types
        if p.type not in types and not refund:
            return False
        if limit.get("entry") and p.entry not in limit["entry"]:
            return False
        local = (EPOCH + timedelta(seconds=self.now)).astimezone(self.zone)
        if limit.get("weekdays") and DAYS[local.weekday()] not in limit["weekdays"]:
            return False
        if limit.get("hours") and not any(self.in_hours(span, local.hour) for span in limit["hours"]):
            return False
        inside = lambda names: any(self.in_category(name, p.category) for name in names)  # noqa: E731
        if limit.get("categories") and not inside(limit["categories"]):
            return False
        if limit.get("not_categories") and inside(limit["not_categories"]):
            return False
        if limit.get("countries") and p.country not in limit["countries"]:
            return False
        if limit.get("not_countries") and p.country in limit["not_countries"]:
            return False
        return bool(self.holder(limit, p))

    def in_hours(self, span: str, hour: int) -> bool:
        first, last = map(int, span.split("-"))
        return first <= hour < last if first < last else hour >= first or hour < last

    def in_category(self, name, category: int) -> bool:
        low, _, high = str(name).partition("-")
        return int(low) <= category <= int(high or low)

    def holder(self, limit: dict, p: Payment) -> str:
        scope = limit.get("scope", "card")
        return "here" if scope == "terminal" else getattr(p, scope)

    def gives_back(self, limit: dict, p: Payment) -> bool:
        return p.type == "refund" and "refund" not in limit.get("types", ["purchase", "cash", "preauth"])

    # Windows

    def rolling(self, limit: dict) -> int:
        window = limit["window"]
        number = "".join(c for c in window if c.isdigit())
        if not number:
            return 0
        seconds = int(number) * UNITS[window[len(number) :].strip()]
        return (seconds + 14) // 15

    def starts_at(self, limit: dict, day: date) -> datetime:
        hour, minute = map(int, limit.get("starts", {}).get("at", "00:00").split(":"))
        return datetime.combine(day, time(hour, minute), self.zone).astimezone(UTC)

    def window(self, limit: dict, t: int) -> int:
        """A number that is the same for all moments of a window, and grows."""
        kind = limit["window"]
        if kind == "lifetime":
            return 0
        moment = EPOCH + timedelta(seconds=t)
        day = moment.astimezone(self.zone).date() + timedelta(days=1)
        while self.first_day(limit, day) != day or self.starts_at(limit, day) > moment:
            day -= timedelta(days=1)
        return day.toordinal()

    def first_day(self, limit: dict, day: date) -> date | None:
        """`day` when a window of this kind begins on it."""
        starts = limit.get("starts", {})
        clamped = min(starts.get("day", 1), monthrange(day.year, day.month)[1])
        match limit["window"]:
            case "day":
                good = True
            case "week":
                good = day.weekday() == DAYS.index(starts.get("weekday", "monday"))
            case "month":
                good = day.day == clamped
            case "quarter":
                good = day.month % 3 == 1 and day.day == clamped
            case "year":
                good = day.month == starts.get("month", 1) and day.day == clamped
        return day if good else None

    # What has been used

    def count_of(self, limit: dict, quantity: str, holder: str) -> Count:
        return self.counts.setdefault((limit["id"], quantity, holder), Count())

    def used(self, limit: dict, count: Count, t: int) -> int:
        if limit["window"] == "payment":
            return 0
        if width := self.rolling(limit):
            k = t // width
            return sum(n for part, n in count.parts.items() if k - 15 <= part <= k)
        return count.parts.get(self.window(limit, t), 0)

    def settle(self, limit: dict, most: int, count: Count) -> None:
        """Marks of another window are gone; those of a rolling one that are no longer reached, too."""
        if self.rolling(limit):
            count.marks &= self.reached(limit, most, self.used(limit, count, self.now))
        elif limit["window"] != "payment":
            window = self.window(limit, self.now)
            if window != count.window:
                count.window = window
                count.marks = set()

    def reached(self, limit: dict, most: int, used: int) -> set[int]:
        shares = limit.get("alerts", [80, 95, 100])
        found = {i for i, share in enumerate(shares) if used > 0 and Fraction(used) >= Fraction(most * share, 100)}
        return found | ({3} if used > most else set())

    # The life of a payment

    def judge(self, p: Payment) -> tuple[str, str, str, int]:
        self.now = max(self.now, p.t)
        answer = ("none", "", "", -1)
        for limit, quantity, most in self.parts:
            if not self.looks_at(limit, quantity, p):
                continue
            count = self.count_of(limit, quantity, self.holder(limit, p))
            self.settle(limit, most, count)
            if self.gives_back(limit, p) and not (quantity == "amount" and p.currency != self.profile["currency"]):
                continue
            used = self.used(limit, count, self.now)
            if quantity == "amount" and p.currency != self.profile["currency"]:
                why = "currency"
            elif used + (p.amount if quantity == "amount" else 1) > most:
                why = "limit"
            else:
                continue
            action = limit.get("action", "decline")
            if STERN.index(action) > STERN.index(answer[0]):
                answer = (action, limit["id"], why, max(most - used, 0) if why == "limit" else -1)
        return answer

    def take(self, p: Payment) -> list[tuple[str, str, int]]:
        marks = []
        counted = []
        refunds = []
        for limit, quantity, most in self.parts:
            if not self.looks_at(limit, quantity, p) or quantity == "amount" and p.currency != self.profile["currency"]:
                continue
            if limit["window"] == "payment":
                continue
            count = self.count_of(limit, quantity, self.holder(limit, p))
            self.settle(limit, most, count)
            if self.gives_back(limit, p):
                refunds.append((limit, count))
                continue
            part = self.part(limit)
            n = p.amount if quantity == "amount" else 1
            count.parts[part] = count.parts.get(part, 0) + n
            counted.append((limit, quantity, most, count, part))
            fresh = self.reached(limit, most, self.used(limit, count, self.now)) - count.marks
            count.marks |= fresh
            marks += [(limit["id"], quantity, mark) for mark in sorted(fresh)]
        self.taken[p.ref] = {"amount": p.amount, "counted": counted, "refunds": refunds, "given": False}
        return marks

    def part(self, limit: dict) -> int:
        width = self.rolling(limit)
        return self.now // width if width else self.window(limit, self.now)

    def give_back(self, taken: dict, amount: int) -> None:
        for limit, count in taken["refunds"]:
            left, part = amount, self.part(limit)
            for k in range(part, part - (16 if self.rolling(limit) else 1), -1):
                n = min(left, count.parts.get(k, 0))
                if n:
                    count.parts[k] -= n
                    left -= n

    def outcome(self, ref: int, ending: str, amount: int = 0) -> bool:
        taken = self.taken.get(ref)
        if taken is None:
            return False
        final = {"approved": taken["amount"], "partial": min(amount, taken["amount"])}.get(ending, 0)
        back = taken["amount"] - final
        for limit, quantity, most, count, part in taken["counted"]:
            kept = {"declined": "declined", "reversed": "reversed", "expired": "reversed"}.get(ending, "")
            if limit.get(kept):
                continue
            n = back if quantity == "amount" else int(ending not in ("approved", "partial"))
            count.parts[part] = max(count.parts.get(part, 0) - n, 0)
            if self.rolling(limit):
                count.marks &= self.reached(limit, most, self.used(limit, count, self.now))
        if taken["given"] and back:
            for limit, count in taken["refunds"]:
                part = self.part(limit)
                count.parts[part] = count.parts.get(part, 0) + back
        if ending in ("approved", "partial"):
            if not taken["given"]:
                self.give_back(taken, final)
                taken["given"] = True
            taken["amount"] = final
        else:
            del self.taken[ref]
        return True
