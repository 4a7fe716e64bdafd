"""A board whose host goes away goes back to work: a share of tests/e2e/interruptions.py, and what it rests on."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sentill_host.board.link import Link
from sentill_host.bundle import agent
from sentill_host.bundle import build as bundle
from sentill_host.deploy import prompt
from sentill_host.deploy.deploy import deploy
from sentill_host.deploy.session import Session
from sentill_host.errors import LinkError, RefusedError
from sentill_host.keys.key_file import KeyFile
from sentill_host.node import access, client
from sentill_host.node.client import NodeClient
from sentill_host.virtual import Board, VirtualBoards
from tests.e2e import interruptions
from tests.e2e.conftest import run_mpremote, until
from tests.e2e.test_node_virtual import identity

CASES = 10
BOARDS = 10


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> KeyFile:
    return KeyFile.create(tmp_path_factory.mktemp("keys") / "keys.json", "a password of tests")


@pytest.fixture(scope="module")
def locked(keys: KeyFile) -> Iterator[Board]:
    """A locked board with its node; each test leaves it so."""
    with VirtualBoards(1) as started:
        result = deploy([started[0].usb], keys=keys, profile="service")[0]
        assert not result.error, result
        yield started[0]


def test_a_share_of_the_interruptions_leaves_no_board_open() -> None:
    # Another part of the whole on another day, should somebody ask for it; the same one otherwise.
    first = int(os.environ.get("SENTILL_INTERRUPTIONS_FIRST", "0"))
    outcomes = interruptions.interrupt(CASES, BOARDS, first)
    assert len(outcomes) == CASES
    assert [outcome for outcome in outcomes if outcome.problem] == []
    assert any(outcome.at_prompt for outcome in outcomes), "none was interrupted where the board is open"


def back_and_locked(board: Board, boots: int, cause: str) -> None:
    """Wait until the board has reset itself, for this cause, and see it locked and at work."""
    until(lambda: board.status()["boots"] > boots and board.status()["state"] == "running")
    assert board.status()["reset_cause"] == cause, board.status()
    with Link(board.usb) as link:
        node = NodeClient(link)
        identity(node)
        assert access.challenge(node).locked
        assert not board.status()["at_prompt"]


def test_a_soft_reset_at_the_prompt_of_a_session_ends_it_soon(locked: Board, keys: KeyFile) -> None:
    """A soft reset takes the timer of the time box; the watchdog stays."""
    with Link(locked.usb) as link:
        access.unlock(NodeClient(link), keys, 30)
        link.enter_repl()
        link.soft_reset()
        boots = locked.status()["boots"]
        assert locked.status()["at_prompt"]
    back_and_locked(locked, boots, "watchdog")


def test_what_a_host_asked_to_stand_aside_restarts_in_its_time(locked: Board, keys: KeyFile) -> None:
    with Link(locked.usb) as link:
        node = NodeClient(link)
        access.unlock(node, keys, 30)
        for box in (0, -5, 1 << 20, "5"):
            with pytest.raises(RefusedError, match="box must be"):
                node.command("maintenance", box=box)
        assert client.request_maintenance(node, box_s=5)
        link.enter_repl()
        boots = locked.status()["boots"]
    back_and_locked(locked, boots, "hard")


def test_an_agent_that_ends_leaves_no_prompt(locked: Board, keys: KeyFile) -> None:
    with Link(locked.usb) as link:
        node = NodeClient(link)
        access.unlock(node, keys, 30)
        assert client.request_maintenance(node, box_s=prompt.BOX_S)
        link.enter_repl()
        prompt.fresh(link)
        session = Session(link, bundle.agent_code())
        assert session.call("stay")["re"] == 1
        boots = locked.status()["boots"]
        link.enter_repl()  # interrupts it
    back_and_locked(locked, boots, "watchdog")


def test_an_agent_waits_for_its_host_and_for_nobody_else(
    locked: Board, keys: KeyFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who asks for the node, as a monitor does that waits for it, does not keep the agent."""
    hasty = agent.source("agent").replace("40000", "4000")
    assert hasty != agent.source("agent")
    monkeypatch.setattr(agent, "packed", lambda name: hasty)
    with Link(locked.usb) as link:
        node = NodeClient(link)
        access.unlock(node, keys, 30)
        assert client.request_maintenance(node, box_s=prompt.BOX_S)
        link.enter_repl()
        prompt.fresh(link)
        session = Session(link)
        boots = locked.status()["boots"]
        for _ in range(3):
            time.sleep(2.5)
            session.call("stay")
        assert locked.status()["boots"] == boots
        identity(NodeClient(link))
    back_and_locked(locked, boots, "hard")


def test_an_open_board_goes_back_to_work_too() -> None:
    with VirtualBoards(1) as started:
        board = started[0]
        assert not deploy([board.usb])[0].error
        with Link(board.usb) as link:
            assert client.request_maintenance(NodeClient(link), box_s=prompt.BOX_S)
            link.enter_repl()
            link.soft_reset()
            boots = board.status()["boots"]
        until(lambda: board.status()["boots"] > boots)
        with Link(board.usb) as link:
            node = NodeClient(link)
            identity(node)
            # For a person there is no limit on an open board.
            client.request_maintenance(node)
            link.enter_repl()
            assert board.status()["wdt_ms"] == 0


HANGS_ONCE = """
import micropython, os, time
if 'ran' not in os.listdir('/'):
    open('/ran', 'w').close()
    micropython.kbd_intr(-1)
    time.sleep(12)
    micropython.kbd_intr(3)
else:
    open('/again', 'w').close()
    while True:
        time.sleep(1)
"""


def test_a_program_that_did_not_yield_in_time_is_started_again(board: Board, tmp_path: Path) -> None:
    """The prompt that came too late is not left open."""
    main = tmp_path / "main.py"
    main.write_text(HANGS_ONCE)
    run_mpremote(board.usb, "cp", str(main), ":main.py", "+", "reset")
    board.wait(boots=board.status()["boots"])
    until(lambda: board.status()["state"] == "running" and not board.status()["at_prompt"])
    time.sleep(1)
    with Link(board.usb) as link:
        with pytest.raises(LinkError, match="does not yield"):
            link.enter_repl(patience_s=0.5)
        boots = board.status()["boots"]
    until(lambda: board.status()["boots"] > boots and board.status()["state"] == "running")
    until(lambda: not board.status()["at_prompt"])
    assert "again" in run_mpremote(board.usb, "fs", "ls")
