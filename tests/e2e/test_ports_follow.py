"""Boards named by serial number through whole deploys: each reset gives them another device, and two swap theirs."""

import os
from pathlib import Path

import pytest
import serial.tools.list_ports
from serial.tools.list_ports_common import ListPortInfo

from sentill import __version__
from sentill_host.board import port_lock
from sentill_host.board.link import Link
from sentill_host.deploy import deploy
from sentill_host.errors import LinkError, PortGone
from sentill_host.node import client
from sentill_host.virtual import VirtualBoards

BUS = f"{os.getpid()}-1"  # its sockets are locked; other tests may run beside


@pytest.fixture
def boards(tmp_path, monkeypatch):
    """Two boards that are their own USB devices, listed with serial number and socket while they are plugged in."""
    with VirtualBoards(2, dir=tmp_path, usb="usb_cdc") as started:

        def listing() -> list[ListPortInfo]:
            found = []
            for number, board in enumerate(started):
                try:
                    device = os.readlink(Path(tmp_path) / board.name / "usb")
                except FileNotFoundError:
                    continue
                info = ListPortInfo(device, skip_link_detection=True)
                info.vid, info.pid = 0x2E8A, 0x0005
                info.serial_number, info.location = f"E6605838{number}", f"{BUS}.{number + 1}:1.0"
                found.append(info)
            return found

        monkeypatch.setattr(serial.tools.list_ports, "comports", listing)
        yield started


def test_a_deploy_follows_each_board_to_its_new_device(boards):
    names = ["serial:e66058380", f"at:{BUS}.2"]
    resets = [board.status()["boots"] for board in boards]
    results = deploy.deploy(names)
    assert all(board.status()["boots"] > was for board, was in zip(boards, resets, strict=True))
    assert [(result.port, result.error, result.version) for result in results] == [
        (name, "", __version__) for name in names
    ]
    assert len({result.uid for result in results}) == 2


def enter_again(link: Link) -> None:
    """Open the port once more; it may be the old one still, which goes a moment later."""
    for _ in range(3):
        try:
            link.reopen(20)
            link.enter_repl()
            return
        except PortGone:
            continue
    raise AssertionError("the port goes again and again")


def test_an_open_link_finds_its_board_again_after_both_were_reset(boards):
    with Link(boards[0].usb) as link:
        link.enter_repl()
        uid = link.exec("import machine\nprint(machine.unique_id())")
        link.reset()
        boards[1].control("reset")
        enter_again(link)
        assert link.exec("import machine\nprint(machine.unique_id())") == uid
        with pytest.raises(LinkError, match="in use"):
            port_lock.lock(boards[0].usb, f"usb:{BUS}.1:1.0")
        assert client.look(client.NodeClient(link)).identity is None
