"""Faults of the library as scenarios of a virtual board (sentill_host.virtual.scenario): its sensors, and its line.

Node time runs `warp` times as fast as the clock, so that weeks pass in minutes. What a sensor measures is set; what the
terminal counts arrives as frames on its line, and a flaky cable as damaged ones. A memory leak and the wear of the
flash are in the node itself: they cannot be played.
"""

import json
from typing import Any

import numpy as np

from sentill.wire import protocol
from sentill_host.errors import UsageError
from sentill_host.health.faults import Course, Fault, healthy, simulate, to_raw

BEFORE_S = 6 * 3600  # of health that the scenario shows before the fault begins
STEP_S = 300
_CHIP_TEMP = "adc.7"  # what device/sentill/hal/port_sim.py reads
_DAMAGED = '#C {"q":1,"cmd":"status"}*00000000\r\n'


def write(specs: list[dict[str, Any]], fault: Fault, seed: int, warp: int) -> tuple[str, float, float]:
    """The scenario's text, and when the fault begins and when it leads to the failure, in seconds of the clock.

    Raises UsageError for a fault that cannot be played.
    """
    course = simulate(specs, fault, seed, step_s=STEP_S, all_channels=False)
    # What a sensor at rest would raise a false alarm of by itself: a mean that does not move.
    dice = np.random.default_rng([seed])
    for spec in specs:
        if spec.get("stuck") and spec["name"] not in course.raw:
            course.raw[spec["name"]] = to_raw(spec, healthy(spec["name"], np.array(course.times_s), dice))
    begin, fail = course.begin_s or 0, course.fail_s or 0
    start = begin - BEFORE_S
    lines = [f"# {fault.title}, seed {seed}", f"warp = {warp}"]
    by_name = {spec["name"]: spec for spec in specs}
    for name, raw in course.raw.items():
        lines += _events(by_name[name], course, raw, start, warp)
    return "\n".join(lines) + "\n", (begin - start) / warp, (fail - start) / warp


def _events(spec: dict[str, Any], course: Course, raw: list[int], start: int, warp: int) -> list[str]:
    source = str(spec["source"])
    kind, _, rest = source.partition(":")
    lines: list[str] = []
    before: int | None = None
    for now, value in zip(course.times_s, raw, strict=True):
        if now < start:
            before = value if spec.get("per_s") else before
            continue
        if value == before:
            continue
        at = f"\n[[event]]\nat_s = {(now - start) / warp:.2f}\n"
        if kind in ("adc", "pin"):
            lines.append(at + f'set = {{ "{kind}.{int(rest, 0)}" = {value} }}')
        elif kind == "chip_temp":
            lines.append(at + f'set = {{ "{_CHIP_TEMP}" = {min(65535, round((value + 5000) * 32767 / 10000))} }}')
        elif kind == "count" or source == "vital:crc_errors":
            text = _DAMAGED * min(value - (before or 0), 100)
            if kind == "count":
                pairs: list[tuple[str, int | str | bool]] = [("q", 1), ("cmd", "count"), ("name", rest)]
                text = protocol.encode("C", [*pairs, ("n", value - (before or 0))]).decode()
            lines.append(at + f'do = "uart_in"\nwith = {{ text = {json.dumps(text)} }}')
        else:
            raise UsageError(f"{spec['name']} is inside the node and cannot be played", "run it without --scenario")
        before = value
    return lines
