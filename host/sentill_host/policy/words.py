"""Limits in words, for people who have to agree on them."""

from decimal import Decimal

from sentill import transaction
from sentill_host.policy import source
from sentill_host.policy.source import Limit, Profile

_WINDOWS = {"payment": "in each payment", "lifetime": "ever"}
_SCOPES = {"card": "a card", "group": "a group of cards", "terminal": "this terminal"}
_ACTIONS = {
    "none": "nothing is done", "warn": "the holder is warned", "review": "it is reviewed", "decline": "it is declined",
}  # fmt: skip


def money(minor: int, currency: str) -> str:
    """An amount in minor units with its currency, such as `12.50 EUR`."""
    decimals = transaction.exponent(source.currency_number(currency))
    return f"{Decimal(minor).scaleb(-decimals):,.{decimals}f} {currency}"


def explain(profile: Profile, limit: Limit) -> str:
    """One limit in a few sentences."""
    most = []
    if limit.amount is not None:
        most.append(money(source.minor_units(limit.amount, profile.currency), profile.currency))
    if limit.count is not None:
        most.append(f"{limit.count} payment{'s' * (limit.count != 1)}")
    text = [f"At most {' and '.join(most)} for {_SCOPES[limit.scope]} {_window(profile, limit)}{_which(limit)}."]
    text.append(f"Beyond that {_ACTIONS[limit.action]}.")
    if limit.alerts and limit.window != "payment":
        text.append(f"Alerts at {', '.join(map(str, limit.alerts))} %.")
    if limit.rolling_s() is None and limit.window not in ("payment", "lifetime"):
        text.append(f"While the node's clock is not set, {_ACTIONS[limit.without_clock]}.")
    if limit.amount is not None and "refund" not in limit.types:
        text.append("Refunds give their amount back." if limit.refunds else "Refunds give nothing back.")
    if limit.declined:
        text.append("What others decline counts, too.")
    if limit.reversed:
        text.append("What is reversed counts all the same.")
    return " ".join(text)


def _window(profile: Profile, limit: Limit) -> str:
    if limit.window in _WINDOWS:
        return _WINDOWS[limit.window]
    start = limit.starts
    if seconds := limit.rolling_s():
        step = -(-seconds // 15)
        return f"within any {limit.window}, counted in steps of {step} s"
    at = f" from {start.at}" if start.at != "00:00" else ""
    day = f"{start.day}{_ordinal(start.day)}" + (", or the last day of a shorter month" if start.day > 28 else "")
    begins = {
        "day": "", "week": f" that begins on {start.weekday.capitalize()}", "month": f" that begins on the {day}",
        "quarter": f" that begins on the {day} of its first month", "year": f" that begins on {start.month:02}-{day}",
    }[limit.window]  # fmt: skip
    return f"in each {limit.window}{begins}{at}, {profile.zone}"


def _ordinal(number: int) -> str:
    return {1: "st", 2: "nd", 3: "rd"}.get(number % 10 if number not in (11, 12, 13) else 0, "th")


def _which(limit: Limit) -> str:
    parts = []
    if limit.types != ["purchase", "cash", "preauth"]:
        parts.append("of type " + _list(limit.types))
    if limit.categories:
        parts.append("in category " + _list(limit.categories))
    if limit.not_categories:
        parts.append("not in category " + _list(limit.not_categories))
    if limit.countries:
        parts.append("with cards of " + _list(limit.countries))
    if limit.not_countries:
        parts.append("with cards of other countries than " + _list(limit.not_countries))
    if limit.entry:
        parts.append("read by " + _list(limit.entry))
    if limit.weekdays:
        parts.append("on " + _list([day.capitalize() for day in limit.weekdays]))
    if limit.hours:
        parts.append("at hours " + _list(limit.hours))
    return ", " + ", ".join(parts) if parts else ""


def _list(names: list) -> str:
    texts = list(map(str, names))
    return ", ".join(texts[:-1]) + " or " + texts[-1] if len(texts) > 1 else texts[0]
