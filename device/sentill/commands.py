"""What a C frame can ask of the node. Each command is a function (node, port, fields) -> pairs of the reply.

A command that must act after its reply is out (a reset) leaves what to do in `node.after`.
"""

from . import protocol
from .compat import borrow
from .errors import FrameError, SentillError
from .terminal import argument, parse

MAINTENANCE = "maintenance"  # the flag file that the next start removes


def answer(node, port) -> None:
    """Carry out the C frame that port.reader has found and reply on the same port."""
    try:
        fields = parse(port, node.guard)
        name = fields.get("cmd")
        if not isinstance(name, str):
            raise FrameError("field", "cmd must be a string")
        entry = COMMANDS.get(name)
        if entry is None:
            raise SentillError("command", "no such command; there are " + " ".join(sorted(COMMANDS)))
        function, anywhere = entry
        if not anywhere and port is not node.console:
            raise SentillError("command", "only over USB")
        pairs = function(node, port, fields)
    except SentillError as error:
        node.refused += 1
        port.send(
            "R", [("re", port.asked), ("ok", False), ("err", error.code), ("msg", protocol.printable(error.message))]
        )
        return
    port.send("R", [("re", port.asked), ("ok", True)] + pairs)


def _identify(node, port, fields):
    node.send_identity(port)
    return [("slot", node.store.slot()), ("bundle", node.store.bundle())]


def _status(node, port, fields):
    return node.vitals.summary()


def _vitals(node, port, fields):
    return borrow("starts").lasting(node)


def _set_time(node, port, fields):
    t = argument(fields, "t", 1, protocol.MAX_TIME)
    was = node.hal.now_s() if node.hal.clock_set else 0
    node.hal.set_now_s(t)
    node.event("clock", [("was", was)])
    return [("t", t)]


def _set_rate(node, port, fields):
    node.rate_hz = argument(fields, "hz", 0, 10)
    return [("hz", node.rate_hz)]


def _audit(node, port, fields):
    return node.audit.pull(port, argument(fields, "from", 0, protocol.MAX_INT) if "from" in fields else 0)


def _count(node, port, fields):
    name = fields.get("name")
    n = argument(fields, "n", 1, 10_000) if "n" in fields else 1
    if not isinstance(name, str) or not node.vitals.count(name, n):
        raise SentillError("unknown", "no channel counts that")
    return []


def _maintenance(node, port, fields):
    # Written first: without the flag the reset would lead back into the watchdog.
    try:
        node.store.save(MAINTENANCE, lambda write: write(b"1"))
    except OSError:
        raise SentillError("storage", "the flag file cannot be written")
    node.after = "maintenance"
    return []


def _reboot(node, port, fields):
    node.after = "reboot"
    return []


def _blink(node, port, fields):
    from .blink import start

    start(node.hal, argument(fields, "n", 1, 60) if "n" in fields else 10)
    return []


# Name: function, whether the terminal may ask too.
COMMANDS = {
    "identify": (_identify, True),
    "status": (_status, True),
    "vitals": (_vitals, True),
    "set-time": (_set_time, True),
    "set-rate": (_set_rate, False),
    "audit": (_audit, False),
    "blink": (_blink, False),
    "count": (_count, True),
    "maintenance": (_maintenance, False),
    "reboot": (_reboot, False),
}
