"""Runs to failure for training a wear index: recorded or simulated readings, as the node would see them.

The node feeds an index with the levels of its channels, once per unit of life (device/sentill/health/degradation.py).
`observe` lets the device's own channels make those levels out of raw readings, so that training and use agree.
"""

import csv
import io
import json
from array import array
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from sentill.health.degradation import STATE, WearIndex
from sentill.health.monitor import Monitor
from sentill_host import user_files
from sentill_host.errors import UsageError
from sentill_host.health.degradation import Floats, Ints, WearSettings, WearTrainingError, train
from sentill_host.health.faults import Course, to_raw


def read(path: Path) -> Course:
    """A course from a CSV file: column `t` in seconds, ascending, and a column of raw readings per channel.

    The last row is the failure. Raises UsageError for a file that is not like that.
    """
    text = user_files.read_text(path)
    try:
        rows = list(csv.DictReader(io.StringIO(text, newline="")))
        columns = {name: [int(row[name]) for row in rows] for name in (rows[0] if rows else ())}
    except (ValueError, TypeError) as error:
        raise UsageError(f"{path}: {error}", "a column t and one per channel, whole numbers") from None
    times = columns.pop("t", [])
    if len(times) < 2 or not columns or any(b <= a for a, b in pairwise(times)):
        raise UsageError(f"{path} is no run to failure", "a column t that rises, and one column per channel")
    return Course(times, columns, None, times[-1])


def read_frames(path: Path, specs: list[dict[str, Any]]) -> Course:
    """A course from what `sentill monitor --json` wrote: the values of the channels `specs`, as last told at each time.

    The last row is the failure. Raises UsageError for counters, whose events the frames do not tell, and for a node
    whose clock went back: it restarted without being told the time.
    """
    for spec in specs:
        if spec.get("per_s"):
            raise UsageError(f"{spec['name']} is a counter: frames tell its rate only", "give its readings as CSV")
    latest: dict[str, int] = {}
    times: list[int] = []
    raw: dict[str, list[int]] = {spec["name"]: [] for spec in specs}
    lines = user_files.read_text(path).splitlines()
    try:
        for line in lines:
            frame = json.loads(line)
            if frame.get("kind") != "H" or frame.get("name") not in raw:
                continue
            latest[frame["name"]] = int(frame["raw"])
            if len(latest) < len(specs) or (times and frame["t"] == times[-1]):
                continue
            if times and frame["t"] < times[-1]:
                raise UsageError(f"{path}: the node's clock went back at {frame['t']}", "split the file there")
            times.append(int(frame["t"]))
            for spec in specs:
                raw[spec["name"]] += to_raw(spec, np.array([latest[spec["name"]]], dtype=float))
    except (ValueError, KeyError, AttributeError) as error:
        raise UsageError(f"{path} is not from `sentill monitor --json`: {error}") from None
    if len(times) < 2:
        raise UsageError(f"{path} tells of {', '.join(raw)} less than twice")
    return Course(times, raw, None, times[-1])


def chosen(specs: list[dict[str, Any]], names: Sequence[str]) -> list[dict[str, Any]]:
    """The specs of the channels `names`, in their order. Raises UsageError for one that is not there."""
    known = {spec["name"]: spec for spec in specs}
    for name in names:
        if name not in known:
            raise UsageError(f"no channel {name!r}", "one of " + ", ".join(known))
    return [known[name] for name in names]


def observe(specs: list[dict[str, Any]], course: Course, unit_s: int) -> Ints:
    """Levels of the channels `specs`, a row per `unit_s` seconds, counted back from the end.

    Raises UsageError when the course lacks a channel.
    """
    for spec in specs:
        if spec["name"] not in course.raw:
            raise UsageError(f"no readings of {spec['name']}", "there are " + ", ".join(course.raw))
    monitor = Monitor(specs)
    columns = [course.raw[spec["name"]] for spec in specs]
    # Counted back from the failure, so that the last row lies there.
    first = course.times_s[0] + (course.times_s[-1] - course.times_s[0]) % unit_s
    due, rows = first, []
    for k, now in enumerate(course.times_s):
        for i, column in enumerate(columns):
            monitor.sample(i, column[k], now)
        if now >= due:
            levels = [channel.level() for channel in monitor.channels]
            if None not in levels:
                rows.append(levels)
            due += unit_s
    return np.array(rows, dtype=np.int64).reshape(len(rows), len(specs))


def predict(data: bytes, run: Ints) -> Ints:
    """What the index `data` tells over a run: a row (life, low, high) per sample, by the device's own code."""
    index, state = WearIndex(data), array("i", [0] * STATE)
    rows = []
    for levels in run.tolist():
        index.update(state, 0, levels)
        rows.append((index.life, index.low, index.high))
    return np.array(rows, dtype=np.int64).reshape(len(rows), 3)


def cross_validate(runs: list[Ints], settings: WearSettings, folds: int = 5) -> tuple[float, float]:
    """Root mean square error in units of life and the share of lives within the band, on runs not trained on.

    Lives are capped as in training. Raises WearTrainingError with fewer than two runs.
    """
    if len(runs) < 2:
        raise WearTrainingError("a test of the index needs at least two runs")
    order = np.random.default_rng(1).permutation(len(runs))
    errors: list[Floats] = []
    within: list[Ints] = []
    for fold in np.array_split(order, min(folds, len(runs))):
        data = train([runs[k] for k in order if k not in fold], settings)
        for k in fold:
            true = np.minimum(np.arange(len(runs[k]))[::-1], settings.cap)
            life, low, high = predict(data, runs[k]).T
            errors.append((life - true).astype(float))
            within.append(((low <= true) & (true <= high)).astype(np.int64))
    off = np.concatenate(errors)
    return float(np.sqrt(np.mean(off**2))), float(np.mean(np.concatenate(within)))
