"""`sentill flash` as a person meets it: the question which board it is, what it says when it cannot go on."""

import json
import os
import pty
import select
import subprocess
import sys
import time

import pytest

from tests.host.boot_drive import FLASH_START, BootDrive, make_uf2

SENTILL = [sys.executable, "-c", "from sentill_host.cli import main; main()"]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*SENTILL, *arguments], capture_output=True, text=True, timeout=120)


@pytest.fixture
def firmware(tmp_path):
    path = tmp_path / "RPI_PICO-20250911-v1.26.1.uf2"
    path.write_bytes(make_uf2(bytes(range(256)) * 4))
    return path


@pytest.fixture
def drive(tmp_path):
    made = BootDrive(tmp_path / "RPI-RP2")
    made.insert()
    yield made
    made.close()


def test_without_a_person_to_ask_it_says_which_boards_it_may_be(drive, firmware):
    done = run("flash", "--drive", str(drive.path), "--file", str(firmware), "--json")
    assert done.returncode == 2, done.stderr
    result = json.loads(done.stdout)
    assert "which board? the chip is an RP2040" in result["error"]
    assert "RPI_PICO, RPI_PICO_W" in result["hint"]
    assert drive.written is None


class Person:
    """Types at a terminal and reads what is on it."""

    def __init__(self, *arguments: str):
        self._master, slave = pty.openpty()
        self.process = subprocess.Popen([*SENTILL, *arguments], stdin=slave, stdout=slave, stderr=slave)
        os.close(slave)
        self.seen = ""

    def read_until(self, words: str) -> None:
        end = time.monotonic() + 60
        while words not in self.seen:
            assert time.monotonic() < end, self.seen
            if select.select([self._master], [], [], 0.2)[0]:
                self.seen += os.read(self._master, 4096).decode(errors="replace")

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._master)


def test_a_person_is_asked_once_and_the_chip_gets_its_firmware(drive, firmware):
    person = Person("flash", "--drive", str(drive.path), "--file", str(firmware))
    try:
        person.read_until("remembered by the chip's unique id")
        assert "1  Raspberry Pi Pico (RPI_PICO)" in person.seen
        assert "2  Raspberry Pi Pico W (RPI_PICO_W)" in person.seen
        person.type("1\n")
        end = time.monotonic() + 60
        while drive.written is None:
            assert time.monotonic() < end, person.seen
            time.sleep(0.05)
    finally:
        person.close()  # no board comes back behind this drive
    assert drive.written == (FLASH_START, bytes(range(256)) * 4)


def test_a_number_that_is_not_on_the_list_ends_it(drive, firmware):
    person = Person("flash", "--drive", str(drive.path), "--file", str(firmware))
    try:
        person.read_until("remembered by the chip's unique id")
        person.type("7\n")
        person.read_until("which board? the chip is an RP2040")
        assert person.process.wait(30) == 2
    finally:
        person.close()
    assert drive.written is None


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["/dev/sentill-absent"], 3, "no such port"),
        (["--board", "toaster"], 2, "unknown board"),
        (["--board", "SIM"], 2, "takes no firmware"),
        (["--board", "RPI_PICO", "--file", "/absent.uf2"], 2, "/absent.uf2"),
        (["--board", "RPI_PICO", "--version", "latest"], 2, "no version: 'latest'"),
        (["--board", "RPI_PICO", "--tool", "hammer"], 2, "no tool 'hammer'"),
        (["--board", "RPI_PICO", "--version", "1.26.1", "--site", "http://127.0.0.1:9"], 3, "cannot be reached"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_said_with_its_exit_code(arguments, code, words):
    done = run("flash", *arguments)
    assert done.returncode == code, done.stdout + done.stderr
    assert words in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
