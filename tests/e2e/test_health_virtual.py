"""Health on a virtual board: sensors that fail, waveforms, a wear index, starts by cause, light sleep."""

import json
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sentill_host.board import catalogue as boards
from sentill_host.board.link import Link
from sentill_host.deploy.deploy import deploy, read_config
from sentill_host.health import fault_scenario, faults
from sentill_host.node.client import NodeClient
from sentill_host.node.health_table import collect
from sentill_host.virtual import VirtualBoards
from sentill_host.virtual.api import Board
from tests.e2e.conftest import DEADLINE_S
from tests.e2e.test_node_virtual import event, identity, verdict

SENTILL = [sys.executable, "-c", "from sentill_host.cli import main; main()"]
DAY_S = 86400


@pytest.fixture
def board() -> Iterator[Board]:
    """A fresh virtual board: the test installs the node with its own configuration; a first version has no trial."""
    with VirtualBoards(1) as boards:
        yield boards[0]


def configure(board: Board, folder: Path, models: dict[str, bytes], **config: Any) -> None:
    """Install the node with this configuration and these models."""
    for name, data in models.items():
        (folder / name).write_bytes(data)
    text = read_config(json.dumps(config), "config")
    (result,) = deploy([board.usb], config=text, models=[folder / name for name in models])
    assert not result.error, result
    with Link(board.usb) as link:
        identity(NodeClient(link))


def rows(board: Board) -> dict[str, dict[str, Any]]:
    """The attribute table by channel."""
    with Link(board.usb) as link:
        return {row["name"]: row for row in collect(NodeClient(link))}


def told(board: Board) -> dict[str, dict[str, Any]]:
    """The same as `sentill health` tells it."""
    done = subprocess.run([*SENTILL, "health", board.usb, "--json"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return {row["name"]: row for row in json.loads(done.stdout)["channels"]}


def eventually(board: Board, name: str, holds, seconds: float = DEADLINE_S) -> dict[str, Any]:
    """The row of a channel once `holds(row)` is true."""
    end = time.monotonic() + seconds
    while not holds(row := rows(board)[name]):
        assert time.monotonic() < end, row
    return row


def channel(name: str, source: str, **keys: Any) -> dict[str, Any]:
    return {"name": name, "source": source, "step_s": 1, "watch_at": 0, **keys}


def wear_file(names: bytes) -> bytes:
    """An index of one input: 100 days left at mid-scale, 2 when the reading is 20,000 above it."""
    data = struct.pack("<4sBBBBI", b"STW1", 1, 2, 0, 0, DAY_S) + struct.pack("<ihhBB", 32768, -16, 0, 0, 0)
    data += struct.pack("<hhhhhhhh", -20000, 2, 1, 4, 0, 100, 80, 110) + struct.pack("<H", len(names)) + names
    return data + struct.pack("<I", zlib.crc32(data))


def test_a_trained_index_tells_when_to_replace_a_part(board: Board, tmp_path: Path) -> None:
    board.control("set", values={"adc.4": 32768 + 18571})
    life = channel("life", "wear:models/printer.stw", min=0, max=200, good=100, lo_warn=20, lo_fail=3, unit="d")
    lost = channel("lost", "wear:models/gone.stw", min=0, max=200)
    life["advice"] = "Replace the printer head"
    configure(
        board, tmp_path, {"printer.stw": wear_file(b"motor")}, channels=[channel("motor", "adc:4"), life, lost],
        sample_ms=100,
    )  # fmt: skip
    eventually(board, "life", lambda row: row["st"] == "warn")
    row = told(board)["life"]
    assert row["raw"] == 9 and row["left_h"] == 9 * 24 and row["lo_h"] < row["left_h"] < row["hi_h"], row
    assert row["adv"] == "Replace the printer head within 9 days", row
    assert eventually(board, "lost", lambda row: row["st"] == "warn")["why"] == "silent"
    shown = subprocess.run([*SENTILL, "health", board.usb], capture_output=True, text=True, timeout=120)
    assert "printer head" in shown.stdout and "9 d" in shown.stdout, shown.stdout
    with Link(board.usb) as link:
        assert identity(NodeClient(link))["faults"] == "wear"


def test_a_sensor_that_goes_and_comes_back_is_a_finding_and_nothing_else(board: Board, tmp_path: Path) -> None:
    here = channel("bus", "ina219:0x40:bus", min=0, max=26000, hi_warn=5500, hi_fail=6000, hold_s=1)
    configure(board, tmp_path, {}, channels=[channel("steady", "adc:9"), here], sample_ms=100)
    row = eventually(board, "bus", lambda row: row["st"] == "warn")
    assert row["why"] == "silent" and row["miss"] > 3, row
    assert rows(board)["steady"]["st"] == "ok"
    board.control("set", values={"i2c.0.0x40.2": (5000 // 4) << 3}, width=2)
    row = eventually(board, "bus", lambda row: row["st"] == "ok")
    assert row["raw"] == 5000, row


def test_a_waveform_is_a_source(board: Board, tmp_path: Path) -> None:
    """A tone of 141 Hz on the motor's input: bin 9 of 64 readings at 1 kHz."""
    board.control("set", values={"adc.4": 32768, "tone.4": 8000, "tone_hz.4": 141})
    names = {"hum": "wave:1000:9:adc:4", "other": "wave:1000:24:adc:4", "rms": "wave:1000:rms:adc:4"}
    configure(board, tmp_path, {}, channels=[channel(name, source) for name, source in names.items()], sample_ms=200)
    row = eventually(board, "hum", lambda row: row["raw"] > 0)
    assert 7760 < row["raw"] < 8240 and row["st"] == "ok", row
    found = rows(board)
    assert 5480 < found["rms"]["raw"] < 5830 and found["other"]["raw"] < 240, found
    with Link(board.uart) as line:
        for ref in range(1, 40):
            assert verdict(NodeClient(line), ref)["v"], "the terminal is answered between windows"


def starts(board: Board) -> dict[str, Any]:
    with Link(board.usb) as link:
        client = NodeClient(link)
        identity(client)
        return client.command("vitals")


def test_starts_are_counted_by_cause_and_the_state_outlasts_them(board: Board, tmp_path: Path) -> None:
    board.control("set", values={"adc.1": 32768})
    supply = channel("supply", "adc:1", lo_warn=25000, lo_fail=20000, good=33000, hold_s=DAY_S)
    resets = channel("resets", "vital:resets", per_s=3600)
    configure(board, tmp_path, {}, channels=[supply, resets, channel("r", "vital:resets_planned")], sample_ms=100)
    was = starts(board)
    boots = board.status()["boots"]
    with Link(board.usb) as link:
        NodeClient(link).command("reboot")
    board.wait(boots=boots + 1)
    assert starts(board)["planned"] == was["planned"] + 1
    board.control("power_cycle")
    board.wait(boots=boots + 2)
    now = starts(board)
    assert (now["power"], now["brownout"]) == (was["power"] + 1, was["brownout"]), now
    with Link(board.usb) as link:
        client = NodeClient(link)
        identity(client)
        board.control("set", values={"adc.1": 22000})
        assert event(client, "channel")["st"] == "warn"
        client.command("status")  # what the node did about it is done
    board.control("power_cycle")
    board.wait(boots=boots + 3)
    now = starts(board)
    assert (now["power"], now["brownout"]) == (was["power"] + 1, was["brownout"] + 1), now
    assert now["planned"] == was["planned"] + 1 and now["hard"] == was["hard"] > 0, (was, now)
    board.control("set", values={"adc.1": 32768})
    found = rows(board)
    assert found["supply"]["w"] < 50 and found["supply"]["st"] == "warn", found  # still known
    assert found["r"]["raw"] == now["planned"] and found["resets"]["st"] == "ok", found
    assert now["erases"] > was["erases"]


def test_a_power_cut_while_the_state_is_saved_loses_none_of_it(board: Board, tmp_path: Path) -> None:
    """The power fails at one of the first flash writes of the saves; each time the node knows what it knew."""
    board.control("set", values={"adc.1": 32768})
    supply = channel("supply", "adc:1", lo_warn=25000, lo_fail=20000, good=33000, hold_s=DAY_S)
    configure(board, tmp_path, {}, channels=[supply], sample_ms=100)
    board.control("set", values={"adc.1": 22000})
    worst = eventually(board, "supply", lambda row: row["st"] == "warn")["w"]
    board.control("set", values={"adc.1": 32768})
    for cut in (1, 4):
        boots = board.status()["boots"]
        with Link(board.usb) as link:
            client = NodeClient(link)
            identity(client)
            board.control("cut_flash", writes=cut, torn="half", reboot_ms=100)
            client.send("C", [("cmd", "reboot")])
        board.wait(boots=boots + 1)
        board.control("cut_flash", writes=None)
        with Link(board.usb) as link:
            assert "state" not in identity(NodeClient(link)).get("faults", ""), cut
        row = rows(board)["supply"]
        assert row["w"] == worst and row["st"] == "warn", (cut, row)


def test_light_sleep_between_readings(board: Board, tmp_path: Path) -> None:
    configure(
        board, tmp_path, {}, channels=[channel("steady", "adc:9")], sample_ms=2000, rate_hz=0, light_sleep=True,
        save_s=86400,
    )  # fmt: skip
    before = starts(board)
    time.sleep(14)  # awake for 10 s after the start, and for 5 after what was asked
    with Link(board.uart) as line:
        line.write(b"\r\n")  # wakes the node, and is lost
        time.sleep(0.5)  # on a busy computer it wakes late, and is then up for seconds
        assert verdict(NodeClient(line), 7)["v"]
    now = starts(board)
    slept, passed = now["asleep"] - before["asleep"], now["up"] - before["up"]
    print(f"{slept} of {passed} s asleep")
    assert slept >= 2, (slept, passed)
    assert now["watchdog"] == before["watchdog"] and rows(board)["steady"]["raw"] == 32768


@pytest.mark.parametrize("name", ["overheating", "flaky-cable"])
def test_a_fault_that_takes_its_course_is_warned_of_in_time(board: Board, tmp_path: Path, name: str) -> None:
    """A scenario of the fault library, an hour a second, on the board's own channels."""
    fault = faults.find(name)
    specs = boards.load("SIM").data["channels"]
    text, begin_s, fail_s = fault_scenario.write(specs, fault, 3, 3600)
    configure(board, tmp_path, {}, sample_ms=100)
    with Link(board.usb) as link:
        client = NodeClient(link)
        identity(client)
        start = client.command("status")["t"]
        board.control("scenario", text=text)
        try:
            while True:
                seen = event(client, "channel", fail_s + 10)
                if seen["name"] in fault.channels and seen["st"] in ("warn", "fail"):
                    break
        finally:
            board.control("scenario", text="")
    passed = (seen["t"] - start) / 3600  # by the node's clock, however late we hear of it
    print(f"{name}: begins at {begin_s:.0f} s, {seen['why']} warned at {passed:.0f} s, fails at {fail_s:.0f} s: {seen}")
    assert begin_s < passed < fail_s - fault.lead_h, "an hour of lead is a second"
