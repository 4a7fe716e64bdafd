"""The step that presses keys while a locked board starts: does any instant open it?"""

from collections.abc import Iterator
from functools import partial

from tests.chip import files
from tests.chip.chip import Chip, Firmware
from tests.chip.interrupts import Apart, Window, call, listening_at, symbols, window
from tests.chip.run import Bench, Numbers

_START_S = 20.0
_BEFORE_NS, _AFTER_NS, _FINE_NS, _COARSE_NS = 5e6, 20e6, 1e5, 20e6
_MOST_OPEN_NS = 5e6
_EACH_WHOLE = 50  # of so many instants one start is watched to its end; of the others until a prompt would be there
_KEYS = {"Ctrl-C": b"\x03", "Ctrl-D": b"\x04", "Ctrl-A": b"\x01", "raw": b"\r\x03\x03\x01"}
_WIRE = "Ctrl-C on a wire"
_SHUT, _OPENED, _ENDED = 0, 1, 2  # what became of a start; the last: no node, no prompt
_PROMPTS = (b">>> ", b"raw REPL; CTRL-B to exit")


def start_sweep(bench: Bench) -> Numbers:
    """Keys at every instant of a locked board's start; what opens it, while Ctrl-C is listened to and else.

    Raises RuntimeError when something opens it outside, or that time is longer than 5 ms.
    """
    image = bench.image("locked")
    at = _place(bench.firmware)
    chip = _Start(bench.firmware, image)
    seen = window(chip.chip, at, chip.ready, _START_S)
    ready_ns = chip.chip.ns
    elf = bench.firmware.path.with_suffix(".elf")
    schedule_keyboard = symbols(elf)["mp_sched_keyboard_interrupt"] if elf.exists() else 0
    ways = [*_KEYS, *([_WIRE] if schedule_keyboard else [])]
    bench.say(f"firmware {bench.firmware.sha256}")
    bench.say(
        f"Ctrl-C is listened to for {seen.open_ns / 1e6:.2f} ms, {seen.first_ns / 1e6:.2f} to "
        f"{seen.last_ns / 1e6:.2f} ms after power-on; the node is there after {ready_ns / 1e6:.0f} ms"
    )
    if not schedule_keyboard:
        bench.say(f"no .elf beside the firmware: {_WIRE} is NOT tried")
    if seen.open_ns:
        _see_openings(bench.firmware, image, at, schedule_keyboard, ways)
    start = _Start(bench.firmware, image)
    counts = dict.fromkeys(ways, 0)
    inside = dict.fromkeys(ways, 0)
    outside: list[str] = []
    for number, at_ns in enumerate(_instants(seen, ready_ns)):
        start.chip.run((at_ns - start.chip.ns) / 1e9)
        whole = not number % _EACH_WHOLE
        if whole:
            bench.say(f"{sum(counts.values())} starts, at {at_ns / 1e6:.1f} ms")
        tried = {way: Apart(partial(start.press, way, at, schedule_keyboard, whole)) for way in ways}
        for way, copy in tried.items():
            result = copy.result()
            counts[way] += 1
            if result == _OPENED and seen.first_ns <= at_ns <= seen.last_ns:
                inside[way] += 1
            elif result != _SHUT:
                became = "opened" if result == _OPENED else "neither opened nor started"
                outside.append(f"{way} at {at_ns / 1e6:.1f} ms: {became}")
    for way in ways:
        bench.say(f"{way}: {counts[way]} starts, {inside[way]} opened while it was listened to")
    (bench.own / "outside.txt").write_text("\n".join(outside))
    if outside or seen.open_ns > _MOST_OPEN_NS:
        raise RuntimeError(f"{len(outside)} starts opened outside the window: {outside[:5]}; open {seen.open_ns} ns")
    return {
        "start_firmware": bench.firmware.sha256[:12],
        "start_listens_ms": seen.open_ns / 1e6,
        "start_tried": sum(counts.values()),
        "start_opened_inside": sum(inside.values()),
        "start_opened_outside": len(outside),
    }


def _see_openings(firmware: Firmware, image: bytes, at: int, schedule_keyboard: int, ways: list[str]) -> None:
    """See that keys do open a board that listens for long: its main.py waits before it switches Ctrl-C off."""
    waits = b"for _ in range(100000):\n    pass\n" + files.read(image)["main.py"]
    start = _Start(firmware, files.add(image, {"main.py": waits}))
    start.chip.run_until(lambda: start.chip.mcu.sram[at] == _KEYS["Ctrl-C"][0], _START_S, "listening")
    start.chip.run_until(lambda: start.chip.connected, _START_S, "USB connection")
    start.chip.run(0.02)
    for way in ways:
        if b"\x03" in _KEYS.get(way, b"\x03"):
            result = Apart(partial(start.press, way, at, schedule_keyboard, False)).result()
            if result != _OPENED:
                raise RuntimeError(f"{way} opens nothing where it must")


def _place(firmware: Firmware) -> int:
    blank = Chip(firmware)
    blank.enter_repl()
    return listening_at(blank)


def _instants(seen: Window, ready_ns: float) -> Iterator[float]:
    """.1 ms apart around the window, 20 ms in the rest of the start; around nothing where there is no window."""
    fine = (seen.first_ns - _BEFORE_NS, seen.last_ns + _AFTER_NS) if seen.open_ns else (ready_ns, ready_ns)
    at_ns = _COARSE_NS / 20
    while at_ns < ready_ns:
        yield at_ns
        step = _COARSE_NS
        if fine[0] <= at_ns < fine[1]:
            step = _FINE_NS
        elif at_ns < fine[0] < at_ns + step:
            step = fine[0] - at_ns
        at_ns += step


class _Start:
    """A locked board that starts; ready when its node has told the terminal who it is."""

    def __init__(self, firmware: Firmware, image: bytes):
        self.chip = Chip(firmware, image)
        self._line = bytearray()
        self.chip.on_sent = lambda byte, ns: self._line.append(byte)

    def ready(self) -> bool:
        """Whether an I frame has left."""
        return self._line.startswith(b"#I") or b"\n#I" in self._line

    def press(self, way: str, at: int, schedule_keyboard: int, whole: bool) -> int:
        """Press a key now; what became of the start, `whole`: only when it is over."""
        chip = self.chip
        if way != _WIRE:
            chip.usb.write(_KEYS[way])
        elif chip.mcu.sram[at] == _KEYS["Ctrl-C"][0]:
            call(chip, schedule_keyboard)
        chip.run(0.03)
        chip.run_until(lambda: chip.connected, 10.0, "USB connection")
        opened = self._prompt()
        if whole and not opened:
            self._line.clear()
            end = chip.ns + _START_S * 1e9
            while not self.ready() and chip.ns < end:
                chip.run(0.01)
            opened = self._prompt()
            if not opened and not self.ready():
                return _ENDED
        return _OPENED if opened else _SHUT

    def _prompt(self) -> bool:
        """Whether a prompt answers; a node takes the line for an empty one."""
        self.chip.run(0.02)
        self.chip.usb.write(b"\r")
        self.chip.run(0.02)
        return any(prompt in self.chip.console for prompt in _PROMPTS)
