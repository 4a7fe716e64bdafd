"""Ports by serial number and socket, on listings of Linux, Windows and macOS.

The listings (tests/vectors/ports) follow what pyserial makes on each system; none was taken from a real computer.
"""

import errno
import itertools
import json
import os
import pty
import subprocess
import sys
import time
from pathlib import Path

import pytest
import serial.tools.list_ports
from serial.tools.list_ports_common import ListPortInfo

from sentill_host.board import port_lock, ports
from sentill_host.board.link import Link
from sentill_host.errors import LinkError, UsageError

LISTINGS = Path(__file__).parents[1] / "vectors" / "ports"


def recorded(system: str) -> list[ListPortInfo]:
    listing = []
    for row in json.loads((LISTINGS / f"{system}.json").read_text()):
        info = ListPortInfo(row["device"], skip_link_detection=True)
        for name, value in row.items():
            setattr(info, name, value)
        listing.append(info)
    return listing


@pytest.fixture
def plugged(monkeypatch):
    """Make this computer's listing be another's: plugged("windows") or plugged(list of PortInfo)."""

    def plug(what) -> None:
        listing = recorded(what) if isinstance(what, str) else what
        monkeypatch.setattr(serial.tools.list_ports, "comports", lambda: listing)

    return plug


@pytest.mark.parametrize(
    ("system", "devices"),
    [
        ("linux", ["/dev/ttyACM9", "/dev/ttyACM10", "/dev/ttyUSB0", "/dev/ttyUSB1"]),
        ("windows", ["COM5", "COM7", "COM12"]),
        ("macos", ["/dev/cu.usbmodem1101", "/dev/cu.usbserial-0001"]),
    ],
)
def test_usb_ports_are_listed_in_the_order_a_person_counts(plugged, system, devices):
    plugged(system)
    assert [port.device for port in ports.found()] == devices


@pytest.mark.parametrize(
    ("system", "name", "device"),
    [
        ("linux", "serial:e6605838834c2a34", "/dev/ttyACM10"),
        ("linux", "at:1-1.3", "/dev/ttyACM9"),
        ("linux", "at:1-2.2:1.0", "/dev/ttyUSB1"),
        ("windows", "serial:E6605838834C2A34", "COM12"),
        ("windows", "at:1-2", "COM7"),
        ("windows", "COM3", "COM3"),
        ("macos", "serial:E6605838834C2A34", "/dev/cu.usbmodem1101"),
        ("macos", "at:20-1.2", "/dev/cu.usbserial-0001"),
    ],
)
def test_a_stable_name_finds_the_port(plugged, system, name, device):
    plugged(system)
    assert ports.resolve(name) == device


def test_every_stable_name_leads_back_or_is_refused_as_ambiguous(plugged):
    for system in ("linux", "windows", "macos"):
        plugged(system)
        for port in ports.found():
            if port.serial_number == "0001" and system == "linux":
                with pytest.raises(UsageError, match="fits several ports: /dev/ttyUSB0, /dev/ttyUSB1"):
                    ports.resolve(port.stable)
            else:
                assert ports.resolve(port.stable) == port.device


@pytest.mark.parametrize("name", ["serial:nothing", "serial:", "at:9-9", "at:"])
def test_a_stable_name_of_nothing_is_an_error_with_a_way_out(plugged, name):
    plugged("linux")
    with pytest.raises(LinkError, match="no such board") as caught:
        ports.resolve(name)
    assert "sentill ports" in caught.value.hint


@pytest.mark.parametrize("error", [TypeError("int() argument must be a string"), FileNotFoundError(2, "gone")])
def test_a_board_that_leaves_the_bus_while_ports_are_listed(monkeypatch, error):
    """pyserial reads nothing of it where it expects a number."""
    listing = [error, error, recorded("linux")]

    def comports():
        answer = listing.pop(0) if len(listing) > 1 else listing[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(serial.tools.list_ports, "comports", comports)
    assert len(ports.found()) == 4
    listing[:] = [error]
    with pytest.raises(LinkError, match="changes all the time"):
        ports.found()


def test_a_pseudo_terminal_that_goes_while_it_is_looked_at(monkeypatch):
    master, slave = pty.openpty()
    name = os.ttyname(slave)
    os.close(slave)
    os.close(master)
    monkeypatch.setattr(os.path, "exists", lambda path: True)  # it did, a moment ago
    with pytest.raises(LinkError):
        Link(name)


def moved(device: str, new: str, system: str = "linux") -> list[ListPortInfo]:
    listing = recorded(system)
    for info in listing:
        if info.device == device:
            info.device = new
    return listing


@pytest.mark.parametrize(
    ("system", "name", "new"), [("linux", "/dev/ttyACM10", "/dev/ttyACM11"), ("windows", "COM12", "COM13")]
)
def test_a_board_is_followed_to_its_new_name_after_a_reset(plugged, system, name, new):
    plugged(system)
    address = ports.Address(name)
    assert address.device() == name
    key = address.key
    plugged(moved(name, new, system))
    assert (address.device(), address.key) == (new, key)


def test_two_boards_that_swap_names_are_told_apart(plugged):
    plugged("linux")
    address = ports.Address("/dev/ttyACM9")
    address.device()
    listing = recorded("linux")
    swap = {"/dev/ttyACM9": "/dev/ttyACM10", "/dev/ttyACM10": "/dev/ttyACM9"}
    for info in listing:
        info.device = swap.get(info.device, info.device)
    plugged(listing)
    assert address.device() == "/dev/ttyACM10"


def test_boards_with_the_same_serial_number_are_told_apart_by_their_socket(plugged):
    plugged("linux")
    address = ports.Address("/dev/ttyUSB1")
    address.device()
    plugged([info for info in recorded("linux") if info.device != "/dev/ttyUSB1"])
    with pytest.raises(LinkError, match="no such port"):
        address.device()


def test_another_board_in_the_socket_is_not_taken_for_the_first(plugged):
    plugged("linux")
    address = ports.Address("/dev/ttyACM9")
    address.device()
    listing = recorded("linux")
    for info in listing:
        if info.device == "/dev/ttyACM9":
            info.serial_number = "SOMEONE-ELSE"
    plugged(listing)
    with pytest.raises(LinkError, match="another board is in its socket now \\(SOMEONE-ELSE\\)"):
        address.device()


def test_a_port_without_usb_identity_is_opened_by_its_name(plugged, tmp_path):
    plugged("linux")
    link = tmp_path / "board"
    link.symlink_to("/dev/null")
    address = ports.Address(str(link))
    assert address.device() == "/dev/null"
    key = address.key
    link.unlink()
    link.symlink_to("/dev/zero")
    assert address.device() == "/dev/zero"
    assert address.key == key, "the lock is the link's, wherever it leads"
    assert ports.Address("/dev/null").key == "/dev/null"


@pytest.mark.parametrize(
    ("platform", "error", "words"),
    [
        ("win32", "could not open port 'COM9': FileNotFoundError(2, 'not found', None, 2)", "no such"),
        ("win32", "could not open port 'COM9': PermissionError(13, 'Access is denied.', None, 5)", "in use by another"),
        ("win32", "OSError(22, 'A device attached to the system is not functioning')", "driver"),
        ("win32", "could not open port 'COM9': OSError(22, 'The semaphore timeout period has expired.')", "driver"),
        ("win32", "something new", "cannot be opened"),
    ],
)  # fmt: skip
def test_what_windows_says_is_told_in_plain_words(platform, error, words):
    told = port_lock.diagnose("COM9", serial.SerialException(error), platform)
    assert words in str(told)
    assert told.hint


def test_a_busy_port_on_macos_names_its_user(monkeypatch, tmp_path):
    # Output of `lsof -F pc`; a stand-in plays the program, which this system lacks.
    (tmp_path / "lsof").write_text('#!/bin/sh\nprintf "p812\\ncscreen\\nf3\\np813\\ncThonny\\n"\n')
    (tmp_path / "lsof").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert port_lock.holders("/dev/cu.usbmodem1101", "darwin") == ["screen (pid 812)", "Thonny (pid 813)"]


def test_a_busy_error_is_known_by_its_number():
    master, slave = pty.openpty()
    told = port_lock.diagnose(os.ttyname(slave), OSError(errno.EBUSY, "Resource busy"), "darwin")
    os.close(master)
    os.close(slave)
    assert "in use by" in str(told)


def test_what_is_no_serial_port_is_called_so(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    for name in ("/dev/null", str(tmp_path / "notes.txt")):
        with pytest.raises(LinkError, match="no serial port"):
            Link(name)


def test_a_number_given_anew_is_another_port():
    master, slave = pty.openpty()
    name = os.ttyname(slave)
    first = ports.Address(name, list).key
    assert ports.Address(name, list).key == first
    address = ports.Address(name, list)
    assert address.device() == address.device() == name
    os.close(master)
    os.close(slave)
    time.sleep(0.05)  # the clock of the file system ticks
    taken = []
    while name not in [os.ttyname(pair[1]) for pair in taken]:  # free numbers come in order; others take some, too
        assert len(taken) < 500
        taken.append(pty.openpty())
    second = ports.Address(name, list).key
    with pytest.raises(LinkError, match="another port has got its number"):
        address.device()
    for descriptor in itertools.chain.from_iterable(taken):
        os.close(descriptor)
    assert second != first


LOCKER = """
import sys
from sentill_host.board import port_lock as portuse
held = portuse.lock("/dev/null", sys.argv[2], sys.argv[1])
print("held", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("long", ["", "/" + "a-deep-folder/" * 30], ids=["short", "long"])
@pytest.mark.parametrize("platform", ["linux", "darwin", "win32"])
def test_one_process_at_a_time_has_a_port_and_its_death_frees_it(platform, long):
    socket = f"usb:test-{os.getpid()}-1{long}"
    child = subprocess.Popen(
        [sys.executable, "-c", LOCKER, platform, socket], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout.readline() == "held\n"
    with pytest.raises(LinkError, match="in use"):
        port_lock.lock("/dev/null", socket, platform)
    port_lock.lock("/dev/null", socket + "5", platform).close()
    child.kill()
    child.wait(20)
    held = port_lock.lock("/dev/null", socket, platform)
    held.close()
    held.close()
    child.stdin.close()
    child.stdout.close()


def test_a_link_opens_a_board_by_its_serial_number(plugged):
    master, slave = pty.openpty()
    info = ListPortInfo(os.ttyname(slave), skip_link_detection=True)
    info.vid, info.pid, info.serial_number, info.location = 0x2E8A, 5, "ABC123", f"test-{os.getpid()}:1.0"
    plugged([info])
    with Link("serial:abc123") as link:
        os.write(master, b"hello")
        assert link.read(5.0) == b"hello"
        with pytest.raises(LinkError, match="in use"):
            port_lock.lock("/dev/whatever", f"usb:test-{os.getpid()}:1.0")
    os.close(master)
    os.close(slave)
