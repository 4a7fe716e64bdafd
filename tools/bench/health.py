"""Benchmark of the health engine: anomaly detection on NAB, remaining life on batteries and turbofans, faults, speed.

Prints tables and writes build/bench/health.json. What needs data that are absent is skipped with the reason. `--nab-
out DIR` writes the detections in the benchmark's own results format, for its own scorer; `--full` runs the statistics
of the fault library over all 100 seeds, and the detector with integers that refuse to leave ±2^30; `--choices` only
tries other parameters of the detector, on families of series left out.
"""

import csv
import sys
from array import array
from pathlib import Path

import numpy as np

import _life
import _nab
from _data import KEYS, about, data_folder, parser, write_results
from sentill.health import anomaly
from sentill.health.channel import WORDS
from sentill_host.board import catalogue
from sentill_host.health import faults as library
from tests.interpreters import Interpreter, Interpreters
from tests.small_ints import Counted

CHUNK = 2000
SHAKES = 8

# Parameters of the detector and their neighbours.
CHOICES = {
    "_PRE": (16, 64),
    "_LEAK": (13, 15),
    "_MEAN": (10, 12),
    "_FLOOR": (5, 7),
    "_SOFT": (4, 16),
    "_EVIDENCE": (3, 5),
    "_AGAIN": (16, 24),
    "_HOLD": (3, 4, 7, 10),
    "_SEASON": (4, 5, 7),
}
# What a node is told of a cell's typical life: part of a key, words, times the mean of the other cells.
TYPICAL = (
    ("", "of the other cells", 1.0),
    ("_half", "half of that", 0.5),
    ("_double", "twice that", 2.0),
    ("_alone", "not known", 0.0),
)
WORTH = 1.0  # a parameter changes when this many points are gained, and not by one family alone


def detect(series: _nab.Series, samples: list[int] | None = None) -> list[int]:
    """Strength of the detector's alarm at every row, by the device's own code; `samples` in place of the usual."""
    state = array("i", [0] * anomaly.STATE)
    scratch = array("i", [0] * 8)
    samples = samples or _nab.scaled(series.values, series.probation)
    return [
        anomaly.update(state, scratch, q, hour, series.probation)
        for q, hour in zip(samples, series.hours, strict=True)
    ]


def detect_on(child: Interpreter, series: _nab.Series) -> list[int]:
    """The same in another interpreter (a tests.interpreters.Interpreter)."""
    samples = array("h", _nab.scaled(series.values, series.probation))
    state, found = b"", array("i")
    for k in range(0, len(samples), CHUNK):
        answer = child.call(
            "health_series:strengths", state, samples[k : k + CHUNK].tobytes(), series.hours[k : k + CHUNK],
            series.probation,
        )  # fmt: skip
        state = answer[: 4 * anomaly.STATE]
        found.frombytes(answer[4 * anomaly.STATE :])
    return list(found)


def nab(results: dict[str, float], out: Path | None, series: list[_nab.Series]) -> bool:
    """Anomaly detection: scores, transfer, windows per series, the same on every interpreter."""
    if not series:
        print(f"skipped: anomaly benchmark: no nab*.tar.* in {data_folder()} (set SENTILL_DATA)")
        return True
    strengths = {one.name: detect(one) for one in series}
    threshold, standard = _nab.best_threshold(series, strengths, _nab.STANDARD)
    loud, low_fp = _nab.best_threshold(series, strengths, _nab.LOW_FP)
    _, low_fn = _nab.best_threshold(series, strengths, _nab.LOW_FN)
    mean, spread = _nab.half_transfer(series, strengths)
    caught, false = {}, 0
    print(f"{'series':58} rows  windows  false alarms (threshold {threshold})")
    for one in series:
        caught[one.name], outside = _nab.counts(one, strengths[one.name], threshold)
        false += outside
        print(f"{one.name:58} {len(one.values):5} {caught[one.name]:3} of {one.windows}  {outside:3}")
    windows = sum(one.windows for one in series)
    print(f"{len(series)} series: {sum(caught.values())} of {windows} windows, {false} false alarms")
    print(f"standard {standard:.1f} (at {threshold})   low-FP {low_fp:.1f} (at {loud})   low-FN {low_fn:.1f}")
    shipped = _nab.score(series, strengths, anomaly.ALARM, _nab.STANDARD)
    shipped_low = _nab.score(series, strengths, anomaly.LOUD, _nab.LOW_FP)
    print(f"at the thresholds shipped: standard {shipped:.1f} (at {anomaly.ALARM}), low-FP {shipped_low:.1f}"
          f" (at {anomaly.LOUD})")  # fmt: skip
    print(f"threshold of one half on the other: {mean:.1f} +- {spread:.1f} over 20 halves")
    out_standard = sum(_nab.family_out(series, strengths, _nab.STANDARD).values())
    out_low_fp = sum(_nab.family_out(series, strengths, _nab.LOW_FP).values())
    print(f"families left out: standard {out_standard:.1f}   low-FP {out_low_fp:.1f}")
    scales = _shaken_points(series, range(SHAKES)).sum(axis=1)
    print(f"families left out, {SHAKES} shaken scales: standard {scales.mean():.1f} +- {scales.std():.1f}")
    results.update(
        nab_family_out=round(out_standard, 2), nab_family_out_low_fp=round(out_low_fp, 2),
        nab_family_out_shaken=round(float(scales.mean()), 2), nab_shipped=round(shipped, 2),
        nab_shipped_low_fp=round(shipped_low, 2),
    )  # fmt: skip
    results.update(
        nab_standard=round(standard, 2), nab_low_fp=round(low_fp, 2), nab_low_fn=round(low_fn, 2),
        nab_half_transfer=round(mean, 2), nab_series=len(series), nab_windows=windows,
        nab_caught=sum(caught.values()), nab_false=false,
    )  # fmt: skip
    if out:
        _write_nab(out, series, strengths)
    return _same_everywhere(series, strengths, results)


def _shaken_points(series: list[_nab.Series], seeds: range) -> np.ndarray:
    # Points of each family (columns, in the order of their names) left out, a row per shaken scale.
    rows = []
    for seed in seeds:
        samples = _nab.shaken(series, seed)
        strengths = {one.name: detect(one, samples[one.name]) for one in series}
        rows.append(list(_nab.family_out(series, strengths, _nab.STANDARD).values()))
    return np.array(rows)


def choices() -> None:
    """What each neighbour of a parameter gains on families left out, over shaken scales; minutes."""
    series = _nab.load()
    if not series:
        print(f"skipped: no nab*.tar.* in {data_folder()} (set SENTILL_DATA)")
        return
    families = sorted({one.family for one in series})
    usual = _shaken_points(series, range(SHAKES)).mean(axis=0)
    print(f"as shipped: {usual.sum():.1f} points on families left out. Gains, and without the family that gains most:")
    for name, values in CHOICES.items():
        shipped = getattr(anomaly, name)
        for value in values:
            setattr(anomaly, name, value)
            gains = _shaken_points(series, range(SHAKES)).mean(axis=0) - usual
            rest = gains.sum() - gains.max()
            print(f"{name[1:].lower():9} {shipped:3} -> {value:3} {gains.sum():+6.2f} {rest:+6.2f}"
                  f" ({families[gains.argmax()]}){'  worth it' if rest >= WORTH else ''}", flush=True)  # fmt: skip
        setattr(anomaly, name, shipped)


def faults(results: dict[str, float], seeds: int, healthy: int) -> None:
    """Lead times of the fault library and false warnings of healthy nodes."""
    specs = catalogue.load("SIM").data["channels"]
    print(f"{'fault':18} warned  lead in h: least, median, most   wanted  in time")
    least = 1.0
    for fault in library.FAULTS.values():
        found = [library.watch(specs, library.simulate(specs, fault, k, all_channels=False)) for k in range(seeds)]
        leads = [one.lead_h for one in found if one.lead_h is not None]
        least = min(least, len(leads) / seeds)
        in_time = sum(lead >= fault.lead_h for lead in leads)
        low, middle, high = (min(leads), np.median(leads), max(leads)) if leads else (0, 0, 0)
        print(f"{fault.name:18} {len(leads):3} of {seeds} {low:8.1f} {middle:8.1f} {high:8.1f} {fault.lead_h:14g}"
              f" {in_time:8}")  # fmt: skip
        results[f"fault_{fault.name.replace('-', '_')}_lead_h"] = round(float(middle), 1)
    false = [library.watch(specs, library.simulate(specs, None, 1000 + k, days=30)).false for k in range(healthy)]
    print(f"healthy: {sum(false)} false warnings in {healthy} nodes of 16 channels, 30 days each")
    results.update(fault_warned_share=least, fault_seeds=seeds, fault_false_per_30_days=sum(false) / healthy)


def speed(results: dict[str, float]) -> None:
    """Microseconds per sample of 16 channels at 1 Hz, detector at every sample and every minute; heap on Unix."""
    children = Interpreters()
    try:
        for name in ("unix", "unix-mpy", "wasm"):
            child = children[name]
            every, heap, state = min(child.call("health_speed:measure", 60, 1) for _ in range(5))
            minute = min(child.call("health_speed:measure", 60, 60)[0] for _ in range(5))
            print(f"{name}: {every / 1000:.1f} us per sample with the detector at each, {minute / 1000:.1f} us with"
                  f" steps of a minute; 16 channels take {heap} bytes of heap, {state} of it state")  # fmt: skip
            if name == "unix":
                results.update(sample_us=every / 1000, sample_us_minute=minute / 1000, heap_16_bytes=heap,
                               state_16_bytes=state)  # fmt: skip
    finally:
        children.close()


def _same_everywhere(series: list[_nab.Series], strengths: dict[str, list[int]], results: dict[str, float]) -> bool:
    children, same = Interpreters(), True
    try:
        for name in ("unix", "wasm"):
            wrong = [one.name for one in series if detect_on(children[name], one) != strengths[one.name]]
            print(f"{name}: bit-exact with CPython on {len(series) - len(wrong)} of {len(series)} series", *wrong)
            results[f"nab_exact_{name}"] = len(series) - len(wrong)
            same = same and not wrong
    finally:
        children.close()
    return same


def small_ints(results: dict[str, float]) -> bool:
    """The detector over all series with integers that refuse to leave ±2^30."""
    rows = 0
    for one in _nab.load():
        state, scratch = [Counted(0)] * anomaly.STATE, [Counted(0)] * 8
        try:
            for q, hour in zip(_nab.scaled(one.values, one.probation), one.hours, strict=True):
                anomaly.update(state, scratch, Counted(q), Counted(hour), one.probation)
                rows += 1
        except AssertionError as error:
            print(f"{one.name}, row {rows}: {error}")
            return False
    print(f"no intermediate left +-2^30 in {rows} rows")
    results["nab_small_rows"] = rows
    return True


def _write_nab(out: Path, series: list[_nab.Series], strengths: dict[str, list[int]]) -> None:
    # NAB wants scores within 0..1; a strength s becomes s / (s + 60), which keeps the order.
    for one in series:
        folder, _, name = one.name.partition("/")
        path = out / folder / f"sentill_{name}"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["timestamp", "value", "anomaly_score", "label"])
            for time, value, strength, window in zip(
                one.times, one.values, strengths[one.name], one.window, strict=True
            ):
                rows.writerow([time, value, strength / (strength + 60), int(window >= 0)])


def _covered(rows: list[tuple[float, float, float, float]]) -> float:
    return float(np.mean([low <= end <= high for end, _, low, high in rows])) if rows else 1.0


def remaining_life(results: dict[str, float]) -> None:
    """Batteries (forecast from a trend) and turbofans (trained wear index)."""
    answers = _life.battery()
    if len(answers) < 2:
        print(f"skipped: battery life: fewer than two cells of nasa_battery*.tar.* in {data_folder()}")
    else:
        rows, near = [], []
        for name, lives in answers.items():
            off = [abs(row[1] - row[0]) for row in lives.rows]
            print(f"cell {name}: end {lives.rows[0][0]}, {len(off)} forecasts, {lives.none} withheld,"
                  f" median error {np.median(off):.1f} cycles, band covers {_covered(lives.rows):.0%}")  # fmt: skip
            rows += lives.rows
            near += [abs(row[1] - row[0]) <= 0.2 * row[0] for row in lives.rows]
        median = float(np.median([abs(row[1] - row[0]) for row in rows]))
        print(f"battery: median error {median:.1f} cycles, within 20 % of life {np.mean(near):.1%}")
        results.update(rul_battery_median_cycles=round(median, 2), rul_battery_alpha20=round(float(np.mean(near)), 4))
        for key, what, factor in TYPICAL:
            lives_of = _life.battery(factor).values()
            rows = [row for lives in lives_of for row in lives.rows]
            withheld = sum(lives.none for lives in lives_of)
            print(f"battery, typical life {what}: band covers {_covered(rows):.1%} of {len(rows)} forecasts,"
                  f" {withheld} withheld")  # fmt: skip
            results[f"rul_battery{key}_coverage"] = round(_covered(rows), 4)
            results[f"rul_battery{key}_withheld"] = round(withheld / (withheld + len(rows)), 4)
    turbofan = _life.turbofan()
    if turbofan is None:
        print(f"skipped: turbofan life: no cmapss_fd001*.tar.* in {data_folder()}")
        return
    true, got, low, high = np.array(turbofan[0]).T
    rmse = float(np.sqrt(np.mean((true - got) ** 2)))
    covered = float(np.mean((low <= true) & (true <= high)))
    print(f"turbofan FD001, 5 folds, {len(true)} cuts: RMSE {rmse:.2f} (capped at 125), band covers {covered:.1%},"
          f" index of {turbofan[1]} bytes")  # fmt: skip
    results.update(
        rul_fd001_rmse=round(rmse, 3), rul_fd001_coverage=round(covered, 4), rul_fd001_bytes=turbofan[1]
    )  # fmt: skip
    for name, stretch in (("half", 0.5), ("double", 2.0)):
        otherwise = _life.turbofan(stretch)
        if otherwise:
            covered = _covered(otherwise[0])
            print(f"turbofan FD001, units that live {stretch:g} times as long: band covers {covered:.1%}")
            results[f"rul_fd001_{name}_coverage"] = round(covered, 4)


def main() -> int:
    """Run the parts; 1 when one of them found a wrong result."""
    arguments = parser(__doc__)
    arguments.add_argument("--nab-out", type=Path, help="write detections for the benchmark's own scorer")
    arguments.add_argument("--full", action="store_true", help="all 100 seeds, and integers watched")
    arguments.add_argument("--choices", action="store_true", help="only try other parameters on families left out")
    options = arguments.parse_args()
    print(f"health engine on {about()}")
    if options.choices:
        choices()
        return 0
    results: dict[str, float] = {}
    good = nab(results, options.nab_out, _nab.generated() if options.short else _nab.load())
    if options.full:
        good = small_ints(results) and good
    if options.short:
        results.clear()  # scores of generated series say nothing
    else:
        remaining_life(results)
    results["state_bytes"] = 4 * WORDS
    speed(results)
    faults(results, *((100, 100) if options.full else (1, 1) if options.short else (10, 5)))
    of_data = [key for key in KEYS["health"] if key.startswith(("nab_", "rul_"))]
    absent = dict.fromkeys(of_data, "needs the data of the anomaly benchmark, batteries and turbofans")
    print(f"-> {write_results('health', results, options.short, absent)}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
