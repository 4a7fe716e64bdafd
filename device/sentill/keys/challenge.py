"""Who may do what on a device with keys: what a host has to know first. Borrowed, like access_*.py, when asked for.

Profile `open`: no limits. `service`: Ctrl-C and the REPL are shut but for a session, which a challenge answered under
the device's key opens for some minutes. `sealed`: only an order opens one, signed and used once. After a wrong answer
the next is refused for 2, 4, 8, ... up to 3600 seconds, counted anew from every start; the tenth is a tamper event. All
of it is journalled.
"""

from binascii import b2a_base64

from sentill.compat import borrow, const

_PROFILES = ("open", "service", "sealed")
_LONGEST_S = const(3600)
_ORDER = const(2)  # its counter in the vault
_PROOF = const(12)


def challenge(node, port, fields) -> list:
    """How the device is locked, and the counters it accepts. On USB also a number to answer once, and `sig`.

    That shows that the device has its keys: base64 of the first 12 bytes (more would not fit a line) of HMAC-SHA256
    under the key of purpose b"frame" over b"challenge " and the `nonce` asked with.
    """
    vault = node.vault
    least = borrow("keys", "renewal").load(node)[0]
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
        if vault.generation and "nonce" in fields and not node.tampered:
            tag = vault.frame.tag(b"challenge ", str(fields["nonce"]).encode())
            pairs.append(("sig", b2a_base64(tag[:_PROOF])[:-1].decode()))
    return pairs


def wait_s(node) -> int:
    """Seconds until the next unlock is looked at."""
    failed = node.vault.failed
    wait = 1 << failed if 0 < failed < 12 else _LONGEST_S if failed else 0
    return max(0, node.failed_s + min(wait, _LONGEST_S) - node.hal.uptime_s())
