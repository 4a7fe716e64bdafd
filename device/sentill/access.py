"""Who may do what on a device with keys: what a host has to know first. Borrowed, like access_*.py, when asked for.

Profile `open`: no limits. `service`: Ctrl-C and the REPL are shut but for a session, which a challenge answered under
the device's key opens for some minutes. `sealed`: only an order opens one, signed and used once. After a wrong answer
the next is refused for 2, 4, 8, ... up to 3600 seconds, counted anew from every start; the tenth is a tamper event. All
of it is journalled.
"""

from binascii import b2a_base64

from .compat import borrow, const

_PROFILES = ("open", "service", "sealed")
_LONGEST_S = const(3600)
_ORDER = const(2)  # its counter in the vault


def challenge(node, port, fields) -> list:
    """How the device is locked, the counters it accepts, and on USB a number to answer once."""
    vault = node.vault
    least = borrow("recovery").load(node)[0]
    usb = port is node.console
    pairs = [
        ("prof", _PROFILES[vault.profile]),
        ("gen", vault.generation or least),
        ("fresh", max(vault.generation, least) + 1),
        ("line", port.name),
        ("next", vault.counters[0 if usb else 1]),
        ("order", vault.counters[_ORDER]),
        ("left", node.session.left_s()),
        ("wait", wait_s(node)),
    ]
    if node.tampered:
        pairs.append(("tamper", node.tampered))
    if usb:
        node.nonce = node.hal.urandom(16)
        pairs.append(("nonce", b2a_base64(node.nonce)[:-1].decode()))
    return pairs


def wait_s(node) -> int:
    """Seconds until the next unlock is looked at."""
    failed = node.vault.failed
    wait = 1 << failed if 0 < failed < 12 else _LONGEST_S if failed else 0
    return max(0, node.failed_s + min(wait, _LONGEST_S) - node.hal.uptime_s())
