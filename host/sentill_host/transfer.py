"""Make a slot of a board hold what a manifest says: what the board has is copied there, the rest sent and read back."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

from sentill_host import agent
from sentill_host.errors import VerifyError
from sentill_host.manifest import Manifest, changes
from sentill_host.session import Session

# Bytes of a request on the wire, and the part of a board's free heap they may take: it holds them a few times.
_PIECE_BYTES = 11_000
_HEAP_PART = 14
_STEP_S = 60.0
_TRIES = 3
_SLOWEST_BYTES_S = 900

Step = Callable[[str, float, int, int], None]
"""Called with (step in words, seconds it may last from now without another word, bytes done, bytes in all)."""


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

    def fill(
        self, slot: str, manifest: Manifest, encoded: bytes, data: Mapping[str, bytes], known: bytes = b""
    ) -> None:
        """Bring `slot` to `manifest`, whose file is `encoded`; `data` are the contents at hand, by path.

        `known` tells which lines the manifest in the other slot has, see manifest.changes. Raises VerifyError when a
        file is nowhere to be had, or what is written reads back wrong.
        """
        session, counts = self.session, self.counts
        digest = hashlib.sha256(encoded).hexdigest()
        removed: list[str] = []
        for attempt in range(_TRIES):
            self._tell("comparing", _STEP_S)
            # Two lines may have the same checksum; the second attempt says it all.
            body, packed = self._packed(changes(encoded, known if not attempt else b""))
            found = session.call(
                "diff", body, on_progress=lambda done, total: self._tell("comparing", _STEP_S), slot=slot, z=packed
            )
            if found["sha"] != digest:
                continue
            removed += found["removed"]
            if not attempt:
                counts.reused = found["kept"] + found["copied"]
            missing = [manifest.items[number] for number in found["miss"]]
            lost = [item.path for item in missing if item.path not in data]
            if lost:
                raise VerifyError(f"{counts.port}: {lost[0]} is damaged on the board", "give one with --config")
            counts.copied += [item.path for item in missing if item.path not in counts.copied]
            counts.copied_bytes = sum(item.size for item in manifest.items if item.path in counts.copied)
            if not self._send([data[item.path] for item in missing]):
                self._tell("verifying", _STEP_S)
                sealed = session.call("seal", slot=slot, sha=digest)
                if sealed["sha"] == digest:
                    counts.removed += [f"/slot_{slot}/{path}" for path in removed]
                    return
            counts.resent += 1
        raise VerifyError(
            f"{counts.port}: what is written reads back damaged", "the flash may be worn; try again, then replace it"
        )

    def _send(self, contents: list[bytes]) -> list[str]:
        """Send the missing files, laid end to end; the paths that read back wrong."""
        everything = b"".join(contents)
        sent = 0
        bad: list[str] = []
        if not contents:
            return bad
        for raw, body, packed in self._pieces(everything):
            self.check_stop()
            self._tell("copying", 30.0 + len(body) / _SLOWEST_BYTES_S, sent, len(everything))
            bad = self.session.call("data", body, 30.0 + len(body) / _SLOWEST_BYTES_S, z=packed)["bad"]
            sent += raw
        self._tell("copying", _STEP_S, sent, len(everything))
        return bad

    def _pieces(self, everything: bytes) -> Iterator[tuple[int, bytes, int]]:
        """(bytes it stands for, body, whether packed). A piece of nothing still lets empty files be made."""
        most = min(_PIECE_BYTES, self.session.about["heap_free"] // _HEAP_PART)
        at = 0
        while at < len(everything) or at == 0:
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

    def _tell(self, name: str, limit_s: float, done: int = 0, total: int = 0) -> None:
        self.step(name, limit_s, done, total)
