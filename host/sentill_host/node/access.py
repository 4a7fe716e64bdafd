"""What a host needs keys for: signed frames, unlocking, orders, provisioning. The device's side is
sentill.keys.challenge."""

import base64
import contextlib
import dataclasses
import hashlib
import json
import secrets
import struct
import time
from dataclasses import asdict, dataclass
from typing import Any

from sentill import crypto
from sentill.keys import vault
from sentill.wire import protocol
from sentill_host.errors import LinkError, RefusedError, SentillHostError, UsageError
from sentill_host.journal import ledger
from sentill_host.keys.key_file import KeyFile, device_id
from sentill_host.node import foreign_code
from sentill_host.node.client import NodeClient, Pairs, await_identity

MINUTES = 15
NOT_FROZEN = "its start is a file: MicroPython listens to Ctrl-C for a moment before it, and runs /boot.py first"
FREEZE = "firmware with the frozen start closes that: see docs/threat-model.md"
_TAG = 16
_PROOF = 12
_MOST = 1 << 30  # of what a device counts
_MOST_GENERATION = 0xFFFF
_TRIES = 3
_START_S = 60.0


class AccessError(SentillHostError):
    """The device does not let this host in: it is locked and no or the wrong keys are at hand, or it is tampered."""

    exit_code = 1


class FrameSigner:
    """Signs the frames of one line to a device; `counter` is the next it accepts."""

    def __init__(self, key: bytes, line: str, counter: int):
        self.line = line
        self.counter = counter
        self._mac = crypto.mac(key)

    def encode(self, kind: str, pairs: Pairs) -> bytes:
        """As protocol.encode, with counter and signature. Raises FrameError when that is too long for a line."""
        frame = protocol.encode(kind, [*pairs, ("c", self.counter), ("mac", "A" * 24)])
        self.counter += 1
        body = frame[1 : frame.rindex(b',"mac":"')]
        tag = self._mac.tag(self.line.encode() + b" ", body)[:_TAG]
        body += b',"mac":"' + base64.b64encode(tag) + b'"}'
        return b"#" + body + b"*%08x\r\n" % protocol.crc32(body)


@dataclass(frozen=True)
class State:
    """How a device is locked. `left_s` of a session, `wait_s` until the next unlock, `fresh`: the next generation.

    `nonce` is the device's, to be answered once; `proof` its answer to `asked`, see `prove`.
    """

    uid: str
    profile: str
    generation: int
    fresh: int
    line: str
    counter: int
    order: int
    left_s: int
    wait_s: int
    tampered: str = ""
    nonce: bytes = b""
    asked: bytes = b""
    proof: bytes = b""

    @property
    def locked(self) -> bool:
        """Whether the REPL, and so a deploy, needs an unlock first."""
        return self.profile != "open" and not self.left_s


def challenge(client: NodeClient, uid: str = "") -> State:
    """Ask a node how it is locked, and who it is where `uid` is not known. Raises LinkError.

    The answer holds a number to be answered once: what opens the node takes the State along, and does not ask anew.
    """
    asked = base64.b64encode(secrets.token_bytes(_TAG))
    told = client.command("challenge", nonce=asked.decode())
    try:
        numbers = [told[name] for name in ("gen", "fresh", "next", "order", "left", "wait")]
        nonce, proof = (base64.b64decode(told.get(name, "")) for name in ("nonce", "sig"))
        if told["prof"] not in vault.PROFILES or any(type(n) is not int or not 0 <= n <= _MOST for n in numbers):
            raise ValueError
        if numbers[0] > _MOST_GENERATION:
            raise ValueError
        profile, line, tampered = str(told["prof"]), str(told["line"]), str(told.get("tamper", ""))
    except (KeyError, TypeError, ValueError):
        raise LinkError(f"{client.link.port}: the node does not say how it is locked", "deploy it anew") from None
    generation, fresh, counter, order, left_s, wait_s = numbers
    return State(
        uid or str(identity(client)["uid"]), profile, generation, fresh, line, counter, order, left_s, wait_s, tampered,
        nonce, asked, proof,
    )  # fmt: skip


def identity(client: NodeClient) -> dict[str, Any]:
    """The fields of the node's I frame. Raises LinkError when it does not come: it is asked for thrice."""
    for _ in range(_TRIES):
        client.command("identify")
        for item in reversed(client.unclaimed):
            if getattr(item, "kind", "") == "I" and item.fields.get("uid"):  # type: ignore[union-attr]
                fields: dict[str, Any] = item.fields  # type: ignore[union-attr]
                return fields
    raise LinkError(f"{client.link.port}: the node does not say who it is", "check the cable; run this again")


def sign(client: NodeClient, keys: KeyFile, state: State) -> None:
    """Have `client` sign all commands and feedback from now on. Harmless on a device without keys."""
    keys.check(state.uid, state.generation)
    if state.generation:
        key = keys.derive(state.uid, b"frame", state.generation)
        client.signer = FrameSigner(key, state.line, state.counter)


def attach(client: NodeClient, keys: KeyFile | None) -> State:
    """Find out how the node is locked and sign what goes to it, as far as keys are at hand. Raises UsageError."""
    state = challenge(client)
    if keys is not None:
        sign(client, keys, state)
    return state


def prove(client: NodeClient, keys: KeyFile, state: State) -> None:
    """Have the device show that its keys are from this key file, and note those that the file did not know of.

    Commands are signed from now on. A copy of the file that is older than a device's keys knows nothing of them; a
    device that has them can tell, and no other can say so. Nothing of it counts as a wrong answer to a challenge, of
    which the tenth erases the keys.

    Raises UsageError for the keys of another file, and on the terminal's line, where no device shows any. Proves
    nothing without keys, or after tampering.
    """
    sign(client, keys, state)
    if not state.generation or state.tampered:
        return
    if state.line != "usb":
        raise UsageError(f"{client.link.port}: this is the terminal's line", "name the board's USB port")
    key = keys.derive(state.uid, b"frame", state.generation)
    if not crypto.equal(crypto.mac(key).tag(b"challenge ", state.asked)[:_PROOF], state.proof):
        client.signer = None
        raise UsageError(
            f"{client.link.port}: its keys are not from {keys.path}",
            "name the key file of the board's fleet with --keys or $SENTILL_KEYS",
        )
    if keys.newest(state.uid) < state.generation:
        keys.devices[state.uid] = state.generation
        with contextlib.suppress(UsageError):  # where it cannot be written, the next command asks again
            keys.note(state.uid, state.generation)


def unlock(client: NodeClient, keys: KeyFile | None, minutes: int = MINUTES, state: State | None = None) -> State:
    """Open a session of `minutes` where the device is locked; the state then. Raises AccessError when it refuses.

    `state` is of a challenge that was not answered yet; without one the device is asked, and commands are signed.
    """
    state = state or attach(client, keys)
    if not state.locked:
        return state
    port = client.link.port
    if state.tampered:
        raise AccessError(
            f"{port}: tampered ({state.tampered}); its keys may be gone",
            "inspect the terminal; `sentill provision` gives it new keys",
        )
    if state.profile == "sealed":
        raise AccessError(
            f"{port}: sealed",
            "`sentill unlock --order FILE` opens it; who has the key file makes one by `sentill order "
            f"{state.uid} --number {state.order} -o FILE`",
        )
    if keys is None:
        raise AccessError(f"{port}: locked", "name the fleet's key file with --keys or $SENTILL_KEYS")
    if state.wait_s:
        raise AccessError(f"{port}: refuses to be unlocked for another {state.wait_s} s after wrong answers", "wait")
    message = b"unlock" + device_id(state.uid) + state.nonce + struct.pack("<H", minutes)
    signature = _sign(keys.derive(state.uid, b"unlock", state.generation), message)
    return _opened(state, _ask(client, "unlock", min=minutes, sig=signature))


def enter(client: NodeClient, keys: KeyFile, minutes: int = MINUTES, state: State | None = None) -> State:
    """As `unlock`, as who holds the key file: a sealed device is opened by an order made on the spot."""
    state = state or attach(client, keys)
    if state.locked and state.profile == "sealed" and not state.tampered:
        return follow(client, issue(keys, state.uid, state.order, minutes, state.generation), state)
    return unlock(client, keys, minutes, state)


def lock(client: NodeClient, keys: KeyFile) -> State:
    """End the session, whatever a person did in it; the state before, with the seconds that were left.

    Where no node answers, because it was stopped for the prompt or for a program, the board is reset and must come up
    locked; how long the session would have lasted is not known then, and told as 1 s. Raises LinkError when the board
    yields to nothing, AccessError when it comes up open.
    """
    try:
        state = attach(client, keys)
    except RefusedError:
        raise
    except LinkError:
        return _lock_by_reset(client, keys)
    if state.left_s:
        _ask(client, "lock")
    return state


def _lock_by_reset(client: NodeClient, keys: KeyFile) -> State:
    client.signer = None
    client.link.enter_repl()
    client.link.reset()
    client.reopen()
    if await_identity(client, _START_S)[0] is None:
        port = client.link.port
        raise LinkError(f"{port}: the board was reset, and no node runs on it", f"look with `sentill doctor {port}`")
    state = attach(client, keys)
    if state.left_s:
        raise AccessError(f"{client.link.port}: the board was reset and is still open", "run this again")
    return dataclasses.replace(state, left_s=1) if state.locked else state


@dataclass(frozen=True)
class Order:
    """A maintenance order: opens one device once, for `minutes`, without the key file."""

    uid: str
    number: int
    minutes: int
    sig: str

    @classmethod
    def sign(cls, keys: KeyFile, uid: str, number: int, minutes: int, generation: int | None = None) -> "Order":
        """Make an order; `number` is at least what the device told as `order`. `generation`: see KeyFile.derive."""
        message = b"order" + device_id(uid) + struct.pack("<IH", number, minutes)
        return cls(uid, number, minutes, _sign(keys.derive(uid, b"sign", generation), message))

    @classmethod
    def read(cls, text: str) -> "Order":
        """An order from its file. Raises UsageError."""
        try:
            made = cls(**json.loads(text))
            device_id(made.uid)
            struct.pack("<IH", made.number, made.minutes)
            base64.b64decode(made.sig)
            return made
        except (ValueError, TypeError, struct.error, UsageError):
            raise UsageError("this is no maintenance order", "`sentill order` makes one") from None

    def text(self) -> str:
        """The order as a file."""
        return json.dumps(asdict(self)) + "\n"


def issue(keys: KeyFile, uid: str, number: int, minutes: int, generation: int | None = None) -> Order:
    """An order that the ledger tells of; arguments as of `Order.sign`. Raises UsageError where it cannot be entered."""
    made = Order.sign(keys, uid, number, minutes, generation)
    mark = hashlib.sha256(made.sig.encode()).hexdigest()[:16]
    ledger.Ledger().append(ledger.ORDER, uid=device_id(uid).hex(), number=number, minutes=minutes, order=mark)
    return made


def follow(client: NodeClient, order: Order, state: State | None = None) -> State:
    """Open a session with an order; the state then. Raises AccessError when the device refuses it."""
    state = state or challenge(client)
    if device_id(order.uid) != device_id(state.uid):
        raise AccessError(f"{client.link.port}: the order is for device {order.uid}, not {state.uid}")
    return _opened(state, _ask(client, "order", n=order.number, min=order.minutes, sig=order.sig))


def frozen_start(client: NodeClient) -> bool:
    """Whether the board's firmware starts the node itself, before it listens to Ctrl-C (device/frozen)."""
    return client.command("identify").get("start") == "frozen"


def provision(
    client: NodeClient, keys: KeyFile, profile: str, policy: int, blank: bool = False, state: State | None = None
) -> State:
    """Give the device its first or new keys; it restarts with them. The state before. Raises AccessError.

    `state` is of a challenge just asked for; without one the device is asked.

    `blank` says that somebody erased the flash of the device on purpose: that it knows no keys is then no reason to
    refuse, and it gets keys it never had.
    """
    state = state or challenge(client)
    # Never what a board was given before, whatever this one says: it may be another that poses as it.
    fresh = max(state.fresh, keys.newest(state.uid) + 1)
    if fresh > _MOST_GENERATION:
        raise UsageError(f"{client.link.port}: no generation is left for its keys", "replace the board")
    state = dataclasses.replace(state, fresh=fresh)
    erased = state.profile == "sealed" and bool(state.tampered) and not _alive(client)
    client.signer = None
    if not erased and not (blank and not state.generation):
        prove(client, keys, state)
    root = keys.root(state.uid, fresh)
    if state.generation and not erased:
        pad = keys.derive(state.uid, b"wrap" + struct.pack("<H", fresh), state.generation)
        root = bytes(a ^ b for a, b in zip(root, pad, strict=True))
    arguments: dict[str, int | str] = {
        "gen": fresh,
        "prof": vault.PROFILES.index(profile),
        "pol": policy,
        "key": base64.b64encode(root).decode(),
        "rec": base64.b64encode(hashlib.sha256(keys.recovery(state.uid, fresh)).digest()).decode(),
    }
    if erased:
        arguments["proof"] = base64.b64encode(keys.recovery(state.uid, state.generation)).decode()
    # To see that both can be noted at all, before the device has keys that nobody knows of.
    keys.note(state.uid, 0)
    book, told = ledger.Ledger(), {"uid": device_id(state.uid).hex(), "generation": fresh, "profile": profile}
    book.append(ledger.GIVING, **told, was=state.generation, blank=blank)
    _ask(client, "provision", **arguments)
    client.signer = None
    keys.note(state.uid, fresh)
    book.append(ledger.GIVEN, **told)
    return state


def await_generation(client: NodeClient, generation: int, timeout_s: float) -> dict[str, Any]:
    """Wait until the node runs with keys of `generation`; the fields of its I frame. Raises LinkError when late."""
    end = time.monotonic() + timeout_s
    while (left := end - time.monotonic()) > 0:
        fields, _ = await_identity(client, left)
        if fields is not None and fields["gen"] == generation:
            return fields
    raise LinkError(
        f"{client.link.port}: the node does not come back with its keys",
        f"look with `sentill monitor {client.link.port}`",
    )


def _alive(client: NodeClient) -> bool:
    # Whether a tampered device still has its keys: its policy may have left them.
    return bool(identity(client)["gen"])


def _ask(client: NodeClient, command: str, **arguments: int | str) -> dict[str, Any]:
    try:
        return client.command(command, timeout_s=5.0, **arguments)
    except LinkError as error:
        told = str(error)
        for value in arguments.values():  # a device may quote what it was sent, and among that are keys
            if isinstance(value, str):
                told = told.replace(value, "...")
        planted = isinstance(error, RefusedError) and error.code == "foreign"
        raise AccessError(told, foreign_code.fix(client.link.port) if planted else error.hint) from None


def _opened(state: State, told: dict[str, Any]) -> State:
    return dataclasses.replace(state, left_s=told["left"], nonce=b"")


def _sign(key: bytes, message: bytes) -> str:
    return base64.b64encode(crypto.mac(key).tag(message)[:_TAG]).decode()
