"""The doctor's findings about a computer: the USB tree, permissions, and the programs that get in the way."""

import getpass
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from sentill_host import doctor
from sentill_host.board import port_lock, ports
from sentill_host.doctor import FAIL, NOTE, OK, WARN, Computer
from sentill_host.errors import LinkError
from sentill_host.flash.rp2 import Drive

PICO = ports.PortInfo("/dev/ttyACM0", "Board in FS mode", "E6605838834C2A34", "1-1.4:1.0", ("RPI_PICO",), 0x2E8A, 5)


def device(
    root: Path, socket: str, vid: str, pid: str, product: str, driver: str = "", tty: str = "", kind="00"
) -> None:
    """A device in a sysfs tree, with one interface."""
    folder = root / socket
    interface = folder / f"{socket}:1.0"
    interface.mkdir(parents=True)
    for name, text in (("idVendor", vid), ("idProduct", pid), ("product", product), ("bDeviceClass", kind)):
        (folder / name).write_text(text + "\n")
    if driver:
        (root / "drivers" / driver).mkdir(parents=True, exist_ok=True)
        (interface / "driver").symlink_to(root / "drivers" / driver)
    if tty:
        (interface / tty).mkdir()


def hub_port(root: Path, name: str, overloads: int = 0, state: str = "configured") -> None:
    folder = root / "1-0:1.0" / name
    folder.mkdir(parents=True)
    (folder / "over_current_count").write_text(f"{overloads}\n")
    (folder / "state").write_text(f"{state}\n")


def computer(tmp_path: Path, listing=(), programs=(), drives=(), platform="linux") -> Computer:
    return Computer(platform, tmp_path / "usb", (tmp_path / "rules",), list(listing), frozenset(programs), list(drives))


def levels(findings) -> list[str]:
    return [finding.level for finding in findings]


def test_a_board_with_its_port_is_fine(tmp_path):
    device(tmp_path / "usb", "1-1.4", "2e8a", "0005", "Board in FS mode", "cdc_acm", "tty")
    device(tmp_path / "usb", "1-1", "05e3", "0610", "USB2.1 Hub", "hub", kind="09")
    (finding,) = doctor.examine_computer(computer(tmp_path, [PICO]))
    assert (finding.level, "/dev/ttyACM0" in finding.text) == (OK, True)


def test_nothing_on_the_bus_is_suspected_to_be_the_cable(tmp_path):
    (finding,) = doctor.examine_computer(computer(tmp_path))
    assert finding.level == FAIL
    assert "carries power only" in finding.fix
    (elsewhere,) = doctor.examine_computer(computer(tmp_path, platform="win32"))
    assert elsewhere.level == FAIL


def test_a_board_in_its_boot_loader_is_no_mystery(tmp_path):
    (finding,) = doctor.examine_computer(computer(tmp_path, drives=[Drive(Path("/media/me/RPI-RP2"), "rp2040")]))
    assert (finding.level, finding.fix) == (NOTE, "sentill flash")


def test_a_board_without_a_driver_and_one_taken_by_another(tmp_path):
    device(tmp_path / "usb", "1-1.2", "10c4", "ea60", "CP2102 USB to UART Bridge Controller")
    device(tmp_path / "usb", "1-1.3", "1a86", "7523", "USB Serial", "usbfs")
    device(tmp_path / "usb", "1-1.5", "046d", "c31c", "Keyboard", "usbhid")
    findings = doctor.examine_computer(computer(tmp_path, programs=["brltty"]))
    texts = [f.text for f in findings if f.level in (FAIL, WARN)]
    assert any("1-1.2" in text and "no driver serves" in text for text in texts), texts
    assert any("1-1.3" in text and "held by usbfs" in text for text in texts), texts
    assert any("brltty" in text for text in texts)
    assert not any("Keyboard" in text for text in texts)


def test_overloaded_sockets_and_devices_that_do_not_come_up(tmp_path):
    hub_port(tmp_path / "usb", "usb1-port1")
    hub_port(tmp_path / "usb", "usb1-port2", overloads=3)
    hub_port(tmp_path / "usb", "usb1-port3", state="default")
    findings = doctor.examine_computer(computer(tmp_path, [PICO]))
    assert levels(findings) == [OK, WARN, FAIL]
    assert "cut its power 3 time(s)" in findings[1].text
    assert "usb1-port3 does not come up" in findings[2].text
    assert "cable" in findings[2].fix


def test_modemmanager_is_named_unless_a_rule_keeps_it_away(tmp_path):
    sick = computer(tmp_path, [PICO], ["ModemManager"])
    assert [f for f in doctor.examine_computer(sick) if "ModemManager" in f.text and "--udev" in f.fix]
    rules = tmp_path / "rules"
    rules.mkdir()
    (rules / "60-other.rules").write_text('# ATTRS{idVendor}=="2e8a", ENV{ID_MM_DEVICE_IGNORE}="1"\n')
    assert [f for f in doctor.examine_computer(sick) if "ModemManager" in f.text], "a comment is no rule"
    (rules / "60-sentill.rules").write_text(doctor.udev_rules())
    assert not [f for f in doctor.examine_computer(sick) if "ModemManager" in f.text]


def test_the_udev_rules_cover_every_known_board():
    rules = doctor.udev_rules("uucp")
    for vendor in ("2e8a", "10c4", "1a86", "0403", "303a"):
        assert f'ATTRS{{idVendor}}=="{vendor}", MODE="0660", GROUP="uucp"' in rules
    assert 'ENV{ID_MM_DEVICE_IGNORE}="1"' in rules


def test_a_port_in_use_is_named_once(monkeypatch):
    master, slave = pty.openpty()
    name = os.ttyname(slave)

    def busy(port):
        raise LinkError(f"{port}: in use by picocom (pid 7)", "close it")

    monkeypatch.setattr(doctor, "Link", busy)
    (finding,) = doctor.examine_port(name)
    os.close(master)
    os.close(slave)
    assert (finding.level, finding.about, finding.text) == (FAIL, name, "in use by picocom (pid 7)")


def test_a_port_without_permission_names_group_and_rule(monkeypatch):
    master, slave = pty.openpty()
    name = os.ttyname(slave)
    info = ports.PortInfo(name, "", "", "1-1.4:1.0", (), 0x2E8A, 5)
    monkeypatch.setattr(ports, "found", lambda: [info])
    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setattr(port_lock, "group_of", lambda _: "dialout")
    (finding,) = doctor.examine_port(name)
    os.close(master)
    os.close(slave)
    assert finding.level == FAIL
    assert "the group dialout may" in finding.text
    assert f"sudo usermod -aG dialout {getpass.getuser()}" in finding.fix
    assert 'SUBSYSTEM=="tty", ATTRS{idVendor}=="2e8a"' in finding.fix
    monkeypatch.setattr(port_lock, "group_of", lambda _: "root")
    assert "usermod" not in port_lock.admission(name, "till"), "root's group gives far more than a port"
    assert "doctor --udev" in port_lock.admission(name, "till")


def test_an_absent_port_and_an_absent_board():
    (absent,) = doctor.examine_port("/dev/ttyACM99")
    assert (absent.level, "no such port" in absent.text) == (FAIL, True)
    (unknown,) = doctor.examine_port("serial:NOBODY")
    assert (unknown.level, "no such board" in unknown.text) == (FAIL, True)


HOLDER = "import sys, time; f = open(sys.argv[1], 'rb', buffering=0); print('open', flush=True); time.sleep(60)"
PLAYER = "import os, sys; m, s = os.openpty(); print(os.ttyname(s), flush=True); sys.stdin.read()"


def test_a_program_that_shares_the_port_is_named(monkeypatch):
    master, slave = pty.openpty()
    name = os.ttyname(slave)
    child = subprocess.Popen([sys.executable, "-c", HOLDER, name], stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout.readline() == "open\n"
        finding = doctor._shared(name, name)
        assert finding.level == WARN
        assert f"(pid {child.pid})" in finding.text
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
        os.close(master)
        os.close(slave)


def test_the_program_that_plays_a_board_does_not_share_its_port():
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", PLAYER], **pipes) as player:
        device = player.stdout.readline().strip()
        assert doctor._shared(device, device).level == OK
        with subprocess.Popen([sys.executable, "-c", HOLDER, device], **pipes) as holder:
            assert holder.stdout.readline() == "open\n"
            (named,) = port_lock.holders(device)
            assert f"(pid {holder.pid})" in named
            holder.kill()
        player.stdin.close()


@pytest.mark.parametrize(("version", "level"), [("1.23.0", WARN), ("1.24.0", OK), ("1.29.0-preview", OK), ("", WARN)])
def test_old_firmware_is_found(version, level):
    finding = doctor._firmware("COM3", version, doctor.catalogue.load("RPI_PICO"))
    assert finding.level == level
    if level == WARN:
        assert finding.fix == "sentill flash COM3"
