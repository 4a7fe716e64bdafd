"""A virtual board fails as boards do: resets and their causes, power cuts, pulled cables, stubborn programs."""

import contextlib
import errno
import os
import select
import signal
import subprocess
import sys
import time

import pytest

from sentill_host.board.link import Link
from sentill_host.errors import BoardError, UsageError
from sentill_host.virtual import VirtualBoards
from tests.e2e.conftest import DEADLINE_S, STUBBORN, mpremote_reset, run_mpremote, until


class Terminal:
    """A port opened raw, with everything read so far."""

    def __init__(self, path: str):
        self.fd = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        self.seen = b""

    def send(self, data: bytes) -> None:
        os.write(self.fd, data)

    def read(self) -> bytes:
        if select.select([self.fd], [], [], 0.02)[0]:
            with contextlib.suppress(BlockingIOError):
                self.seen += os.read(self.fd, 4096)
        return self.seen

    def shows(self, wanted: bytes) -> bytes:
        """Wait for `wanted`; what came before it. Later calls look after it."""
        end_s = time.monotonic() + DEADLINE_S
        while wanted not in self.read():
            assert time.monotonic() < end_s, (wanted, self.seen[-2000:])
        before, _, self.seen = self.seen.partition(wanted)
        return before


class Terminals:
    """Opens ports; those still open are closed at the end of the test."""

    def __init__(self) -> None:
        self._opened: list[Terminal] = []

    def __call__(self, path: str) -> Terminal:
        self._opened.append(Terminal(path))
        return self._opened[-1]

    def close(self) -> None:
        while self._opened:
            os.close(self._opened.pop().fd)


@pytest.fixture
def terminal():
    """Opens terminals and closes them at the end."""
    terminals = Terminals()
    yield terminals
    terminals.close()


def write(board, name: str, source: str) -> None:
    """Put a file on the board and leave it in its friendly REPL, main.py not yet started."""
    run_mpremote(board.usb, "exec", f"with open({name!r}, 'w') as f: f.write({source!r})")


def test_main_runs_in_main_and_its_crash_leads_to_the_repl(board, terminal):
    write(board, "boot.py", "booted = 1\n")
    write(board, "main.py", "print('in', __name__, booted)\ndef inner():\n    1 // 0\ninner()\n")
    line = terminal(board.usb)
    board.control("power_cycle", ms=1)
    line.shows(b"in __main__ 1")
    told = line.shows(b">>> ")
    assert b'File "main.py", line 4, in <module>' in told
    assert b'File "main.py", line 3, in inner' in told
    assert b"ZeroDivisionError" in told
    assert b"stdin" not in told  # nothing of the machinery
    line.send(b"print(booted + 1, '_sentill_boot' in globals())\r")
    line.shows(b"2 False")


def test_a_chatty_program_is_interrupted_by_mpremote(board):
    write(board, "main.py", "while True:\n    print('x' * 200)\n")
    board.control("power_cycle", ms=1)
    until(lambda: board.status()["busy"])
    assert run_mpremote(board.usb, "exec", "print('quiet now')").endswith("quiet now\n")
    board.control("reset")  # the program runs again after that
    until(lambda: board.status()["busy"])


def test_many_interrupts_are_survived(board, terminal):
    write(board, "main.py", STUBBORN.format(n=1000))
    mpremote_reset(board)
    boots = board.status()["boots"]
    until(lambda: board.status()["busy"])
    line = terminal(board.usb)
    for _ in range(20):
        line.send(b"\x03\x03\x03")
        line.shows(b"caught")
    assert board.status()["boots"] == boots


COLLECTING = """
import gc
held = [[] for _ in range(2000)]
for n in range(30):
    try:
        print("round", n)
        while True:
            gc.collect()
    except KeyboardInterrupt:
        pass
"""


def test_an_interrupt_amid_a_garbage_collection_leaves_the_heap_usable(board, terminal):
    write(board, "main.py", COLLECTING)
    line = terminal(board.usb)
    boots = board.status()["boots"]
    board.control("reset")
    for n in range(30):
        line.shows(b"round %d\n" % n)
        line.send(b"\x03")
    line.shows(b">>> ")
    assert board.status()["boots"] == boots + 1


def test_kbd_intr_makes_ctrl_c_a_byte(board, terminal):
    line = terminal(board.usb)
    line.send(b"import micropython, sys\r")
    line.send(b"def f():\r micropython.kbd_intr(-1)\r print('go')\r print(sys.stdin.buffer.read(3))\r\r\r\rf()\r")
    line.shows(b"\r\ngo")
    line.send(b"a\x03b")
    line.shows(b"b'a\\x03b'")
    line.shows(b">>> ")


def test_reset_causes(board):
    def cause() -> str:
        return run_mpremote(board.usb, "resume", "exec", "import machine; print(machine.reset_cause())").strip()

    assert cause() == "1"  # power-on
    mpremote_reset(board)
    assert cause() == "2"
    run_mpremote(board.usb, "soft-reset")
    assert cause() == "5"


def test_the_watchdog_bites_unless_fed(board):
    source = "import machine\nif machine.reset_cause() != 3:\n    w = machine.WDT(timeout=300)\n    while 1: pass\n"
    write(board, "main.py", source)
    board.control("power_cycle", ms=1)
    until(lambda: board.status()["reset_cause"] == "watchdog")
    fed = "import machine, time\nw = machine.WDT(timeout=2000)\nfor i in range(50):\n    w.feed(); time.sleep_ms(50)\n"
    boots = board.wait()["boots"]
    assert "alive" in run_mpremote(board.usb, "exec", fed + "print('alive')")
    until(lambda: board.status()["reset_cause"] == "watchdog" and board.status()["boots"] >= boots + 2)


def test_the_watchdog_does_not_bite_a_board_that_the_computer_keeps_waiting(board):
    boots = board.status()["boots"]
    with Link(board.usb) as link, contextlib.ExitStack() as busy:
        link.enter_repl()
        cpu = min(os.sched_getaffinity(0))
        os.sched_setaffinity(board.status()["pid"], {cpu})
        for _ in range(16):
            # In sessions of their own, since Linux shares a processor out among sessions first.
            burner = subprocess.Popen(
                [sys.executable, "-c", f"import os\nos.sched_setaffinity(0, {{{cpu}}})\nwhile True: pass"],
                start_new_session=True,
            )
            busy.callback(burner.wait)
            busy.callback(burner.kill)
        start_s = time.monotonic()
        code = (
            "import machine\nw = machine.WDT(timeout=2000)\nfor _ in range(8_000_000): pass\nw.deinit()\nprint('alive')"
        )
        assert b"alive" in link.exec(code, 120)
        print(f"starved for {time.monotonic() - start_s:.1f} s")
    assert board.status()["boots"] == boots


def test_a_stopped_watchdog_does_not_bite(board):
    code = "import machine, time\nmachine.WDT(timeout=200).deinit()\ntime.sleep_ms(1000)\nprint('alive')"
    assert "alive" in run_mpremote(board.usb, "exec", code)
    assert board.status()["wdt_ms"] == 0


FED = """
import machine
w = machine.WDT(timeout=1500)
t = machine.Timer(-1, period=300, mode=machine.Timer.PERIODIC, callback=lambda _: w.feed())
"""


def test_a_timer_feeds_the_watchdog_until_a_soft_reset_ends_it(board):
    """As on RP2 chips: the watchdog outlives a soft reset, a timer does not."""
    with Link(board.usb) as link:
        link.enter_repl()
        link.exec(FED)
        time.sleep(4)
        assert link.exec("print('alive')").strip() == b"alive"
        boots = board.status()["boots"]
        link.soft_reset()
        assert board.status()["wdt_ms"] == 1500
    until(lambda: board.status()["boots"] == boots + 2)
    assert board.status()["reset_cause"] == "watchdog"
    board.wait()
    assert board.status()["wdt_ms"] == 0


def test_a_timer_resets_the_board_unless_it_is_ended(board):
    once = "import machine\nt = machine.Timer(-1, period=%d, mode=machine.Timer.ONE_SHOT, callback=lambda _: %s)\n"
    with Link(board.usb) as link:
        link.enter_repl()
        boots = board.status()["boots"]
        link.exec(once % (300, "machine.reset()") + "t.deinit()")
        with pytest.raises(BoardError, match="ValueError"):
            link.exec(once % (300, "print('no')"))
        time.sleep(1)
        assert board.status()["boots"] == boots
        link.launch(once % (300, "machine.reset()") + "while True: pass")
        until(lambda: board.status()["boots"] == boots + 1)
        assert board.status()["reset_cause"] == "hard"


@pytest.mark.parametrize("torn", ["none", "half", "random"])
def test_a_power_cut_while_writing_keeps_the_file_system(board, terminal, torn):
    write(board, "kept.txt", "kept")
    formats = board.status()["flash"]["formats"]
    for writes in (0, 1, 2, 5):
        boots = board.status()["boots"]
        board.control("cut_flash", writes=writes, torn=torn, seed=writes, reboot_ms=1)
        program = "import os\nfor i in range(50):\n    with open('f%d' % i, 'w') as f: f.write('y' * 3000)\n"
        line = terminal(board.usb)
        line.send(b"\r\x03\x01")
        line.shows(b"raw REPL; CTRL-B to exit\r\n>")
        line.send(program.encode() + b"\x04")
        board.wait(boots=boots + 1)
        terminal.close()
        assert board.status()["last_event"] == "power cut"
        assert run_mpremote(board.usb, "cat", ":kept.txt") == "kept"
        run_mpremote(board.usb, "exec", "import os\nfor n in os.listdir():\n    if n != 'kept.txt': os.remove(n)")
    assert board.status()["flash"]["formats"] == formats


def test_a_cut_without_a_reboot_stays_off(board, terminal):
    board.control("cut_flash", writes=3)
    line = terminal(board.usb)
    line.send(b"f = open('a', 'w'); f.write('z' * 9000); f.close()\r")
    board.wait("off")
    board.control("power_cycle", ms=1)
    assert board.wait()["reset_cause"] == "power"


def test_a_pulled_cable(board, terminal):
    old = terminal(board.usb)
    old.send(b"x = 'still here'\r")
    old.shows(b">>> ")
    board.control("pull_cable", ms=200)

    def gone() -> bool:
        try:
            old.send(b" ")
        except OSError as error:
            return error.errno == errno.EIO
        return False

    until(gone)
    until(lambda: board.status()["usb"])
    assert run_mpremote(board.usb, "resume", "eval", "x").strip() == "still here"


def test_usb_cdc_leaves_the_bus_at_a_hard_reset_only():
    with VirtualBoards(1, usb="usb_cdc") as (board,):
        device = os.path.realpath(board.usb)
        run_mpremote(board.usb, "soft-reset")
        assert os.path.realpath(board.usb) == device
        mpremote_reset(board)
        assert os.path.realpath(board.usb) not in (device, board.usb), "it was away, and has come back as another"
        assert run_mpremote(board.usb, "resume", "eval", "1 + 1").strip() == "2"


def test_nobody_meets_another_board_where_one_has_left_the_bus(board):
    left = {os.path.realpath(board.usb)}
    for _ in range(5):
        board.control("pull_cable")
        assert not os.path.lexists(board.usb)
        with VirtualBoards(3) as others:
            for other in others:
                other.control("pull_cable")
                other.control("plug_cable")
            assert not left & {os.path.realpath(port) for other in others for port in (other.usb, other.uart)}
            assert not [device for device in left if os.path.exists(device)]
            board.control("plug_cable")
            assert os.path.exists(board.usb)
            left.add(os.path.realpath(board.usb))
    assert len(left) == 6


def test_a_crash_of_the_interpreter_is_a_reset(board):
    os.kill(board.status()["pid"], signal.SIGSEGV)
    until(lambda: board.status()["boots"] == 2)
    status = board.wait()
    assert (status["last_event"], status["reset_cause"]) == ("crash: SIGSEGV", "power")
    assert run_mpremote(board.usb, "eval", "1 + 1").strip() == "2"


def test_the_terminals_line(board, terminal):
    write(
        board,
        "main.py",
        "import asyncio, machine\nport = machine.UART(1, baudrate=115200)\n"
        "async def main():\n    stream = asyncio.StreamReader(port)\n    while True:\n"
        "        line = await stream.readline()\n        port.write(b'<' + line.strip() + b'>\\n')\n"
        "asyncio.run(main())\n",
    )
    board.control("power_cycle", ms=1)
    until(lambda: board.status()["busy"])
    line = terminal(board.uart)
    for i in range(200):
        line.send(b"frame %d\n" % i)
        line.shows(b"<frame %d>\n" % i)
    board.control("hold_uart", ms=100)
    line.send(b"late\n")
    line.shows(b"<late>")


def test_hardware_is_what_the_host_says(board):
    board.control("set", values={"adc.26": 1234, "pin.7": 1})
    board.control("set", values={"i2c.0.0x48.0": 0x1234}, width=2)
    code = (
        "from machine import ADC, I2C, Pin\ni = I2C(0)\n"
        "print(ADC(26).read_u16(), Pin(7, Pin.IN).value(), i.scan(), i.readfrom_mem(0x48, 0, 2))\n"
        "i.writeto_mem(0x48, 1, b'\\x0a\\x0b')\nPin(9, Pin.OUT).on()\n"
        "try:\n    i.readfrom_mem(0x50, 0, 1)\nexcept OSError as e:\n    print(e.errno)\n"
    )
    assert run_mpremote(board.usb, "exec", code).split("\n")[:2] == ["1234 1 [72] b'\\x124'", "19"]
    values = board.control("get", names=["i2c.0.0x48.1", "pin.9"])["values"]
    assert values == {"i2c.0.0x48.1": 0x0A0B, "pin.9": 1}
    with pytest.raises(UsageError, match="set does not take names") as caught:
        board.control("set", names=["adc.26"])
    assert caught.value.hint == "set NAME=NUMBER... [width=...]"


def test_a_paced_line_loses_nothing_that_is_read(terminal):
    with VirtualBoards(1, paced=True) as (board,):
        line = terminal(board.usb)
        line.send(b"print('~' * 30000, 'end', 1 + 1)\r")
        assert line.shows(b" end 2").count(b"~") == 30001  # one in the echo
        assert board.status()["paced"]


def test_a_slow_reader_loses_nothing(board):
    """It needs longer for what the pseudo-terminal holds than the board waits for one that does not read at all."""
    with Link(board.usb) as line:
        line.write(b"print('~' * 25000, 'end', 1 + 1)\r")
        seen = b""
        end = time.monotonic() + DEADLINE_S
        while b" end 2" not in seen:
            assert time.monotonic() < end, seen[-200:]
            seen += line.read(0.1, 128)
            time.sleep(0.02)
        assert seen.count(b"~") == 25001  # one in the echo


def test_nobody_reading_holds_a_board_up_for_a_moment_only(board):
    with Link(board.usb) as line:
        line.write(b"print('~' * 90000); f = open('/done', 'w'); f.close()\r")
        until(lambda: board.status()["usb_lost_bytes"] > 60_000)
    assert "done" in run_mpremote(board.usb, "ls")


def test_a_scenario_plays(tmp_path):
    scenario = tmp_path / "scenario.toml"
    scenario.write_text(
        'seed = 7\n[[event]]\nset = { "adc.1" = 1000 }\n'
        '[[event]]\nat_s = 0.1\nramp = { "adc.1" = 3000 }\nover_s = 0.3\n'
        '[[event]]\nnoise = { "adc.2" = 50 }\n[[event]]\nat_s = 0.2\ndo = "power_cycle"\nwith = { ms = 1 }\n'
    )
    with VirtualBoards(1, scenario=scenario) as (board,):

        def value(name: str) -> int:
            return board.control("get", names=[name])["values"][name]

        until(lambda: value("adc.1") == 3000)
        assert abs(value("adc.2") - 0x8000) <= 50
        until(lambda: board.status()["boots"] == 2)
