"""Mean current and energy per chip, from what the lab measured on an emulated RP2040 and data-sheet currents.

    python tools/power_budget.py [--figures FILE] [--requests-hour N] [--write]

Reads docs/measured/chip.json, which `make chip-record` makes, or with --figures build/bench/chip.json of a run of your
own. Chips other than the RP2040 are scaled by their clock. --write puts the table into docs/power.md.
"""

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.chip import energy  # noqa: E402
from tests.chip.table import RECORD  # noqa: E402

PAGE = ROOT / "docs" / "power.md"
REQUESTS_HOUR = 60
_BEGIN, _END = "<!-- power:table -->", "<!-- power:end -->"


def table(measured: Mapping[str, Any], requests_hour: int = REQUESTS_HOUR) -> str:
    """The table as docs/power.md has it, from marker to marker."""
    lines = [
        _BEGIN,
        "| chip | at work | waiting | light sleep | idle, telemetry "
        f"| and {requests_hour} requests an hour | asleep | a judgement |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, chip in energy.CHIPS.items():
        found = energy.figures(measured, name)
        # What a request adds to the mean is its charge: energy above waiting, spread over the hour.
        works_ms = measured["request_cpu_ms"] * energy.CHIPS["RP2040"].mhz / chip.mhz
        flash_ms = measured["flash_ms_request"]
        added = (chip.works_ma - chip.waits_ma) * (works_ms + flash_ms) + energy.FLASH_MA * flash_ms
        busy = found["idle_ma"] + added * requests_hour / 3.6e6
        currents = [f"{value:g} mA" for value in (chip.works_ma, chip.waits_ma, chip.sleeps_ma)]
        means = [f"{value:.1f} mA" for value in (found["idle_ma"], busy, found["asleep_ma"])]
        lines.append(f"| {' | '.join([name, *currents, *means])} | {found['energy_uj_decision']:.0f} uJ |")
    return "\n".join([*lines, _END])


def main() -> int:
    """Print the table, and where the currents come from."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--figures", type=Path, default=RECORD, help="figures that `make chip` wrote")
    parser.add_argument("--requests-hour", type=int, default=REQUESTS_HOUR)
    parser.add_argument("--write", action="store_true", help="put the table into docs/power.md")
    options = parser.parse_args()
    if not options.figures.exists():
        print(f"{options.figures}: no figures; `make chip FIRMWARE=RPI_PICO.uf2` measures them", file=sys.stderr)
        return 2
    made = table(json.loads(options.figures.read_text()), options.requests_hour)
    print("\n".join(made.splitlines()[1:-1]))
    for name, chip in energy.CHIPS.items():
        print(f"{name}: {chip.source}")
    if options.write:
        before, _, rest = PAGE.read_text().partition(_BEGIN)
        PAGE.write_text(before + made + rest.partition(_END)[2])
    return 0


if __name__ == "__main__":
    sys.exit(main())
