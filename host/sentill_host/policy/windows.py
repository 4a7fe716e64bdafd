"""Calendar windows as moments in UTC: the node compares integers and knows no calendar."""

from calendar import monthrange
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from sentill_host.policy.source import WEEKDAYS, Start

EPOCH = datetime(2024, 1, 1, tzinfo=UTC)


def node_time(moment: datetime) -> int:
    """Seconds of node time, whole ones."""
    return int((moment - EPOCH).total_seconds())


def starts(window: str, start: Start, zone: ZoneInfo, since: date, until: date) -> list[int]:
    """Node times at which windows of a kind ("day" ... "year") begin: from the one that holds `since` to the first that
    begins on `until` or later. A local time that a change of the clocks skips is taken as the clock before it shows it;
    one that comes twice is the first."""
    at = time.fromisoformat(start.at)
    moments = []
    for day in _days(window, start, since):
        moment = node_time(datetime.combine(day, at, zone).astimezone(UTC))
        if moment < 0:
            continue
        moments.append(moment)
        if day > until:
            break
    first = node_time(datetime.combine(since, time(), zone).astimezone(UTC))
    before = [moment for moment in moments if moment <= first]
    return moments[max(len(before) - 1, 0) :]


def _days(window: str, start: Start, since: date) -> Iterator[date]:
    """The local dates on which windows begin, from well before `since` on."""
    if window in ("day", "week"):
        step = timedelta(days=1 if window == "day" else 7)
        day = since - 2 * step
        while window == "week" and day.weekday() != WEEKDAYS.index(start.weekday):
            day -= timedelta(days=1)
        while True:
            yield day
            day += step
    months = {"month": 1, "quarter": 3, "year": 12}[window]
    number = (since.year - 2) * 12
    if window == "year":
        number += start.month - 1
    while True:
        year, month = number // 12, number % 12 + 1
        yield date(year, month, min(start.day, monthrange(year, month)[1]))
        number += months


def offsets(zone: ZoneInfo, since: date, until: date) -> list[tuple[int, int]]:
    """Rows of a node time and the seconds from UTC to local time from then on; the first holds for all before."""
    begin = datetime.combine(since, time(), UTC)
    end = datetime.combine(until, time(), UTC) + timedelta(days=2)
    rows = [(max(node_time(begin), 0), _offset(zone, begin))]
    moment = begin
    while moment < end:
        after = moment + timedelta(hours=6)
        if _offset(zone, after) != rows[-1][1]:
            low, high = moment, after
            while high - low > timedelta(seconds=1):
                middle = low + (high - low) // 2
                middle = middle.replace(microsecond=0)
                low, high = (middle, high) if _offset(zone, middle) == rows[-1][1] else (low, middle)
            if node_time(high) > rows[-1][0]:
                rows.append((node_time(high), _offset(zone, high)))
        moment = after
    return rows


def _offset(zone: ZoneInfo, moment: datetime) -> int:
    offset = moment.astimezone(zone).utcoffset()
    return int(offset.total_seconds()) if offset is not None else 0
