"""What the node's work costs in current and energy: time measured on the emulated chip times data-sheet currents.

An estimate for the chip and its flash at 3.3 V, without the board's regulator, sensors and light: nobody put an ammeter
to it. `tools/power_budget.py` and docs/power.md use the same numbers.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

VOLTS = 3.3
FLASH_MA = 20.0
"""Typical while a W25Q16JV erases or programs: its data sheet, DC electrical characteristics, ICC5 and ICC6."""


@dataclass(frozen=True)
class Chip:
    """Typical currents in mA and where they come from: the core at work; waiting for an event; in light sleep."""

    mhz: int
    works_ma: float
    waits_ma: float
    sleeps_ma: float
    source: str


CHIPS = {
    "RP2040": Chip(
        125, 24.5, 23.4, 1.3,
        "RP2040 data sheet, Power Consumption: BOOTSEL mode active 9.4 mA and idle 9.0 mA at 48 MHz, in proportion to "
        "the clock as its figure over frequency shows; Pico data sheet: SLEEP 1.3 mA",
    ),
    "ESP32": Chip(
        160, 44.0, 27.0, 0.8,
        "ESP32 data sheet, Current Consumption: modem sleep at 160 MHz 27 to 44 mA, light sleep 0.8 mA",
    ),
    "ESP32-S3": Chip(
        160, 39.9, 27.6, 0.24,
        "ESP32-S3 data sheet, Current Consumption: modem sleep at 160 MHz, one core at work 39.9 mA, WAITI 27.6 mA; "
        "light sleep 0.24 mA",
    ),
}  # fmt: skip


def mean_ma(chip: Chip, works: float, sleeps: float, flash: float) -> float:
    """Mean current: shares of the time, 0..1, at work (polling a busy flash included), in light sleep, flash busy."""
    waits = max(1 - works - sleeps, 0.0)
    return works * chip.works_ma + waits * chip.waits_ma + sleeps * chip.sleeps_ma + flash * FLASH_MA


def decision_uj(chip: Chip, works_ms: float, flash_ms: float) -> float:
    """Microjoules of a judgement with its record: the chip at work for `works_ms` and, polling, while flash is busy."""
    return VOLTS * (chip.works_ma * (works_ms + flash_ms) + FLASH_MA * flash_ms)


def figures(measured: Mapping[str, Any], chip: str = "RP2040") -> dict[str, float]:
    """energy_uj_decision, idle_ma and asleep_ma of what the lab measured; other chips are scaled by their clock.

    Those that need a number which is not there are left out.
    """
    at = CHIPS[chip]
    slower = CHIPS["RP2040"].mhz / at.mhz
    found = {}
    if {"request_cpu_ms", "flash_ms_request"} <= measured.keys():
        flash_ms = measured["flash_ms_request"]
        found["energy_uj_decision"] = decision_uj(at, measured["request_cpu_ms"] * slower, flash_ms)
    if {"idle_cpu_pct", "idle_flash_pct"} <= measured.keys():
        flash = measured["idle_flash_pct"] / 100
        works = (measured["idle_cpu_pct"] / 100 - flash) * slower + flash
        found["idle_ma"] = mean_ma(at, works, 0.0, flash)
    if {"asleep_cpu_pct", "asleep_pct", "asleep_flash_pct"} <= measured.keys():
        flash = measured["asleep_flash_pct"] / 100
        works = (measured["asleep_cpu_pct"] / 100 - flash) * slower + flash
        found["asleep_ma"] = mean_ma(at, works, measured["asleep_pct"] / 100, flash)
    return found
