"""What people write: a profile of limits in TOML, read into typed values. `docs/policy.md` explains every key."""

import re
from datetime import date
from decimal import Decimal, InvalidOperation
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import iso3166
import iso4217
import iso18245
import msgspec
from msgspec import Meta

from sentill import transaction
from sentill_host import schema, user_files
from sentill_host.errors import UsageError

Type = Literal["purchase", "refund", "cash", "load", "void", "preauth", "completion", "check"]
Entry = Literal["unknown", "chip", "contactless", "stripe", "keyed", "online"]
Weekday = Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
Action = Literal["none", "warn", "review", "decline"]
Share = Annotated[int, Meta(ge=1, le=100)]
Id = Annotated[str, Meta(pattern=r"^[0-9A-Za-z_-]{1,24}$")]
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
CALENDAR = ("day", "week", "month", "quarter", "year")
_ROLLING = re.compile(r"(\d+) ?(s|min|h|d)")
_UNIT_S = {"s": 1, "min": 60, "h": 3_600, "d": 86_400}
_HOURS = re.compile(r"(\d\d?)-(\d\d?)")


class Start(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """When a calendar window begins: local time, weekday of a week, day of a month (its last one, where it has fewer),
    month of a year."""

    at: Annotated[str, Meta(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")] = "00:00"
    weekday: Weekday = "monday"
    day: Annotated[int, Meta(ge=1, le=31)] = 1
    month: Annotated[int, Meta(ge=1, le=12)] = 1


class Limit(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A limit: whose, of what window, how much or how often, of which payments, and what follows."""

    id: Id
    window: str
    name: Annotated[str, Meta(max_length=60)] = ""
    scope: Literal["card", "group", "terminal"] = "card"
    starts: Start = Start()
    amount: str | int | float | None = None
    count: Annotated[int, Meta(ge=0, le=transaction.MAX_AMOUNT)] | None = None
    types: Annotated[list[Type], Meta(min_length=1)] = msgspec.field(
        default_factory=lambda: ["purchase", "cash", "preauth"]
    )
    refunds: bool = True
    declined: bool = False
    reversed: bool = False
    categories: list[str | int] = []
    not_categories: list[str | int] = []
    countries: list[str] = []
    not_countries: list[str] = []
    entry: list[Entry] = []
    hours: list[str] = []
    weekdays: list[Weekday] = []
    action: Action = "decline"
    without_clock: Action = "none"
    alerts: Annotated[list[Share], Meta(max_length=3)] = msgspec.field(default_factory=lambda: [80, 95, 100])

    def rolling_s(self) -> int | None:
        """Seconds of a rolling window; None for the others. Raises ValueError, which says what is wanted."""
        if self.window in ("payment", "lifetime", *CALENDAR):
            return None
        found = _ROLLING.fullmatch(self.window)
        seconds = int(found[1]) * _UNIT_S[found[2]] if found and len(found[1]) <= 7 else 0
        if not 10 <= seconds <= 31 * 86_400:
            raise ValueError(
                f"window {self.window!r} is not payment, day, week, month, quarter, year, lifetime, nor 10 s to 31 d"
            )
        return seconds


class Profile(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The limits of a kind of card, or of a terminal."""

    id: Id
    version: Annotated[int, Meta(ge=1, le=transaction.MAX_AMOUNT)]
    currency: Annotated[str, Meta(pattern=r"^[A-Z]{3}$")]
    limit: Annotated[list[Limit], Meta(min_length=1, max_length=64)]
    zone: str = "UTC"
    valid_from: date | None = None
    valid_until: date | None = None


def read(path: Path) -> Profile:
    """The profile in the TOML file `path`. Raises UsageError that names file, line, key and what is wanted."""
    return _checked(schema.read(path, Profile), user_files.read_text(path), str(path))


def parse(text: str, name: str = "profile") -> Profile:
    """The profile in `text`; errors name the file `name`. Raises UsageError."""
    return _checked(schema.parse(text, Profile, name), text, name)


def _checked(profile: Profile, text: str, name: str) -> Profile:
    for key, check in (("zone", ZoneInfo), ("currency", currency_number)):
        try:
            check(getattr(profile, key))
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise UsageError(f"{name}:{schema.line_of(text, [key])}: {key}: {error}") from None
    ids: set[str] = set()
    for i, limit in enumerate(profile.limit):
        try:
            _check(profile, limit)
            if limit.id in ids:
                raise KeyedError("id", f"two limits have the id {limit.id!r}")
        except KeyedError as error:
            line = schema.line_of(text, ["limit", i, error.key])
            raise UsageError(f"{name}:{line}: limit {limit.id!r}: {error.key}: {error}") from None
        ids.add(limit.id)
    return profile


class KeyedError(ValueError):
    """What is wrong with the value of a key."""

    def __init__(self, key: str, message: str):
        super().__init__(message)
        self.key = key


def _check(profile: Profile, limit: Limit) -> None:
    if limit.amount is None and limit.count is None:
        raise KeyedError("amount", "a limit needs an amount, a count, or both")
    checks = {
        "window": limit.rolling_s,
        "amount": lambda: limit.amount is None or minor_units(limit.amount, profile.currency),
        "categories": lambda: category_ranges(limit.categories),
        "not_categories": lambda: category_ranges(limit.not_categories),
        "countries": lambda: [country_number(country) for country in limit.countries],
        "not_countries": lambda: [country_number(country) for country in limit.not_countries],
        "hours": lambda: hour_bits(limit.hours),
    }
    for key, check in checks.items():
        try:
            check()
        except ValueError as error:
            raise KeyedError(key, str(error)) from None
    for key in ("categories", "countries"):
        if getattr(limit, key) and getattr(limit, "not_" + key):
            raise KeyedError("not_" + key, f"{key} names what is in, not_{key} what is out: one of them only")
    if list(limit.alerts) != sorted(set(limit.alerts)):
        raise KeyedError("alerts", "the shares go up, such as [80, 95, 100]")


def currency_number(code: str) -> int:
    """ISO 4217 number of a currency. Raises ValueError."""
    try:
        return int(iso4217.Currency(code).number)
    except ValueError:
        raise ValueError(f"{code!r} is not a currency of ISO 4217") from None


def country_number(code: str) -> int:
    """ISO 3166-1 number of a country by its two letters. Raises ValueError."""
    found = iso3166.countries_by_alpha2.get(code.upper())
    if not found:
        raise ValueError(f"{code!r} is not a country of ISO 3166-1, such as DE")
    return int(found.numeric)


def minor_units(amount: str | int | float, currency: str) -> int:
    """An amount such as 12.50 in minor units of the currency. Raises ValueError when it has too many decimals."""
    decimals = transaction.exponent(currency_number(currency))
    try:
        value = Decimal(str(amount)).scaleb(decimals)
    except InvalidOperation:
        raise ValueError(f"amount {amount!r} is not a number such as 12.50") from None
    if not value.is_finite() or value != value.to_integral_value():
        raise ValueError(f"amount {amount!r}: {currency} has {decimals} decimals")
    if not 0 <= value <= transaction.MAX_AMOUNT:
        raise ValueError(f"amount {amount!r} is not 0..{Decimal(transaction.MAX_AMOUNT).scaleb(-decimals)}")
    return int(value)


def category_ranges(names: list[str | int]) -> list[tuple[int, int]]:
    """The categories meant by numbers (5812), ranges ("3000-3299") and names of the ranges of ISO 18245. ValueError."""
    found = []
    for name in names:
        text = str(name)
        first, dash, last = text.partition("-")
        if first.isdecimal() and (not dash or last.isdecimal()) and len(text) <= 9:
            low, high = int(first), int(last or first)
            if not 1 <= low <= high <= 9_999:
                raise ValueError(f"category {text!r} is not within 1..9999")
            found.append((low, high))
        elif text.lower() in CATEGORY_RANGES:
            found.append(CATEGORY_RANGES[text.lower()])
        else:
            close = get_close_matches(text.lower(), CATEGORY_RANGES, n=3)
            hint = "did you mean " + ", ".join(map(repr, close)) if close else "`sentill policy categories` lists them"
            raise ValueError(f"category {text!r} is not a number, a range such as 3000-3299, nor a name; {hint}")
    return found


def hour_bits(hours: list[str]) -> int:
    """A bit per hour of the day in ranges such as "6-22" (until 22:00) or, over midnight, "22-6". ValueError."""
    bits = 0
    for text in hours:
        found = _HOURS.fullmatch(text)
        first, last = (int(found[1]), int(found[2])) if found else (24, 24)
        if not (0 <= first <= 23 and 0 <= last <= 24 and first != last):
            raise ValueError(f"hours {text!r} are not like 6-22")
        span = range(first, last) if first < last else (*range(first, 24), *range(last))
        for hour in span:
            bits |= 1 << hour
    return bits or (1 << 24) - 1


def _range_names() -> dict[str, tuple[int, int]]:
    # The ranges of the standard, and the words that card programmes have for single categories.
    codes = iso18245.get_all_mccs()
    ranges = {(mcc.range.start, mcc.range.end): mcc.range.description for mcc in codes}
    names = {mcc.stripe_code: (int(mcc.mcc), int(mcc.mcc)) for mcc in codes if mcc.stripe_code}
    return names | {name.lower(): (int(first), int(last)) for (first, last), name in ranges.items()}


CATEGORY_RANGES = _range_names()
