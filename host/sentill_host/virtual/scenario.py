"""Scenarios: what happens to the boards' hardware, and when. A scenario is a TOML file:

    seed = 7                        # of the noise; the same seed gives the same numbers on each board
    warp = 300                      # node time runs so many times as fast as the clock; 1 without it

    [[event]]
    at_s = 5.0                      # seconds after the scenario starts, 0 without it
    board = "sim0"                  # without it: every board
    set = { "adc.26" = 1200, "pin.5" = 0, "i2c.0.0x48.0" = 25 }

    [[event]]
    at_s = 10
    ramp = { "adc.4" = 52000 }      # straight from where it is to this value ...
    over_s = 60                     # ... within this time

    [[event]]
    noise = { "adc.26" = 150 }      # from now on ±150, evenly spread, around what set and ramp say; 0 ends it

    [[event]]
    at_s = 30
    repeat_s = 20                   # again every 20 s; works with all kinds of event
    do = "pull_cable"               # any operation of the control socket ...
    with = { ms = 2000 }            # ... and its arguments

Values move every TICK_S while a ramp or noise is at work; else nothing wakes the supervisor between events.
"""

import random
import time
import tomllib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from sentill_host.errors import UsageError
from sentill_host.virtual.hardware import Hardware
from sentill_host.virtual.loop import Loop, Timer

TICK_S = 0.1
_KEYS = {"at_s", "board", "repeat_s", "set", "ramp", "over_s", "noise", "do", "with"}


@dataclass(frozen=True)
class Event:
    """One entry of a scenario, see the module's text."""

    at_s: float = 0.0
    board: str | None = None
    repeat_s: float = 0.0
    set: dict[str, int] = field(default_factory=dict)
    ramp: dict[str, int] = field(default_factory=dict)
    over_s: float = 0.0
    noise: dict[str, int] = field(default_factory=dict)
    do: str = ""
    arguments: dict[str, Any] = field(default_factory=dict)


def parse(text: str, boards: Iterable[str]) -> tuple[int, list[Event]]:
    """Seed and events of a scenario. Raises UsageError that names the event for anything not understood."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"scenario is not TOML: {error}") from None
    known, events = set(boards), []
    for number, entry in enumerate(data.get("event", []), 1):
        if unknown := set(entry) - _KEYS:
            raise UsageError(f"event {number} of the scenario: unknown {sorted(unknown)}", f"known: {sorted(_KEYS)}")
        if entry.get("board", next(iter(known))) not in known:
            raise UsageError(
                f"event {number} of the scenario: unknown board {entry['board']!r}", f"known: {sorted(known)}"
            )
        numbers = [entry.get(key, 0) for key in ("at_s", "repeat_s", "over_s")]
        for key in ("set", "ramp", "noise"):
            for name, value in entry.get(key, {}).items():
                Hardware.check(name)
                numbers.append(value)
        if not all(isinstance(value, int | float) and value >= 0 for value in numbers):
            raise UsageError(f"event {number} of the scenario: a number is missing or negative")
        arguments = {**entry, "arguments": entry.get("with", {})}
        arguments.pop("with", None)
        events.append(Event(**arguments))
    return int(data.get("seed", 0)), events


def warp(text: str) -> int:
    """How many times as fast as the clock node time runs in a scenario. Raises UsageError unless 1..3600."""
    factor = tomllib.loads(text).get("warp", 1)
    if not isinstance(factor, int) or not 1 <= factor <= 3600:
        raise UsageError(f"warp cannot be {factor!r}", "a whole number, 1..3600")
    return factor


class Values:
    """Moves one board's values: what is set, ramps, and noise on top."""

    def __init__(self, loop: Loop, hardware: Hardware, seed: int):
        self._loop = loop
        self._hardware = hardware
        self._random = random.Random(seed)
        self._base: dict[str, float] = {}
        self._ramps: dict[str, tuple[float, float, float, float]] = {}  # from, to, start, duration
        self._noise: dict[str, int] = {}
        self._timer: Timer | None = None

    def set(self, values: dict[str, int], width: int = 0) -> None:
        """Set values now; a ramp on them ends. Raises UsageError for an unknown name or a value out of range."""
        for name, value in values.items():
            self._hardware.set(name, value, width)
            self._base[name] = value
            self._ramps.pop(name, None)

    def ramp(self, values: dict[str, int], over_s: float) -> None:
        """Move to `values` within `over_s`."""
        now = time.monotonic()
        for name, value in values.items():
            self._ramps[name] = (self._base_of(name), value, now, over_s)
        self._tick()

    def noise(self, amplitudes: dict[str, int]) -> None:
        """Add noise of these amplitudes; 0 ends it."""
        for name, amplitude in amplitudes.items():
            base = self._base_of(name)
            self._noise[name] = amplitude
            if not amplitude:
                del self._noise[name]
                self._hardware.set(name, round(base))
        self._tick()

    def stop(self) -> None:
        """Leave all values where they are."""
        self._ramps.clear()
        self._noise.clear()
        if self._timer:
            self._timer.cancel()

    def _base_of(self, name: str) -> float:
        return self._base.setdefault(name, self._hardware.get(name))

    def _tick(self) -> None:
        if self._timer:
            self._timer.cancel()
        now = time.monotonic()
        for name, (start, end, since_s, over_s) in list(self._ramps.items()):
            part = min(1.0, (now - since_s) / over_s) if over_s > 0 else 1.0
            self._base[name] = start + (end - start) * part
            if part == 1.0:
                del self._ramps[name]
            self._hardware.set(name, round(self._base[name]))
        for name, amplitude in self._noise.items():
            top = 1 if name.startswith("pin.") else 255 if name.startswith("i2c.") else 65535
            value = self._base[name] + self._random.uniform(-amplitude, amplitude)
            self._hardware.set(name, min(top, max(0, round(value))))
        if self._ramps or self._noise:
            self._timer = self._loop.after(TICK_S, self._tick)


class Scenario:
    """Plays events. `perform(board, op, arguments)` carries out `do`; failures go to `report`."""

    def __init__(
        self,
        loop: Loop,
        events: list[Event],
        values: dict[str, Values],
        perform: Callable[[str, str, dict[str, Any]], Any],
        report: Callable[[str], None],
    ):
        self._loop = loop
        self._values = values
        self._perform = perform
        self._report = report
        self._timers: dict[int, Timer] = {}
        for number, event in enumerate(events):
            self._plan(number, event, event.at_s)

    def stop(self) -> None:
        """No more events."""
        for timer in self._timers.values():
            timer.cancel()

    def _plan(self, number: int, event: Event, delay_s: float) -> None:
        self._timers[number] = self._loop.after(delay_s, lambda: self._play(number, event))

    def _play(self, number: int, event: Event) -> None:
        if event.repeat_s > 0:
            self._plan(number, event, event.repeat_s)
        for name in [event.board] if event.board else list(self._values):
            try:
                self._values[name].set(event.set)
                self._values[name].ramp(event.ramp, event.over_s)
                self._values[name].noise(event.noise)
                if event.do:
                    self._perform(name, event.do, event.arguments)
            except UsageError as error:
                self._report(f"scenario, event {number + 1}, {name}: {error}")
