"""What the commands do that need no keys of their own. Borrowed when one is asked for."""

import sys

from sentill.compat import borrow, const
from sentill.errors import SentillError
from sentill.journal import chain
from sentill.wire import protocol
from sentill.wire.protocol import argument

from .commands import MAINTENANCE

_BACK_S = const(600)  # that a clock may be set back
_AHEAD_S = const(3600)  # that a clock which shows the time may be set ahead
_MOST_BOX_S = const(3600)
_AWAY_S = const(34_560_000)  # 400 days: so long a board may have been off


def identify(node, port, fields):
    """Send an I frame."""
    node.send_identity(port)
    log = node.audit.journal
    pairs = [("slot", node.store.slot()), ("bundle", node.store.bundle()), ("jk", log.kept if log else 0)]
    if getattr(sys.modules.get("sentill_start"), "frozen", False):
        pairs.append(("start", "frozen"))
    note = node.store.note()
    if note:
        pairs.append(("note", "(hidden)" if node.guard(note.encode()) else protocol.printable(note, 100)))
    return pairs


def vitals(node, port, fields):
    """What is known of the board's life."""
    return borrow("health", "reset_log").lasting(node)


def set_time(node, port, fields):
    """Set the clock to `t`, which must be near the latest time known here; with `force` it may be any.

    Forced back, a new epoch begins, because nothing can tell the order of what happened before and after: the journal
    records it and the terminal's history starts anew.
    """
    t = argument(fields, "t", 1, protocol.MAX_TIME)
    force = fields.get("force") is True
    was = node.hal.now_s() if node.hal.clock_set else 0
    latest = max(node.latest_s, was)
    back = t + _BACK_S < latest
    if not force:
        if back:
            raise SentillError("clock", "the clock would go back; the latest time known here is %d" % latest)
        if latest and t > latest + (_AHEAD_S if was else _AWAY_S):
            raise SentillError("clock", "too far ahead; the latest time known here is %d" % latest)
    if back:
        node.latest_s = t
        node.audit.note(chain.ACCESS, [("ev", "epoch"), ("was", latest), ("t", t)])
        if node.assessor:
            node.assessor.history.clear()
    node.hal.set_now_s(t)
    node.terminal.latest = 0
    node.event("clock", [("was", was)])
    return [("t", t), ("was", latest), ("epoch", back)]


def set_rate(node, port, fields):
    """Send `hz` health frames per second."""
    node.rate_hz = argument(fields, "hz", 0, 10)
    return [("hz", node.rate_hz)]


def audit(node, port, fields):
    """Send the journal `from` a record on."""
    return node.audit.pull(port, argument(fields, "from", 0, protocol.MAX_INT) if "from" in fields else 0)


def maintenance(node, port, fields):
    """Restart without the node, for people at the REPL: in `box` seconds, if given, the board restarts once more,
    whatever they do. A session goes on, and no longer than it would have."""
    left_s = node.session.left_s()
    if node.vault.profile and not left_s:
        raise SentillError("locked", "unlock it first")
    if "box" in fields:
        box = argument(fields, "box", 1, _MOST_BOX_S)
        left_s = min(left_s or box, box)
    # Written first: without the flag the reset would lead back into the watchdog. With the seconds until it
    # restarts, 0 for no limit.
    try:
        node.store.save(MAINTENANCE, lambda write: write(left_s.to_bytes(4, "little")))
    except OSError:
        raise SentillError("storage", "the flag file cannot be written")
    node.after = "maintenance"
    return []


def reboot(node, port, fields):
    """Restart."""
    node.after = "reboot"
    return []


def blink(node, port, fields):
    """Blink the board's light for `n` seconds from now on, so that a person finds the board among many."""
    n = argument(fields, "n", 1, 60) if "n" in fields else 10
    if node.light is None:
        node.light = node.hal.light()
    if node.light is None:
        raise SentillError("light", "this board has no light")
    node.toggle = 2 * n
    return []
