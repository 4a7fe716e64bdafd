"""The manifest of a slot: what the files of a version are. `device/sentill/update.py` describes its format."""

import re
import struct
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from sentill_host.errors import VerifyError

NONE = "-"
_LINE = re.compile(r"([0-9a-f]{64}) (\d+) (\S+)")

Sign = Callable[[bytes], bytes]


@dataclass(frozen=True)
class Item:
    """A file of a version: path below the slot, bytes, SHA-256 in hex."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What a slot holds. `uid` and `counter` bind a signed one to a board and to an order of versions."""

    version: str
    board: str
    min_firmware: str
    items: tuple[Item, ...]
    bundle: str
    uid: str = NONE
    counter: int = 0

    @property
    def head(self) -> str:
        """The first line, as a board tells it."""
        return (
            f"sentill 1 version={self.version} board={self.board} min={self.min_firmware} "
            f"uid={self.uid} counter={self.counter} bundle={self.bundle}"
        )

    def encode(self, sign: Sign | None = None) -> bytes:
        """The file for the board; `sign` makes the 32-byte tag over all before its line.

        Raises VerifyError unless it reads back as this: what a board says of itself and of its configuration is in it,
        and must not bring lines of its own under a signature.
        """
        lines = [self.head, *(f"{item.sha256} {item.size} {item.path}" for item in self.items)]
        body = "".join(line + "\n" for line in lines).encode()
        if decode(body + f"mac {NONE}\n".encode())[0] != self:
            raise VerifyError("not a manifest: it does not read back as it was written")
        return body + f"mac {sign(body).hex() if sign else NONE}\n".encode()


def decode(data: bytes) -> tuple[Manifest, bytes, bytes]:
    """The manifest in a file, the bytes its signature covers, and the tag (b"" when unsigned). Raises VerifyError."""
    try:
        text = data.decode("ascii")
        first, *rest = text.splitlines()
        head = parse_head(first)
        items = []
        for line in rest[:-1]:
            match = _LINE.fullmatch(line)
            if match is None:
                raise ValueError(line)
            items.append(Item(match[3], int(match[2]), match[1]))
        word, _, tag = rest[-1].partition(" ")
        if word != "mac" or not text.endswith("\n"):
            raise ValueError(word)
        made = Manifest(
            head["version"], head["board"], head["min"], tuple(items), head["bundle"], head["uid"], int(head["counter"])
        )
        return made, data[: data.rfind(b"mac ")], b"" if tag == NONE else bytes.fromhex(tag)
    except (ValueError, KeyError, IndexError) as error:
        raise VerifyError(f"not a manifest: {error}") from None


def parse_head(line: str) -> dict[str, str]:
    """The words of a manifest's first line; {} for a line that is none."""
    words = line.split()
    if words[:2] != ["sentill", "1"]:
        return {}
    return dict(word.split("=", 1) for word in words[2:] if "=" in word)


def items(entries: Iterable[tuple[str, bytes, str]]) -> tuple[Item, ...]:
    """Items of (path, content, SHA-256 in hex)."""
    return tuple(Item(path, len(data), sha) for path, data, sha in entries)


def changes(encoded: bytes, known: bytes) -> bytes:
    """How the agent makes a manifest's file of another: lines as they are, "+N" for the next N lines of the other,
    "-N" to pass over N of those. `known` are the CRC-32 of the other's lines, four bytes each, lowest first."""
    others = [crc for (crc,) in struct.iter_unpack("<I", known)]
    told = []
    at = same = 0
    for line in encoded.splitlines(keepends=True):
        crc = zlib.crc32(line)
        found = others.index(crc, at) if crc in others[at:] else -1
        if found != at and same:
            told.append(b"+%d\n" % same)
            same = 0
        if found < 0:
            told.append(line)
            continue
        if found > at:
            told.append(b"-%d\n" % (found - at))
        same += 1
        at = found + 1
    if same:
        told.append(b"+%d\n" % same)
    return b"".join(told)
