"""A port that goes away at any moment of its opening is a LinkError with a way out, and is opened again."""

import os
import pty
import select
import termios
import threading
import tty

import pytest

from sentill_host.errors import LinkError, PortGone
from sentill_host.link import Link


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


def open_descriptors() -> int:
    return len(os.listdir("/dev/fd"))


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
            before = open_descriptors()
            try:
                with Link(one.port) as link:
                    link.write(b"x")
            except PortGone as error:
                outcomes.append(("gone", error.hint))
            except LinkError as error:
                outcomes.append(("not opened", error.hint))
        assert open_descriptors() == before - 1, f"step {step} leaves a descriptor"
    assert len(outcomes) == whole.calls
    assert all(hint for _, hint in outcomes), outcomes
    assert {kind for kind, _ in outcomes} == {"gone", "not opened"}


def test_reopening_waits_for_a_port_that_goes_away_once_more(monkeypatch, new_cable):
    old, new = new_cable(), new_cable()
    with Link(old.port) as link:
        before = open_descriptors()
        ports = iter((old.port,))
        monkeypatch.setattr(link._address, "device", lambda: next(ports, new.port))
        with monkeypatch.context() as patch:
            old.pull_at(patch, 2)
            link.reopen(5)
        assert old.master < 0
        link.write(b"x")
        assert os.read(new.master, 10) == b"x"
        assert open_descriptors() == before - 1


@pytest.mark.parametrize("answer", [b"R\x01", b"R\x01\x20"])
def test_a_board_that_falls_silent_while_it_takes_code(new_cable, monkeypatch, answer):
    monkeypatch.setattr("sentill_host.link._SILENCE_S", 0.1)
    for method in ("exec", "launch"):
        cable = new_cable()
        with Link(cable.port) as link:
            os.write(cable.master, b">" + answer)
            with pytest.raises(LinkError) as caught:
                getattr(link, method)("print(1)")
            assert caught.value.hint


@pytest.mark.parametrize("limits", [{"timeout": 0.0}, {"timeout": 5.0, "timeout_overall": 0.0}])
def test_what_came_in_time_is_read_however_late_one_looks(new_cable, limits):
    cable = new_cable()
    with Link(cable.port) as link:
        os.write(cable.master, b"raw REPL\r\n>")
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
