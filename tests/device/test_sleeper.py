"""Light sleep: how long the chip may sleep, and what keeps it awake."""

from sentill.errors import ConfigError
from support import SkipTest, raises


class _Stream:
    ready = False

    def readable(self):
        return self.ready


class _Reader:
    heard = 0


class _Port:
    def __init__(self):
        self.stream = _Stream()
        self.reader = _Reader()
        self.waiting = 0

    def pending(self):
        return self.waiting


class _Hal:
    able = True

    def can_sleep(self):
        return self.able


class _Node:
    def __init__(self):
        self.hal = _Hal()
        self.ports = [_Port(), _Port()]


class _Loop:
    due = None


def _asleep():
    # A sleeper whose time awake after the start is over, its node, and its loops: one waits, one is due in 900 ms.
    try:
        from sentill.node.light_sleep import Sleeper
    except ImportError:
        raise SkipTest("no asyncio here")
    from sentill.compat import ticks_add, ticks_ms

    node = _Node()
    loops = [_Loop(), _Loop()]
    loops[1].due = ticks_add(ticks_ms(), 900)
    sleeper = Sleeper(node, loops)
    own = _Loop()
    assert sleeper._spare(own) == 0, "awake after the start"
    sleeper._until = ticks_ms()
    return sleeper, node, loops, own


def test_it_sleeps_until_the_first_task_is_due():
    from sentill.compat import ticks_add, ticks_ms

    sleeper, _, loops, own = _asleep()
    assert 0 < sleeper._spare(own) < 900, sleeper._spare(own)
    loops[0].due = ticks_add(ticks_ms(), 500)
    assert 0 < sleeper._spare(own) < 500, sleeper._spare(own)
    loops[0].due = ticks_add(ticks_ms(), 3)
    assert sleeper._spare(own) == 0, "not worth it"
    loops[0].due = loops[1].due = None
    assert sleeper._spare(own) == 1000, "nobody waits for a time"


def test_what_is_on_its_way_keeps_it_awake():
    sleeper, node, _, own = _asleep()
    node.ports[1].waiting = 5
    assert sleeper._spare(own) == 0
    node.ports[1].waiting = 0
    node.ports[0].stream.ready = True
    assert sleeper._spare(own) == 0
    node.ports[0].stream.ready = False
    assert sleeper._spare(own) > 0
    node.ports[1].reader.heard += 1
    assert sleeper._spare(own) == 0, "who has spoken may speak again"
    assert sleeper._spare(own) == 0


def test_a_chip_that_nothing_wakes_does_not_sleep():
    _, node, loops, _ = _asleep()
    from sentill.node.light_sleep import Sleeper

    node.hal.able = False
    error = raises(ConfigError, Sleeper, node, loops)
    assert error.code == "light_sleep", error
