"""Talk to a running node over an open port: commands and their replies, requests and their verdicts."""

import contextlib
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from sentill.wire import protocol
from sentill_host.board.link import Link, looks
from sentill_host.errors import BoardError, LinkError, PortGone, RefusedError
from sentill_host.node.frames import Decoder, Frame, Text
from sentill_host.node.high_water_marks import Watcher

# From the reply to "maintenance" to the end of the boot that follows.
_RESTART_S = 10.0
# Pauses before a command is sent again that the node had no room, or no time, for.
_LATER = ("memory", "busy")
_NO_ROOM_S = (0.2, 0.5, 1.0, 0.0)
# Who runs is asked so soon after the port was opened or the board reset, then every second.
_FIRST_ASK_S = 0.2
# The reply to a question comes so soon after its frame, unless the question was lost.
_REPLY_S = 0.5
# A port that is not back by then has lost its cable.
_BACK_S = 20.0

NO_NODE = "MicroPython's prompt is there, no node runs"
START_IT = "Ctrl-D in a serial console starts a node that was stopped; `sentill deploy` installs one"

Pairs = Iterable[tuple[str, int | str | bool]]


class Signer(Protocol):
    """Signs frames: access.FrameSigner."""

    def encode(self, kind: str, pairs: Pairs) -> bytes:
        """As protocol.encode, with counter and signature."""


class NodeClient:
    """Counts the frames sent, decodes the frames received, and keeps those nobody waited for in `unclaimed`.

    All it receives is watched for a flash that was put back: any of its methods raises VerifyError then. With `erased`,
    why the board's flash was, that is as it should be.
    """

    def __init__(self, link: Link, erased: str = ""):
        self.link = link
        self.decoder = Decoder()
        self._watcher = Watcher(link.port, erased=erased)
        self.unclaimed: deque[Frame | Text] = deque(maxlen=1_000)
        self.signer: Signer | None = None  # of devices with keys, see access.attach
        self.asked = False  # whether a frame was sent: what comes is not left from somebody else's conversation
        self._arrived: deque[Frame | Text] = deque()

    def send(self, kind: str, pairs: Pairs) -> int:
        """Send one frame; returns its q. Raises FrameError when the fields make no frame, LinkError."""
        self.link.q = q = protocol.next_q(self.link.q)
        self.asked = True
        encode = self.signer.encode if self.signer is not None and kind in "CP" else protocol.encode
        self.link.write(encode(kind, [("q", q), *pairs]))
        return q

    def feed(self, data: bytes) -> list[Frame | Text]:
        """The frames and lines of text that `data` from the port completes."""
        items = self.decoder.feed(data)
        self._watcher.take(items)
        return items

    def receive(self, timeout_s: float) -> Frame | Text | None:
        """The next frame or line of text, None when none is complete within `timeout_s`. Raises PortGone."""
        for left in looks(timeout_s):
            if self._arrived:
                break
            self._arrived.extend(self.feed(self.link.read(left)))
        return self._arrived.popleft() if self._arrived else None

    def batch(self, timeout_s: float) -> Iterator[Frame | Text]:
        """As `receive`, and all that arrived with it. What is not taken stays for the next. Raises PortGone."""
        if (item := self.receive(timeout_s)) is not None:
            yield item
        while self._arrived:
            yield self._arrived.popleft()

    def put_back(self, items: Iterable[Frame | Text]) -> None:
        """Have these received next."""
        self._arrived.extendleft(reversed(list(items)))

    def answer(self, wanted: int, timeout_s: float) -> dict[str, Any] | None:
        """The fields of the R frame that answers frame `wanted`; None when late. The rest goes to `unclaimed`."""
        for left in looks(timeout_s):
            for item in self.batch(left):
                if isinstance(item, Frame) and item.kind == "R" and item.fields.get("re") == wanted:
                    return item.fields
                self.unclaimed.append(item)
        return None

    def command(self, name: str, timeout_s: float = 5.0, **arguments: int | str | bool) -> dict[str, Any]:
        """Have the node carry out a command; its reply's fields. Raises RefusedError, LinkError when it is silent.

        A node that has no room in its heap just now, as while it starts, is asked again.
        """
        for wait_s in _NO_ROOM_S:
            fields = self.answer(self.send("C", [("cmd", name), *arguments.items()]), timeout_s)
            if fields is None or fields.get("err") not in _LATER:
                break
            time.sleep(wait_s)
        if fields is None:
            port = self.link.port
            if self.decoder.at_prompt:
                raise LinkError(f"{port}: {NO_NODE}", START_IT)
            hint = f"does it run? look with `sentill monitor {port}`"
            raise LinkError(f"{port}: the node does not answer {name!r}", hint)
        if not fields.get("ok"):
            why = str(fields.get("err", ""))
            told = RefusedError(f"{self.link.port}: the node refuses {name!r}: {fields.get('msg') or why}", why)
            if why == "memory":
                told.hint = "its heap is full: watch fewer channels (`sentill channels --without`)"
            raise told
        return fields

    def reopen(self, timeout_s: float = 10.0) -> None:
        """Open the port again after it went away, and forget what was half received. Raises LinkError."""
        self.link.reopen(timeout_s)
        self.decoder.forget()
        self._watcher.forget()
        self._arrived.clear()


def await_identity(client: NodeClient, timeout_s: float) -> tuple[dict[str, Any] | None, list[str]]:
    """Wait for a booting node to tell who it is; returns its I frame's fields, or None when late, and the console text.

    Asks, too: a node that runs is silent about itself, and the frame of the boot may be lost while a USB port comes
    back. The port may go away meanwhile; raises LinkError when it does not return in time.
    """
    console: list[str] = []
    ask = time.monotonic() + _FIRST_ASK_S
    asked = 0
    for left in looks(timeout_s):
        try:
            if (now := time.monotonic()) >= ask:
                ask = now + 1.0
                asked = client.send("C", [("cmd", "identify")])
            for item in client.batch(min(0.2, left)):
                if isinstance(item, Frame) and item.kind == "I":
                    if asked:
                        with contextlib.suppress(PortGone):
                            # Not left behind for the next client of this port, who counts anew.
                            client.answer(asked, _REPLY_S)
                    return item.fields, console
                if isinstance(item, Text):
                    console.append(item.line)
        except PortGone:
            client.reopen(max(left, 0.1))
    console.extend(item.line for item in client.decoder.flush() if isinstance(item, Text))
    return None, console


@dataclass
class Presence:
    """Who answers on a port: the fields of a node's I frame with its slot pointer, the bundle it runs and whether its
    start is frozen, or MicroPython's prompt; and the console text."""

    identity: dict[str, Any] | None = None
    slot: str = ""
    bundle: str = ""
    frozen: bool = False
    prompt: bool = False
    console: list[str] = field(default_factory=list)


def look(client: NodeClient, timeout_s: float = 2.5) -> Presence:
    """Find out who is there without disturbing a running node. Waits `timeout_s` only when nobody answers.

    At a REPL prompt the frame is an inert comment, and the prompt comes back. Raises LinkError, PortGone.
    """
    seen = Presence()
    client.link.drain(limit_s=0.2)
    start = time.monotonic()
    asked = -timeout_s
    tail = b""
    late = False
    while not late:
        now = time.monotonic() - start
        late = now >= timeout_s  # then once more: see looks()
        if now - asked >= timeout_s / 2:
            asked = now
            client.send("C", [("cmd", "identify")])
        data = client.link.read(min(max(timeout_s - now, 0.0), 0.1))
        tail = (tail + data)[-8:]
        for item in client.feed(data):
            if isinstance(item, Frame) and item.kind == "I":
                seen.identity = item.fields
                timeout_s = min(timeout_s, now + 1.0)  # the reply to the question follows
            elif isinstance(item, Frame) and item.kind == "R" and seen.identity is not None:
                seen.slot, seen.bundle = str(item.fields.get("slot", "")), str(item.fields.get("bundle", ""))
                seen.frozen = item.fields.get("start") == "frozen"
                return seen
            elif isinstance(item, Text):
                seen.console.append(item.line)
        if not data and tail.endswith(b">>> "):
            seen.prompt = True
            return seen
    seen.console.extend(item.line for item in client.decoder.flush() if isinstance(item, Text))
    return seen


@dataclass
class Boot:
    """What has been seen of a booting node: its I frame's fields, its slot pointer ("a", "b 2 a"), the console text,
    the faults and crashes it reported ("channels: channel x: min must be below max"), and why a version is given up."""

    identity: dict[str, Any] | None = None
    slot: str = ""
    console: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    why: str = ""


def watch_boot(client: NodeClient, timeout_s: float, seen: Boot) -> Iterator[Boot]:
    """Watch a node boot, perhaps several times, until `timeout_s` have passed; yields `seen` several times
    a second, the last time with all that came in time.

    Asks, too: a node that runs is silent about itself, and the frame of the boot may be lost while a USB port comes
    back. The port may go away meanwhile; raises LinkError when it does not return in time.
    """
    ask = time.monotonic() + _FIRST_ASK_S
    asked = 0.0
    for left in looks(timeout_s):
        yield seen
        try:
            if (now := time.monotonic()) >= ask:
                ask, asked = now + 1.0, now
                client.send("C", [("cmd", "identify")])
            for item in client.batch(min(0.2, left)):
                if isinstance(item, Frame) and item.kind == "I" and not seen.slot:
                    ask = min(ask, asked + 2 * _FIRST_ASK_S)  # the reply tells the slot, and may be on its way
                _note(seen, item)
                yield seen
        except PortGone:
            client.reopen(max(min(left, _BACK_S), 0.1))
    seen.console.extend(item.line for item in client.decoder.flush() if isinstance(item, Text))


def _note(seen: Boot, item: Frame | Text) -> None:
    if isinstance(item, Text):
        seen.console.append(item.line)
    elif item.kind == "I":
        seen.identity = item.fields
    elif item.fields.get("ev") in ("proven", "unproven") or (item.kind == "R" and "slot" in item.fields):
        seen.slot = str(item.fields.get("slot", ""))
        seen.why = str(item.fields.get("why") or item.fields.get("note") or seen.why)
    elif item.fields.get("ev") in ("fault", "task_crash", "hang"):
        seen.faults.append(f"{item.fields.get('part') or item.fields.get('task')}: {item.fields.get('err')}")


def request_maintenance(client: NodeClient, timeout_s: float = 5.0, box_s: int = 0) -> bool:
    """Ask a running node to restart without itself; False when no node answers.

    The board restarts once more in `box_s` whatever happens (0: it does not), and 8 s after a soft reset.

    At a REPL prompt the frame is an inert comment: the prompt that comes back ends the wait. Raises LinkError when the
    board is locked, or the port does not come back after the restart.
    """
    if not client.asked:
        client.link.drain(limit_s=0.2)
    wanted = client.send("C", [("cmd", "maintenance"), *([("box", box_s)] if box_s else [])])
    tail = b""
    for left in looks(timeout_s):
        data = client.link.read(min(left, 0.1))
        tail = (tail + data)[-400:]
        if not data and tail.endswith(b">>> "):
            return False
        items = deque(client.feed(data))
        while items:
            item = items.popleft()
            if isinstance(item, Frame) and item.kind == "R" and item.fields.get("re") == wanted:
                if item.fields.get("ok"):
                    client.put_back(items)  # it may stand aside already
                    _await_restart(client)
                if item.fields.get("err") in ("locked", "tampered"):
                    port = client.link.port
                    raise LinkError(f"{port}: the board is {item.fields['err']}", f"`sentill unlock {port}` opens it")
                return bool(item.fields.get("ok"))
    return False


def restart(link: Link) -> None:
    """From the raw REPL, start the board anew and whatever is installed on it. Raises BoardError, LinkError.

    A start interrupted before the node took its flag of maintenance would make the next one stand aside, too.
    """
    code = "import os\nif 'maintenance' in os.listdir('/'):\n os.remove('/maintenance')\n"
    try:
        link.exec(code)
    except PortGone:
        raise
    except (LinkError, BoardError):  # damaged on the way, or we were interrupted and what we had sent still runs
        link.enter_repl()
        link.exec(code)
    link.reset()


def _await_restart(client: NodeClient) -> None:
    """Wait until the node says that it stands aside, or the port has come back without it."""
    for left in looks(_RESTART_S):
        try:
            for item in client.batch(min(left, 0.5)):
                if isinstance(item, Text) and "maintenance" in item.line:
                    return
        except PortGone:
            client.reopen(max(left, 1.0))
            return
