"""A port that goes away at any moment of its opening is a LinkError with a way out, and is opened again."""

import contextlib
import os
import pty
import select
import termios
import threading
import time
import tty

import pytest

from sentill_host.board.link import Link
from sentill_host.errors import LinkError, PortGone


class Cable:
    """A port that hangs up, as the board behind it resets, ahead of the `step`-th call of the terminal interface."""

    def __init__(self):
        self.calls = 0
        self.step = -1
        self.master, slave = pty.openpty()
        tty.setraw(slave)
        self.port = os.ttyname(slave)
        os.close(slave)

    def pull(self) -> None:
        if self.master >= 0:
            os.close(self.master)
            self.master = -1

    def pull_at(self, monkeypatch, step: int) -> None:
        self.step = step
        for name in ("tcgetattr", "tcsetattr", "tcflush"):
            original = getattr(termios, name)

            def call(*arguments, original=original):
                if self.calls == self.step:
                    self.pull()
                self.calls += 1
                return original(*arguments)

            monkeypatch.setattr(termios, name, call)


@pytest.fixture
def new_cable():
    made = []

    def new() -> Cable:
        made.append(Cable())
        return made[-1]

    yield new
    for one in made:
        one.pull()


def descriptors_of(port: str) -> list[str]:
    """Those of this process that lead to the port, even if it has gone."""
    found = []
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/self/fd/{fd}").removesuffix(" (deleted)") == port:
                found.append(fd)
    return found


def test_a_port_that_goes_away_while_it_is_opened(monkeypatch, new_cable):
    with monkeypatch.context() as patch:
        whole = new_cable()
        whole.pull_at(patch, -1)
        Link(whole.port).close()
    assert whole.calls >= 5
    outcomes = []
    for step in range(whole.calls):
        with monkeypatch.context() as patch:
            one = new_cable()
            one.pull_at(patch, step)
            try:
                with Link(one.port) as link:
                    link.write(b"x")
            except PortGone as error:
                outcomes.append(("gone", error.hint))
            except LinkError as error:
                outcomes.append(("not opened", error.hint))
        assert not descriptors_of(one.port), f"step {step} leaves a descriptor"
    assert len(outcomes) == whole.calls
    assert all(hint for _, hint in outcomes), outcomes
    assert {kind for kind, _ in outcomes} == {"gone", "not opened"}


def test_reopening_waits_for_a_port_that_goes_away_once_more(monkeypatch, new_cable):
    old, new = new_cable(), new_cable()
    with Link(old.port) as link:
        assert len(descriptors_of(old.port)) == 1
        ports = iter((old.port,))
        monkeypatch.setattr(link._address, "device", lambda: next(ports, new.port))
        with monkeypatch.context() as patch:
            old.pull_at(patch, 2)
            link.reopen(5)
        assert old.master < 0
        link.write(b"x")
        assert os.read(new.master, 10) == b"x"
        assert not descriptors_of(old.port)


@pytest.mark.parametrize("answer", [b"R\x01", b"R\x01\x20"])
def test_a_board_that_falls_silent_while_it_takes_code(new_cable, monkeypatch, answer):
    monkeypatch.setattr("sentill_host.board.link._SILENCE_S", 0.1)
    for method in ("exec", "launch"):
        cable = new_cable()
        with Link(cable.port) as link:
            os.write(cable.master, b">" + answer)
            with pytest.raises(LinkError) as caught:
                getattr(link, method)("print(1)")
            assert caught.value.hint


def await_arrival(link: Link, count: int) -> None:
    """What was written to a pseudo-terminal arrives at its other end a moment later."""
    end = time.monotonic() + 60
    while link._transport.serial.in_waiting < count:
        assert time.monotonic() < end
        time.sleep(0.001)


@pytest.mark.parametrize("limits", [{"timeout": 0.0}, {"timeout": 5.0, "timeout_overall": 0.0}])
def test_what_came_in_time_is_read_however_late_one_looks(new_cable, limits):
    cable = new_cable()
    with Link(cable.port) as link:
        os.write(cable.master, b"raw REPL\r\n>")
        await_arrival(link, 11)
        assert link._transport.read_until(1, b"REPL\r\n", **limits) == b"raw REPL\r\n"
        assert link._transport.read_until(1, b"more", **limits) == b">"


def test_a_board_that_prints_without_end_is_not_read_without_end(new_cable):
    cable = new_cable()
    with Link(cable.port) as link:
        printing = threading.Thread(target=print_until_pulled, args=(cable.master,))
        printing.start()
        try:
            assert not link._transport.read_until(1, b"never", timeout=0.2).endswith(b"never")
        finally:
            link.close()
            cable.pull()
            printing.join()


def print_until_pulled(master: int) -> None:
    os.set_blocking(master, False)
    try:
        while True:
            if select.select([], [master], [], 0.01)[1]:
                os.write(master, b"x" * 500)
    except OSError:
        return


class Repl:
    """MicroPython's raw REPL at the other end of a cable; it says nothing before it has been asked for `asks` times."""

    def __init__(self, cable: Cable, asks: int = 1, interrupts: int = 0):
        self.cable, self.asks, self.interrupts = cable, asks, interrupts
        self._late = self._code = b""
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._end.is_set():
            if not select.select([self.cable.master], [], [], 0.02)[0]:
                continue
            for byte in os.read(self.cable.master, 4096):
                self._late += self._take(bytes([byte]))
            if self.asks <= 0 and self._late:
                os.write(self.cable.master, self._late)
                self._late = b""

    def _take(self, byte: bytes) -> bytes:
        if byte == b"\x03":
            self.interrupts -= 1
        if self.interrupts > 0:
            return b""
        if self._code.endswith(b"\x05A") and byte == b"\x01":  # raw paste, which this one knows not
            self._code = b""
            return b"R\x00"
        if byte in b"\x01\x02\x03\r":
            self._code = b""
            self.asks -= byte == b"\x01"
            return b"raw REPL; CTRL-B to exit\r\n>" if byte == b"\x01" else b""
        if byte == b"\x04":
            said = self._code.partition(b"print('")[2].partition(b"'")[0]
            self._code = b""
            return b"OK" + said + b"\x04\x04>"
        self._code += byte
        return b""


@pytest.mark.parametrize(("asks", "rung"), [(1, "interrupt"), (2, "interrupt"), (4, "insist")])
def test_a_board_that_answers_late_is_not_misunderstood(new_cable, asks, rung):
    """What it says to the first question for the raw REPL comes after the second, and is none to what follows."""
    cable = new_cable()
    with Link(cable.port) as link, Repl(cable, asks):
        assert link.enter_repl(0.2) == rung
        for n in range(3):
            assert link.exec(f"print('answer {n}')", 2) == f"answer {n}".encode()


def test_a_busy_computer_insists_as_often_as_an_idle_one(new_cable, monkeypatch):
    cable = new_cable()
    with Link(cable.port) as link, Repl(cable, interrupts=45) as repl:
        write = Link.write

        def busy(self, data, timeout_s=5.0):
            write(self, data, timeout_s)
            if data == b"\x03":
                time.sleep(0.03)  # with what it waits for an answer, twice as long as planned

        monkeypatch.setattr(Link, "write", busy)
        assert link.enter_repl() == "insist"
        assert repl.interrupts <= 0
