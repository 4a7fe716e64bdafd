"""What a C frame can ask of the node: which commands there are, and who may give them.

What they do is in the modules of MODULES, borrowed when asked for: functions (node, port, fields) -> pairs of the
reply. A command that must act after its reply is out (a reset) leaves what to do in `node.after`.
"""

from gc import collect

from sentill.compat import MISSING, borrow, const, ticks_add, ticks_diff, ticks_ms
from sentill.errors import FrameError, SentillError
from sentill.journal import chain
from sentill.wire import protocol
from sentill.wire.port import parse
from sentill.wire.protocol import argument

MAINTENANCE = "maintenance"  # the flag file that the next start removes

_ANYWHERE = const(1)  # the terminal may ask, too
_FREE = const(2)  # changes nothing, or proves by itself that it may: needs no signature
_QUIET = const(4)  # too many, or too small, for the journal
_FIRST_KEYS = const(8)  # needs no signature where there are no keys yet, or none any more
_SHARE = const(4)
_SAVED_MS = const(4000)  # of all time
_MOST_MS = const(10_000)
MODULES = (("node", "actions"), ("keys", "challenge"), ("keys", "unlock"), ("keys", "provision"))

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
    began = ticks_ms()
    port.free = True
    try:
        try:
            pairs = [("ok", True)] + _carry_out(node, port)
        except SentillError as error:
            node.refused += 1
            pairs = [("ok", False), ("err", error.code), ("msg", protocol.printable(error.message))]
        port.send("R", [("re", port.asked)] + pairs)
    except MISSING:
        node.refused += 1
        port.tell(b'#R {"q":\x01,"re":\x02,"ok":false,\0', port.asked, 0, "err", "memory")
    if port.free:
        spent(node, began)


# The time for what nobody has signed: a quarter of all time, of which a second is saved up. Whoever has no key keeps
# the node busy no longer than that. What is done is paid behind it; while something is due, the next one waits.


def spent(node, began) -> None:
    """Pay for what was done since `began` (ticks_ms); `node.due` is when all is paid."""
    now = ticks_ms()
    credit = ticks_diff(now, node.due)
    if not -_MOST_MS <= credit <= _SAVED_MS:
        credit = _SAVED_MS
    node.due = ticks_add(now, min(_SHARE * ticks_diff(now, began) - credit, _MOST_MS))


def wait(node) -> int:
    """Milliseconds until all is paid, 0 when it is."""
    left = ticks_diff(node.due, ticks_ms())
    return left if 0 < left <= _MOST_MS else 0  # it comes round with the ticks when nobody asks for days


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
        port.free = not node.vault.generation
        if not flags & _QUIET:
            node.audit.note(chain.COMMAND, [("cmd", name), ("line", port.name)])
    if name == "status":
        return node.vitals.summary()
    if name == "count":
        return _count(node, fields)
    collect()  # room for the module
    if name == "provision":  # what would run, or be at hand, under the new keys; not at once with what gives them
        borrow("node", "foreign_code").refuse(node)
        collect()
    try:
        return getattr(borrow(*MODULES[flags >> 4]), name)(node, port, fields)
    finally:
        collect()  # of it: what others take meanwhile would leave the heap in pieces


def _count(node, fields):
    n = argument(fields, "n", 1, 10_000) if "n" in fields else 1
    if not isinstance(fields.get("name"), str) or not node.vitals.count(fields["name"], n):
        raise SentillError("unknown", "no channel counts that")
    return []
