"""The node as deployed, on a virtual board: stock mpremote, watchdog, maintenance, reboot, fuzzed bytes."""

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sentill.wire import protocol
from sentill_host.board.link import Link
from sentill_host.deploy.deploy import deploy
from sentill_host.errors import LinkError
from sentill_host.node.client import NodeClient, await_identity
from sentill_host.node.frames import Frame
from sentill_host.virtual import VirtualBoards
from sentill_host.virtual.api import Board
from tests.e2e.conftest import DEADLINE_S, mpremote_reset, until
from tests.e2e.test_node_bare import mutate

MPREMOTE = [sys.executable, "-m", "mpremote"]


def mpremote(port: str, *arguments: str, timeout: float = 120) -> str:
    """Output of stock mpremote, which must succeed."""
    command = [*MPREMOTE, "connect", os.path.realpath(port), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    assert done.returncode == 0, (arguments, done.stdout, done.stderr)
    return done.stdout


@pytest.fixture(scope="module")
def board() -> Iterator[Board]:
    """A virtual board with the node deployed to it, shared: each test leaves it with the node running."""
    with VirtualBoards(1) as boards:
        result = deploy([boards[0].usb])[0]
        assert not result.error, result
        yield boards[0]


def identity(client: NodeClient) -> dict[str, Any]:
    """Who the node says it is; waits until it runs."""
    fields, console = await_identity(client, DEADLINE_S)
    assert fields, console
    return fields


def verdict(uart: NodeClient, ref: int, timeout_s: float = DEADLINE_S) -> dict[str, Any]:
    """The verdict on a plain request."""
    uart.send("T", [("ref", ref), ("t", 1000), ("amt", 500), ("card", "tok")])
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        item = uart.receive(0.2)
        if isinstance(item, Frame) and item.kind == "T" and item.fields["ref"] == ref:
            return item.fields
    raise AssertionError(f"no verdict in {timeout_s} s")


def event(client: NodeClient, name: str, timeout_s: float = DEADLINE_S) -> dict[str, Any]:
    """The next E frame of this name."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        item = client.receive(0.2)
        if isinstance(item, Frame) and item.kind == "E" and item.fields["ev"] == name:
            return item.fields
    raise AssertionError(f"no event {name} in {timeout_s} s")


def test_identity_after_deployment(board: Board) -> None:
    with Link(board.usb) as link:
        fields = identity(NodeClient(link))
    assert fields["board"] == "SIM" and fields["rst"] != "unknown" and "faults" not in fields, fields


def test_the_light_blinks_beside_the_work(board: Board) -> None:
    with Link(board.usb) as link, Link(board.uart) as line:
        client = NodeClient(link)
        identity(client)
        client.command("blink", n=3)
        seen = set()

        def both() -> bool:
            seen.add(board.control("get", names=["pin.25"])["values"]["pin.25"])
            return seen >= {0, 1}

        until(both)
        assert verdict(NodeClient(line), 41)["ref"] == 41
        with pytest.raises(LinkError, match="refuses 'blink'"):
            client.command("blink", n=1000)


def test_blinking_is_one_thing_however_often_it_is_asked_for(board: Board) -> None:
    with Link(board.usb) as link, Link(board.uart) as line:
        client = NodeClient(link)
        identity(client)
        boots = board.status()["boots"]
        for _ in range(120):
            assert client.command("blink", n=60)["ok"] is True
        assert verdict(NodeClient(line), 42)["ref"] == 42
        status = client.command("status")
        assert (status["crash"], board.status()["boots"]) == (0, boots), status
        client.command("blink", n=1)


def test_mpremote_takes_over_while_frames_flow(board: Board, tmp_path: Path) -> None:
    with Link(board.usb) as link:
        client = NodeClient(link)
        identity(client)
        client.command("set-rate", hz=10)
    assert mpremote(board.usb, "exec", "print(6*7)").strip() == "42"
    local = tmp_path / "note.txt"
    local.write_text("kept")
    mpremote(board.usb, "cp", str(local), ":note.txt")
    assert mpremote(board.usb, "cat", ":note.txt").strip() == "kept"
    assert "slot_a.img" in mpremote(board.usb, "ls")
    mpremote_reset(board)
    with Link(board.usb) as link:
        identity(NodeClient(link))


def test_reboot_and_maintenance(board: Board) -> None:
    boots = board.status()["boots"]
    with Link(board.usb) as link:
        client = NodeClient(link)
        identity(client)
        client.command("reboot")
        board.wait(boots=boots + 1)
        identity(client)
        client.command("maintenance")
        board.wait(boots=boots + 2)
    feeds = board.status()
    assert mpremote(board.usb, "resume", "exec", "print('at the REPL')").strip() == "at the REPL", feeds
    mpremote_reset(board)
    with Link(board.usb) as link:
        identity(NodeClient(link))


def test_verdicts_while_nobody_reads_usb(board: Board) -> None:
    with Link(board.usb), Link(board.uart) as line:
        uart = NodeClient(line)
        for ref in range(1, 200):
            assert verdict(uart, ref)["v"] in ("approve", "review", "decline")


def test_fuzzed_bytes_on_the_uart(board: Board) -> None:
    """5,000 lines: raw bytes, half frames, wrong checksums and mutated frames; then a plain request."""
    rng = random.Random(11)
    bodies = [
        b'T {"q":1,"ref":4711,"t":1000000,"amt":12999,"card":"c_9f31-B2","pm":4210,"pn":17,"ph":2}',
        b'P {"q":3,"ref":4711,"fraud":1}',
        b'C {"q":4,"cmd":"status"}',
    ]
    with Link(board.usb) as link, Link(board.uart) as line:
        usb, uart = NodeClient(link), NodeClient(line)
        identity(usb)
        before = usb.command("status")
        for i in range(5_000):
            body = mutate(rng, rng.choice(bodies))
            kind = rng.randrange(4)
            if kind == 0:
                data = rng.randbytes(rng.randint(1, 300)).replace(b"\n", b"")
            elif kind == 1:
                data = b"#" + body[: rng.randrange(len(body) + 1)]
            else:
                data = b"#" + body + b"*%08x" % (protocol.crc32(body) ^ (kind == 2 and rng.getrandbits(32)))
            line.write(data + b"\r\n")
            if i % 20 == 0:
                line.drain(quiet_s=0.001, limit_s=0.2)
        line.drain(quiet_s=0.2, limit_s=5.0)
        assert verdict(uart, 9999)["v"]
        after = usb.command("status")
        print("before", before, "after", after)
        crashes = [frame for frame in usb.unclaimed if frame.fields.get("ev") == "task_crash"]
        assert after["crash"] == before["crash"] == 0, crashes
        assert after["crc"] - before["crc"] > 500 and after["bad"] - before["bad"] > 500
        assert after["rej"] - before["rej"] > 500


def test_health_event_when_the_supply_fails(board: Board) -> None:
    with Link(board.usb) as link:
        client = NodeClient(link)
        identity(client)
        board.control("set", values={"adc.1": 65535})
        seen = event(client, "channel")
        while seen["name"] != "supply":
            seen = event(client, "channel")
        assert seen["st"] in ("warn", "fail"), seen


def test_the_names_fit_the_pools_there_are(board: Board) -> None:
    """MicroPython's pools of names hold 1,260; the next takes 14 KB in one piece, which a node in use does not have."""
    with Link(board.usb) as link:
        identity(NodeClient(link))
        link.enter_repl()
        told = link.exec("import micropython; micropython.qstr_info()", 10).decode()
        link.reset()
    names = int(told.partition("n_qstr=")[2].split(",")[0])
    print(f"{names} names of 1260")
    assert 500 < names <= 1260, told
    with Link(board.usb) as link:
        identity(NodeClient(link))


def test_mpremote_takes_over_at_every_moment_of_a_start(board: Board) -> None:
    """What mpremote types first, Ctrl-C and Ctrl-A, at moments from the reset to the running node."""
    for moment in range(24):
        boots = board.status()["boots"]
        board.control("reset")
        board.wait(boots=boots + 1)
        with Link(board.usb) as link:
            time.sleep(moment / 40)
            link.write(b"\r\x03")
            link.write(b"\r\x01")
            seen = b""
            end = time.monotonic() + DEADLINE_S
            while b"raw REPL; CTRL-B to exit\r\n>" not in seen:
                assert time.monotonic() < end, (moment, seen)
                seen += link.read(0.2)
            link.enter_repl()
            link.reset()
    with Link(board.usb) as link:
        identity(NodeClient(link))


HANGING = """
import asyncio, sentill_start
def stuck(ms):
    while True:
        pass
asyncio.sleep_ms = stuck
sentill_start.run()
"""


def test_watchdog_resets_a_node_that_hangs(board: Board, tmp_path: Path) -> None:
    """A task that never yields: the watchdog resets the board, which then says so."""
    program = tmp_path / "main.py"
    program.write_text(HANGING)
    mpremote_reset(board, "cp", ":main.py", ":main.ok", "+", "cp", str(program), ":main.py", "+")
    until(lambda: board.status()["reset_cause"] == "watchdog")
    with Link(board.usb) as link:
        # As deploy and doctor: what is typed in the moment of a reset is lost, and typed again.
        link.enter_repl()
        link.exec("import os\nos.rename('main.ok', 'main.py')")
        link.reset()
        identity(NodeClient(link))
