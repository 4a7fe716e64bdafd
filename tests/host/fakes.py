"""A node that does what a test wants, behind a pseudo-terminal: for the paths a good node never takes."""

import os
import pty
import select
import threading
import tty
from collections.abc import Callable

from sentill.errors import FrameError
from sentill.wire import protocol

Handler = Callable[[str, dict], bytes | None]


class FakeNode:
    """Calls `handler(kind, fields)` for each frame and sends the bytes it returns; None hangs up the port."""

    def __init__(self, handler: Handler):
        self._handler = handler
        self._master, self._slave = pty.openpty()
        tty.setraw(self._slave)
        self.port = os.ttyname(self._slave)
        self.seen: list[tuple[str, dict]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join(5)
        self._hang_up()

    def send(self, data: bytes) -> None:
        os.write(self._master, data)

    def _run(self) -> None:
        pending = b""
        while not self._stop.is_set():
            if not select.select([self._master], [], [], 0.05)[0]:
                continue
            pending += os.read(self._master, 4_096)
            *lines, pending = pending.split(b"\n")
            for line in lines:
                try:
                    kind, fields = protocol.decode(line)
                except FrameError:
                    continue
                self.seen.append((kind, fields))
                answer = self._handler(kind, fields)
                if answer is None:
                    self._hang_up()
                    return
                os.write(self._master, answer)

    def _hang_up(self) -> None:
        for name in ("_master", "_slave"):
            fd = getattr(self, name)
            if fd >= 0:
                os.close(fd)
                setattr(self, name, -1)


def verdict(fields: dict, q: int, **changes) -> bytes:
    """The frame a node answers a request with."""
    answer = {"ref": fields["ref"], "v": "approve", "s": 7, "tr": 10, "td": 20, "m": "0badcafe", "why": "", "us": 900}
    return protocol.encode("T", [("q", q), *{**answer, **changes}.items()])


def reply(fields: dict, q: int, ok: bool = True, **more) -> bytes:
    """The R frame to a command or a feedback."""
    return protocol.encode("R", [("q", q), ("re", fields["q"]), ("ok", ok), *more.items()])
