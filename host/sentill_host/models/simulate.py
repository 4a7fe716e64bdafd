"""Card transactions with labelled frauds, generated from a seed: what replays, demos and tests run on.

Distributions (all drawn from one seeded generator, so a seed and the options determine every byte):

- **Cards.** Mean amount lognormal, median 32.00, sigma 0.55, clipped to 4.00..180.00; single amounts gamma with shape 4
  around the mean, at least 0.50. Purchases per day gamma(2) with mean `rate`, clipped at 5, times 0.8 on Mondays to
  Thursdays, 1.0 on Fridays, 1.5 on Saturdays, 1.1 on Sundays; the counts are Poisson. Time of day: 4 in 5 normal around
  the card's own hour (N(14, 3)) with 2 h spread, the rest uniform from 7 to 22.
- **Terminals.** Popularity Pareto(2); cards and terminals lie in a unit square, a card uses the 12 terminals with the
  highest popularity / (distance + 0.05), with these weights.
- **Frauds**, `scenario` in the output (0 is genuine):
  1 *outlier*: 1 purchase in 1,200 turns into 220.50 or 4 to 10 times the amount, whichever is more;
  2 *compromised terminal*: about one incident per 1,500 terminal days, at least one, 14 to 28 days long, in which a
  share of the terminal's transactions (uniform 0.7 to 1.0 per incident) is fraud with unchanged amounts;
  3 *leaked card*: about one per 700 card days, 14 days in which every third purchase is fraud with 5 times the amount;
  4 *card testing*: about one burst per 250 terminal days, at least one: 6 to 14 different cards within ten minutes at
  one terminal, 0.50 to 3.00 each, all fraud.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as papq

from sentill_host import user_files
from sentill_host.errors import UsageError

SCENARIOS = ("genuine", "outlier", "compromised terminal", "leaked card", "card testing")
_DAY_S = 86_400
_CHOICES = 12
_WEEK = np.array([0.8, 0.8, 0.8, 0.8, 1.0, 1.5, 1.1])
_MAX_CENTS = (1 << 30) - 1
_SCHEMA = pa.schema(
    [
        ("tx_id", pa.int32()),
        ("time_s", pa.int32()),
        ("customer_id", pa.int32()),
        ("terminal_id", pa.int32()),
        ("amount_cents", pa.int32()),
        ("fraud", pa.int8()),
        ("scenario", pa.int8()),
    ]
)


@dataclass(frozen=True)
class TrafficOptions:
    """How much traffic to generate: `rate` is the mean number of purchases per card and day."""

    cards: int = 2_000
    terminals: int = 40
    days: int = 90
    rate: float = 0.8
    frauds: bool = True
    seed: int = 1

    def check(self) -> None:
        """Raise UsageError for values that make no traffic or do not fit the output's columns."""
        for name, most in (("cards", 2_000_000), ("terminals", 1_000_000), ("days", 3_650)):
            value = getattr(self, name)
            if not 1 <= value <= most:
                raise UsageError(f"{name} must be 1..{most}")
        if not 0 < self.rate <= 5:
            raise UsageError("rate must be above 0 and at most 5")
        if self.cards * self.days * self.rate > 100_000_000:
            raise UsageError("more than 100 million transactions")


@dataclass
class _Rows:
    """Columns under construction, one entry per transaction."""

    time_s: np.ndarray
    card: np.ndarray
    terminal: np.ndarray
    cents: np.ndarray
    scenario: np.ndarray


def traffic(options: TrafficOptions) -> pa.Table:
    """Transactions by time: tx_id, time_s from 0, customer_id, terminal_id, amount_cents, fraud, scenario.

    The first day is a Monday. Raises UsageError for impossible options.
    """
    options.check()
    rng = np.random.default_rng(options.seed)
    rows = _habits(options, rng)
    if options.frauds:
        _outliers(rows, rng)
        _leaked_cards(rows, options, rng)
        _compromised_terminals(rows, options, rng)
        rows = _card_testing(rows, options, rng)
    order = np.argsort(rows.time_s, kind="stable")
    scenario = rows.scenario[order]
    columns = [
        np.arange(len(order)),
        rows.time_s[order],
        rows.card[order],
        rows.terminal[order],
        np.clip(rows.cents[order], 1, _MAX_CENTS),
        scenario > 0,
        scenario,
    ]
    arrays = [pa.array(c.astype(f.type.to_pandas_dtype())) for c, f in zip(columns, _SCHEMA, strict=True)]
    return pa.Table.from_arrays(arrays, schema=_SCHEMA)


def write(table: pa.Table, path: Path) -> None:
    """Write a table as CSV or Parquet, by the file's suffix. Raises UsageError, also for another suffix."""
    suffix = path.suffix.lower()
    if suffix not in (".csv", ".parquet"):
        raise UsageError(f"{path}: the suffix must be .csv or .parquet")
    content = pa.BufferOutputStream()
    if suffix == ".csv":
        pacsv.write_csv(table, content)
    else:
        papq.write_table(table, content)
    user_files.save(path, content.getvalue().to_pybytes())


def _habits(options: TrafficOptions, rng: np.random.Generator) -> _Rows:
    """Genuine purchases of every card over all days."""
    cards, days = options.cards, options.days
    mean = np.clip(rng.lognormal(np.log(3_200), 0.55, cards), 400, 18_000)
    per_day = np.clip(rng.gamma(2, options.rate / 2, cards), 0, 5)
    counts = rng.poisson(per_day[:, None] * _WEEK[np.arange(days) % 7][None, :] / _WEEK.mean())
    card = np.repeat(np.repeat(np.arange(cards), days), counts.ravel())
    day = np.repeat(np.tile(np.arange(days), cards), counts.ravel())
    n = len(card)
    hour = rng.normal(rng.normal(14, 3, cards)[card], 2)
    hour = np.where(rng.random(n) < 0.2, rng.uniform(7, 22, n), hour) % 24
    time_s = day * _DAY_S + (hour * 3_600).astype(np.int64)
    cents = np.maximum(rng.gamma(4, mean[card] / 4).astype(np.int64), 50)
    return _Rows(time_s, card, _choose_terminals(card, options, rng), cents, np.zeros(n, np.int8))


def _choose_terminals(card: np.ndarray, options: TrafficOptions, rng: np.random.Generator) -> np.ndarray:
    popularity = rng.pareto(2, options.terminals) + 0.1
    place = rng.random((options.terminals, 2))
    home = rng.random((options.cards, 2))
    choices = min(_CHOICES, options.terminals)
    nearby = np.empty((options.cards, choices), np.int64)
    edges = np.empty((options.cards, choices))
    for first in range(0, options.cards, 1_000):  # in slices: the full distance matrix may not fit in memory
        part = slice(first, min(first + 1_000, options.cards))
        distance = np.hypot(*(home[part, None, :] - place[None, :, :]).transpose(2, 0, 1))
        pull = popularity[None, :] / (distance + 0.05)
        nearby[part] = np.argpartition(-pull, choices - 1, axis=1)[:, :choices]
        weights = np.take_along_axis(pull, nearby[part], axis=1).cumsum(axis=1)
        edges[part] = weights / weights[:, -1:]
    pick = (rng.random(len(card))[:, None] > edges[card]).sum(axis=1)
    return nearby[card, np.minimum(pick, choices - 1)]


def _outliers(rows: _Rows, rng: np.random.Generator) -> None:
    hit = rng.random(len(rows.card)) < 1 / 1_200
    factor = rng.uniform(4, 10, len(rows.card))
    rows.cents[hit] = np.maximum(22_050, rows.cents[hit] * factor[hit]).astype(np.int64)
    rows.scenario[hit] = 1


def _incidents(
    count: int, options: TrafficOptions, rng: np.random.Generator, length: tuple[int, int]
) -> Iterator[tuple[int, int]]:
    """(first second, last second) of `count` periods, none starting in the first tenth of the time."""
    for _ in range(count):
        start = rng.integers(options.days * _DAY_S // 10, max(options.days * _DAY_S * 7 // 10, 2))
        yield int(start), int(start + rng.integers(length[0], length[1] + 1) * _DAY_S)


def _compromised_terminals(rows: _Rows, options: TrafficOptions, rng: np.random.Generator) -> None:
    count = max(1, rng.poisson(options.terminals * options.days / 1_500))
    for start, end in _incidents(count, options, rng, (14, 28)):
        terminal = rng.integers(options.terminals)
        within = (rows.terminal == terminal) & (rows.time_s >= start) & (rows.time_s < end)
        share = rng.uniform(0.7, 1.0)
        rows.scenario[within & (rng.random(len(rows.card)) < share)] = 2


def _leaked_cards(rows: _Rows, options: TrafficOptions, rng: np.random.Generator) -> None:
    count = rng.poisson(options.cards * options.days / 700)
    by_card = np.argsort(rows.card, kind="stable")
    first = np.searchsorted(rows.card[by_card], np.arange(options.cards + 1))
    for start, end in _incidents(count, options, rng, (14, 14)):
        card = rng.integers(options.cards)
        own = by_card[first[card] : first[card + 1]]
        within = own[(rows.time_s[own] >= start) & (rows.time_s[own] < end)]
        hit = within[rng.random(len(within)) < 1 / 3]
        rows.cents[hit] *= 5
        rows.scenario[hit] = 3


def _card_testing(rows: _Rows, options: TrafficOptions, rng: np.random.Generator) -> _Rows:
    count = max(1, rng.poisson(options.terminals * options.days / 250))
    parts = []
    for start, _ in _incidents(count, options, rng, (1, 1)):
        n = min(int(rng.integers(6, 15)), options.cards)
        time_s = start + np.sort(rng.integers(0, 600, n))
        terminal = rows.terminal[rng.integers(len(rows.terminal))] if len(rows.terminal) else 0
        card = rng.choice(options.cards, n, replace=False)
        parts.append(_Rows(time_s, card, np.full(n, terminal), rng.integers(50, 301, n), np.full(n, 4, np.int8)))
    joined = [rows, *parts]
    return _Rows(
        np.concatenate([p.time_s for p in joined]),
        np.concatenate([p.card for p in joined]),
        np.concatenate([p.terminal for p in joined]),
        np.concatenate([p.cents for p in joined]),
        np.concatenate([p.scenario for p in joined]),
    )
