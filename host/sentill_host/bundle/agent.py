"""MicroPython code that the deployer runs on a board through the raw REPL: sent there, or found in one of its slots."""

import base64
import zlib
from functools import cache
from importlib.resources import files

from sentill_host.bundle.shorten_names import shorten

# Window of 2^12 bytes: what a small board can spare while it inflates.
WINDOW_BITS = 12
_PIECE_CHARS = 1_000
KEPT = "agent.mpy"
"""The agent's file in a slot, compiled."""


@cache
def source(name: str) -> str:
    """Text of the agent file `name`, without comment lines, docstring and blank lines: they only cost transfer time."""
    text = files("sentill_host.bundle.onboard").joinpath(f"{name}.py").read_text(encoding="utf-8")
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
    """Python that prints where in the archives of the slots an agent with the SHA-256 `digest` (hex) lies: file, place
    and size. Prints nothing when there is none."""
    name = bytes([len(KEPT)]) + KEPT.encode()
    return (
        "from binascii import hexlify\nfrom hashlib import sha256\n"
        "for p in('/slot_a.img','/slot_b.img'):\n"
        " try:\n"
        "  with open(p,'rb')as f:\n"
        f"   d=f.read(4096)\n   i=d.find({name!r})+{len(name) + 2}\n"
        "   n=[(d[j]&127)<<14|(d[j+1]&127)<<7|d[j+2]for j in(i,i+3)]\n"
        "   f.seek(n[1]+7)\n"
        f"   if i>{len(name) + 1} and hexlify(sha256(f.read(min(n[0],20000))).digest())==b'{digest}':\n"
        "    print(p,n[1]+7,n[0])\n    break\n"
        " except(OSError,IndexError):pass\n"
    )


def starter(place: str) -> str:
    """Python that runs the agent at `place`, which `finder` printed."""
    path, at, _ = place.split()
    return (
        "import sys,vfs\n"
        "class A:\n"
        " def mount(s,r,m):pass\n"
        " def umount(s):pass\n"
        " def stat(s,p):\n"
        f"  if p!='/{KEPT}':raise OSError(2)\n"
        "  return(32768,)+(0,)*9\n"
        " def open(s,p,m):\n"
        f"  f=open({path!r},'rb')\n  f.seek({at})\n  return f\n"
        "vfs.mount(A(),'/agent')\nsys.path.insert(0,'/agent')\n"
        f"import {KEPT.removesuffix('.mpy')}\n"
    )


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
