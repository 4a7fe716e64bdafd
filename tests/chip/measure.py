"""Measure the node on an emulated Raspberry Pi Pico with stock firmware that you supply.

    python -m tests.chip.measure --firmware RPI_PICO.uf2 [--only boot,pausing] [--requests 200] [--cuts 20]

Prints what was measured beside what must be reached. An .elf beside the image is not needed. Without --firmware or
$FIRMWARE it says so and ends with code 2. Done steps are not run again, see run.py; --fresh begins anew.
"""

import argparse
import os
import sys
from pathlib import Path

from tests.chip.chip import Firmware
from tests.chip.run import Options, Run
from tests.chip.steps import STEPS

NO_FIRMWARE = (
    "no firmware: give the path of a stock MicroPython image for the Raspberry Pi Pico, FIRMWARE=RPI_PICO.uf2; "
    "micropython.org/download/RPI_PICO has it"
)


def main() -> int:
    """See the head of the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--firmware", default=os.environ.get("FIRMWARE", ""), help="UF2 image; or $FIRMWARE")
    parser.add_argument("--only", default="", help="steps, parted by commas: " + ",".join(step.name for step in STEPS))
    parser.add_argument("--requests", type=int, default=200, help="in each regime")
    parser.add_argument("--cuts", type=int, default=20, help="power cuts")
    parser.add_argument("--jobs", type=int, default=2, help="steps at once")
    parser.add_argument("--fresh", action="store_true", help="measure again what was measured before")
    options = parser.parse_args()
    if not options.firmware or not Path(options.firmware).is_file():
        print(NO_FIRMWARE if not options.firmware else f"{options.firmware}: no such file", file=sys.stderr)
        return 2
    wanted = [name for name in options.only.split(",") if name] or [step.name for step in STEPS]
    known = {step.name: step for step in STEPS}
    if unknown := [name for name in wanted if name not in known]:
        parser.error(f"no step {', '.join(unknown)}; there are {', '.join(known)}")
    for name in list(wanted):
        wanted += [need for need in known[name].needs if need not in wanted]
    run = Run(
        Firmware(Path(options.firmware)),
        Options(options.requests, options.cuts),
        [step for step in STEPS if step.name in wanted],
        options.jobs,
        options.fresh,
    )
    well = run.go()
    for key, value in run.results().items():
        print(f"{key:28} {value:12,.3f}" if isinstance(value, float) else f"{key:28} {value!s:>12}")
    for name, why in run.failed.items():
        print(f"{name}: {why}", file=sys.stderr)
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
