"""Health of the terminal's hardware: the monitor over all channels, and its attribute table.

The monitor owns the channels (channel.py) and what they share. `sample` allocates nothing; `row` builds the SMART-
like row of a channel for an H frame; `save` and `restore` carry the learnt state across a reboot.
"""

from array import array

from sentill.compat import borrow, const, crc32
from sentill.errors import ConfigError, StorageError

from .channel import CAUSES, FAIL, NOT_ASKED, OK, STATES, WARN, WATCH, WORDS, Channel

__all__ = ("CAUSES", "FAIL", "OK", "STATES", "WARN", "WATCH", "Channel", "Monitor")

MAX_CHANNELS = 16
_MAGIC = b"SH01"
_BLOCK = 4 * WORDS + 4
_DAY = const(86400)


class Monitor:
    """Up to 16 channels made from `specs` (see channel.Channel); raises ConfigError naming the channel and key."""

    def __init__(self, specs=()):
        self.channels: list = []
        self._scratch = array("i", [0] * 8)
        for spec in specs:
            self.add(spec)

    def add(self, spec: dict) -> bool:
        """Watch one more channel; raises ConfigError as the constructor does."""
        if len(self.channels) == MAX_CHANNELS:
            raise ConfigError("channels", "at most %d channels" % MAX_CHANNELS)
        self.channels.append(Channel(spec))
        return True

    def __len__(self):
        return len(self.channels)

    def sample(self, i: int, raw, now_s: int) -> bool:
        """Give channel `i` a raw reading (None: no answer) taken at `now_s`; True when its state has changed."""
        c = self.channels[i]
        if c.gauge:
            raw = c.gauge.read(now_s)
            if raw is not None and raw < 0:
                return False
        return c.sample(raw, now_s, self._scratch, _trends)

    def state(self, i: int) -> int:
        """State of channel `i`: OK, WATCH, WARN or FAIL."""
        return self.channels[i].state

    def worst(self) -> int:
        """The highest state of all channels, OK without any."""
        worst = OK
        for c in self.channels:
            if c.state > worst:
                worst = c.state
        return worst

    def row(self, i: int) -> list:
        """Row of the attribute table as (key, value) pairs in frame order.

        ch id, name, v health 0..100, w worst health, th the health that warns, raw value in unit u, st state, tr trend
        (1 rising, -1 falling); when they apply: left_h with lo_h and hi_h, hours until the fail limit and their band,
        why the cause, lrn steps to learn (1 before the first reading), miss missing readings in a row, adv advice.
        """
        c = self.channels[i]
        value = c.value
        row = [
            ("ch", i),
            ("name", c.name),
            ("v", c.health(value) if c.started else 100),
            ("w", c.worst),
            ("th", c.threshold()),
            ("raw", value),
            ("u", c.unit),
            ("st", STATES[c.state]),
            ("tr", c.trend),
        ]
        left_s = -1
        if c.gauge:
            if c.gauge.foresees():
                index = c.gauge.index
                left_s = index.life * index.unit_s
                _foretell(row, left_s, index.low * index.unit_s, index.high * index.unit_s)
        elif c.trend_s:
            if c.ahead[0] == NOT_ASKED:
                c.forecast(_trends())
            if c.ahead[0] >= 0:
                left_s = c.ahead[0]
                _foretell(row, *c.ahead)
        if c.cause:
            row.append(("why", CAUSES[c.cause]))
        steps = c.learning() if c.watch_at else 0 if c.started else 1
        if steps:
            row.append(("lrn", steps))
        if c.missing:
            row.append(("miss", c.missing))
        if c.state >= WATCH and c.advice:
            row.append(("adv", c.advice + _within(left_s)))
        return row

    def save(self, write) -> None:
        """Hand the state of all channels to `write(bytes)`: magic, then 4 bytes of identity and 256 of state each."""
        write(_MAGIC)
        for c in self.channels:
            write(_identity(c))
            write(c.s)

    def restore(self, readinto, size: int) -> int:
        """Take over the states saved for channels that still exist unchanged; returns how many.

        `readinto` fills buffers with the `size` bytes of a save (see store.Store). Raises StorageError when they are no
        such state; the channels are then untouched.
        """
        magic = bytearray(4)
        if size >= 4:
            readinto(magic)
        if magic != _MAGIC or (size - 4) % _BLOCK:
            raise StorageError("health", "no saved health state")
        taken = 0
        identities = [_identity(c) for c in self.channels]
        block = bytearray(_BLOCK)
        for _ in range((size - 4) // _BLOCK):
            readinto(block)
            identity = bytes(block[:4])
            if identity in identities:
                channel = self.channels[identities.index(identity)]
                channel.s = array("i", block[4:])
                if channel.trend_s:
                    channel.ahead[0] = NOT_ASKED
                taken += 1
        return taken


def _trends():
    return borrow("health", "remaining_life").Trend()


def _identity(c):
    # State is only meaningful for the same scale and step, and with the same wear index.
    key = "%s/%s/%d/%d/%d/%d/%d" % (c.name, c.unit, c.min, c.max, c.step_s, c.trend_s, c.per_s)
    if c.gauge:
        key += "/%08x" % c.gauge.index.id
    return crc32(key.encode()).to_bytes(4, "little")


def _foretell(row, left_s, low_s, high_s):
    row.append(("left_h", left_s // 3600))
    row.append(("lo_h", low_s // 3600))
    row.append(("hi_h", high_s // 3600))


def _within(left_s):
    if left_s < 0:
        return ""
    if left_s < 2 * 3600:
        return " within the hour"
    if left_s < 2 * _DAY:
        return " within %d hours" % (left_s // 3600)
    return " within %d days" % (left_s // _DAY)
