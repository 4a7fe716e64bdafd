"""Estimated time of one score per board: a call, plus so much per tree and per comparison.

RP2040: fitted to measurements of the wide and perfect layouts on stock firmware at 125 MHz (one tree of depth 8, ten of
them, fifty of depth 6), kernel alone, good to about 15 %. ESP32: the same cycles at 240 MHz, not measured. Unix port:
measured by tools/bench/tree.py on a desktop computer.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Cost:
    """Microseconds."""

    call: float
    tree: float
    step: dict[str, float]


BOARDS = {
    "RP2040 125 MHz": Cost(7.1, 0.1, {"wide": 0.33, "short": 0.33, "perfect": 0.27}),
    "ESP32 240 MHz": Cost(3.7, 0.05, {"wide": 0.17, "short": 0.17, "perfect": 0.14}),
    "Unix port": Cost(0.14, 0.001, {"wide": 0.0027, "short": 0.0027, "perfect": 0.0016}),
}
SLOWEST = "RP2040 125 MHz"


def estimate_us(board: str, layout: str, trees: int, steps: float) -> float:
    """Microseconds of one score: `steps` comparisons over all trees; padded ones count in the perfect layout."""
    cost = BOARDS[board]
    return cost.call + cost.tree * trees + cost.step[layout] * steps
