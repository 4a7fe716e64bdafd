"""Why the board has started, counted over its life: borrowed at the start, and by the command `vitals`."""

from array import array

from .monitor import WARN

FILE = "vitals.bin"  # u32 flash erases, u8 whether the next reset is planned, u16 per cause, u32 the latest time known

# As hal.reset_cause says; "brownout" and "planned" are told apart by `count`.
CAUSES = ("power", "brownout", "watchdog", "hard", "deepsleep", "soft", "planned", "unknown")
_UNWANTED = (1, 2, 7)


def which(name: str) -> tuple:
    """The causes counted by the vital `name`, as indices: those nobody wants for "resets", one for "resets_CAUSE"."""
    if name == "resets":
        return _UNWANTED
    return (CAUSES.index(name[7:]),) if name[7:] in CAUSES else ()


def count(node) -> None:
    """Count why the board started, after the health state is back, and keep the count at once: it may start often.

    Most chips do not tell a brownout from a power-on reset, but the supply was seen to be low before. On some a reset
    that was asked for looks like a watchdog's, but the node has left a note.
    """
    data = bytearray(9 + 2 * len(CAUSES))

    def restore(readinto, size):
        if size == len(data):
            readinto(data)

    node.attempt("state", node.store.load, FILE, restore)
    node.store.erases = int.from_bytes(data[:4], "little")
    planned = data[4] != 0
    starts = node.vitals.starts = array("H", data[5:-4])
    node.latest_s = int.from_bytes(data[-4:], "little")
    cause = node.hal.reset_cause()
    if planned and cause in ("watchdog", "hard", "soft"):
        cause = "planned"
    elif cause == "power" and any([c.name == "supply" and c.state >= WARN for c in node.monitor.channels]):
        cause = "brownout"
    i = CAUSES.index(cause if cause in CAUSES else "unknown")
    starts[i] = min(starts[i] + 1, 65535)
    node.attempt("state", node.store.save, FILE, node.vitals.save)


def lasting(node) -> list:
    """Pairs about the board's life: uptime and time asleep (s), flash erases, starts by cause."""
    vitals = node.vitals
    pairs = [("up", node.hal.uptime_s()), ("asleep", vitals.asleep_ms // 1000)]
    pairs.append(("erases", vitals.read("vital:flash_erases")))
    return pairs + [(CAUSES[i], vitals.starts[i]) for i in range(len(vitals.starts))]
