"""The node on the bare Unix port, without a virtual board: fast to start, and its heap can be looked at."""

import ast
import atexit
import json
import os
import select
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Self
from unittest import mock

from sentill.wire import protocol
from sentill_host.board import catalogue
from sentill_host.bundle import build as bundle
from sentill_host.node.frames import Decoder, Frame, Text
from tests.e2e.conftest import DEADLINE_S
from tests.interpreters import unix_command

ASK = "import sys; print(sys.implementation.version[:3], sys.implementation._mpy)"
RAW_BLOCKS = 8  # two for keys, six for the journal
_SCRIPT = Path(__file__).with_name("_bare_board.py")


CHANNELS = (
    {"name": "steady", "source": "adc:1", "unit": "mV", "hi_warn": 60000, "hi_fail": 64000},
    {"name": "heap", "source": "vital:heap_free", "unit": "B", "max": 1 << 20},
    {"name": "card", "source": "count:card_errors", "per_s": 3600},
    {"name": "absent", "source": "adc:9"},
)


@cache
def shipped() -> Path:
    """A folder with the package as it is deployed to this interpreter, but for its names, which tests ask for."""
    command = [*unix_command(), "-c", ASK]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=DEADLINE_S).stdout
    version, mpy = answer.strip().rsplit(" ", 1)
    folder = Path(tempfile.mkdtemp(prefix="sentill-bare-"))
    atexit.register(shutil.rmtree, folder)
    with mock.patch.object(bundle, "shorten", dict):
        entries = bundle.build(catalogue.load("SIM"), bundle.Firmware(ast.literal_eval(version), int(mpy))).entries
    for entry in entries:
        path = folder / entry.path.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(entry.data)
    return folder


class Line:
    """One line to the node: sends frames or bytes, keeps all that came back, in order."""

    def __init__(self, read_fd: int, write_fd: int):
        self.decoder = Decoder()
        self.items: list[Frame | Text] = []
        self._read_fd = read_fd
        self._write_fd = write_fd
        self._q = 0

    def send(self, kind: str, **fields: int | str | bool) -> int:
        """Send a frame of these fields; returns its q."""
        self._q = protocol.next_q(self._q)
        self.write(protocol.encode(kind, [("q", self._q), *fields.items()]))
        return self._q

    def write(self, data: bytes) -> None:
        """Send bytes as they are, reading meanwhile: the node stops listening when its replies pile up."""
        while data:
            ready = select.select([self._read_fd], [self._write_fd], [], DEADLINE_S)
            assert ready[0] or ready[1], f"the node neither reads nor writes for {DEADLINE_S:g} s"
            if ready[0]:
                self._read()
            if ready[1]:
                data = data[os.write(self._write_fd, data[:256]) :]

    def _read(self) -> bool:
        data = os.read(self._read_fd, 65536)
        self.items += self.decoder.feed(data)
        return bool(data)

    def poll(self, seconds: float = 0.0) -> None:
        """Take in what has arrived, waiting up to `seconds` for the first byte."""
        while select.select([self._read_fd], [], [], seconds)[0] and self._read():
            seconds = 0.0

    def wait(self, wanted: Callable[[Frame], Any], seconds: float = DEADLINE_S, start: int = 0) -> Frame:
        """The first frame from `items[start]` on for which `wanted` holds. AssertionError when it does not come."""
        end = time.monotonic() + seconds
        while True:
            while start < len(self.items):
                item = self.items[start]
                start += 1
                if isinstance(item, Frame) and wanted(item):
                    return item
            left = end - time.monotonic()
            assert left > 0, f"no such frame in {seconds} s; the last: {self.items[-5:]}"
            self.poll(min(left, 0.2))

    def lines(self, wanted: str, seconds: float = DEADLINE_S) -> list[str]:
        """All text so far, once a line of it is `wanted`. AssertionError when that does not come."""
        end = time.monotonic() + seconds
        while True:
            text = [item.line for item in self.items if isinstance(item, Text)]
            if wanted in [line.strip() for line in text]:
                return text
            assert time.monotonic() < end, f"no line {wanted!r} in {seconds} s; the last: {self.items[-5:]}"
            self.poll(0.2)

    def answer(self, q: int) -> dict[str, Any]:
        """The fields of the R frame that answers frame `q`."""
        return self.wait(lambda f: f.kind == "R" and f.fields.get("re") == q).fields

    def ask(self, kind: str, **fields: int | str | bool) -> dict[str, Any]:
        """Send a frame and return the fields of the R frame that answers it."""
        return self.answer(self.send(kind, **fields))

    def verdict(self, ref: int, t: int = 1000, amt: int = 500, card: str = "tok", **fields: int) -> dict[str, Any]:
        """Send a transaction request and return the fields of its verdict."""
        start = len(self.items)
        self.send("T", ref=ref, t=t, amt=amt, card=card, **fields)
        return self.wait(lambda f: f.kind == "T" and f.fields["ref"] == ref, start=start).fields


class BareNode:
    """A context manager that runs the node; `usb` and `uart` are its lines. `first` is Python to run on it before.

    It runs what is deployed, or with `device` the sources there.
    """

    def __init__(self, root: Path, heap: str = "288K", first: str = "", device: Path | None = None):
        self._root = root
        self._heap = heap
        self._first = first
        self._device = device

    def __enter__(self) -> Self:
        (self._root / "channels.jsonl").write_text("".join(json.dumps(channel) + "\n" for channel in CHANNELS))
        mine, theirs = socket.socketpair()
        theirs.setblocking(False)
        raw = self._root / "raw.img"
        if not raw.exists():
            raw.write_bytes(b"\xff" * 4096 * RAW_BLOCKS)
        arguments = ["-X", f"heapsize={self._heap}", "-i", str(_SCRIPT)]
        arguments += [str(self._device or shipped()), f"{self._root}/", str(theirs.fileno())]
        self.process = subprocess.Popen(
            [*unix_command(), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=[theirs.fileno()],
            env={**os.environ, "FIRST": self._first},
        )
        theirs.close()
        self._socket = mine
        assert self.process.stdin and self.process.stdout
        self.usb = Line(self.process.stdout.fileno(), self.process.stdin.fileno())
        self.uart = Line(mine.fileno(), mine.fileno())
        return self

    def __exit__(self, *exc: object) -> None:
        self.process.kill()
        self.process.communicate()
        self._socket.close()
