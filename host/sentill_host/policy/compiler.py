"""A profile of limits as the integers that the node works on: the file that device/sentill/policy/profile.py reads."""

import struct
import zlib
from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

from sentill import transaction
from sentill.errors import PolicyError
from sentill.policy import profile as layout
from sentill_host.errors import UsageError
from sentill_host.policy import source, windows
from sentill_host.policy.source import Limit, Profile

DAYS = 400  # that a profile is good for when it does not say
_SCOPES = ("card", "group", "terminal")
_ACTIONS = ("none", "warn", "review", "decline")
_ROLLING_PARTS = layout.BUCKETS - 1  # the oldest bucket is counted whole
_MODES = 0xFF
_DAYS = 0x7F


class Image:
    """A compiled profile: `data` is the file; `limits` are the ids by number, an amount and uses of one apart. Bytes
    that a node keeps in memory: of the profile, and of each card in use."""

    def __init__(self, data: bytes, limits: list[str], kept_bytes: int, card_bytes: int):
        self.data = data
        self.limits = limits
        self.kept_bytes = kept_bytes
        self.card_bytes = card_bytes


def number_of(profile_id: str) -> int:
    """The number that stands for the id of a profile on the wire, 1..2^30-1."""
    return zlib.crc32(profile_id.encode()) % transaction.MAX_AMOUNT + 1


def compile_profile(profile: Profile, today: date) -> Image:
    """The image of a profile, good from `valid_from`, or `today`, on. Raises UsageError when it does not fit."""
    since = profile.valid_from or today
    until = profile.valid_until or since + timedelta(days=DAYS)
    if not since < until <= date(2058, 1, 1) or since.year < 2024:
        raise UsageError(f"valid from {since} until {until} is not a time within 2024 to 2057")
    image = _Compiler(profile, since, until).image()
    try:
        layout.load(image.data)
    except PolicyError as error:
        raise UsageError(f"profile {profile.id!r} does not fit: {error.message}") from None
    return image


class _Compiler:
    def __init__(self, profile: Profile, since: date, until: date):
        self.profile = profile
        self.zone = ZoneInfo(profile.zone)
        self.since, self.until = since, until
        self.blocks = [0, 0, 0]
        self.clocks: list[tuple[int, tuple[int, ...]]] = []
        self.category_sets: list[tuple[tuple[int, int], ...]] = []
        self.country_sets: list[tuple[int, ...]] = []
        self.ids: list[str] = []

    def image(self) -> Image:
        limits = [words for limit in self.profile.limit for words in self.limit(limit)]
        if len(limits) > 64:
            raise UsageError(f"{len(limits)} limits, where an amount and a count are two; a profile holds 64")
        categories = list(_rows(self.category_sets))
        countries = sorted({country for members in self.country_sets for country in members})
        at_limits = layout.HEAD
        at_clocks = at_limits + layout.LIMIT_WORDS * len(limits)
        at_categories = at_clocks + layout.CLOCK_WORDS * len(self.clocks)
        at_countries = at_categories + 2 * len(categories)
        keep = at_countries + 2 * len(countries)
        zone = windows.offsets(self.zone, self.since, self.until)
        cold = [value for row in zone for value in row]
        clocks = []
        for width, edges in self.clocks:
            clocks += [0, 0, 0, width, keep + len(cold) if edges else 0, len(edges)]
            cold += edges
        texts = b"".join(bytes((len(name),)) + name.encode() for name in self.ids)
        texts += bytes(-len(texts) % 4)
        at_texts = keep + len(cold)
        words = [word for limit in limits for word in limit]
        for at in range(2, len(words), layout.LIMIT_WORDS):
            words[at] = at_clocks + layout.CLOCK_WORDS * words[at]
        words += clocks + [value for row in categories for value in row]
        for country in countries:
            words += [country, _bits(country in members for members in self.country_sets)]
        words += cold
        total = layout.HEAD + len(words) + len(texts) // 4
        head = [
            at_limits, len(limits), at_clocks, len(self.clocks), at_categories, len(categories),
            at_countries, len(countries), keep, len(zone), self.profile.version, *self.blocks, keep,
            self.moment(self.since), self.moment(self.until), at_texts, len(texts) // 4, number_of(self.profile.id),
        ]  # fmt: skip
        body = struct.pack(f"<{len(head) + len(words)}i", *head, *words) + texts
        crc = zlib.crc32(body)
        start = struct.pack("<4i", layout.MAGIC, total, crc & 0xFFFF, crc >> 16)
        return Image(start + body, self.ids, 4 * keep, 4 * self.blocks[0])

    def moment(self, day: date) -> int:
        return max(windows.node_time(datetime.combine(day, time(), self.zone).astimezone(UTC)), 0)

    def limit(self, limit: Limit) -> Iterable[list[int]]:
        """The words of a limit's amount, and of its uses."""
        kind, clock = self.window(limit)
        scope = _SCOPES.index(limit.scope)
        types = sum(1 << transaction.TYPES.index(name) for name in set(limit.types))
        back = 1 << transaction.TYPES.index("refund") if limit.refunds and "refund" not in limit.types else 0
        entries = _bits(name in limit.entry for name in transaction.ENTRIES) or _MODES
        weekdays = _bits(name in limit.weekdays for name in source.WEEKDAYS) or _DAYS
        packed = kind | scope << 2 | _ACTIONS.index(limit.action) << 4 | _ACTIONS.index(limit.without_clock) << 6
        packed |= bool(limit.not_categories) << 10 | bool(limit.not_countries) << 11
        categories = self.categories([*limit.categories, *limit.not_categories])
        countries = self.countries([*limit.countries, *limit.not_countries])
        part = 0
        for is_amount, most in ((1, self.amount(limit)), (0, limit.count)):
            if most is None:
                continue
            cell = self.blocks[scope]
            self.blocks[scope] += 3 + layout.BUCKETS if kind == layout.ROLLING else 3
            shares = [max(-(-most * share // 100), 1) for share in limit.alerts] + [0] * (3 - len(limit.alerts))
            self.ids.append(limit.id)
            given = back if is_amount else 0
            yield [
                packed | is_amount << 8 | part << 9 | cell << 12, most, clock,
                source.currency_number(self.profile.currency) if is_amount else 0,
                entries | weekdays << 8 | (types | given) << 16,
                given << 16 | limit.declined | limit.reversed << 1,
                source.hour_bits(limit.hours), categories, countries, *shares,
            ]  # fmt: skip
            part = 1

    def amount(self, limit: Limit) -> int | None:
        return None if limit.amount is None else source.minor_units(limit.amount, self.profile.currency)

    def window(self, limit: Limit) -> tuple[int, int]:
        """Kind of the window, and the number of its clock."""
        seconds = limit.rolling_s()
        if seconds:
            return layout.ROLLING, self.clock(-(-seconds // _ROLLING_PARTS), ())
        if limit.window in ("payment", "lifetime"):
            return layout.EACH if limit.window == "payment" else layout.CALENDAR, self.clock(0, ())
        edges = windows.starts(limit.window, limit.starts, self.zone, self.since, self.until)
        return layout.CALENDAR, self.clock(0, tuple(edges))

    def clock(self, width: int, edges: tuple[int, ...]) -> int:
        if (width, edges) not in self.clocks:
            self.clocks.append((width, edges))
        return self.clocks.index((width, edges))

    def categories(self, names: list[str | int]) -> int:
        if not names:
            return 0
        return 1 << _place(self.category_sets, tuple(sorted(set(source.category_ranges(names)))))

    def countries(self, names: list[str]) -> int:
        if not names:
            return 0
        return 1 << _place(self.country_sets, tuple(sorted({source.country_number(name) for name in names})))


def _place(sets: list, members: tuple) -> int:
    if members not in sets:
        sets.append(members)
    if len(sets) > 29:
        raise UsageError("more than 29 different lists of categories or countries")
    return sets.index(members)


def _bits(flags: Iterable[bool]) -> int:
    return sum(1 << i for i, flag in enumerate(flags) if flag)


def _rows(sets: list[tuple[tuple[int, int], ...]]) -> Iterable[tuple[int, int]]:
    """Disjoint ranges of categories in order, each with the bits of the sets that hold it."""
    edges = sorted({edge for members in sets for low, high in members for edge in (low, high + 1)})
    for low, after in pairwise(edges):
        bits = _bits(any(a <= low and after - 1 <= b for a, b in members) for members in sets)
        if bits:
            yield low << 14 | after - 1, bits
