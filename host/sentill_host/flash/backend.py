"""What a tool that writes firmware must offer, and what it is told."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from sentill_host.board.catalogue import Board
from sentill_host.errors import LinkError
from sentill_host.flash.firmware import Image, Say

PATIENCE_S = 120.0


@dataclass
class Voice:
    """How flashing talks: progress, instructions for a person's hands, and one question.

    `choose(boards, why)` returns one of the boards or None when nobody can be asked.
    """

    say: Say = lambda *_: None
    instruct: Callable[[str], None] = lambda _: None
    choose: Callable[[list[Board], str], Board | None] = lambda *_: None
    stop: threading.Event = field(default_factory=threading.Event)

    def check_stop(self) -> None:
        """Raises LinkError once the user has interrupted."""
        if self.stop.is_set():
            raise LinkError("interrupted", "flash the board again before you use it")


@dataclass
class Context:
    """One board to be flashed."""

    board: Board
    image: Image
    voice: Voice
    port: str = ""  # "" when the board shows no serial port
    socket: str = ""  # USB socket of the board, "" when unknown
    drive: Path | None = None  # the boot drive, when the user has named it
    erase: bool = False
    patience_s: float = PATIENCE_S  # how long a person has to press keys


class Backend(Protocol):
    """A way to write firmware into chips."""

    name: str
    chips: frozenset[str]

    def missing(self) -> str:
        """What this computer lacks to use it, "" when nothing."""

    def flash(self, context: Context) -> None:
        """Write the image, verify it, start it. Raises LinkError, VerifyError, PlatformError, UsageError."""
