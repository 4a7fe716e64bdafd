"""A virtual board that imitates a chip: its flash is as large and as slow, and its UART deaf meanwhile."""

import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from sentill_host.board import catalogue as board_data
from sentill_host.errors import UsageError
from sentill_host.virtual import Board, VirtualBoards
from tests.e2e.conftest import run_mpremote, until

BUSY = """
import machine
uart = machine.UART(1)
end = machine.Pin(7, machine.Pin.IN)
heard = 0
while not end.value():
    machine.file_flash.{work}
    heard += len(uart.read(4096) or b"")
print(heard + len(uart.read(4096) or b""))
"""
ERASING = "ioctl(6, 200)"
PROGRAMMING = "writeblocks(200, bytes(256), 0)"
SENT = 3000  # a quarter of a second at 115200 baud, some five erases


def hear(board: Board, work: str) -> tuple[int, int]:
    """Send SENT bytes to a board that does nothing else but `work`; how many it heard and how many were lost."""

    def worked() -> int:
        wear = board.status()["flash"]
        return int(wear["erases"] + wear["programs"])

    before = worked()
    line = os.open(board.uart, os.O_RDWR | os.O_NOCTTY)
    try:
        with ThreadPoolExecutor(1) as pool:
            told = pool.submit(run_mpremote, board.usb, "exec", BUSY.format(work=work))
            until(lambda: worked() > before)
            os.write(line, b"x" * SENT)
            until(lambda: board.status()["uart_in_bytes"] == SENT)
            board.control("set", values={"pin.7": 1})
            return int(told.result()), board.status()["uart_lost_bytes"]
    finally:
        os.close(line)


def test_a_uart_read_by_interrupts_is_deaf_while_the_flash_is_busy():
    with VirtualBoards(1, like="rpi_pico_w") as (board,):
        heard, lost = hear(board, ERASING)
        assert heard + lost == SENT
        assert heard < SENT // 2, (heard, lost)  # 32 of about 518 per erase


def test_a_uart_read_by_dma_is_not():
    with VirtualBoards(1, like="RPI_PICO_W", uart="dma") as (board,):
        assert hear(board, ERASING) == (SENT, 0)


def test_a_short_flash_operation_loses_nothing():
    """A page takes as long as five bytes on the line, and 32 wait in the chip."""
    with VirtualBoards(1, like="RPI_PICO_W") as (board,):
        assert hear(board, PROGRAMMING) == (SENT, 0)


def test_it_has_the_flash_of_the_board_it_imitates():
    code = "import os; s = os.statvfs('/'); print(s[0], s[2])"
    with VirtualBoards(1, like="RPI_PICO_W", speed=1000) as (board,):
        assert run_mpremote(board.usb, "exec", code).split() == ["4096", "212"]
        status = board.status()
        told = {key: status[key] for key in ("like", "speed", "usb_mode", "raw_bytes", "erase_us", "program_us")}
        assert told == {
            "like": "RPI_PICO_W",
            "speed": 1000,
            "usb_mode": "usb_cdc",
            "raw_bytes": 0,
            "erase_us": 45_000,
            "program_us": 400,
        }


def test_wear_is_told_by_block():
    with VirtualBoards(1) as (board,):
        run_mpremote(board.usb, "exec", f"import machine\nfor _ in range(7): machine.file_flash.{ERASING}")
        assert board.status()["flash"]["most_erased"] == 7


@pytest.mark.parametrize(
    "wrong", [{"like": "SIM"}, {"like": "TOASTER"}, {"like": "RPI_PICO", "uart": "pigeon"}, {"speed": 0}]
)
def test_what_cannot_be_imitated_is_refused(wrong):
    with pytest.raises(UsageError) as caught:
        VirtualBoards(1, **wrong)
    assert caught.value.hint


def test_each_board_can_be_imitated():
    for board in board_data.all_boards().values():
        assert board.port == "sim" or VirtualBoards(1, like=board.id)
