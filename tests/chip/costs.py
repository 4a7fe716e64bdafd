"""Steps that measure what the node costs: idle, per request and its parts, its longest pieces, journal and waveform."""

import math
import random
import statistics
from pathlib import Path

import numpy as np

from sentill.health.waveforms import N as WINDOW
from sentill_host.board import catalogue
from sentill_host.bundle import build as bundle
from tests.chip import files
from tests.chip.chip import Chip
from tests.chip.deploying import deployed, other_version, powered
from tests.chip.heap import Heap
from tests.chip.people import People
from tests.chip.run import Bench, Numbers
from tests.chip.terminal import PAUSING, Regime, Terminal

_IDLE_S = 30.0
_AT_A_TIME = 20
_PICO_W_BLOCKS = 212
_RECORDS_AT_A_TIME = 500
_MOST_RECORDS = 25_000
# Number, name of the result, module, class, method. Parts of one group do not lie within each other.
_GROUPS = (
    ((1, "judge", "sentill.node.terminal", "Terminal", "judge"),),
    (
        (2, "frame", "sentill.wire.reader", "FrameReader", "next"),
        (3, "scan", "sentill.wire.request_verdict", "Request", "scan"),
        (4, "assess", "sentill.risk.assess", "Assessor", "judge"),
        (11, "remember", "sentill.risk.assess", "Assessor", "remember"),
        (12, "open", "sentill.wire.request_verdict", "Verdict", "open"),
        (13, "close", "sentill.wire.request_verdict", "Verdict", "close"),
        (5, "port", "sentill.wire.port", "Port", "put"),
        (6, "record", "sentill.journal.recorder", "Audit", "verdict"),
    ),
    (
        (7, "features", "sentill.risk.features", "History", "own"),
        (8, "chain", "sentill.mac_thumb", "MAC", "chain"),
        (9, "card", "sentill.mac_thumb", "MAC", "tag_of"),
    ),
)
_CALM = Regime("calm", 400, 400)


def idle(bench: Bench) -> Numbers:
    """The processor's share of time without a request, with telemetry and without."""
    people = People(bench.started())
    result: Numbers = {}
    for name, rate in (("idle", 1), ("idle_silent", 0)):
        people.ask("set-rate", hz=rate)
        people.run(2.0)
        result |= _resting(people, name)
        bench.say(f"{result[f'{name}_cpu_pct']:.1f} % of the processor at {rate} Hz")
    return result


def _resting(people: People, name: str) -> Numbers:
    """Shares of the next half minute: of the processor, and of the flash that was busy."""
    chip = people.chip
    ns, idle_ns, operations = chip.ns, chip.idle_ns, len(chip.flash.log)
    people.run(_IDLE_S)
    took = chip.ns - ns
    busy = sum(op.end_ns - op.start_ns for op in chip.flash.log[operations:])
    return {
        f"{name}_cpu_pct": 100 * (1 - (chip.idle_ns - idle_ns) / took),
        f"{name}_flash_pct": 100 * busy / took,
    }


def asleep(bench: Bench) -> Numbers:
    """The same with light sleep between readings and without telemetry, and the share of time slept."""
    chip, bridge = powered(bench, bench.image("deployed"))
    config = bench.own / "config.json"
    config.write_text('{"light_sleep": true, "rate_hz": 0}')
    bridge.sentill("deploy", str(bridge.usb.link), "--config", str(config), "--json")
    bridge.close()
    people = People(chip)
    people.run(15.0)  # it stays awake for a while after its start and after what it was asked
    before = chip.deep_ns
    begun = chip.ns
    result = _resting(people, "asleep")
    return result | {"asleep_pct": 100 * (chip.deep_ns - before) / (chip.ns - begun)}


def blocks(bench: Bench) -> Numbers:
    """The longest time without a look at the terminal's line, over requests, records, and a save of the state."""
    chip = bench.started()
    chip.blocks.clear()
    terminal = Terminal(chip)
    begun = chip.ns
    rng = random.Random(3)
    while chip.ns - begun < 660e9:  # a save comes every 600 s
        terminal.play(PAUSING, _AT_A_TIME, rng)
    spans = sorted(chip.blocks, key=lambda span: span[0] - span[1])
    for start, end in spans[:3]:
        within = [op for op in chip.flash.log if start <= op.start_ns < end]
        erases = sum(op.erase for op in within)
        bench.say(
            f"{(end - start) / 1e6:.0f} ms without a look, {erases} erases and {len(within) - erases} programs in it"
        )
    took = [(end - start) / 1e6 for start, end in spans] or [0.0]
    return {
        "longest_block_ms": took[0],
        "blocks_above_60ms": sum(ms > 60 for ms in took),
        "blocks_above_20ms": sum(ms > 20 for ms in took),
        "blocks_s": (chip.ns - begun) / 1e9,
    }


def parts(bench: Bench) -> Numbers:
    """A judgement with its record, from its frame found to its record made, and the parts it has."""
    result: Numbers = {}
    script = Path(__file__).with_name("onboard_parts.py").read_text()
    for group in _GROUPS:
        chip = Chip(bench.firmware, bench.image("deployed"))
        chip.enter_repl(60.0)
        chip.usb.write(b"\x04")  # a soft reset: main.py does not run then
        chip.run(0.5)
        wanted = [(n, module, _on_board(module, owner), _on_board(module, name)) for n, _, module, owner, name in group]
        terminal = Terminal(chip)
        chip.usb.write(f"PARTS = {wanted!r}\n{script}\x04".encode())
        terminal.wait_for("I", 60.0)
        chip.run(3.0)
        empty = statistics.median(_spans(chip.marks, 0))
        chip.marks.clear()
        terminal.play(_CALM, 20, random.Random(4))
        for n, name, *_ in group:
            per_request = [[span - empty for span in _spans(marks, n)] for marks in _apart(chip.marks)]
            if not any(per_request):
                raise RuntimeError(f"{name}: no request went that way")
            result[f"part_{name}_ms"] = statistics.median(map(sum, per_request)) * 8e-6
            result[f"part_{name}_calls"] = statistics.median(map(len, per_request))
    result["decision_cpu_ms"] = result["part_judge_ms"] + result["part_frame_ms"]
    return result


def _on_board(module: str, name: str) -> str:
    """What a name of `module` is on a board."""
    return bundle.names(catalogue.load("RPI_PICO"))[module.replace(".", "/") + ".py"].get(name, name)


def _apart(marks: list[tuple[int, int, float]]) -> list[list[tuple[int, int, float]]]:
    """The marks of each request: between two requests is a pause."""
    groups: list[list[tuple[int, int, float]]] = []
    last_ns = -math.inf
    for mark in marks:
        if mark[2] - last_ns > 200e6:
            groups.append([])
        groups[-1].append(mark)
        last_ns = mark[2]
    return groups


def _spans(marks: list[tuple[int, int, float]], n: int) -> list[int]:
    """Cycles between the beginnings and ends of part `n`; those of an inner call of the same are left out."""
    spans, begun, depth = [], 0, 0
    for value, cycles, _ in marks:
        if value == 2 * n:
            begun = begun if depth else cycles
            depth += 1
        elif value == 2 * n + 1:
            depth -= 1
            if not depth:
                spans.append(cycles - begun)
    return spans


def slow_line(bench: Bench) -> Numbers:
    """The processor's share of time at 9,600 baud with a request every third of a second, telemetry off."""
    chip, bridge = powered(bench, bench.image("deployed"))
    config = bench.own / "config.json"
    config.write_text('{"uart_baud": 9600}')
    bridge.sentill("deploy", str(bridge.usb.link), "--config", str(config), "--json")
    bridge.close()
    chip.baud = 9600
    people = People(chip)
    people.ask("set-rate", hz=0)
    people.run(2.0)
    terminal = Terminal(chip)
    ns, idle_ns = chip.ns, chip.idle_ns
    people.run(_IDLE_S)
    resting = 1 - (chip.idle_ns - idle_ns) / (chip.ns - ns)
    ns, idle_ns = chip.ns, chip.idle_ns
    report = terminal.play(Regime("9600", 90, 110), 60, random.Random(5))
    share = 1 - (chip.idle_ns - idle_ns) / (chip.ns - ns)
    return {
        "baud9600_cpu_pct": 100 * share,
        "baud9600_rest_cpu_pct": 100 * resting,
        "baud9600_frames_s": 60 / report.seconds,
        "baud9600_lost": report.lost,
    }


def journal(bench: Bench) -> Numbers:
    """`sentill journal pull` of what some hundred requests left."""
    chip = bench.started()
    Terminal(chip).play(Regime("filling", 20, 40), 300, random.Random(6))
    bridge = bench.bridge(chip)
    people = People(chip)
    listen, pass_on = people._on_console, bridge._on_console

    def both(data: bytes) -> None:
        listen(data)
        pass_on(data)

    chip.on_console = both
    folder = bench.own / "journals"
    bridge.sentill("journal", "pull", str(bridge.usb.link), "--dir", str(folder))
    bridge.sentill("journal", "verify", "--dir", str(folder))
    bridge.close()
    sent = [(ns, frame) for ns, frame in people.frames if frame.kind == "A"]
    asked = next(ns for ns, frame in people.frames if frame.kind == "R" and "head" in frame.fields)
    records = {frame.fields["n"] for _, frame in sent if not frame.fields.get("end")}
    took_s = (sent[-1][0] - asked) / 1e9
    bench.say(f"{len(records)} records in {took_s:.1f} s")
    return {"pull_records_s": len(records) / took_s, "pull_records": len(records), "pull_s": took_s}


def wave(bench: Bench) -> Numbers:
    """`wave:1000:9` with a tone of 141 Hz on its input, against the same feature of evenly spaced readings."""
    chip, bridge = powered(bench, bench.image("deployed"))
    config = bench.own / "config.json"
    config.unlink(missing_ok=True)
    bridge.sentill("channels", "RPI_PICO", "--with", "hum", "--config", str(config))
    bridge.sentill("deploy", str(bridge.usb.link), "--config", str(config), "--json")
    bridge.close()
    amplitude = 600.0  # of 4096

    def tone(ns: float) -> int:
        return round(2048 + amplitude * math.sin(2 * math.pi * 141 * ns / 1e9))

    chip.play(1, tone)
    people = People(chip)
    people.run(60.0)
    told = [frame.fields for _, frame in people.frames if frame.kind == "H" and frame.fields.get("name") == "hum"]
    values = [fields["raw"] for fields in told if fields["raw"]]
    phases = np.arange(16) / 16 / 141
    reference = statistics.mean(_bin([tone((start + i / 1000) * 1e9) << 4 for i in range(WINDOW)]) for start in phases)
    reference = reference * 1000 / 65536  # in the channel's mA
    bench.say(f"reads {values}, {reference:.1f} of evenly spaced readings")
    worst = max((abs(value / reference - 1) for value in values), default=0.0)
    return {"wave_error_pct": 100 * worst, "wave_readings": len(values)}


def _bin(window: list[int]) -> float:
    """Amplitude of the ninth bin."""
    spectrum = np.fft.rfft(np.array(window) - 32768)
    return float(2 * abs(spectrum[9]) / len(window))


def records(bench: Bench) -> Numbers:
    """How many records the journal of a Pico W holds: on 848 KB, with another version in the other slot."""
    chip, bridge = powered(bench, bench.image("deployed"))
    deployed(bridge, "--model", str(other_version(bench.own / "models")))
    bridge.close()
    image = files.add(chip.files(), {"ballast": bytes((chip.geometry.blocks - _PICO_W_BLOCKS) * files.BLOCK)})
    chip = Chip(bench.firmware, image)
    terminal = Terminal(chip)
    terminal.wait_for("I", 60.0)
    people = People(chip)
    rng = random.Random(9)
    held: list[int] = []
    asked = 0
    while len(held) < 4 or held[-1] > held[-4]:
        if asked >= _MOST_RECORDS:
            break
        report = terminal.play(Regime("filling", 0, 20), _RECORDS_AT_A_TIME, rng)
        if report.unanswered:
            raise RuntimeError(f"{report.unanswered} requests without a verdict after {asked}")
        asked += _RECORDS_AT_A_TIME
        told = people.ask("audit", **{"from": 0xFFFFFFFF})
        held.append(told["next"] - told["first"])
        bench.say(f"{asked:,} requests, {held[-1]:,} records held")
    people.run(1.0)
    missed = people.ask("status").get("miss", 0)
    return {"records_held_848k": max(held), "records_requests": asked, "records_missed": missed}


def heap_after_traffic(bench: Bench) -> Numbers:
    """The heap while requests come: the most in use, the least largest free piece; and the names known after that."""
    chip = bench.started()
    heap = Heap(chip)
    most, least = 0, 1 << 30

    def sample() -> None:
        nonlocal most, least
        look = heap.look()
        most, least = max(most, look.used), min(least, look.largest)
        alarm.schedule(5e6)

    alarm = chip.alarm(sample)
    alarm.schedule(5e6)
    Terminal(chip).play(PAUSING, 40, random.Random(8))
    alarm.cancel()
    chip.enter_repl()
    told = chip.exec("import micropython; micropython.qstr_info()")
    names = int(told.partition("n_qstr=")[2].split(",")[0])
    return {"heap_traffic_kb": most / 1024, "heap_traffic_largest_kb": least / 1024, "names": names}
