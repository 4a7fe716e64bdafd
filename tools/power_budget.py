"""Budget of wake time per hour for sampling and telemetry, and the mean current it takes, per board.

    python tools/power_budget.py [--sample-ms 1000] [--rate-hz 1]

Costs are measured on the Unix port with the device's own code, the best of five runs, and scaled to a chip by one loop
measured on both: the sum of 30 words takes 525 us on an RP2040 at 125 MHz, where building and writing a frame takes
about 500 us. Other chips are scaled by their clock alone. So these are estimates; a board measures itself with
tests/device/health_speed.py. Currents are typical values of the data sheets.
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.interpreters import Interpreters  # noqa: E402

LOOP_US_RP2040 = 525.0
FRAME_US_RP2040 = 500.0
RP2040_MHZ = 125

# chip: MHz, mA awake, mA in light sleep
CHIPS = {"RP2040": (125, 25.0, 1.3), "ESP32": (160, 40.0, 0.8), "ESP32-S3": (160, 38.0, 0.24)}
CHANNELS = 16
WAKE_US = 1000  # leaving light sleep, clocks settled
WINDOWS = 360  # per hour and waveform
WINDOW_US = 64_000  # 64 readings at 1 kHz
BEATS = 7200  # the node's tasks wake every half second at least, to show that they live


def measure() -> tuple[float, float, float, float]:
    """Microseconds on the Unix port: a reading, one that ends a step, the loop all chips are scaled by, a window."""
    children = Interpreters()
    try:
        child = children["unix-mpy"]
        ending = min(child.call("health_speed:measure", 200, 1)[0] for _ in range(5))
        reading = min(child.call("health_speed:measure", 200, 3600)[0] for _ in range(5))
        loop = min(child.call("health_speed:loop_ns", 2000) for _ in range(5))
        window = min(child.call("health_speed:window_ns", 100) for _ in range(5))
        return reading / 1000, ending / 1000, loop / 1000, window / 1000
    finally:
        children.close()


def awake_s(sample_ms: int, rate_hz: int, mhz: int, costs: tuple[float, float, float, float]) -> dict[str, float]:
    """Seconds awake per hour by part: `wake` ups, `readings`, `steps` (one per channel each 300 s), `frames` (two per
    report), and `window`, what one waveform at 1 kHz would add."""
    reading, ending, loop, window = costs
    scale = LOOP_US_RP2040 / loop * RP2040_MHZ / mhz
    rounds = 3_600_000 / sample_ms
    return {
        "wake": max(rounds, BEATS) * WAKE_US / 1e6,
        "readings": rounds * CHANNELS * reading * scale / 1e6,
        "steps": 12 * CHANNELS * (ending - reading) * scale / 1e6,
        "window": WINDOWS * (WINDOW_US + window * scale) / 1e6,
        "frames": rate_hz * 3600 * 2 * FRAME_US_RP2040 * RP2040_MHZ / mhz / 1e6,
    }


def main() -> int:
    """Print the budget as a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sample-ms", type=int, default=1000, help="milliseconds between two readings of all channels")
    parser.add_argument("--rate-hz", type=int, default=1, help="reports per second")
    options = parser.parse_args()
    costs = measure()
    print(f"Unix port: {costs[0]:.1f} us a reading, {costs[1]:.1f} us with a step, loop {costs[2]:.1f} us")
    print(
        f"{CHANNELS} channels every {options.sample_ms} ms, {options.rate_hz} reports a second; seconds awake per hour"
    )
    print("| chip | wake-ups | readings | steps | frames | awake | mean current | a waveform |")
    print("|---|---|---|---|---|---|---|---|")
    for chip, (mhz, awake_ma, asleep_ma) in CHIPS.items():
        parts = awake_s(options.sample_ms, options.rate_hz, mhz, costs)
        window = parts.pop("window")
        total = sum(parts.values())
        current = asleep_ma + (awake_ma - asleep_ma) * min(total / 3600, 1)
        cells = " | ".join(f"{part:.1f} s" for part in parts.values())
        print(f"| {chip} | {cells} | {total / 36:.1f} % | {current:.1f} mA | + {window:.1f} s |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
