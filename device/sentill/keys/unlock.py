"""Sessions at a locked device's REPL: opened by an answered challenge or by a maintenance order, and ended."""

from binascii import a2b_base64
from struct import pack

from sentill import crypto
from sentill.compat import borrow, const
from sentill.errors import SentillError
from sentill.wire.protocol import argument

_ACCESS = const(9)  # kind of record
_MOST_FAILED = const(10)
_MOST_MINUTES = const(480)
_MOST_AHEAD = const(1000)  # an order may be; none is accepted below the last, and the numbers must not run out
_SEALED = const(2)
_LOCK = const(2)
_ORDER = const(2)
_TAG = const(16)


def unlock(node, port, fields) -> list:
    """Open a session of `min` minutes for who knows the device's key: `sig` answers the last challenge."""
    vault = node.vault
    minutes = argument(fields, "min", 1, _MOST_MINUTES)
    if not vault.profile:
        return [("left", 0)]
    if vault.profile == _SEALED:
        raise SentillError("sealed", "only a maintenance order opens it")
    _not_tampered(node)
    wait = borrow("keys", "challenge").wait_s(node)
    if wait:
        raise SentillError("wait", "wrong answers before; wait %d s" % wait)
    if not node.nonce:
        raise SentillError("state", "ask for a challenge first")
    message = b"unlock" + vault.device + node.nonce + pack("<H", minutes)
    mac = _mac(node, b"unlock")  # want of memory is no attempt
    node.nonce = b""
    # Counted before it is checked: a cut of the power must not save an attempt.
    vault.note_tries(vault.failed + 1, vault.latch)
    if not _proves(mac, message, fields):
        _failed(node)
        raise SentillError("mac", "wrong answer")
    vault.note_tries(0, vault.latch)
    return _open(node, "unlock", minutes)


def order(node, port, fields) -> list:
    """Open a session for a maintenance order: number `n`, `min` minutes, `sig` under the key for signatures."""
    vault = node.vault
    minutes = argument(fields, "min", 1, _MOST_MINUTES)
    if not vault.profile:  # nothing to open, nor to shut when the time is over
        return [("left", 0)]
    n = argument(fields, "n", 0, vault.counters[_ORDER] + _MOST_AHEAD)
    if not vault.generation:
        raise SentillError("state", "the device has no keys")
    _not_tampered(node)
    if not _proves(_mac(node, b"sign"), b"order" + vault.device + pack("<IH", n, minutes), fields):
        raise SentillError("mac", "the order is not for this device and key")
    vault.use(_ORDER, n)
    return _open(node, "order", minutes)


def lock(node, port, fields) -> list:
    """End the session."""
    if node.session.left_s():
        node.session.end()
        node.audit.note(_ACCESS, [("ev", "lock")])
    return []


def _open(node, how, minutes):
    node.session.start(minutes * 60)
    node.audit.note(_ACCESS, [("ev", how), ("ok", 1), ("min", minutes)])
    return [("left", minutes * 60)]


def _failed(node):
    node.failed_s = node.hal.uptime_s()
    failed = node.vault.failed
    node.audit.note(_ACCESS, [("ev", "unlock"), ("ok", 0), ("failed", failed)])
    if failed >= _MOST_FAILED:
        node.tamper.trip("unlocks")


def _not_tampered(node):
    if node.tampered and (node.vault.policy & _LOCK or not node.vault.generation):
        raise SentillError("tampered", "only new keys open it")


def _mac(node, purpose):
    return crypto.mac(borrow("keys", "derivation").key(node.audit.keys, purpose))


def _proves(mac, message, fields):
    try:
        given = a2b_base64(fields["sig"])
    except (KeyError, TypeError, ValueError):
        given = b""
    good = crypto.equal(mac.tag(message)[:_TAG], given)
    mac.wipe()
    return good
