"""Remaining life on public data: lithium cells cycled to their end, and turbofans run to failure."""

import csv
import io
from array import array
from dataclasses import dataclass

import numpy as np

from _data import members
from sentill.health import remaining_life, trend_points
from sentill.health.degradation import STATE, WearIndex
from sentill_host.health.degradation import train

END_AH = 1.4  # 70 % of the cells' 2 Ah: the end of life of the published experiment
FULL_AH = 2.0
CAP = 125
SENSORS = (2, 3, 4, 7, 8, 9, 11, 12, 13, 14, 15, 17, 20, 21)  # those of FD001 that change at all
FOLDS = 5


@dataclass
class Lives:
    """Predictions: true end, predicted end, low and high bound; `none` counts refused forecasts."""

    rows: list[tuple[float, float, float, float]]
    none: int


def cells() -> dict[str, list[float]]:
    """Capacity (Ah) of each cycle, by cell; empty without data."""
    found = {}
    for path, content in members("nasa_battery*.tar.*").items():
        if path.endswith(".csv"):
            rows = csv.DictReader(io.StringIO(content.decode()))
            found[path.rsplit("/", 1)[-1].removesuffix(".csv")] = [float(row["capacity"]) for row in rows]
    return found


def end_of(capacity: list[float]) -> int | None:
    """The first cycle below END_AH."""
    return next((k for k, ah in enumerate(capacity) if ah < END_AH), None)


def _scaled(ah: float) -> int:
    return max(-16383, min(16383, round((ah - 1.5) * 16383)))


def battery(factor: float = 1.0) -> dict[str, Lives]:
    """One forecast per cycle of each cell, from a quarter of its life to its end; the typical life is the mean of the
    other cells' times `factor`, 0 for none. Cells that never end are left out."""
    known = {name: capacity for name, capacity in cells().items() if end_of(capacity)}
    answers = {}
    for name, capacity in known.items():
        others = [c for other, c in known.items() if other != name]
        life = round(float(np.mean([end_of(c) or 0 for c in others])) * factor)
        drop = -round(float(np.mean([np.mean(c[:5]) - END_AH for c in others])) * 16383)
        answers[name] = _forecast(capacity, end_of(capacity) or 0, drop, life)
    return answers


def _forecast(capacity: list[float], end: int, drop: int, life: int) -> Lives:
    state, trend, lives = array("i", [0] * trend_points.STATE), remaining_life.Trend(), Lives([], 0)
    newest = 0
    for cycle in range(end):
        if trend_points.push(state, 0, _scaled(capacity[cycle]), cycle, 1):
            newest = cycle
        if cycle < end // 4:
            continue
        if not (trend.fit(state, 0, drop, life) and trend.forecast(_scaled(END_AH))):
            lives.none += 1
            continue
        left, low, high = (newest + t * trend.every / 16 for t in (trend.left, trend.left_low, trend.left_high))
        lives.rows.append((end, left, low, high))
    return lives


def turbofan(stretch: float = 1.0) -> tuple[list[tuple[float, float, float, float]], int] | None:
    """Remaining life of FD001's units by 5-fold cross-validation: (true, predicted, low, high), both capped at 125, at
    five random cycles of every unit, and the size of the index in bytes. Units tested, not those trained on, live
    `stretch` times as long as they did. None without data."""
    text = [c for p, c in members("cmapss_fd001*.tar.*").items() if p.endswith(".txt")]
    if not text:
        return None
    table = np.loadtxt(io.BytesIO(text[0]))
    # The sensors have two decimals, two of them four: integers in hundredths and ten-thousandths.
    columns = table[:, [4 + k for k in SENSORS]]
    decimals = np.array([10000 if k in (15, 20, 21) else 100 for k in SENSORS])
    readings = np.round(columns * decimals).astype(np.int64)
    units = [readings[table[:, 0] == unit] for unit in np.unique(table[:, 0])]
    dice = np.random.default_rng(1)
    folds = np.array_split(dice.permutation(len(units)), FOLDS)
    rows: list[tuple[float, float, float, float]] = []
    size = 0
    for fold in folds:
        data = train([units[k] for k in range(len(units)) if k not in fold])
        size = len(data)
        index = WearIndex(data)
        for k in fold:
            run = units[k][(np.arange(int(len(units[k]) * stretch)) / stretch).astype(int)]
            cuts = set(dice.integers(30, len(run), size=5).tolist())
            state = array("i", [0] * STATE)
            for cycle, reading in enumerate(run.tolist()):
                index.update(state, 0, reading)
                if cycle in cuts:
                    rows.append((min(len(run) - 1 - cycle, CAP), index.life, index.low, index.high))
    return rows, size
