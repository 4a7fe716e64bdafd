"""What a technician wants to know of a node, gathered from its telemetry; no I/O, the views live in the command."""

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

from sentill_host.telemetry import Frame, Text

STATES = ("ok", "watch", "warn", "fail")
# Fields every frame has; the rest is what it tells.
_FRAME_FIELDS = ("q", "t")


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
        """The worst state of any channel, "" while none has reported."""
        states = [STATES.index(row["st"]) for row in self.channels.values() if row.get("st") in STATES]
        return STATES[max(states)] if states else ""


def details(fields: dict[str, Any], leave_out: tuple[str, ...] = ()) -> str:
    """The fields of a frame as `key=value` words, without the count, the time and those in `leave_out`."""
    return " ".join(f"{k}={v}" for k, v in fields.items() if k not in _FRAME_FIELDS and k not in leave_out)


def as_json(item: Frame | Text) -> dict[str, Any]:
    """One frame or text line as a flat object: `kind` is the frame's letter or "text"."""
    if isinstance(item, Text):
        return {"kind": "text", "line": item.line}
    return {"kind": item.kind, **({"missed": item.missed} if item.missed else {}), **item.fields}
