"""What a C frame can ask of the node: which commands there are, and who may give them.

What they do is in the modules of MODULES, borrowed when asked for: functions (node, port, fields) -> pairs of the
reply. A command that must act after its reply is out (a reset) leaves what to do in `node.after`.
"""

from gc import collect

from . import journal, protocol
from .compat import borrow, const
from .errors import FrameError, SentillError
from .terminal import argument, parse

MAINTENANCE = "maintenance"  # the flag file that the next start removes

_ANYWHERE = const(1)  # the terminal may ask, too
_FREE = const(2)  # changes nothing, or proves by itself that it may: needs no signature
_QUIET = const(4)  # too many, or too small, for the journal
_FIRST_KEYS = const(8)  # needs no signature where there are no keys yet, or none any more
MODULES = ("commands_more", "access", "access_session", "access_provision")

# Name, with _ for -: flags, and 16 times the index of the module.
COMMANDS = {
    "identify": _ANYWHERE | _FREE,
    "status": _ANYWHERE | _FREE,
    "vitals": _ANYWHERE | _FREE,
    "count": _ANYWHERE | _QUIET,
    "set_time": _ANYWHERE,
    "set_rate": _QUIET,
    "audit": _FREE,
    "blink": _FREE,
    "maintenance": _FREE,  # for who may stop the node
    "reboot": 0,
    "challenge": 16 | _ANYWHERE | _FREE,
    "unlock": 32 | _FREE,
    "order": 32 | _FREE,
    "lock": 32,
    "provision": 48 | _FIRST_KEYS,
}


def answer(node, port) -> None:
    """Carry out the C frame that port.reader has found and reply on the same port."""
    try:
        try:
            pairs = _carry_out(node, port)
        except MemoryError:
            raise SentillError("memory", "no room for that now; ask again")
    except SentillError as error:
        node.refused += 1
        port.send(
            "R", [("re", port.asked), ("ok", False), ("err", error.code), ("msg", protocol.printable(error.message))]
        )
        return
    port.send("R", [("re", port.asked), ("ok", True)] + pairs)


def _carry_out(node, port):
    fields = parse(port, node.guard)
    name = fields.get("cmd")
    if not isinstance(name, str):
        raise FrameError("field", "cmd must be a string")
    name = name.replace("-", "_")
    flags = COMMANDS.get(name, -1)
    if flags < 0:
        names = " ".join(sorted(COMMANDS)).replace("_", "-")
        raise SentillError("command", "no such command; there are " + names)
    if not flags & _ANYWHERE and port is not node.console:
        raise SentillError("command", "only over USB")
    if not flags & _FREE and (node.vault.generation or not flags & _FIRST_KEYS):
        node.vault.admit(port is not node.console, port.name + " C ", port.reader.object(), fields.get("c"))
        if not flags & _QUIET:
            node.audit.note(journal.COMMAND, [("cmd", name), ("line", port.name)])
    if name == "status":
        return node.vitals.summary()
    if name == "count":
        return _count(node, fields)
    collect()  # room for the module
    return getattr(borrow(MODULES[flags >> 4]), name)(node, port, fields)


def _count(node, fields):
    n = argument(fields, "n", 1, 10_000) if "n" in fields else 1
    if not isinstance(fields.get("name"), str) or not node.vitals.count(fields["name"], n):
        raise SentillError("unknown", "no channel counts that")
    return []
