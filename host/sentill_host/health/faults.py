"""Library of hardware faults: how a terminal's sensors look while it is healthy, and while something wears out.

The virtual board's scenarios, the statistics of the health engine and `sentill simulate faults` share it. Everything is
seeded: the same seed gives the same readings. Values are in the units of the board's channels (boards/*/board.toml);
`to_raw` turns them into what the sensor would deliver.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentill_host.errors import UsageError

Floats = NDArray[np.float64]
Dice = np.random.Generator

DAY_S = 86400
START_S = 60_000_000  # node time at which simulations begin
LEARN_DAYS = 5  # a fault begins at the earliest after the node has learnt its channels


@dataclass(frozen=True)
class Fault:
    """A fault of the library.

    `channels` tell of it; `days` is the range of its duration from first effect to failure; `lead_h` the hours before
    the failure at which the node should have warned; `change(channel, values, progress, dice)` turns healthy values
    into faulty ones, `progress` running from 0 at the first effect to 1 at the failure.
    """

    name: str
    title: str
    channels: tuple[str, ...]
    days: tuple[float, float]
    lead_h: float
    change: Callable[[str, Floats, Floats, Dice], Floats]


def _battery(channel: str, v: Floats, p: Floats, dice: Dice) -> Floats:
    # Slow at first, then faster: 3.0 V down to 2.4 V.
    return v - 600 * (0.6 * p + 0.4 * p**3)


def _supply(channel: str, v: Floats, p: Floats, dice: Dice) -> Floats:
    # The mean sags and dips under load get deeper.
    dips = np.where(dice.random(len(v)) < 0.1 * p, dice.uniform(50, 200, len(v)), 0)
    return v - 620 * p**1.2 - dips * p


def _heat(channel: str, v: Floats, p: Floats, dice: Dice) -> Floats:
    top = {"chip_temp": 8600, "head_temp": 860}[channel]
    return v + np.maximum(top - v, 0) * p


def _clogged(channel: str, v: Floats, p: Floats, dice: Dice) -> Floats:
    if channel == "motor":
        return v + 510 * p + dice.normal(0, 15, len(v)) * p
    return v + 300 * p**2


def _reader(channel: str, v: Floats, p: Floats, dice: Dice) -> Floats:
    # Errors per sample: the rate grows to 40 an hour.
    return v + dice.poisson(40 / 12 * p**2)


def _stuck(channel: str, v: Floats, p: Floats, dice: Dice) -> Floats:
    return np.full(len(v), v[0])


def _cable(channel: str, v: Floats, p: Floats, dice: Dice) -> Floats:
    # Bursts that get more frequent, up to about 150 errors an hour.
    return v + dice.poisson(3, len(v)) * dice.poisson(4.2 * p**1.5)


def _leak(channel: str, v: Floats, p: Floats, dice: Dice) -> Floats:
    return v - (v - 11) * p


def _flash(channel: str, v: Floats, p: Floats, dice: Dice) -> Floats:
    return v[0] + (100_200 - v[0]) * p


FAULTS = {
    fault.name: fault
    for fault in (
        Fault("battery-ageing", "backup battery ages", ("battery",), (15, 40), 36, _battery),
        Fault("weak-supply", "supply sags until brownouts", ("supply",), (2, 8), 6, _supply),
        Fault("overheating", "fan or vent blocked", ("chip_temp", "head_temp"), (0.5, 2), 1, _heat),
        Fault("clogged-printer", "paper path clogs", ("motor", "vibration"), (4, 15), 24, _clogged),
        Fault("worn-reader", "card reader contacts wear", ("card_errors",), (5, 20), 24, _reader),
        Fault("stuck-sensor", "ambient sensor freezes", ("ambient_temp",), (1, 1), 6, _stuck),
        Fault("flaky-cable", "serial cable loses contact", ("link_errors",), (1, 5), 6, _cable),
        Fault("memory-leak", "free memory shrinks", ("heap",), (0.5, 3), 2, _leak),
        Fault("flash-wear", "flash nears its endurance", ("flash_wear",), (30, 60), 7 * 24, _flash),
    )
}


def find(name: str) -> Fault:
    """The fault called `name`; UsageError with the names there are."""
    if not name:
        raise UsageError("which fault?", "--fault with one of " + ", ".join(FAULTS))
    if name not in FAULTS:
        raise UsageError(f"no fault {name!r}", hint="one of " + ", ".join(FAULTS))
    return FAULTS[name]


def healthy(channel: str, times_s: NDArray[np.int64], dice: Dice) -> Floats:
    """Values of a healthy `channel` at `times_s`; for counters the increments since the time before.

    Temperatures follow the day, the load follows shop hours, noise is correlated; parameters differ by seed.
    """
    hours = times_s / 3600 % 24
    day = np.sin((hours - 9) / 24 * 2 * np.pi)
    shop = ((hours > 8) & (hours < 20)) * np.sin(np.clip((hours - 8) / 12, 0, 1) * np.pi)
    n, step_s = len(times_s), int(times_s[1] - times_s[0]) if len(times_s) > 1 else 300
    share = step_s / 3600
    if channel == "chip_temp":
        return 3500 + dice.uniform(-400, 400) + 300 * day + 250 * shop + _noise(n, 40, dice)
    if channel == "ambient_temp":
        return 230 + dice.uniform(-30, 30) + 30 * day + _noise(n, 5, dice) + dice.normal(0, 1, n)
    if channel == "supply":
        return 5010 + dice.uniform(-40, 40) - 30 * shop + dice.normal(0, 12, n)
    if channel == "battery":
        return 3000 + dice.uniform(-20, 40) - 0.5 * (times_s - times_s[0]) / DAY_S + dice.normal(0, 4, n)
    if channel == "head_temp":
        return 300 + dice.uniform(-30, 30) + 30 * day + 120 * shop + _noise(n, 12, dice)
    if channel == "motor":
        return 390 + dice.uniform(-30, 30) + 20 * shop + dice.normal(0, 12, n)
    if channel == "vibration":
        return np.abs(40 + 30 * shop + dice.normal(0, 8, n))
    if channel == "light":
        return np.abs(dice.normal(5, 2, n))
    if channel == "tamper":
        return np.zeros(n)
    if channel == "card_errors":
        return dice.poisson(dice.uniform(0.3, 1.5) * share * shop).astype(float)
    if channel == "printer_faults":
        return dice.poisson(0.1 * share * shop).astype(float)
    if channel == "keys":
        return dice.poisson(dice.uniform(40, 90) * share * (shop + 0.02)).astype(float)
    if channel == "link_errors":
        return dice.poisson(0.1 * share, n).astype(float)
    if channel == "heap":
        return 100 + dice.uniform(-10, 10) - dice.integers(0, 14, n).astype(float)
    if channel == "jitter":
        return dice.gamma(2, 4, n)
    if channel == "flash_wear":
        return dice.uniform(500, 3000) + 0.4 * (times_s - times_s[0]) / 3600
    if channel == "disk":
        return 200 - 4 * np.floor(times_s / 3600 % 6)  # the journal takes blocks and gives them back
    return np.zeros(n)


def _noise(n: int, size: float, dice: Dice) -> Floats:
    # Noise that remembers about an hour of samples.
    white = dice.normal(0, size * 0.4, n)
    out = np.empty(n)
    state = 0.0
    for i, w in enumerate(white.tolist()):
        state = 0.92 * state + w
        out[i] = state
    return out


def to_raw(spec: dict[str, Any], values: Floats) -> list[int]:
    """What the sensor of the channel `spec` delivers for `values`; a counter's increments become a running count."""
    if spec.get("per_s"):
        return [int(v) for v in np.cumsum(np.round(values))]
    raw = np.round((values - spec.get("offset", 0)) * spec.get("den", 1) / spec.get("num", 1))
    if str(spec.get("source", "")).startswith("adc:"):
        raw = np.clip(raw, 0, 65535)
    return [int(v) for v in raw]


@dataclass(frozen=True)
class Course:
    """One simulated life: readings of every channel at `times_s`, and when it went wrong (None: it did not)."""

    times_s: list[int]
    raw: dict[str, list[int]]
    begin_s: int | None
    fail_s: int | None


def simulate(
    specs: list[dict[str, Any]],
    fault: Fault | None,
    seed: int,
    days: float = 30,
    step_s: int = 300,
    all_channels: bool = True,
) -> Course:
    """A node's life over `days` with a reading every `step_s` seconds, or until `fault` has led to the failure.

    With `all_channels` False only the fault's own channels are simulated.
    """
    dice = np.random.default_rng([seed, sum(map(ord, fault.name)) if fault else 0])
    begin = length = 0
    if fault:
        begin = round((LEARN_DAYS + dice.uniform(0, 3)) * DAY_S)
        length = round(dice.uniform(*fault.days) * DAY_S)
        days = (begin + length) / DAY_S
    times = np.arange(START_S, START_S + round(days * DAY_S) + 1, step_s)
    raw = {}
    for spec in specs:
        name = spec["name"]
        if fault and not all_channels and name not in fault.channels:
            continue
        values = healthy(name, times, dice)
        if fault and name in fault.channels:
            faulty = times >= START_S + begin
            progress = (times[faulty] - START_S - begin) / length
            values[faulty] = fault.change(name, values[faulty], progress, dice)
        raw[name] = to_raw(spec, values)
    if not fault:
        return Course(times.tolist(), raw, None, None)
    return Course(times.tolist(), raw, START_S + begin, START_S + begin + length)


@dataclass(frozen=True)
class Outcome:
    """What a monitor made of a course: warnings as (time, channel, cause), and the lead before the failure in hours."""

    warnings: list[tuple[int, str, str]]
    lead_h: float | None
    false: int


def watch(specs: list[dict[str, Any]], course: Course) -> Outcome:
    """Run the device's own monitor over `course`. A warning is a channel's state rising to warn or fail.

    Warnings before the fault begins, and all of a healthy course, are false.
    """
    from sentill.health.monitor import CAUSES, WARN, Monitor

    warnings: list[tuple[int, str, str]] = []
    used = [spec for spec in specs if spec["name"] in course.raw]
    monitor = Monitor(used)
    for i, spec in enumerate(used):
        before = 0
        for now, raw in zip(course.times_s, course.raw[spec["name"]], strict=True):
            if monitor.sample(i, raw, now):
                state = monitor.state(i)
                if state >= WARN > before:
                    warnings.append((now, spec["name"], CAUSES[monitor.channels[i].cause]))
                before = state
    warnings.sort()
    false = [w for w in warnings if course.begin_s is None or w[0] < course.begin_s]
    true = [w for w in warnings if course.begin_s is not None and course.begin_s <= w[0] < (course.fail_s or 0)]
    lead = ((course.fail_s or 0) - true[0][0]) / 3600 if true else None
    return Outcome(warnings, lead, len(false))
