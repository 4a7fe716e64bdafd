"""MicroPython code that the deployer runs on a board through the raw REPL: sent there, or found in one of its slots."""

import base64
import zlib
from functools import cache
from importlib.resources import files

from sentill_host.shorten import shorten

# Window of 2^12 bytes: what a small board can spare while it inflates.
WINDOW_BITS = 12
_PIECE_CHARS = 1_000
KEPT = "agent.mpy"
"""The agent's file in a slot, compiled."""


@cache
def source(name: str) -> str:
    """Text of the agent file `name`, without comment lines, docstring and blank lines: they only cost transfer time."""
    text = files(__package__).joinpath(f"{name}.py").read_text(encoding="utf-8")
    text = shorten({f"agent/{name}.py": text})[f"agent/{name}.py"]
    if text.startswith('"""'):
        text = text.split('"""', 2)[2]
    lines = (line.rstrip() for line in text.splitlines())
    return "\n".join(_narrow(line) for line in lines if line and not line.lstrip().startswith("#")) + "\n"


@cache
def packed(name: str) -> str:
    """Python that inflates and runs the agent file `name`; needs MicroPython 1.21 or later."""
    pieces = [piece.encode() for piece in _pieces(source(name))]
    whole = b"".join(pieces)
    text = base64.b64encode(deflate(whole)).decode()
    # Checked, since half an agent could do harm. Piece by piece: compiled as a whole it would need a third of a small
    # board's heap at once.
    return (
        "import io,deflate,binascii\n"
        f"_=deflate.DeflateIO(io.BytesIO(binascii.a2b_base64('{text}')),deflate.RAW,{WINDOW_BITS}).read()\n"
        f"if binascii.crc32(_)!={zlib.crc32(whole)}:raise ValueError('damaged on the way')\n"
        "_=io.BytesIO(_)\n"
        f"for n in {','.join(str(len(piece)) for piece in pieces)}:exec(_.read(n))\n"
    )


def finder(digest: str) -> str:
    """Python that prints the slot whose agent has the SHA-256 `digest` (hex), or nothing."""
    return (
        "from binascii import hexlify\nfrom hashlib import sha256\n"
        "for s in('/slot_a','/slot_b'):\n"
        " try:\n"
        f"  with open(s+'/{KEPT}','rb')as f:\n"
        f"   if hexlify(sha256(f.read()).digest())==b'{digest}':\n"
        "    print(s)\n    break\n"
        " except OSError:pass\n"
    )


def starter(slot: str) -> str:
    """Python that runs the agent in `slot`."""
    return f"import sys\nsys.path.insert(0,{slot!r})\nimport {KEPT.removesuffix('.mpy')}\n"


def _pieces(text: str) -> list[str]:
    """The text cut before definitions, at about _PIECE_CHARS."""
    pieces = [""]
    for line in text.splitlines(keepends=True):
        if len(pieces[-1]) > _PIECE_CHARS and line.startswith("def "):
            pieces.append("")
        pieces[-1] += line
    return pieces


def deflate(data: bytes) -> bytes:
    """`data` as a raw deflate stream that a board can inflate."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -WINDOW_BITS)
    return packer.compress(data) + packer.flush()


def _narrow(line: str) -> str:
    body = line.lstrip()
    return " " * ((len(line) - len(body)) // 4) + body
