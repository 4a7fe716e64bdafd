"""Estimated time of one score per board: a call, plus so much per tree and per comparison.

RP2040: fitted to measurements on stock firmware at 125 MHz without flash wait states (one tree of depth 8, ten of
them, fifty of depth 6; sums and votes), call and loop included, good to about 5 %. ESP32: an estimate, not measured.
Unix port: measured by tools/bench/tree.py on a desktop computer.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Cost:
    """Microseconds."""

    call: float
    tree: float
    step: float


BOARDS = {
    "RP2040 125 MHz": Cost(12.1, 0.24, 0.16),
    "ESP32 240 MHz": Cost(3.7, 0.1, 0.17),
    "Unix port": Cost(0.08, 0.005, 0.0027),
}
SLOWEST = "RP2040 125 MHz"


def estimate_us(board: str, trees: int, steps: float) -> float:
    """Microseconds of one score: `steps` comparisons over all trees."""
    cost = BOARDS[board]
    return cost.call + cost.tree * trees + cost.step * steps
