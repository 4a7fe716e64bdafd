"""What a technician wants to know of a node, gathered from its telemetry; no I/O, the views live in the command."""

from collections import Counter, deque
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from sentill_host.journal.decode import CLOCK_IS_SET_S, EPOCH
from sentill_host.node import health_table
from sentill_host.node.frames import Frame, Text

# Fields every frame has; the rest is what it tells.
_FRAME_FIELDS = ("q", "t")
TRENDS = {1: "rising", -1: "falling", 0: ""}
_COUNTS = {
    "ap": "approve", "rv": "review", "dc": "decline", "fr": "frauds reported", "rej": "requests refused",
    "crc": "checksum errors", "bad": "lines not understood", "gap": "frames missing", "drop": "frames dropped",
    "crash": "tasks crashed",
}  # fmt: skip


@dataclass
class NodeView:
    """State of one node as its frames tell it: feed frames and text in order with `take`."""

    identity: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    channels: dict[str, dict[str, Any]] = field(default_factory=dict)
    verdicts: Counter[str] = field(default_factory=Counter)
    events: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=200))
    console: deque[str] = field(default_factory=lambda: deque(maxlen=200))
    boots: int = 0
    t: int = 0

    def take(self, item: Frame | Text) -> None:
        """Take in what arrived next. Unknown frame types are ignored."""
        if isinstance(item, Text):
            self.console.append(item.line)
            return
        fields = item.fields
        if isinstance(fields.get("t"), int):
            self.t = fields["t"]
        if item.kind == "I":
            self.identity = fields
        elif item.kind == "H":
            if "ch" in fields:
                self.channels[str(fields.get("name", fields["ch"]))] = fields
            else:
                self.summary = fields
        elif item.kind == "E":
            self.events.append(fields)
            if fields.get("ev") == "boot":
                self.boots += 1
                self.channels.clear()
        elif item.kind == "T" and "v" in fields:
            self.verdicts[str(fields["v"])] += 1

    def worst(self) -> str:
        """The worst state of any channel, as the node tells it or its rows; "" while nothing has come."""
        return health_table.worst([*self.channels.values(), self.summary])


def words(item: Frame) -> str:
    """One frame for people: when, of what it speaks, and what it says."""
    fields = item.fields
    if item.kind == "I":
        about, text = "identity", identity(fields)
    elif item.kind == "H" and "ch" in fields:
        about, text = str(fields.get("name", fields["ch"])), channel(fields)
    elif item.kind == "H":
        about, text = "node", f"{fields.get('st', '')}; {summary(fields)}"
    elif item.kind == "E":
        about, text = "event", event(fields)
    else:
        about, text = {"T": "verdict", "R": "reply", "A": "journal"}.get(item.kind, item.kind), details(fields)
    return f"{clock(fields.get('t')):>12}  {about:<14}  {text}"


def clock(t: Any) -> str:
    """Node time as date and time (UTC), or as the time since power-on while the node's clock was not set."""
    if not isinstance(t, int):
        return ""
    if t >= CLOCK_IS_SET_S:
        return f"{EPOCH + timedelta(seconds=t):%m-%d %H:%M:%S}"
    days = f"{t // 86400} d " if t >= 86400 else ""
    return f"{days}{t // 3600 % 24:02}:{t // 60 % 60:02}:{t % 60:02}"


def identity(fields: dict[str, Any]) -> str:
    """An I frame in words: node, firmware, why it started, profile, and what is wrong with it from the start."""
    keys = f", keys of generation {fields['gen']}" if fields.get("gen") else ", no keys"
    text = (
        f"{fields.get('board', '?')} {fields.get('uid', '?')}: version {fields.get('sw', '?')} on MicroPython "
        f"{fields.get('fw', '?')}; last start: {fields.get('rst', '?')}, profile {fields.get('prof', '?')}{keys}"
    )
    text += f"; TAMPERED WITH: {fields['tamper']}" if fields.get("tamper") else ""
    return text + (f"; FAULTS: {fields['faults']}" if fields.get("faults") else "")


def summary(fields: dict[str, Any]) -> str:
    """A node's own H frame in words; what went wrong only where something did."""
    counts = {name: fields.get(key, 0) for key, name in _COUNTS.items()}
    parts = [health_table.uptime(int(fields.get("up", 0)))]
    parts.append(", ".join(f"{counts.pop(name):,} {name}" for name in ("approve", "review", "decline")))
    parts.append(f"{fields.get('jk', 0):,} records kept")
    parts += [f"{name}: {count:,}" for name, count in counts.items() if count]
    parts.append(f"{int(fields.get('heap', 0)) / 1024:.0f} KB of heap free")
    parts += [f"{int(fields['free']):,} KB of flash free"] * ("free" in fields)
    return "; ".join([*health_table.troubles(fields), *parts])


def channel(row: dict[str, Any]) -> str:
    """A channel's row in words."""
    text = f"{row.get('st', ''):<5}  {health_table.reading(row)}, health {row.get('v', '')}"
    left = health_table.remaining(row)
    text += f", {TRENDS[row['tr']]}" if row.get("tr") in (1, -1) else ""
    text += f", fails in {left}" if left else ""
    text += f", {row['why']}" if row.get("why") else ""
    return text + (f": {row['adv']}" if row.get("adv") else "")


def event(fields: dict[str, Any]) -> str:
    """An E frame in words."""
    if fields.get("ev") == "channel":
        return f"{fields.get('name', '')} {channel(fields)}"
    return f"{fields.get('ev', '?')} {details(fields, ('ev',))}".strip()


def details(fields: dict[str, Any], leave_out: tuple[str, ...] = ()) -> str:
    """The fields of a frame as `key=value` words, without the count, the time and those in `leave_out`."""
    return " ".join(f"{k}={v}" for k, v in fields.items() if k not in _FRAME_FIELDS and k not in leave_out)


def as_json(item: Frame | Text) -> dict[str, Any]:
    """One frame or text line as a flat object: `kind` is the frame's letter or "text"."""
    if isinstance(item, Text):
        return {"kind": "text", "line": item.line}
    return {"kind": item.kind, **({"missed": item.missed} if item.missed else {}), **item.fields}
