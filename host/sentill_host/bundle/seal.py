"""What stands in words on a board about the version in a slot: the head of its archive, and the signature beside it.

The signature's format is told in `device/sentill/update/slots.py`.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from sentill_host.errors import VerifyError

_WORD = re.compile(r"[!-<>-~]+")
_SEAL = re.compile(rb"(sentill 2 uid=([!-<>-~]+) counter=(\d{1,10}) sha=([0-9a-f]{64})\n)mac ([0-9a-f]{64})\n")

Sign = Callable[[bytes], bytes]


def head(version: str, board: str, min_firmware: str, bundle: str) -> str:
    """The first line of an archive. Raises VerifyError for what would bring words of its own."""
    words = {"version": version, "board": board, "min": min_firmware, "bundle": bundle}
    for name, word in words.items():
        if not _WORD.fullmatch(word):
            raise VerifyError(f"{name} {word!r} of a version is not one word")
    return "sentill 2 " + " ".join(f"{name}={word}" for name, word in words.items())


def parse_head(line: str) -> dict[str, str]:
    """The words of an archive's first line; {} for a line that is none."""
    words = line.split()
    if words[:2] != ["sentill", "2"]:
        return {}
    return dict(word.split("=", 1) for word in words[2:] if "=" in word)


@dataclass(frozen=True)
class Seal:
    """A signature: the archive with the SHA-256 `sha` (hex) may run on the board `uid`; `counter` orders versions."""

    uid: str
    counter: int
    sha: str

    def encode(self, sign: Sign) -> bytes:
        """The file for the board; `sign` makes the 32-byte tag over its first line.

        Raises VerifyError unless it reads back as this: what a board says of itself is in it, and must not bring words
        of its own under a signature.
        """
        line = f"sentill 2 uid={self.uid} counter={self.counter} sha={self.sha}\n".encode()
        if decode(line + b"mac " + b"0" * 64 + b"\n") != self:
            raise VerifyError("not a signature: it does not read back as it was written")
        return line + b"mac " + sign(line).hex().encode() + b"\n"


def decode(data: bytes) -> Seal | None:
    """What a signature's file says, not whether that is true; None for a file that is none."""
    match = _SEAL.fullmatch(data)
    return Seal(match[2].decode(), int(match[3]), match[4].decode()) if match else None
