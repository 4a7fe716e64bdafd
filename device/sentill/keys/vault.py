"""What a device's keys protect: card references, and the frames that change something. derivation.py has the keys.

The kept key lies in the key store and nowhere else; what HKDF derives from it stays in RAM only where every transaction
or frame needs it. A device without one works with LAB_ROOT, generation 0, which is no secret.

Key store entries: 2 generation u16, profile u8, policy u8, device id (8), kept key (32); 3 counters, four u32: lowest
not yet used on USB, on the terminal's line, of orders, lowest accepted of manifests; 4 failed unlocks u16, tamper latch
u8.

Frames that change something carry `c`, a counter, and last `mac`: base64 of the first 16 bytes of HMAC-SHA256 under the
key of purpose b"frame" over the name of the line ("usb" or "uart"), a space, and the frame from its type letter up to
the comma before "mac". Of these counters only every 64th is kept: after a start the lowest accepted is a little higher.
"""

from binascii import a2b_base64
from struct import pack

from sentill import crypto
from sentill.compat import const
from sentill.errors import SentillError

PROFILES = ("open", "service", "sealed")
ERASE = 1  # of a policy: what a tamper event leads to
LOCK = 2
REFUSE = 4

_COUNTERS = const(3)
_TRIES = const(4)
_ORDER = const(2)
_STEP = const(64)
_TAG = const(16)
_SIGNATURE = const(34)  # bytes of `,"mac":"`, the tag in base64, `"}`
_MOST = const(0x3FFFFFFF)


class Vault:
    """The part of the keys that is always at hand; filled by derivation.load."""

    def __init__(self, keys):
        self.generation = 0  # 0: the device has no keys of its own
        self.profile = 0  # index of PROFILES
        self.policy = 0
        self.device = b""
        self.counters = [0, 0, 0, 0]  # lowest not used yet
        self.kept = [0, 0, 0, 0]  # the same on flash
        self.failed = 0  # unlocks since the last good one
        self.latch = 0  # a tamper event that did not erase the keys, or not yet
        self.frame = None
        self.card = crypto.mac()  # its tag of a card reference stands for it
        self.keys = keys

    def admit(self, line: int, head: str, data, c) -> None:
        """Check the frame with the object `data` (bytes) and the counter `c`, then use that up.

        `line` is 0 for USB, 1 for the terminal's; `head` its name, a space, the frame's type, a space. Raises
        SentillError: "mac" when the frame is not authentic, "stale" when it is old, "tampered" without keys to tell.
        """
        if not self.generation:
            if self.profile:
                raise SentillError("tampered", "the keys were erased")
            return
        # At its place from the end: what follows a whole base64 text does not show in what it decodes to.
        at = max(len(data) - _SIGNATURE, 0)
        tag = self.frame.tag(head.encode(), data[:at])[:_TAG]
        try:
            given = a2b_base64(data[at + 8 : -2])
        except ValueError:
            given = b""
        if not crypto.equal(given, tag) or data[at : at + 8] != b',"mac":"' or not isinstance(c, int):
            raise SentillError("mac", "not signed with the key of this device")
        self.use(line, c)

    def use(self, counter: int, n: int) -> None:
        """Use up the number `n` of a counter; what is kept on flash moves on first. Raises SentillError("stale")."""
        if not self.counters[counter] <= n <= _MOST:
            raise SentillError("stale", "used before; the next is %d" % self.counters[counter])
        if n >= self.kept[counter]:
            self.kept[counter] = n + (_STEP if counter < _ORDER else 1)
            self.keys.put(_COUNTERS, pack("<IIII", *self.kept))
        self.counters[counter] = n + 1

    def note_tries(self, failed: int, latch: int) -> None:
        """Keep the number of failed unlocks and the tamper latch."""
        self.keys.put(_TRIES, pack("<HB", failed, latch))
        self.failed = failed
        self.latch = latch

    def close(self) -> None:
        """Overwrite the keys in RAM."""
        self.card.wipe()
        if self.frame:
            self.frame.wipe()

    def erase(self) -> None:
        """Overwrite all keys, on flash first."""
        self.generation = 0
        self.profile = 2
        try:
            self.keys.wipe()
        finally:
            self.close()
