"""A conversation with the deploy agent on a board (bundle/onboard/agent.py): requests and answers that survive a bad
cable.

Each request carries a number and a checksum. What arrives damaged, on either side, is asked for or sent once more; the
board carries a repeated request out once.
"""

import hashlib
import json
import re
import time
import zlib
from collections import deque
from collections.abc import Callable
from typing import Any

from sentill_host.board.link import Link
from sentill_host.bundle import agent
from sentill_host.errors import BoardError, LinkError, PortGone

MOST_BYTES = 12_000
"""Longest payload of a request: the board holds it as a whole."""
# Longest silence of a board at work; it tells progress more often than this.
_SILENCE_S = 6.0
# Before its first answer it compiles the agent and looks through both slots.
_START_S = 20.0
_TRIES = 3
# The slowest line we serve.
_SLOWEST_BYTES_S = 900
_END = b"\x04"
# A node's frame or the prompt's greeting: the agent is gone.
_ANOTHER_LIFE = re.compile(rb'#[A-Z] \{.*\}\*[0-9a-f]{8}\s*$|Type "help\(\)" for more')

_PLACE = re.compile(r"/slot_[ab]\.img \d{1,7} \d{1,5}")

# From the request to reset to the word that it is done.
_RESET_S = 2.0

OnProgress = Callable[[int, int], None]


class _Restarted(LinkError):
    """The board has been reset under the agent."""


class Session:
    """The agent runs from the making of this object until `call("reset")`; `about` is what the board said of itself.

    `kept` is the agent as a slot may have it (bundle.agent_code): the one there runs if it is the same byte for byte,
    else one is sent. `resent` counts the requests that had to be sent again.
    """

    def __init__(self, link: Link, kept: bytes = b""):
        self.link = link
        self.resent = 0
        self.console: deque[str] = deque(maxlen=20)
        self._seq = 0
        self._text = b""
        place = self._find(hashlib.sha256(kept).hexdigest()) if kept else ""
        link.launch(agent.starter(place) if place else agent.packed("agent"))
        try:
            about = self._answer(0, time.monotonic() + 60.0, None, _START_S)
        except BoardError as error:
            if "ImportError" not in str(error):
                raise
            # Firmware that cannot inflate gets the agent as it is.
            self._text = b""
            link.launch(agent.source("agent"))
            about = self._answer(0, time.monotonic() + 60.0, None, _START_S)
        if about is None:
            raise LinkError(f"{link.port}: the board does not answer", "check the cable; run this again")
        self.about = about

    def call(
        self, op: str, body: bytes = b"", limit_s: float = 60.0, on_progress: OnProgress | None = None, **arguments: Any
    ) -> dict[str, Any]:
        """Have the board carry out `op` and return its answer, within `limit_s` whatever happens.

        Raises BoardError when it cannot do it, LinkError when no answer gets through, PortGone.
        """
        message = self._message(json.dumps({"op": op, **arguments}, separators=(",", ":")).encode(), body)
        end = time.monotonic() + limit_s
        for attempt in range(_TRIES):
            if attempt:
                self.resent += 1
            self.link.write(message, 5.0 + len(message) / _SLOWEST_BYTES_S)
            answer = self._answer(self._seq, end, on_progress, _SILENCE_S)
            if answer is not None:
                if "err" in answer:
                    raise BoardError(
                        f"{self.link.port}: {op}: the board says {_words(answer['err'])}", _hint(answer["err"])
                    )
                return answer
            if time.monotonic() > end:
                break
        raise LinkError(
            f"{self.link.port}: no answer to {op!r} within {limit_s:g} s",
            "check the cable; run this again, it goes on where it stopped",
        )

    def leave(self) -> None:
        """Have the board reset. Raises BoardError when the agent has ended before, LinkError when nothing gets through.

        In the latter case it is best left alone: the board resets by itself when it has heard nothing for a while, and
        whoever interrupted it might interrupt a version on trial.
        """
        message = self._message(b'{"op":"reset"}')
        for _ in range(_TRIES):
            try:
                self.link.write(message, 5.0)
                # A node that says who it is has been started by the reset, as quickly as that.
                if self._answer(self._seq, time.monotonic() + _RESET_S, None, _RESET_S) is not None:
                    return
            except (PortGone, _Restarted):
                return
        raise LinkError(f"{self.link.port}: the board does not say that it resets", "check the cable; run this again")

    def leave_again(self, lines: list[str]) -> None:
        """Have the board reset once more when one of these lines, heard after `leave`, is still the agent's.

        A cable that is out in that moment looks like a board that resets. Raises as `leave`.
        """
        if any(_decode(line.encode()) is not None for line in lines):
            self.leave()

    def _find(self, digest: str) -> str:
        """Where in a slot the agent with this hash lies, "" when none has it, or none can be had in this way."""
        try:
            told = self.link.exec(agent.finder(digest)).decode("utf-8", "replace").strip()
        except BoardError:
            return ""
        return told if _PLACE.fullmatch(told) else ""

    def _message(self, words: bytes, body: bytes = b"") -> bytes:
        self._seq += 1
        payload = (words + body).replace(b"\x1b", b"\x1bE").replace(b"\x03", b"\x1bC")
        # A line feed first: it ends what a damaged request may have left.
        return b"\n=%d %d %d %08x\n" % (self._seq, len(payload), len(words), zlib.crc32(payload)) + payload

    def _answer(self, seq: int, end: float, on_progress: OnProgress | None, silence_s: float) -> dict[str, Any] | None:
        """The answer to request `seq`; None when it should be sent again. Progress puts the end of patience off."""
        patience = time.monotonic() + silence_s
        late = False
        while not late:
            left = min(end, patience) - time.monotonic()
            late = left <= 0  # then once more: see link.looks()
            data = self.link.read(min(0.5, max(left, 0.0)))
            *lines, self._text = (self._text + data).split(b"\n")
            if _END in self._text:
                raise self._ended(lines)
            for line in lines:
                value = _decode(line)
                if value is None:
                    self._note(line)
                    if _ANOTHER_LIFE.search(line):
                        raise _Restarted(
                            f"{self.link.port}: the board was reset meanwhile",
                            "check its supply; run this again, it goes on where it stopped",
                        )
                elif value.get("re") == seq:
                    return value
                elif "at" in value:
                    patience = time.monotonic() + silence_s
                    late = time.monotonic() > end
                    if on_progress is not None:
                        on_progress(value["at"], value["of"])
                elif "nack" in value:
                    return None
            self._text = self._text[-65_536:]
        return None

    def _note(self, line: bytes) -> None:
        text = line.decode("utf-8", "replace").strip()
        if text:
            self.console.append(text)

    def _ended(self, lines: list[bytes]) -> BoardError:
        for line in lines:
            self._note(line)
        words = self.console[-1] if self.console else "nothing"
        return BoardError(f"{self.link.port}: the agent on the board ended: {words}", "run this again")


def _decode(line: bytes) -> dict[str, Any] | None:
    """The JSON object in an answer line; None for anything else, and for what was damaged on the way."""
    line = line.strip()
    start = line.find(b"@{")
    if start < 0 or len(line) < start + 11 or line[-9:-8] != b"*":
        return None
    body = line[start + 1 : -9]
    try:
        if int(line[-8:], 16) != zlib.crc32(body):
            return None
        value = json.loads(body)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _words(error: str) -> str:
    return "the flash is full" if "28" in error and "OSError" in error else error


def _hint(error: str) -> str:
    if "28" in error and "OSError" in error:
        return "remove files that are not part of the node, and run this again; the version there before still runs"
    return "run this again"
