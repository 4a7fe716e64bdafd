"""Serial ports of virtual boards: pseudo-terminals with a cable that can be pulled and a line that takes its time."""

import ctypes
import fcntl
import os
import selectors
import struct
import termios
import time
import tty
from collections import deque
from collections.abc import Callable
from pathlib import Path

from sentill_host.virtual.loop import SLICE_S, Loop, Outlet, Timer

_IN_ACCESS = 0x1
_IN_OPEN = 0x20
_IN_CLOSE = 0x18  # writable or not
_EVENT = struct.Struct("iIII")

MOST_LEFT = 128
HIGH_WATER = 4096
_SOON_S = 0.1
_LATE_S = 0.1
STALL_S = 0.5  # as long as MicroPython's USB driver waits for a host that does not read


class Openings:
    """Tells when someone opens, closes or reads a pseudo-terminal (inotify). Without it all ports count as open."""

    def __init__(self, loop: Loop):
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._loop = loop
        self._calls: dict[int, Callable[[int], None]] = {}
        self._paths: dict[int, bytes] = {}
        self._fd = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        self.works = self._fd >= 0
        if self.works:
            loop.watch(self._fd, selectors.EVENT_READ, self._read)

    def add(self, path: str, call: Callable[[int], None]) -> int:
        """Call `call` with +1 or -1 at each opening and closing of `path`; returns a handle, -1 when it cannot."""
        if not self.works:
            return -1
        handle: int = self._libc.inotify_add_watch(self._fd, path.encode(), _IN_OPEN | _IN_CLOSE)
        if handle >= 0:
            self._calls[handle] = call
            self._paths[handle] = path.encode()
        return handle

    def tell_read(self, handle: int) -> None:
        """Call once more, with 0, when someone reads next."""
        if handle in self._paths:
            self._libc.inotify_add_watch(self._fd, self._paths[handle], _IN_OPEN | _IN_CLOSE | _IN_ACCESS)

    def remove(self, handle: int) -> None:
        """End add()."""
        if self._calls.pop(handle, None):
            del self._paths[handle]
            self._libc.inotify_rm_watch(self._fd, handle)

    def _read(self) -> None:
        try:
            data = os.read(self._fd, 65536)
        except BlockingIOError:
            return
        at = 0
        while at < len(data):
            handle, mask, _, length = _EVENT.unpack_from(data, at)
            at += _EVENT.size + length
            call = self._calls.get(handle)
            if call and mask & _IN_ACCESS:
                # Who reads byte by byte would keep us busy.
                self._libc.inotify_add_watch(self._fd, self._paths[handle], _IN_OPEN | _IN_CLOSE)
                call(0)
            elif call and mask & (_IN_OPEN | _IN_CLOSE):
                call(1 if mask & _IN_OPEN else -1)


class Numbers:
    """Where pseudo-terminals come from, and where they go when a board leaves the bus.

    The system gives the lowest free number to the next who asks, which may be another board's port at once. One that
    was left stays taken, without a device of its name, so that whoever still waits for it finds nothing rather than
    the wrong board.
    """

    def __init__(self) -> None:
        self._left: deque[int] = deque()

    def take(self) -> tuple[int, int]:
        """Descriptors of a new one, master and slave. Raises OSError when the computer has none left."""
        try:
            return os.openpty()
        except OSError:
            if not self._left:
                raise
        while self._left:
            os.close(self._left.popleft())
        return os.openpty()

    def leave(self, master: int, slave: int) -> None:
        """Take the device away; its number stays taken until MOST_LEFT others were left after it."""
        os.close(master)
        self._left.append(slave)
        if len(self._left) > MOST_LEFT:
            os.close(self._left.popleft())


class Port:
    """One pseudo-terminal and the symbolic link that is its stable name: it leads to the device of the moment, and to
    none while there is none.

    Nobody there: what the board sends is lost, as on a wire. Somebody who does not read: the board is held up to
    STALL_S, then bytes are lost. `lost` counts them.
    """

    def __init__(
        self,
        loop: Loop,
        openings: Openings,
        numbers: Numbers,
        link: Path,
        received: Callable[[bytes], None],
        room: Callable[[], None],
    ):
        self._loop = loop
        self._openings = openings
        self._numbers = numbers
        self._link = link
        self._received = received
        self._room = room
        self._master = self._slave = self._handle = -1
        self._outlet: Outlet | None = None
        self._resume: Timer | None = None
        self._stall: Timer | None = None
        self._held = False
        self._took = False
        self.path = ""
        self.clients = 0
        self.lost = 0
        self.bytes_per_s = 0.0
        self._slice_s = SLICE_S
        self._passed_s = 0.0  # when the last byte taken had gone over the wire

    @property
    def plugged(self) -> bool:
        """Whether the pseudo-terminal exists."""
        return self._master >= 0

    @property
    def name(self) -> str | None:
        """The stable name; None while there is no device behind it."""
        return str(self._link) if self.plugged else None

    @property
    def full(self) -> bool:
        """Whether the board should wait before it sends more."""
        return self._outlet is not None and self._outlet.waiting >= HIGH_WATER

    def plug(self) -> None:
        """Make the pseudo-terminal and point the link to it. Raises OSError when the computer has none left."""
        if self.plugged:
            return
        self._master, self._slave = self._numbers.take()
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self.path = os.ttyname(self._slave)
        self.clients = 0
        self._handle = self._openings.add(self.path, self._opened)
        self._outlet = Outlet(self._loop, self._master, self._drained)
        self._outlet.bytes_per_s = self.bytes_per_s
        beside = self._link.with_name(self._link.name + ".new")
        beside.unlink(missing_ok=True)
        beside.symlink_to(self.path)
        os.replace(beside, self._link)
        self._listen(not self._held)

    def unplug(self) -> None:
        """Take the pseudo-terminal away: whoever has it open sees the device vanish."""
        if not self.plugged:
            return
        self._link.unlink(missing_ok=True)
        self._openings.remove(self._handle)
        if self._outlet:
            self._outlet.close()
            self._outlet = None
        for timer in (self._resume, self._stall):
            if timer:
                timer.cancel()
        self._resume = self._stall = None
        self._loop.forget(self._master)
        self._numbers.leave(self._master, self._slave)
        self._master = self._slave = -1
        self.clients = 0
        self.path = ""

    def pace(self, bytes_per_s: float, slice_s: float = SLICE_S) -> None:
        """Limit both directions; 0 lifts the limit. What comes in is handed on every `slice_s`."""
        self.bytes_per_s = bytes_per_s
        self._slice_s = slice_s
        if self._outlet:
            self._outlet.bytes_per_s = bytes_per_s

    def hold(self, held: bool) -> None:
        """Stop or resume taking bytes from the other side; they wait in the pseudo-terminal."""
        self._held = held
        if self.plugged and self._resume is None:
            self._listen(not held)

    def write(self, data: bytes) -> None:
        """Send to whoever has the port open."""
        if self._outlet is None or (self._openings.works and self.clients == 0):
            self.lost += len(data)
            return
        self._outlet.write(data)
        if self.full and self._stall is None:
            self._took = True
            self._stall = self._loop.after(_SOON_S, self._stalled)

    def _stalled(self) -> None:
        stall, self._stall = self._stall, None
        if self._outlet is None or not self.full:
            return
        if stall and time.monotonic() - stall.due_s > _LATE_S:
            # The computer stood still, the reader with it.
            self._took = True
        # A paced line moves, however slowly; only a reader who takes nothing loses bytes. A pseudo-terminal holds some
        # 10 KB and takes more when most of them were read, which on a busy computer may last: so reads count.
        if self._took or time.monotonic() - self._outlet.moved_s < STALL_S:
            self._took = False
            self._openings.tell_read(self._handle)
            self._stall = self._loop.after(STALL_S, self._stalled)
            return
        self.lost += self._outlet.clear()
        self._room()

    def _drained(self) -> None:
        self._room()

    def _opened(self, change: int) -> None:
        self._took = True
        self.clients = max(0, self.clients + change)
        if self.clients == 0 and self._outlet is not None:
            # What nobody read is gone: the next to open the port starts with fresh bytes.
            self.lost += self._outlet.clear()
            for _ in range(32):
                waiting = struct.unpack("i", fcntl.ioctl(self._slave, termios.FIONREAD, b"\0\0\0\0"))[0]
                if not waiting:
                    break
                self.lost += waiting
                termios.tcflush(self._slave, termios.TCIFLUSH)
            self._room()

    def _listen(self, wanted: bool) -> None:
        self._loop.watch(self._master, selectors.EVENT_READ, self._read if wanted else None)

    def _read(self) -> None:
        size, now = 4096, time.monotonic()
        if self.bytes_per_s:
            if now - self._passed_s > 5 * self._slice_s:  # nothing went over the wire meanwhile
                self._passed_s = now - self._slice_s
            size = max(1, int(self.bytes_per_s * (now - self._passed_s)))
        try:
            data = os.read(self._master, size)
        except (BlockingIOError, OSError):
            return
        if self.bytes_per_s and data:
            self._listen(False)
            self._passed_s += len(data) / self.bytes_per_s
            self._resume = self._loop.after(max(0.0, self._passed_s + self._slice_s - now), self._read_on)
        if data:
            self._received(data)

    def _read_on(self) -> None:
        self._resume = None
        if self.plugged and not self._held:
            self._listen(True)
