"""RP2 boards from a running MicroPython into the boot loader, through the drive, and back to MicroPython.

The board is a virtual one that leaves its port for the boot loader as an RP2 does; its boot drive is a folder whose
file an independent UF2 reader takes apart. What is written does not change the interpreter of a virtual board.
"""

import collections
import dataclasses
import json
import os
import sys
import threading
import time

import psutil
import pytest
from typer.testing import CliRunner

from sentill import __version__
from sentill_host import cli
from sentill_host.board import catalogue
from sentill_host.board.link import Link
from sentill_host.deploy import deploy
from sentill_host.errors import LinkError
from sentill_host.flash import firmware, memory, procedure, rp2
from sentill_host.flash.backend import Context, Voice
from sentill_host.flash.memory import Remembered
from sentill_host.flash.procedure import Options
from sentill_host.keys.key_file import KeyFile
from sentill_host.node import access, client
from sentill_host.virtual import VirtualBoards
from tests.e2e.conftest import run_mpremote, until
from tests.host.boot_drive import FLASH_START, BootDrive, make_uf2
from tests.host.test_flash_firmware import Site

CONTENT = os.urandom(256 * 300)


@pytest.fixture(autouse=True)
def virtual_boards_take_firmware(monkeypatch):
    """The virtual board as an RP2040: MicroPython's id for it stays SIM."""
    known = dict(catalogue.all_boards())
    data = {**known["SIM"].data, "firmware": {"chip": "rp2040", "file": "uf2"}}
    known["SIM"] = dataclasses.replace(known["SIM"], data=data)
    monkeypatch.setattr(catalogue, "all_boards", lambda: known)
    monkeypatch.setenv("PATH", os.path.dirname(sys.executable))  # no picotool


@pytest.fixture
def board():
    with VirtualBoards(1, usb="usb_cdc") as started:
        yield started[0]


def stable(board) -> str:
    """The link that follows the board over its resets."""
    return str(board._directory / board.name / "usb")


def version_of(board) -> str:
    with Link(stable(board)) as link:
        link.enter_repl()
        return procedure.ask(link)["version"]


class Bench:
    """A board, its boot drive, and what flashing said."""

    def __init__(self, board, tmp_path, **drive_options):
        self.board = board
        self.drive = BootDrive(
            tmp_path / "RPI-RP2", booted=lambda: board.control("power_cycle", ms=100), **drive_options
        )
        self.memory = Remembered(tmp_path / "boards.json")
        self.steps: list[str] = []
        self.told: list[str] = []
        self._watch = threading.Thread(target=self._insert_when_asked, daemon=True)
        self._watch.start()

    def _insert_when_asked(self) -> None:
        try:
            until(lambda: self.board.status()["state"] == "bootloader")
            self.drive.insert()
        except (AssertionError, LinkError):
            pass

    def flash(self, tmp_path, monkeypatch, **options) -> procedure.Result:
        monkeypatch.setattr(rp2, "drives", lambda: list(filter(None, [rp2.read_drive(self.drive.path)])))
        voice = Voice(say=lambda step, done, total: self.steps.append(step), instruct=self.told.append)
        return procedure.flash(stable(self.board), Options(**options), voice, self.memory)


@pytest.fixture
def firmware_file(board, tmp_path):
    path = tmp_path / f"SIM-20250911-v{version_of(board)}.uf2"
    path.write_bytes(make_uf2(CONTENT))
    return path


def test_a_running_board_is_flashed_and_answers_again(board, tmp_path, monkeypatch, firmware_file):
    bench = Bench(board, tmp_path)
    result = bench.flash(tmp_path, monkeypatch, file=firmware_file)
    assert result.error == "", result
    assert (result.board, result.tool, result.version) == ("SIM", "UF2 drive", version_of(board))
    assert bench.drive.written == (FLASH_START, CONTENT)
    assert bench.memory.board_of(result.uid) == "SIM"
    assert not bench.told
    assert [s for s in dict.fromkeys(bench.steps) if s.startswith(("enter", "copy", "waiting for Micro"))] == [
        "entering the boot loader", "copying", "waiting for MicroPython"
    ]  # fmt: skip
    assert "rpi" not in run_mpremote(board.usb, "fs", "ls", ":/").lower()


def test_the_command_deploys_right_after(board, tmp_path, monkeypatch, firmware_file):
    monkeypatch.setattr(memory.platformdirs, "user_data_dir", lambda _: str(tmp_path / "data"))
    drive = Bench(board, tmp_path).drive
    monkeypatch.setattr(rp2, "drives", lambda: list(filter(None, [rp2.read_drive(drive.path)])))
    arguments = ["flash", stable(board), "--file", str(firmware_file), "--deploy", "--json"]
    done = CliRunner().invoke(cli.build("flash"), arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert drive.written == (FLASH_START, CONTENT)
    assert (result["error"], result["deploy"]["error"]) == ("", "")
    with Link(stable(board)) as link:
        there = client.look(client.NodeClient(link))
    assert (there.identity or {}).get("sw") == __version__
    update_from_a_site(board, tmp_path, monkeypatch, firmware_file)


def update_from_a_site(board, tmp_path, monkeypatch, firmware_file) -> None:
    """The node that runs now is asked which variant of the firmware it sits on; the file comes from a web server."""
    build = "-".join(filter(None, ("SIM", build_of(board).partition("-")[2])))
    name = firmware_file.name.replace("SIM", build)
    page = f'<a href="/resources/firmware/{name}">{name}</a>'.encode()
    site = Site({"/download/SIM/": page, f"/resources/firmware/{name}": firmware_file.read_bytes()})
    monkeypatch.setattr(firmware.platformdirs, "user_cache_dir", lambda _: str(tmp_path / "cache"))
    (tmp_path / "again").mkdir()
    bench = Bench(board, tmp_path / "again")
    result = bench.flash(tmp_path, monkeypatch, site=site.url)
    site.close()
    assert (result.error, result.file) == ("", name)
    assert bench.drive.written == (FLASH_START, CONTENT)
    assert (tmp_path / "cache" / "firmware" / f"{name}.sha256").read_text().strip() == result.sha256


def build_of(board) -> str:
    with Link(stable(board)) as link:
        client.request_maintenance(client.NodeClient(link))
        link.enter_repl()
        build = procedure.ask(link)["build"]
        client.restart(link)
        link.reopen(60)
        assert client.await_identity(client.NodeClient(link), 60)[0] is not None
    return build


def test_a_locked_board_is_flashed_with_the_key_file_only(board, tmp_path, monkeypatch, firmware_file):
    keys = KeyFile.create(tmp_path / "keys.json", "a password of tests")
    deployed = deploy.deploy([stable(board)], keys=keys, profile="service")[0]
    assert not deployed.error, deployed
    bench = Bench(board, tmp_path)
    refused = bench.flash(tmp_path, monkeypatch, file=firmware_file)
    assert refused.exit_code == 2 and "locked (service)" in refused.error, refused
    assert "--keys" in refused.hint and "BOOTSEL" in refused.hint, refused
    assert bench.drive.written is None
    result = bench.flash(tmp_path, monkeypatch, file=firmware_file, keys=keys)
    assert (result.error, result.version) == ("", version_of_node(board))
    assert bench.drive.written == (FLASH_START, CONTENT)
    with Link(stable(board)) as link:
        assert access.challenge(client.NodeClient(link)).locked, "locked and at work again"


def version_of_node(board) -> str:
    with Link(stable(board)) as link:
        return str(access.identity(client.NodeClient(link))["fw"])


def test_firmware_of_another_version_than_said_is_found(board, tmp_path, monkeypatch, firmware_file):
    other = firmware_file.with_name("SIM-20250101-v1.2.3.uf2")
    firmware_file.rename(other)
    result = Bench(board, tmp_path).flash(tmp_path, monkeypatch, file=other)
    assert result.exit_code == 4
    assert "1.2.3 was written" in result.error


def test_a_file_for_another_chip_never_reaches_the_drive(board, tmp_path, monkeypatch):
    path = tmp_path / "other.uf2"
    path.write_bytes(make_uf2(CONTENT, 0xE48BFF59))
    bench = Bench(board, tmp_path)
    result = bench.flash(tmp_path, monkeypatch, file=path)
    assert result.exit_code == 2
    assert "this board has an RP2040" in result.error
    assert bench.drive.written is None


def test_another_board_than_expected_is_refused_untouched(board, tmp_path, monkeypatch, firmware_file):
    boots = board.status()["boots"]
    result = Bench(board, tmp_path).flash(tmp_path, monkeypatch, file=firmware_file, expect_uid="somebody")
    assert result.exit_code == 2
    assert "not somebody" in result.error
    assert (board.status()["state"], board.status()["boots"]) == ("running", boots)


def context(path, told=None, **changes) -> Context:
    image = procedure.firmware.local(path)
    voice = Voice(instruct=told.append if told is not None else lambda _: None)
    return Context(catalogue.load("SIM"), image, voice, patience_s=0.3, **changes)


@pytest.fixture
def loose_file(tmp_path):
    path = tmp_path / "fw.uf2"
    path.write_bytes(make_uf2(CONTENT))
    return path


def test_a_named_drive_is_used_and_a_refusing_chip_is_noticed(tmp_path, monkeypatch, loose_file):
    good, bad = BootDrive(tmp_path / "a"), BootDrive(tmp_path / "b", refuses=True)
    good.insert()
    bad.insert()
    rp2.Uf2Drive().flash(context(loose_file, drive=tmp_path / "a"))
    assert good.written == (FLASH_START, CONTENT)
    monkeypatch.setattr(rp2, "_COPY_S", 1.0)
    with pytest.raises(rp2.VerifyError, match="loader refused it"):
        rp2.Uf2Drive().flash(context(loose_file, drive=tmp_path / "b"))
    bad.close()


class Leaving:
    """A file on a drive that goes after the first piece."""

    def __init__(self, *_, **__):
        self.pieces = 1

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def write(self, data):
        self.pieces -= 1
        if self.pieces < 0:
            raise OSError(5, "Input/output error")
        return len(data)


def test_a_drive_that_goes_too_early_is_an_error(tmp_path, loose_file, monkeypatch):
    job = context(loose_file)
    monkeypatch.setattr("builtins.open", Leaving)
    with pytest.raises(LinkError, match="went after 65536 of 153600 bytes"):
        rp2.copy(rp2.Drive(tmp_path, "rp2040"), job)
    monkeypatch.undo()


def test_drives_are_told_apart_by_socket_or_refused(tmp_path, loose_file):
    one, two = (rp2.Drive(tmp_path / name, "rp2040", socket) for name, socket in (("a", "1-1.3"), ("b", "1-1.4")))
    assert rp2.await_drive(context(loose_file, socket="1-1.4"), lambda: [one, two]) == two
    with pytest.raises(rp2.UsageError, match="several boot drives"):
        rp2.await_drive(context(loose_file), lambda: [one, two])
    unknown = rp2.Drive(tmp_path / "c", "rp2040")
    assert rp2.await_drive(context(loose_file, socket="1-1.3"), lambda: [unknown]) == unknown


def test_a_person_is_told_which_key_to_hold(tmp_path, monkeypatch, loose_file):
    monkeypatch.setattr(rp2, "_SHOW_UP_S", 0.2)
    told: list[str] = []
    with pytest.raises(LinkError, match="no boot drive"):
        rp2.await_drive(context(loose_file, told), list)
    assert len(told) == 1
    assert "BOOTSEL" in told[0]


def test_the_socket_of_a_drive_comes_from_the_device_tree(tmp_path):
    place = tmp_path / "devices/pci0000:00/usb1/1-1/1-1.4/1-1.4:1.0/host6/target6:0:0/6:0:0:0/block/sdb/sdb1"
    place.mkdir(parents=True)
    (tmp_path / "class").mkdir()
    (tmp_path / "class/sdb1").symlink_to(place)
    assert rp2._socket_of("/dev/sdb1", tmp_path / "class") == "1-1.4"
    assert rp2._socket_of("/dev/sdc1", tmp_path / "class") == ""


def test_folders_without_the_info_file_are_no_drives(tmp_path):
    assert rp2.read_drive(tmp_path) is None
    (tmp_path / "INFO_UF2.TXT").write_text("Model: X\nBoard-ID: SAMD51\n")
    assert rp2.read_drive(tmp_path) is None
    assert all(drive.chip for drive in rp2.drives())


PICOTOOL = """#!{python}
import sys, pathlib
here = pathlib.Path(__file__).parent
with open(here / "calls", "a") as log:
    log.write(" ".join(sys.argv[1:]) + chr(10))
if sys.argv[1] == "info" and not (here / "present").exists():
    print("No accessible RP-series devices in BOOTSEL mode were found.")
    sys.exit(249)
if sys.argv[1] == "load" and (here / "bad").exists():
    print("ERROR: Verify failed")
    sys.exit(1)
"""


def test_picotool_erases_loads_verifies_and_starts(tmp_path, monkeypatch, loose_file):
    # A stand-in that records its command lines: picotool itself is in no registry this test may ask.
    tool = tmp_path / "bin" / "picotool"
    tool.parent.mkdir()
    tool.write_text(PICOTOOL.format(python=sys.executable))
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tool.parent))
    threading.Timer(1.0, lambda: (tool.parent / "present").touch()).start()
    start = time.monotonic()
    rp2.Picotool().flash(context(loose_file, erase=True))
    assert time.monotonic() - start >= 0.9
    calls = (tool.parent / "calls").read_text().splitlines()
    assert [call for call in calls if call != "info"] == ["erase -a", f"load -v -x {loose_file}"]
    (tool.parent / "bad").touch()
    with pytest.raises(rp2.VerifyError, match="Verify failed"):
        rp2.Picotool().flash(context(loose_file))


def test_only_one_board_without_a_known_socket_is_in_its_boot_loader_at_a_time(monkeypatch):
    monkeypatch.setattr(rp2, "_LOCK", f"bootsel-{os.getpid()}")  # other tests flash meanwhile
    first = rp2.bootsel_lock(0.0, lambda *_: None)
    with pytest.raises(LinkError, match="another board is being flashed"):
        rp2.bootsel_lock(0.3, lambda *_: None)
    first.close()
    rp2.bootsel_lock(0.0, lambda *_: None).close()


Partition = collections.namedtuple("Partition", "device mountpoint fstype opts")


@pytest.mark.parametrize(
    ("device", "fstype", "options"),
    [
        ("/dev/sda1", "vfat", "rw,nosuid,nodev"),
        ("E:\\", "FAT", "rw,removable"),
        ("/dev/disk4s1", "msdos", "rw,nodev,nosuid"),
    ],
    ids=["linux", "windows", "macos"],
)
def test_boot_drives_are_found_as_each_system_lists_them(tmp_path, monkeypatch, device, fstype, options):
    drive = BootDrive(tmp_path / "RP2350", "rp2350")
    drive.insert()
    listing = [
        Partition(device, str(drive.path), fstype, options),
        Partition("C:\\", str(tmp_path), "NTFS", "rw,fixed"),
        Partition("D:\\", str(tmp_path / "no medium"), "", "cdrom"),
    ]
    monkeypatch.setattr(psutil, "disk_partitions", lambda all: listing)
    assert rp2.drives() == [rp2.Drive(drive.path, "rp2350")]
    drive.close()
