"""What is measured: the steps of a run."""

import random
import statistics

import numpy as np

from tests.chip.box import box
from tests.chip.chip import Chip
from tests.chip.costs import asleep, blocks, heap_after_traffic, idle, journal, parts, records, slow_line, wave
from tests.chip.cuts import cuts_blank, cuts_commit, cuts_deploy, cuts_provision, cuts_recovery
from tests.chip.deploying import access, change, deploy
from tests.chip.emlearn import emlearn
from tests.chip.heap import Heap
from tests.chip.onboard import device_tests, node_tests
from tests.chip.run import Bench, Numbers, Step
from tests.chip.start_sweep import start_sweep
from tests.chip.terminal import PAUSING, SUSTAINED, Regime, Terminal
from tests.chip.trees import trees

_START_S = 30.0
_SAMPLE_NS = 1e6


def boot(bench: Bench) -> Numbers:
    """From power-on to the identity frame on the UART; the heap meanwhile and some time after."""
    chip = Chip(bench.firmware, bench.image("deployed"))
    heap = Heap(chip)
    peak = 0

    def sample() -> None:
        nonlocal peak
        peak = max(peak, heap.look().used)
        alarm.schedule(_SAMPLE_NS)

    alarm = chip.alarm(sample)
    alarm.schedule(_SAMPLE_NS)
    terminal = Terminal(chip)
    _, identity_ns = terminal.wait_for("I", _START_S)
    alarm.cancel()
    least = heap.look()
    for _ in range(2000):
        chip.run(0.01)
        look = heap.look()
        if look.used < least.used:
            least = look
    return {
        "boot_s": identity_ns / 1e9,
        "heap_used_kb": least.used / 1024,
        "heap_largest_kb": least.largest / 1024,
        "heap_peak_kb": peak / 1024,
    }


def _traffic(bench: Bench, regime: Regime) -> Numbers:
    chip = bench.started()
    terminal = Terminal(chip, Heap(chip))
    lost = chip.line.lost
    operations = len(chip.flash.log)
    report = terminal.play(regime, bench.options.requests, random.Random(regime.name))
    took = np.array([asked.ms for asked in report.asked if asked.ms is not None])
    told = np.array([asked.us / 1000 for asked in report.asked if asked.ms is not None])
    p50, p90, p99 = np.percentile(took, (50, 90, 99))
    log = chip.flash.log[operations:]
    bench.say(
        f"{len(took)} verdicts, p50 {p50:.1f} p90 {p90:.1f} p99 {p99:.1f} max {took.max():.1f} ms; "
        f"{report.lost} lost, {chip.line.lost - lost} bytes overrun"
    )
    prefix = "verdict" if regime is PAUSING else regime.name
    result = {
        f"{prefix}_p50_ms": float(p50),
        f"{prefix}_p90_ms": float(p90),
        f"{prefix}_p99_ms": float(p99),
        f"{prefix}_max_ms": float(took.max()),
        f"{prefix}_us_p50": statistics.median(asked.us for asked in report.asked if asked.ms is not None),
        f"{prefix}_us_off_ms": float(np.percentile(abs(told - took), 99)),
        f"{prefix}_lost": report.lost,
        f"{prefix}_unanswered": report.unanswered,
        f"{prefix}_requests": len(report.asked),
        f"{prefix}_unexpected": len(report.unexpected),
        f"{prefix}_erases": sum(op.erase for op in log),
        "flash_ms_request" if regime is PAUSING else f"{prefix}_flash_ms_request": sum(
            (op.end_ns - op.start_ns) / 1e6 for op in log
        )
        / len(report.asked),
        f"{prefix}_programs": sum(not op.erase for op in log),
        f"{prefix}_resets": chip.resets,
        f"{prefix}_bytes_overrun": chip.line.lost - lost,
    }
    if regime is PAUSING:
        cpu = [a.cpu_ms - a.cpu_before_ms for a in report.asked if a.cpu_ms is not None and a.cpu_before_ms is not None]
        heap = [a.heap_bytes for a in report.asked if a.heap_bytes is not None]
        before = [a.heap_before_bytes for a in report.asked if a.heap_before_bytes is not None]
        result["request_cpu_ms"] = statistics.median(cpu)
        result["request_alloc_bytes"] = statistics.median(heap) - statistics.median(before)
    return result


def pausing(bench: Bench) -> Numbers:
    """Requests from a terminal that pauses."""
    return _traffic(bench, PAUSING)


def sustained(bench: Bench) -> Numbers:
    """Requests one after the other."""
    return _traffic(bench, SUSTAINED)


EMLEARN = Step("emlearn", emlearn, needs=(), begins=True, by="emlearn")
"""Only where the user gives the module."""

LONG = [
    Step("records", records, begins=True),
    Step("start_sweep", start_sweep, needs=("deploy", "access"), begins=True),
]
"""What takes long, and is done only where it is named."""

STEPS = [
    Step("deploy", deploy, needs=(), begins=True),
    Step("change", change, begins=True),
    Step("access", access, begins=True),
    Step("boot", boot, begins=True),
    Step("box", box, begins=True),
    Step("pausing", pausing, by="requests"),
    Step("sustained", sustained, by="requests"),
    Step("trees", trees, needs=(), begins=True),
    Step("idle", idle),
    Step("asleep", asleep, begins=True),
    Step("blocks", blocks),
    Step("parts", parts, begins=True),
    Step("heap", heap_after_traffic),
    Step("journal", journal),
    Step("slow_line", slow_line, begins=True),
    Step("wave", wave, begins=True),
    Step("cuts_deploy", cuts_deploy, begins=True, by="cuts"),
    Step("cuts_blank", cuts_blank, begins=True, by="cuts"),
    Step("cuts_provision", cuts_provision, begins=True, by="cuts"),
    Step("cuts_commit", cuts_commit, by="cuts"),
    Step("cuts_recovery", cuts_recovery, needs=("deploy", "cuts_deploy", "cuts_commit"), begins=True, by="cuts"),
    Step("device_tests", device_tests, needs=(), begins=True),
    Step("node_tests", node_tests, begins=True),
]
