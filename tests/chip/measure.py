"""Measure the node on an emulated Raspberry Pi Pico with stock firmware that you supply.

    python -m tests.chip.measure --firmware RPI_PICO.uf2 [--only boot,pausing] [--requests 200] [--cuts 20]

Prints what was measured beside what must be reached, and writes build/bench/chip.json. Ends with code 1 when a step
fails or a limit is missed, with 2 without firmware, with 130 when interrupted. Done steps are not run again, see
run.py; --fresh begins anew.
--record makes the figures those that the docs quote (docs/measured/chip.json); that takes every step.
"""

import argparse
import hashlib
import os
import sys
from importlib import metadata
from pathlib import Path

from tests.chip import table
from tests.chip.chip import CLOCK_HZ, Firmware
from tests.chip.faults import PATCHES
from tests.chip.flash import ERASE_MS, PROGRAM_MS
from tests.chip.run import Options, Run
from tests.chip.steps import EMLEARN, LONG, STEPS

NO_FIRMWARE = (
    "no firmware: give the path of a stock MicroPython image for the Raspberry Pi Pico, FIRMWARE=RPI_PICO.uf2; "
    "micropython.org/download/RPI_PICO has it"
)


def main() -> int:
    """See the head of the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--firmware", default=os.environ.get("FIRMWARE", ""), help="UF2 image; or $FIRMWARE")
    names = ", ".join(step.name for step in [*STEPS, *LONG])
    parser.add_argument("--only", default="", help=f"steps, parted by commas: {names}")
    parser.add_argument("--requests", type=int, default=200, help="in each regime")
    parser.add_argument("--cuts", type=int, default=20, help="power cuts")
    parser.add_argument("--jobs", type=int, default=2, help="steps at once")
    parser.add_argument("--fresh", action="store_true", help="measure again what was measured before")
    parser.add_argument("--emlearn", type=Path, help="emlearn_trees.mpy for armv6m, to compare trees with")
    parser.add_argument("--record", action="store_true", help="make these the figures that the docs quote")
    options = parser.parse_args()
    if not options.firmware or not Path(options.firmware).is_file():
        print(NO_FIRMWARE if not options.firmware else f"{options.firmware}: no such file", file=sys.stderr)
        return 2
    steps = [*STEPS, EMLEARN] if options.emlearn else STEPS
    wanted = [name for name in options.only.split(",") if name] or [step.name for step in steps]
    steps = [*steps, *LONG]
    known = {step.name: step for step in steps}
    if unknown := [name for name in wanted if name not in known]:
        parser.error(f"no step {', '.join(unknown)}; there are {', '.join(known)}")
    for name in list(wanted):
        wanted += [need for need in known[name].needs if need not in wanted]
    firmware = Firmware(Path(options.firmware))
    run = Run(
        firmware,
        Options(options.requests, options.cuts, options.emlearn),
        [step for step in steps if step.name in wanted],
        options.jobs,
        options.fresh,
    )
    try:
        well = run.go()
    except KeyboardInterrupt:
        print("interrupted: the same command goes on where this stopped", file=sys.stderr)
        return 130
    numbers = table.derived(run.results())
    figures = {**_about(firmware, options.requests, options.cuts), **numbers}
    table.write(table.BENCH, figures)
    if options.only:
        for key, value in run.results().items():
            print(f"{key:28} {value:12,.3f}" if isinstance(value, float) else f"{key:28} {value!s:>12}")
    else:
        print("\n".join(table.lines(numbers)))
    print(f"all figures: {table.BENCH}")
    for name, why in run.failed.items():
        print(f"{name}: {why}", file=sys.stderr)
    if options.record:
        if lacking := [key for key in table.KEYS if key not in figures]:
            print(f"nothing recorded: no {', '.join(lacking)}", file=sys.stderr)
            return 1
        table.record(figures)
        print(f"recorded in {table.RECORD}")
    return 0 if well and not table.missed(numbers) else 1


def _about(firmware: Firmware, requests: int, cuts: int) -> dict[str, object]:
    patches = hashlib.sha256(b"".join(path.read_bytes() for path in PATCHES)).hexdigest()[:16]
    return {
        "firmware": firmware.version,
        "firmware_sha256": firmware.sha256,
        **table.about_tree(),
        "clock_hz": CLOCK_HZ,
        "erase_ms": ERASE_MS,
        "program_ms": PROGRAM_MS,
        "emulator": f"rp2040py {metadata.version('rp2040py')}",
        "patch_hash": patches,
        "requests": requests,
        "cuts_wanted": cuts,
    }


if __name__ == "__main__":
    sys.exit(main())
