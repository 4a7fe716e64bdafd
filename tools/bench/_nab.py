"""The Numenta Anomaly Benchmark's scoring (Lavin and Ahmad 2015), written from the paper, and its series.

One detection scores `2 / (1 + exp(5 y)) - 1`, y being its position relative to the right edge of an anomaly window in
window lengths: near 1 at the window's beginning, negative past its end. Of a window only the best detection counts, a
missed window costs `miss`, a detection outside costs up to `false`. The first 15 % of a series, at most 750 rows, is
for learning. The sum is normalised to 0 for a silent and 100 for a perfect detector, under one threshold for all
series.

One threshold and one set of parameters suit the very series they were chosen on. So a score is also told for families
left out: a family is a folder of the benchmark (one kind of source), its series are scored under the threshold that
suits the other families best. Shaking the scale of the series, which a better detector should not mind, tells luck
from merit.
"""

import csv
import io
import json
import math
import random
import statistics
from dataclasses import dataclass
from datetime import datetime, timedelta

from _data import members

STANDARD = (0.11, 1.0)  # cost of a false detection, of a missed window
LOW_FP = (0.22, 1.0)
LOW_FN = (0.11, 2.0)

PROBATION = -2
OUTSIDE = -1


@dataclass
class Series:
    """One series: `window[i]` is the number of the anomaly window row i lies in, OUTSIDE or PROBATION; `worth[i]` what
    a detection there scores (before the profile's factor for false ones)."""

    name: str
    times: list[str]
    values: list[float]
    hours: bytes
    window: list[int]
    worth: list[float]
    windows: int

    @property
    def family(self) -> str:
        return self.name.partition("/")[0]

    @property
    def probation(self) -> int:
        return min(int(0.15 * len(self.values)), 750)


def load() -> list[Series]:
    """Every labelled series of the data folder's `nab*.tar.*` archives; empty when there are none."""
    files = members("nab*.tar.*")
    labels: dict[str, list[list[str]]] = {}
    for path, content in files.items():
        if path.endswith("windows.json"):
            labels.update(json.loads(content))
    found = []
    for name in sorted(labels):
        for path, content in files.items():
            if path.endswith(name):
                found.append(_series(name, content.decode(), labels[name]))
                break
    return found


def generated() -> list[Series]:
    """Small series with a step in each, of two families, for a short run."""
    found = []
    for k in range(4):
        dice = random.Random(k)
        values = [100 + 10 * math.sin(i / 12) + dice.gauss(0, 2) + (60 if 700 <= i < 720 else 0) for i in range(900)]
        start = datetime(2024, 1, 1)
        times = [str(start + timedelta(minutes=5 * i)) for i in range(900)]
        text = "timestamp,value\n" + "".join(f"{time},{value:.3f}\n" for time, value in zip(times, values, strict=True))
        found.append(_series(f"generated{k % 2}/{k}.csv", text, [[times[690], times[730]]]))
    return found


def _series(name: str, text: str, labels: list[list[str]]) -> Series:
    rows = list(csv.reader(io.StringIO(text)))[1:]
    times = [datetime.fromisoformat(row[0]) for row in rows]
    at = {time: i for i, time in reversed(list(enumerate(times)))}
    spans = [(at[datetime.fromisoformat(a)], at[datetime.fromisoformat(b)]) for a, b in labels]
    series = Series(
        name, [r[0] for r in rows], [float(r[1]) for r in rows], bytes(t.hour for t in times), [], [], len(spans)
    )
    series.window, series.worth = _worths(len(rows), series.probation, spans)
    return series


def sigmoid(position: float) -> float:
    """Score of a detection at `position` relative to a window's right edge, in window lengths."""
    return -1.0 if position >= 3 else 2 / (1 + math.exp(5 * position)) - 1


def _worths(rows: int, probation: int, spans: list[tuple[int, int]]) -> tuple[list[int], list[float]]:
    window, worth = [OUTSIDE] * rows, [-1.0] * rows
    for number, (first, last) in enumerate(spans):
        following = spans[number + 1][0] if number + 1 < len(spans) else rows
        length = last - first + 1
        for i in range(first, last + 1):
            window[i] = number
            worth[i] = sigmoid(-(last - i + 1) / length) / sigmoid(-1.0)
        for i in range(last + 1, following):
            worth[i] = sigmoid((i - last) / (length - 1))
    for i in range(min(probation, rows)):
        window[i] = PROBATION
    return window, worth


def score(series: list[Series], strengths: dict[str, list[int]], threshold: int, profile: tuple[float, float]) -> float:
    """Normalised score with detections wherever the strength reaches `threshold`."""
    windows = sum(one.windows for one in series)
    return 100 * _gained(series, strengths, threshold, profile) / (windows + profile[1] * windows)


def _gained(
    series: list[Series], strengths: dict[str, list[int]], threshold: int, profile: tuple[float, float]
) -> float:
    # What the detections are worth, not normalised: 0 for a silent detector.
    total = 0.0
    for one in series:
        best: dict[int, float] = {}
        for window, worth, strength in zip(one.window, one.worth, strengths[one.name], strict=True):
            if strength >= threshold and window != PROBATION:
                if window == OUTSIDE:
                    total += profile[0] * worth
                else:
                    best[window] = max(best.get(window, -1.0), worth)
        total += sum(best.values()) + profile[1] * len(best)
    return total


def best_threshold(
    series: list[Series], strengths: dict[str, list[int]], profile: tuple[float, float]
) -> tuple[int, float]:
    """The one threshold for all series that scores best, and its score."""
    events = sorted(
        (
            (-strength, number, window, worth)
            for number, one in enumerate(series)
            for window, worth, strength in zip(one.window, one.worth, strengths[one.name], strict=True)
            if strength > 0 and window != PROBATION
        ),
    )
    best_of: dict[tuple[int, int], float] = {}
    total, best, threshold = 0.0, 0.0, 1 << 30
    for k, (strength, number, window, worth) in enumerate(events):
        if window == OUTSIDE:
            total += profile[0] * worth
        else:
            known = best_of.get((number, window), -profile[1])
            total += max(worth - known, 0.0)
            best_of[number, window] = max(worth, known)
        last_of_its_strength = k + 1 == len(events) or events[k + 1][0] != strength
        if last_of_its_strength and total > best:
            best, threshold = total, -strength
    windows = sum(one.windows for one in series)
    return threshold, 100 * best / (windows + profile[1] * windows)


def half_transfer(series: list[Series], strengths: dict[str, list[int]], draws: int = 20) -> tuple[float, float]:
    """Mean and standard deviation of the standard score on one random half under the threshold fitted on the other."""
    dice = random.Random(1)
    scores = []
    for _ in range(draws):
        drawn = dice.sample(series, len(series))
        half = len(series) // 2
        threshold, _ = best_threshold(drawn[:half], strengths, STANDARD)
        scores.append(score(drawn[half:], strengths, threshold, STANDARD))
    mean = sum(scores) / draws
    return mean, math.sqrt(sum((s - mean) ** 2 for s in scores) / draws)


def family_out(series: list[Series], strengths: dict[str, list[int]], profile: tuple[float, float]) -> dict[str, float]:
    """Points of each family under the threshold that suits the other families best; their sum is the score."""
    windows = sum(one.windows for one in series)
    points = {}
    for family in sorted({one.family for one in series}):
        threshold, _ = best_threshold([one for one in series if one.family != family], strengths, profile)
        gained = _gained([one for one in series if one.family == family], strengths, threshold, profile)
        points[family] = 100 * gained / (windows + profile[1] * windows)
    return points


def counts(one: Series, strengths: list[int], threshold: int) -> tuple[int, int]:
    """Windows of `one` caught, and detections outside all windows, at `threshold`."""
    caught, false = set(), 0
    for window, strength in zip(one.window, strengths, strict=True):
        if strength >= threshold and window != PROBATION:
            if window == OUTSIDE:
                false += 1
            else:
                caught.add(window)
    return len(caught), false


def scaled(values: list[float], learnt: int, stretch: float = 1.0, shift: float = 0.0) -> list[int]:
    """`values` as the detector takes them: their median becomes 0, the range of the first `learnt` ones 4096 wide.

    Median and range are of those first ones only, as a device that has just been installed would know them; what lies
    beyond ±32767 is clipped. `stretch` and `shift` (in samples' units) shake the scale.
    """
    known = values[:learnt]
    centre, span = statistics.median(known), (max(known) - min(known)) or 1.0
    return [max(-32767, min(32767, round((v - centre) / span * 4096 * stretch + shift))) for v in values]


def shaken(series: list[Series], seed: int) -> dict[str, list[int]]:
    """Samples of every series, each on a scale of its own: up to 10 % wider or narrower, and moved by up to 100."""
    dice = random.Random(seed)
    return {
        one.name: scaled(one.values, one.probation, dice.uniform(0.9, 1.1), dice.uniform(-100, 100)) for one in series
    }
