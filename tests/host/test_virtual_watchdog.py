"""The virtual board's watchdog: when it bites, and that a busy computer does not make it bite."""

import pytest

from sentill_host.virtual import watchdog
from sentill_host.virtual.watchdog import Watchdog


class Timer:
    def __init__(self, due_s, call):
        self.due_s, self.call = due_s, call

    def cancel(self):
        self.call = None


class Bench:
    """A watchdog of 2 s over a board, and their time."""

    def __init__(self, monkeypatch):
        self.now_s, self.waited_s, self.state, self.feeds = 100.0, 0.0, "S", 0
        self.timers: list[Timer] = []
        self.bites: list[float] = []
        monkeypatch.setattr(watchdog.time, "monotonic", lambda: self.now_s)
        monkeypatch.setattr(watchdog, "kept_waiting_s", lambda pid: self.waited_s)
        monkeypatch.setattr(watchdog, "activity", lambda pid: (self.state, 0))
        self.dog = Watchdog(self, lambda: self.feeds, lambda: self.bites.append(self.now_s))
        self.dog.start(2000, 1)

    def after(self, delay_s, call):
        self.timers.append(Timer(self.now_s + delay_s, call))
        return self.timers[-1]

    def run(self, seconds, late_s=0.0, waits=0.0):
        """Let time pass; each look comes `late_s` late, and the board waits for `waits` of the time."""
        end_s = self.now_s + seconds
        while timers := [timer for timer in self.timers if timer.call and timer.due_s <= end_s]:
            timer = min(timers, key=lambda one: one.due_s)
            then_s = timer.due_s + late_s
            self.waited_s += (then_s - self.now_s) * waits
            self.now_s = then_s
            call, timer.call = timer.call, None
            call()
        self.now_s = max(self.now_s, end_s)


@pytest.fixture
def bench(monkeypatch):
    # Only what the module itself sees: the clock of the tests goes on.
    monkeypatch.setattr(watchdog, "time", type("Time", (), {"monotonic": staticmethod(lambda: 0.0)}))
    return Bench(monkeypatch)


def test_it_bites_once_when_nobody_feeds_it(bench):
    bench.run(1.9)
    assert not bench.bites
    bench.run(10)
    assert bench.bites == [pytest.approx(102, abs=0.1)]
    assert bench.dog.ms == 0


def test_it_does_not_bite_who_feeds_it_or_has_ended_it(bench):
    for _ in range(20):
        bench.feeds += 1
        bench.run(1.4)
    bench.dog.start(0, 1)
    bench.run(10)
    assert not bench.bites


def test_what_the_board_waits_for_the_processor_does_not_count(bench):
    bench.run(5, waits=0.75)
    assert not bench.bites
    bench.run(5, waits=0.75)
    assert bench.bites == [pytest.approx(108, abs=0.5)]


def test_a_computer_that_stood_still_does_not_count(bench):
    bench.run(0.4)
    bench.run(0.2, late_s=30)
    assert not bench.bites
    bench.feeds += 1
    bench.run(1.4)
    assert not bench.bites


@pytest.mark.parametrize("state", ["D", "T"])
def test_a_board_that_is_held_up_by_the_computer_does_not_count(bench, state):
    bench.state = state
    bench.run(30)
    assert not bench.bites
    bench.state = "R"
    bench.run(3)
    assert len(bench.bites) == 1
