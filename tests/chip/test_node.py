"""The node on the emulated chip, where it must do what no other board of the tests can show.

They need firmware that the user supplies: FIRMWARE=RPI_PICO.uf2 pytest tests/chip; `make chip` runs them first.
"""

import itertools
import math
import os
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("rp2040py", reason="no emulated RP2040: pip install 'sentill[chip]'")

from sentill.wire import protocol
from tests.chip import run, steps
from tests.chip.chip import CLOCK_HZ, Chip, Firmware
from tests.chip.flash import ERASE_MS, PROGRAM_MS, Operation
from tests.chip.people import People
from tests.chip.terminal import Regime, Terminal, decoded, requests

FIRMWARE = Path(os.environ.get("FIRMWARE", ""))
pytestmark = pytest.mark.skipif(
    not FIRMWARE.is_file(), reason="no firmware for the emulated chip: FIRMWARE=RPI_PICO.uf2 names none"
)
_PACKET = 64  # bytes of USB
_FIFO = 32  # bytes that a UART keeps by itself
_REFS = 10_000_000


@pytest.fixture(scope="module")
def deployed() -> bytes:
    """The file system of a board that was deployed to."""
    deploy = [step for step in steps.STEPS if step.name == "deploy"]
    made = run.Run(Firmware(FIRMWARE), run.Options(), deploy, jobs=1)
    image = made.folder / "deployed.img"
    assert image.exists() or made.go(), made.failed
    return image.read_bytes()


@pytest.fixture
def chip(deployed: bytes) -> Chip:
    """A board whose node has started."""
    return run.start(Firmware(FIRMWARE), deployed)


@pytest.fixture
def blank() -> Chip:
    """A board at the prompt, without a node."""
    made = Chip(Firmware(FIRMWARE))
    made.enter_repl()
    return made


def extra(count: int) -> Iterator[tuple[int, bytes]]:
    """Requests beside those of Terminal.play: their refs and frames."""
    for number, asked in enumerate(itertools.islice(requests(), count)):
        other = replace(asked, ref=_REFS + number)
        yield other.ref, protocol.encode("T", [("q", number + 1), *other.pairs])


def test_the_chip_has_the_clock_and_the_flash_times_that_are_told(blank: Chip) -> None:
    assert int(blank.exec("import machine; print(machine.freq())")) == CLOCK_HZ == 125_000_000
    timed = "import time; t = time.ticks_us(); time.sleep_ms(100); print(time.ticks_diff(time.ticks_us(), t))"
    assert 100_000 <= int(blank.exec(timed)) < 101_000
    blank.flash.log.clear()
    took = blank.exec(
        "import rp2; f = rp2.Flash(); b = bytearray(4096)\n"
        "t = time.ticks_us(); f.ioctl(6, 300); e = time.ticks_diff(time.ticks_us(), t)\n"
        "t = time.ticks_us(); f.writeblocks(300, b, 0); print(e, time.ticks_diff(time.ticks_us(), t))\n"
    )
    erase_us, write_us = map(int, took.split())
    kinds = [op.erase for op in blank.flash.log]
    assert kinds == [True] + [False] * 16
    assert (ERASE_MS, PROGRAM_MS) == (45.0, 0.4)
    assert 45_000 <= erase_us < 46_000
    assert 16 * 400 <= write_us < 16 * 400 + 2000


def test_a_uart_without_dma_loses_bytes_while_flash_is_busy(blank: Chip) -> None:
    """What the next test is about does happen on this chip."""
    blank.exec("import machine, rp2; u = machine.UART(0, baudrate=115200, rxbuf=512); f = rp2.Flash()")
    blank.on_operation = lambda op: blank.feed(bytes(200))
    blank.exec("f.ioctl(6, 300)")
    blank.run(0.1)
    assert blank.line.lost > 100


def test_requests_that_come_while_flash_is_busy_are_all_received(chip: Chip) -> None:
    """Three of them one after the other, in each of some erases: the core polls the flash, interrupts are off."""
    terminal, rng = Terminal(chip), random.Random(1)
    coming = extra(30)
    sent: list[int] = []
    within: list[int] = []

    def feed(op: Operation) -> None:
        if op.erase and chip.fed_ns is not None:
            three = list(itertools.islice(coming, 3))
            sent.extend(ref for ref, _ in three)
            within.append(sum(len(frame) for _, frame in three))
            chip.feed(b"".join(frame for _, frame in three))

    chip.on_operation = feed
    told: list[str] = []
    for _ in range(20):
        report = terminal.play(Regime("filling", 0, 600), 20, rng)
        told += report.unexpected
        assert not report.unanswered
        if len(within) >= 4:
            break
    assert len(within) >= 4, "too few erases"
    frames = [frame for line in told if (frame := decoded(line.encode()))]
    assert sorted(fields["ref"] for kind, fields in frames if kind == "T") == sent
    assert min(within) > 4 * _FIFO, "a FIFO alone would have held that"
    assert chip.line.lost == 0


def test_the_console_gets_frames_in_packets(chip: Chip) -> None:
    """Not byte by byte, which would cost as many transfers as there are bytes."""
    people = People(chip)
    pieces: list[int] = []
    listen = chip.on_console

    def count(data: bytes) -> None:
        pieces.append(len(data))
        listen(data)

    chip.on_console = count
    people.run(5.0)
    sizes = [len(protocol.encode(frame.kind, list(frame.fields.items()))) for _, frame in people.frames]
    assert len(sizes) >= 5, "telemetry came"
    assert max(pieces) <= _PACKET
    assert len(pieces) <= sum(math.ceil(size / _PACKET) + 1 for size in sizes), (pieces, sizes)


def test_a_request_that_is_sent_again_is_judged_once(chip: Chip) -> None:
    """As a terminal does that got no verdict in time: the same fields with another q."""
    terminal, people = Terminal(chip), People(chip)
    ((ref, _),) = extra(1)
    asked = replace(next(requests()), ref=ref)
    before = people.ask("status")
    verdicts = []
    for q in (1, 2, 3):
        chip.feed(protocol.encode("T", [("q", q), *asked.pairs]))
        fields, _ = terminal.wait_for("T", 2.0)
        verdicts.append({key: value for key, value in fields.items() if key not in ("q", "us")})
    assert verdicts[0] == verdicts[1] == verdicts[2] and verdicts[0]["ref"] == ref
    after = people.ask("status")
    assert after["jn"] - before["jn"] == 1 == sum(after[key] - before[key] for key in ("ap", "rv", "dc"))
