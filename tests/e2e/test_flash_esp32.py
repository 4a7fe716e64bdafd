"""The whole way of `sentill flash` for an ESP32: its loader is played, esptool and the MicroPython after it are real.

The board that answers after the flashing is a virtual one, so it has another unique id than the chip that was written:
exactly what flashing must notice.
"""

import dataclasses
import functools
import os

import pytest

from sentill_host.board import catalogue
from sentill_host.flash import procedure
from sentill_host.flash.backend import Voice
from sentill_host.flash.memory import Remembered
from sentill_host.flash.procedure import Options
from sentill_host.virtual import VirtualBoards
from tests.host.esp_rom import MAC, EspRom

IMAGE = b"\xe9\x01\x02\x20" + bytes(4) + os.urandom(20_000)


class Desk:
    """A port that is the loader of a blank chip until it has been flashed, and MicroPython from then on."""

    def __init__(self, folder, rom, board):
        self.port = folder / "port"
        self.port.symlink_to(rom.port)
        self.file = folder / "ESP32-20250911-v9.9.9.bin"
        self.file.write_bytes(IMAGE)
        self.memory = Remembered(folder / "boards.json")
        self.asked: list[list[str]] = []
        self._board = board

    def flash(self, answer: str = "", **options) -> procedure.Result:
        def say(step: str, done: int, total: int) -> None:
            if step == "waiting for MicroPython":
                self.port.unlink()
                self.port.symlink_to(self._board.usb)

        def choose(candidates, why):
            self.asked.append([board.id for board in candidates])
            return catalogue.load(answer) if answer else None

        return procedure.flash(
            str(self.port), Options(file=self.file, **options), Voice(say, choose=choose), self.memory
        )


@pytest.fixture
def desk(tmp_path, monkeypatch):
    known = dict(catalogue.all_boards())
    data = {**known["SIM"].data, "firmware": {"chip": "esp32", "file": "bin", "offset": 0x1000}}
    known["SIM"] = dataclasses.replace(known["SIM"], data=data)
    monkeypatch.setattr(catalogue, "all_boards", lambda: known)
    # A silent port is waited for in vain.
    monkeypatch.setattr(procedure.client, "look", functools.partial(procedure.client.look, timeout_s=0.3))
    with VirtualBoards(1) as started, EspRom() as rom:
        made = Desk(tmp_path, rom, started[0])
        made.rom = rom
        yield made


def test_a_blank_chip_is_asked_about_flashed_and_held_against_what_answers(desk):
    result = desk.flash("SIM")
    assert desk.asked == [["ESP32_GENERIC", "SIM"]]
    assert (result.board, result.tool) == ("SIM", "esptool")
    assert desk.rom.flash[0x1000 : 0x1000 + len(IMAGE)] == IMAGE
    assert result.exit_code == 4
    assert "another board answers now" in result.error
    assert desk.memory.board_of(result.uid) == ""


def test_a_remembered_chip_is_not_asked_about_again(desk):
    desk.memory.remember(MAC, "SIM")
    result = desk.flash()
    assert desk.asked == []
    assert result.board == "SIM"
    assert desk.rom.flash[0x1000 : 0x1000 + len(IMAGE)] == IMAGE


def test_when_nobody_can_be_asked_or_another_is_expected_nothing_is_written(desk):
    result = desk.flash()
    assert result.exit_code == 2
    assert "which board? the chip is an ESP32" in result.error
    assert "ESP32_GENERIC, SIM" in result.hint
    other = desk.flash("SIM", expect_uid="0123456789ab")
    assert other.exit_code == 2
    assert set(desk.rom.flash) == {0xFF}
