"""Reads a node's attribute table: one row per health channel, as in a disk's SMART report."""

import re
import time
from typing import Any

from sentill_host.errors import LinkError, RefusedError
from sentill_host.node.client import NodeClient
from sentill_host.node.frames import Frame

FAST_HZ = 10  # the node sends one row per report
PATIENCE_S = 60.0  # two laps of 16 rows at one report per second take up to 48
STATES = ("ok", "watch", "warn", "fail")
FULL_KB = 16  # four flash blocks: with less, littlefs cannot be relied on to replace a file
STARTS = ("power", "brownout", "watchdog", "hard", "deepsleep", "soft", "planned", "unknown")

_SCALED = re.compile(r"(0\.0*1)(.*)")  # a unit of which the node counts tenths, hundredths, ...


def collect(client: NodeClient, timeout_s: float = 10.0) -> list[dict[str, Any]]:
    """The rows of all channels of a running node, by channel id.

    Has the node report faster until every row has come, then as before. One that has keys, and takes no such command
    from a `client` that does not sign, is listened to at its own pace, for PATIENCE_S longer. Raises LinkError when the
    node is silent or has no channels.
    """
    end = time.monotonic() + timeout_s
    usual = int(client.command("status")["hz"])
    faster = _hurry(client)
    if not faster:
        if not usual:
            raise LinkError(
                f"{client.link.port}: the node has keys and reports nothing by itself",
                "name the fleet's key file with --keys",
            )
        end += PATIENCE_S
    try:
        rows: dict[int, dict[str, Any]] = {}
        laps = previous = since_loss = 0
        # Rows come round and round. A lost frame must not hide one: it takes a lap without a loss, or two laps and all
        # ids up to the highest.
        while time.monotonic() < end and not (laps >= 2 and len(rows) == max(rows) + 1):
            item = client.receive(min(1.0, end - time.monotonic()))
            if not isinstance(item, Frame):
                continue
            if item.missed:
                since_loss = 0
            if item.kind == "H" and "ch" in item.fields:
                channel = int(item.fields["ch"])
                if since_loss >= len(rows) > 0 and channel in rows:
                    break
                laps += channel <= previous
                previous = channel
                rows[channel] = item.fields
                since_loss += 1
    finally:
        if faster:
            client.command("set-rate", hz=usual)
    if not rows:
        raise LinkError(f"{client.link.port}: the node reports no health channels")
    return [rows[channel] for channel in sorted(rows)]


def _hurry(client: NodeClient) -> bool:
    # Have the node report faster; False when it would have to be signed.
    try:
        client.command("set-rate", hz=FAST_HZ)
    except RefusedError as error:
        if error.code not in ("mac", "tampered"):  # it wants a signature; or has no keys left to check one
            raise
        return False
    return True


def reading(row: dict[str, Any]) -> str:
    """The raw value in its unit, for people: 5874 in "0.01C" is "58.74 °C"."""
    unit, value = str(row.get("u", "")), row.get("raw", "")
    scaled = _SCALED.fullmatch(unit)
    digits, name = (len(scaled[1]) - 2, scaled[2]) if scaled else (0, unit)
    text = f"{value / 10**digits:,.{digits}f}" if isinstance(value, int) else str(value)
    return f"{text} {'°C' if name == 'C' else name}".strip()


def remaining(row: dict[str, Any]) -> str:
    """Time to the threshold with its band, for people; "" without a forecast."""
    if "left_h" not in row:
        return ""
    unit, hours = ("d", 24) if int(row["left_h"]) >= 72 else ("h", 1)
    left, low, high = (int(row.get(key, row["left_h"])) // hours for key in ("left_h", "lo_h", "hi_h"))
    return f"{left} {unit} ({low}..{high})"


def worst(rows: list[dict[str, Any]]) -> str:
    """The worst state of the rows; "" without any."""
    states = [STATES.index(row["st"]) for row in rows if row.get("st") in STATES]
    return STATES[max(states)] if states else ""


def troubles(status: dict[str, Any]) -> list[str]:
    """What a node's summary (its H frame, or the answer to `status`) tells that nobody must overlook, in words."""
    told = []
    if lost := int(status.get("miss", 0)):
        told.append(f"{lost:,} audit record{'s' * (lost > 1)} NOT KEPT")
    if "free" in status and int(status["free"]) < FULL_KB:
        told.append(f"its flash is full: {int(status['free'])} KB free")
    if status.get("foreign"):
        told.append("on its flash is code that is not the node's")
    return told


def uptime(up_s: int) -> str:
    """How long a node has been up, for people."""
    hours, days = up_s // 3600 % 24, up_s // 86400
    if days:
        return f"up {days} d {hours} h"
    if hours:
        return f"up {hours} h {up_s // 60 % 60} min"
    return f"up {up_s // 60} min" if up_s >= 60 else f"up {up_s} s"


def life(fields: dict[str, Any]) -> str:
    """The reply to the command `vitals` for people: uptime, starts by cause, light sleep, wear of the flash."""
    up = int(fields["up"])
    text = uptime(up)
    if fields.get("asleep"):
        text += f", {min(100, 100 * int(fields['asleep']) // max(up, 1))} % of it asleep"
    starts = {name: int(fields[name]) for name in STARTS if fields.get(name)}
    causes = ", ".join(f"{count} {name}" for name, count in starts.items())
    number = sum(starts.values())
    times = "once" if number == 1 else f"{number} times"
    return f"{text}; started {times} ({causes}); about {int(fields['erases']):,} flash erases"
