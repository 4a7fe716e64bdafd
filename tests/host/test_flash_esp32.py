"""The real esptool against the ROM loader of tests/host/esp_rom.py: connect, write, verify, and the ways it fails."""

import os
import time
from pathlib import Path

import pytest

from sentill_host.board import catalogue
from sentill_host.board.link import Link
from sentill_host.errors import LinkError, PlatformError, UsageError, VerifyError
from sentill_host.flash import esp32, firmware
from sentill_host.flash.backend import Context, Voice
from tests.host.esp_rom import MAC, EspRom, NetworkedEspRom

# The header of an ESP32 image, so that esptool takes it for one; then what compresses badly.
IMAGE = b"\xe9\x01\x02\x20" + bytes(4) + os.urandom(40_000) + b"MicroPython" * 2000


def context(port: str, board: str = "ESP32_GENERIC", patience_s: float = 0.0, **changes) -> Context:
    image = firmware.Image(Path("fw.bin"), IMAGE, "", "1.26.1", "file", True)
    return Context(catalogue.load(board), image, Voice(), port=port, patience_s=patience_s, **changes)


@pytest.mark.parametrize(
    ("chip", "board", "offset"), [("esp32", "ESP32_GENERIC", 0x1000), ("esp32s3", "ESP32_GENERIC_S3", 0)]
)
def test_the_image_lands_where_the_chip_starts_it(chip, board, offset):
    steps = []
    with EspRom(chip) as rom:
        rom.flash[0x200000] = 0x42
        job = context(rom.port, board)
        job.voice.say = lambda *step: steps.append(step)
        esp32.Esptool().flash(job)
        assert rom.flash[offset : offset + len(IMAGE)] == IMAGE
        assert rom.flash[0x200000] == 0x42, "what lies behind the firmware stays"
        assert set(rom.flash[:offset]) <= {0xFF}
        assert len(rom.uploaded) > 1000, "the stub was uploaded"
    assert steps[-1][0] == "writing"
    assert any(0 < done < total for step, done, total in steps if step == "writing"), steps


def test_erasing_takes_everything(chip="esp32"):
    with EspRom(chip) as rom:
        rom.flash[0x200000] = 0x42
        esp32.Esptool().flash(context(rom.port, erase=True))
        assert rom.flash[0x200000] == 0xFF
        assert rom.flash[0x1000 : 0x1000 + len(IMAGE)] == IMAGE


def test_the_chip_and_its_unique_id_are_read():
    for chip in ("esp32", "esp32s3"):
        with EspRom(chip) as rom:
            assert esp32.identify(rom.port, Voice(), 0) == esp32.Chip(chip, MAC)


def test_another_chip_than_the_boards_is_refused_before_anything_is_written():
    with EspRom("esp32s3") as rom:
        with pytest.raises(UsageError, match="the chip is an ESP32S3, ESP32 module has an ESP32"):
            esp32.Esptool().flash(context(rom.port))
        assert set(rom.flash) == {0xFF}


def test_a_file_that_is_no_image_is_refused_before_the_chip_is_touched():
    with EspRom() as rom:
        job = context(rom.port)
        job.image = firmware.Image(Path("fw.uf2"), b"UF2\n" + bytes(508), "", "1.26.1", "file", True)
        with pytest.raises(UsageError, match=r"fw\.uf2 is no firmware for an ESP32"):
            esp32.Esptool().flash(job)
        assert rom.commands == []


def test_without_esptool_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(esp32.importlib.util, "find_spec", lambda name: None)
    assert esp32.Esptool().missing() == "esptool"
    with pytest.raises(PlatformError) as caught:
        esp32.identify("/dev/null", Voice(), 0)
    assert "sentill[flash]" in caught.value.hint


def test_a_bit_that_is_written_wrong_is_found():
    with EspRom(flips=0x1234) as rom, pytest.raises(VerifyError, match="not what was sent"):
        esp32.Esptool().flash(context(rom.port))


def test_a_chip_that_runs_its_program_needs_a_hand():
    told = []
    with EspRom(deaf_syncs=10_000) as rom:
        job = context(rom.port, patience_s=60)

        def press_the_keys(text: str) -> None:
            told.append(text)
            rom._deaf = 0

        job.voice.instruct = press_the_keys
        esp32.Esptool().flash(job)
        assert rom.flash[0x1000 : 0x1000 + len(IMAGE)] == IMAGE
    assert len(told) == 1
    assert "hold the BOOT key" in told[0]


def test_a_chip_that_stays_deaf_ends_with_the_keys_to_press():
    with EspRom(deaf_syncs=10_000) as rom, pytest.raises(LinkError, match="does not enter its loader") as caught:
        esp32.Esptool().flash(context(rom.port))
    assert "BOOT" in caught.value.hint


def test_a_chip_that_dies_while_it_is_written_ends_in_time(monkeypatch):
    monkeypatch.setattr(esp32, "_SILENCE_S", 4.0)
    start = time.monotonic()
    with EspRom() as whole:
        esp32.Esptool().flash(context(whole.port))
        pieces = sum(command in (3, 7, 0x11) for command in whole.commands)
    with EspRom(dies_after=pieces - 2) as rom, pytest.raises(LinkError) as caught:
        esp32.Esptool().flash(context(rom.port))
    assert caught.value.hint
    assert time.monotonic() - start < 60


def test_an_interrupt_ends_esptool(monkeypatch):
    with EspRom(deaf_syncs=10_000) as rom:
        job = context(rom.port, patience_s=60)
        job.voice.stop.set()
        start = time.monotonic()
        with pytest.raises(LinkError, match="interrupted"):
            esp32.Esptool().flash(job)
        assert time.monotonic() - start < 30
        with Link(rom.port):
            pass  # nobody holds the port any more


def test_the_reset_lines_bring_a_running_chip_into_its_loader():
    told = []
    with NetworkedEspRom() as rom:
        chip = esp32.identify(rom.port, Voice(instruct=told.append), 0)
    assert chip == esp32.Chip("esp32", MAC)
    assert rom.starts == ["loader"]
    assert not told, "no keys needed"
