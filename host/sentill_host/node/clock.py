"""The clock of a node: what it shows, and setting it by this computer's."""

import re
import time
from dataclasses import dataclass, replace

from sentill_host.errors import RefusedError, UsageError
from sentill_host.journal.decode import CLOCK_IS_SET_S, EPOCH, date_and_time
from sentill_host.keys.key_file import KeyFile
from sentill_host.node import access
from sentill_host.node.client import NodeClient

_LATEST = re.compile(r"known here is (\d{1,10})$")


@dataclass(frozen=True)
class Clock:
    """Of the node `uid` with keys of `generation` (0: none): node time and, at that moment, this computer's.

    Both in seconds since 2024-01-01 UTC; node time counts from power-on until the clock is set. `new_epoch`: setting
    it moved it back behind the latest time known to the node.
    """

    uid: str
    generation: int
    node_s: int
    host_s: int
    new_epoch: bool = False

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


def adjust(client: NodeClient, keys: KeyFile | None, force: bool = False) -> Clock:
    """Set the node's clock by this computer's; returns what it showed before.

    A node refuses to go back behind the latest time it knows, or far ahead of it, unless `force` is given; going back
    then begins a new epoch. Raises UsageError when this computer's clock cannot be right, when the node refuses, and
    when the node has keys and `keys` are missing or others. Raises LinkError.
    """
    was = read(client)
    port = client.link.port
    if was.host_s < CLOCK_IS_SET_S:
        raise UsageError(
            f"{port}: this computer's clock says {spell(was.host_s)}; nothing was set", "set this computer's clock"
        )
    if was.generation:
        if keys is None:
            raise UsageError(
                f"{port}: the board has keys, and its clock is set with them only",
                "name the fleet's key file with --keys or $SENTILL_KEYS",
            )
        access.prove(client, keys, access.challenge(client, was.uid))
    try:
        done = client.command("set-time", t=host_time_s(), **({"force": True} if force else {}))
    except RefusedError as error:
        if error.code != "clock":
            raise
        last = _LATEST.search(str(error))
        raise UsageError(
            f"{port}: this computer's clock says {spell(was.host_s)}, the latest time known to the node is "
            f"{spell(int(last[1])) if last else 'another'}; nothing was set",
            "look which clock is wrong; where it is the node's, --force sets it: the journal records that, and where "
            "it goes back, the terminal's history starts anew",
        ) from None
    return replace(was, new_epoch=done.get("epoch") is True)


def host_time_s() -> int:
    """This computer's time, as nodes count it."""
    return int(time.time() - EPOCH.timestamp())


def spell(node_s: int) -> str:
    """Node time in words: UTC."""
    return f"{date_and_time(node_s)} UTC"
