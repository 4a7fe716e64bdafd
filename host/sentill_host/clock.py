"""The clock of a node: what it shows, and setting it by this computer's."""

import time
from dataclasses import dataclass

from sentill_host import access
from sentill_host.client import NodeClient
from sentill_host.entries import CLOCK_IS_SET_S, EPOCH, date_and_time
from sentill_host.errors import UsageError
from sentill_host.keys import KeyFile

SLACK_S = 600
"""By how much a node lets its clock be set back. More is a tamper event, which may erase its keys."""


@dataclass(frozen=True)
class Clock:
    """Of the node `uid` with keys of `generation` (0: none): node time and, at that moment, this computer's.

    Both in seconds since 2024-01-01 UTC; node time counts from power-on until the clock is set.
    """

    uid: str
    generation: int
    node_s: int
    host_s: int

    @property
    def is_set(self) -> bool:
        """Whether the node knows the time."""
        return self.node_s >= CLOCK_IS_SET_S

    @property
    def ahead_s(self) -> int:
        """By how much the node is ahead of this computer, below 0 when it is behind."""
        return self.node_s - self.host_s


def read(client: NodeClient) -> Clock:
    """What the node's clock shows. Raises LinkError."""
    told = access.identity(client)
    return Clock(str(told["uid"]), int(told.get("gen", 0)), int(told["t"]), host_time_s())


def adjust(client: NodeClient, keys: KeyFile | None) -> Clock:
    """Set the node's clock by this computer's; returns what it showed before.

    Raises UsageError when this computer's clock cannot be right, or is so far behind the node's that the node would
    take it for tampering; when the node has keys and `keys` are missing or others. Raises LinkError.
    """
    was = read(client)
    port = client.link.port
    if was.host_s < CLOCK_IS_SET_S or (was.is_set and was.ahead_s > SLACK_S):
        shown = f", the node's {spell(was.node_s)}" if was.is_set else ""
        raise UsageError(
            f"{port}: this computer's clock says {spell(was.host_s)}{shown}; nothing was set",
            "set this computer's clock: to a node with keys, a clock set far back is tampering",
        )
    if was.generation:
        if keys is None:
            raise UsageError(
                f"{port}: the board has keys, and its clock is set with them only",
                "name the fleet's key file with --keys or $SENTILL_KEYS",
            )
        access.prove(client, keys, access.challenge(client, was.uid))
    client.command("set-time", t=host_time_s())
    return was


def host_time_s() -> int:
    """This computer's time, as nodes count it."""
    return int(time.time() - EPOCH.timestamp())


def spell(node_s: int) -> str:
    """Node time in words: UTC."""
    return f"{date_and_time(node_s)} UTC"
