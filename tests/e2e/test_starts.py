"""A share of the starts under floods and keys (tests/e2e/starts.py); `make starts` runs all of them."""

import time
from pathlib import Path

import pytest

from sentill_host.board.link import Link
from sentill_host.virtual import VirtualBoards
from tests.e2e import starts
from tests.e2e.conftest import run_mpremote

COUNT = 40


def test_no_key_and_no_flood_opens_a_locked_board_that_starts():
    outcomes = starts.run(COUNT, 7)
    assert len(outcomes) == COUNT and {outcome.kind for outcome in outcomes} == set(starts.KINDS)
    assert [outcome for outcome in outcomes if outcome.became == "outside"] == []
    # Inside the window is main.py until its first statement: far less than a tenth of a percent of a start.
    assert sum(outcome.became == "inside" for outcome in outcomes) <= 1, outcomes


def test_the_window_is_the_first_statement_of_main_py():
    assert starts._LAST_LINE <= 3


@pytest.mark.parametrize("begun", [False, True], ids=["by the port", "by a frozen start"])
def test_a_soft_reset_is_done_without_where_it_would_end_usb(begun: bool) -> None:
    with VirtualBoards(1) as (board,), Link(board.usb) as link:
        link.enter_repl()
        link.exec("import sys\nclass Start: pass\nsys.modules['sentill_start'] = Start\nleft = 1")
        if begun:
            link.exec("Start.usb = 1")
        link.soft_reset()
        assert link.exec("print('left' in globals(), sys.path)").strip() == f"{begun} ['.frozen']".encode()


def test_ctrl_c_is_not_listened_to_while_a_file_is_compiled(tmp_path: Path) -> None:
    main = "import micropython\nmicropython.kbd_intr(-1)\nprint('it ran')\n" + "x = [1, 2, 3]\n" * 3000
    source = tmp_path / "main.py"
    source.write_text(main)
    with VirtualBoards(1, heap="1M") as (board,):
        run_mpremote(board.usb, "cp", str(source), ":main.py")
        board.control("reset")
        typist = starts.Typist(board.usb)
        end = time.monotonic() + 30
        while b"it ran" not in typist.seen and b">>> " not in typist.seen and time.monotonic() < end:
            typist.type(b"\x03")
            typist.read()
            time.sleep(0.005)
        typist.close()
        assert b"it ran" in typist.seen, typist.seen
