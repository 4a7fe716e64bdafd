"""Make a slot of a board hold an archive: what the board has in its other slot is copied there, the rest sent."""

import base64
import hashlib
import struct
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

from sentill_host.bundle import agent
from sentill_host.bundle import archive as image
from sentill_host.deploy.session import Session
from sentill_host.errors import VerifyError

# Bytes of a request on the wire, and the part of a board's free heap they may take: it holds them a few times.
_PIECE_BYTES = 11_000
_HEAP_PART = 14
_STEP_S = 60.0
_TRIES = 3
_SLOWEST_BYTES_S = 900
_HASH_BYTES = 8
_ENTRY = struct.Struct("<8sII")
_STEP_OF_PLAN = struct.Struct("<II")

Step = Callable[[str, float, int, int], None]
"""Called with (step in words, seconds it may last from now without another word, bytes done, bytes in all)."""

Known = Mapping[tuple[int, bytes], int]
"""Where the board's other slot has a file of this size and this beginning of its SHA-256."""


class Counts(Protocol):
    """Where a transfer tells what it did: deploy.Result."""

    port: str
    copied: list[str]
    copied_bytes: int
    reused: int
    removed: list[str]
    resent: int


class Transfer:
    """Through the agent of `session`; `check_stop` is called between pieces and raises to end it."""

    def __init__(self, session: Session, step: Step, check_stop: Callable[[], None], counts: Counts):
        self.session = session
        self.step = step
        self.check_stop = check_stop
        self.counts = counts

    def fill(self, slot: str, archive: bytes, seal: bytes) -> None:
        """Bring `slot` to hold `archive`, and `seal` beside it, b"" for none.

        Raises VerifyError when what is written reads back wrong again and again.
        """
        session, counts = self.session, self.counts
        sha = image.digest(archive).hex()
        self._tell("comparing", _STEP_S)
        told = session.call("parts", on_progress=self._alive("comparing"), slot="b" if slot == "a" else "a")
        known = known_parts(base64.b64decode(told["parts"]))
        for attempt in range(_TRIES):
            # Two files may begin with the same bytes of a hash, and the other slot may be damaged.
            plan, sent, copied = plan_for(archive, known if not attempt else {})
            counts.copied = copied
            counts.copied_bytes = sum(part.size for part in image.parts(archive) if part.path in copied)
            counts.reused = sum(1 for _ in image.parts(archive)) - len(copied) - 1
            body, packed = self._packed(plan)
            self._tell("copying", _STEP_S)
            found = session.call("build", body, on_progress=self._alive("copying"), slot=slot, z=packed)
            if not attempt:
                counts.removed += found["removed"]
            self._send(sent)
            self._tell("verifying", _STEP_S)
            sealed = session.call("seal", on_progress=self._alive("verifying"), sha=sha, sig=seal.decode())
            if sealed["sha"] == sha:
                return
            counts.resent += 1
        raise VerifyError(
            f"{counts.port}: what is written reads back damaged", "the flash may be worn; try again, then replace it"
        )

    def _send(self, everything: bytes) -> None:
        sent = 0
        for raw, body, packed in self._pieces(everything):
            self.check_stop()
            limit_s = 30.0 + len(body) / _SLOWEST_BYTES_S
            self._tell("copying", limit_s, sent, len(everything))
            self.session.call("data", body, limit_s, self._alive("copying"), z=packed)
            sent += raw
        self._tell("copying", _STEP_S, sent, len(everything))

    def _pieces(self, everything: bytes) -> Iterator[tuple[int, bytes, int]]:
        """(bytes it stands for, body, whether packed)."""
        most = min(_PIECE_BYTES, self.session.about["heap_free"] // _HEAP_PART)
        at = 0
        while at < len(everything):
            size = most * 2 if self.session.about["inflate"] else most
            body, packed = self._packed(everything[at : at + size])
            if len(body) > most:
                size = most
                body, packed = self._packed(everything[at : at + size])
            yield min(size, len(everything) - at), body, packed
            at += size

    def _packed(self, data: bytes) -> tuple[bytes, int]:
        if self.session.about["inflate"]:
            packed = agent.deflate(data)
            if len(packed) < len(data):
                return packed, 1
        return data, 0

    def _alive(self, name: str) -> Callable[[int, int], None]:
        return lambda done, total: self._tell(name, _STEP_S)

    def _tell(self, name: str, limit_s: float, done: int = 0, total: int = 0) -> None:
        self.step(name, limit_s, done, total)


def known_parts(table: bytes) -> Known:
    """What the agent says of the files in a slot: for each the beginning of its SHA-256, then place and size."""
    return {(size, beginning): place for beginning, place, size in _ENTRY.iter_unpack(table)}


def plan_for(archive: bytes, known: Known) -> tuple[bytes, bytes, list[str]]:
    """How the agent makes `archive`: its steps, each place and size of what is copied from the other slot, or 0 and the
    size of what is sent, u32 each, lowest byte first; then all that is sent, and the paths of the files in it."""
    steps: list[tuple[int, int]] = []
    sent = b""
    copied = []
    at = 0

    def add(place: int, size: int) -> None:
        if steps and size:
            last, length = steps[-1]
            if (place and last and last + length == place) or (not place and not last):
                steps[-1] = (last, length + size)
                return
        if size:
            steps.append((place, size))

    def send(end: int) -> None:
        nonlocal sent, at
        add(0, end - at)
        sent += archive[at:end]
        at = end

    for part in sorted((part for part in image.parts(archive) if part.size), key=lambda part: part.at):
        content = archive[part.at : part.at + part.size]
        place = known.get((part.size, hashlib.sha256(content).digest()[:_HASH_BYTES]), 0)
        if place:
            send(part.at)
            add(place, part.size)
            at = part.at + part.size
        elif part.path != image.HEAD:
            copied.append(part.path)
    send(len(archive))
    return b"".join(_STEP_OF_PLAN.pack(*step) for step in steps), sent, sorted(copied)
