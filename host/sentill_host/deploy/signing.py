"""What a deploy needs keys for: it opens a locked board, signs what the board shall run, and gives first keys.

A board with keys starts only versions whose archive is signed for it (device/sentill/update/slots.py). The signature is
made here, from the fleet's key file, for one board at a time: nothing that is signed for one board runs on another.
"""

import dataclasses
import json
import re
import time

from sentill import crypto
from sentill.keys import vault
from sentill_host.bundle.build import Bundle
from sentill_host.bundle.seal import Seal, decode
from sentill_host.errors import LinkError, UsageError
from sentill_host.keys.key_file import KeyFile
from sentill_host.node import access
from sentill_host.node.client import NodeClient

# Counters are seconds since 2020-01-01 UTC: small integers of a 32-bit chip until 2054, and a computer that has never
# seen the board knows the next.
_EPOCH_S = 1_577_836_800
_MOST_COUNTER = (1 << 30) - 1
_SESSION_MIN = 5  # until the node stands aside; from then on its time is the box's
FLOOR = re.compile(r"older than this board accepts: (\d{1,10})\b")  # sentill.update.slots says so
NO_KEYS = "none"
_POLICY = vault.ERASE | vault.LOCK | vault.REFUSE


def sign_bundle(made: Bundle, keys: KeyFile) -> Bundle:
    """The bundle with the signature of the fleet that `keys` are of."""
    return dataclasses.replace(made, signature=crypto.mac(keys.bundle()).tag(_covered(made)).hex())


def is_signed(made: Bundle, keys: KeyFile) -> bool:
    """Whether somebody who has `keys` signed the bundle."""
    return crypto.equal(made.signature.encode(), sign_bundle(made, keys).signature.encode())


def _covered(made: Bundle) -> bytes:
    return json.dumps(made.about, sort_keys=True).encode()


class Signer:
    """For one board. `generation` of its keys is known from `enter` or `give_keys` on, 0 while it has none."""

    def __init__(self, port: str, keys: KeyFile | None):
        self.port = port
        self.keys = keys
        self.generation = 0

    def enter(self, node: NodeClient, uid: str) -> None:
        """Have the running node of the board `uid` let this deploy in. A node that knows no keys does.

        Raises UsageError when it has keys and they are not at hand, AccessError when it lets nobody in.
        """
        try:
            state = access.challenge(node, uid)
        except LinkError:
            return
        if not state.generation and not state.locked:
            return
        if self.keys is None:
            locked = f" and is locked ({state.profile})" if state.locked else ""
            raise UsageError(
                f"{self.port}: the board has keys{locked}: it runs only what is signed with them",
                "name the fleet's key file with --keys or $SENTILL_KEYS",
            )
        access.prove(node, self.keys, state)
        access.enter(node, self.keys, _SESSION_MIN, state)
        self.generation = state.generation

    def require_signed(self, made: Bundle, uid: str) -> None:
        """Raise UsageError unless the bundle of a file may go on the board: with keys only what their fleet signed."""
        if self.signs_with(uid) and self.keys is not None and not is_signed(made, self.keys):
            raise UsageError(
                f"{self.port}: the bundle is not signed by the fleet of {self.keys.path}",
                "`sentill bundle sign FILE` does, once you know where it comes from",
            )

    def seal(self, sha: str, uid: str, running: str, same: bool = False, note: str = "") -> bytes:
        """The signature of the archive with the SHA-256 `sha` for the board `uid`; b"" where it has no keys.

        `running` is the signature of its proven version, as the board has it: the new one gets a fresh counter, or the
        `same`. A board whose file system was emptied has none, and this computer's clock may be behind: its `note` of
        why the version it has does not start tells what it accepts.
        """
        generation = self.signs_with(uid)
        if self.keys is None or not generation:
            return b""
        proven = decode(running.encode())
        last = proven.counter if proven and proven.counter <= _MOST_COUNTER else 0  # others are not ours
        told = FLOOR.search(note)
        floor = int(told[1]) if told else 0
        counter = last if same and last >= floor else max(int(time.time()) - _EPOCH_S, last + 1, floor)
        if counter > _MOST_COUNTER:
            raise UsageError(f"{self.port}: no counter is left for its signature", "set this computer's clock")
        key = self.keys.derive(uid, b"sign", generation)
        return Seal(uid, counter, sha).encode(crypto.mac(key).tag)

    def signs_with(self, uid: str) -> int:
        """The generation of the keys to sign with, 0 for none: the node's word; where none runs, the key file's."""
        return self.generation or (self.keys.newest(uid) if self.keys is not None else 0)

    def give_keys(self, node: NodeClient, profile: str, timeout_s: float) -> bool:
        """Give a board that has no keys its first, and wait until it runs with them; False where it stays without.

        Raises AccessError when it does not take them, LinkError when it does not come back with them.
        """
        if self.keys is None or profile == NO_KEYS or self.generation:
            return False
        state = access.challenge(node)
        self.generation = state.generation
        if state.generation or state.locked:
            return False
        fresh = access.provision(node, self.keys, profile, _POLICY, state=state).fresh
        access.await_generation(node, fresh, timeout_s)
        self.generation = fresh
        return True
