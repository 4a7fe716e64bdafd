"""Run a host command by the clock of an emulated chip, whatever the speed of the emulation.

    python -m tests.chip.host_clock CLOCK sentill deploy LINK
    python -m tests.chip.host_clock CLOCK -m mpremote connect LINK ls

The command sees a board at real speed: its waits end by the chip's time, and the bridge (bridge.py) lets the chip run
on while the command waits, and as long as the command's own processor time while it computes. CLOCK is a file shared
with the bridge: the chip's time in seconds, then a slot per thread that ever waited; beside it lies a pipe per slot, by
which the bridge wakes a thread whose time has come.
"""

import atexit
import contextlib
import fcntl
import math
import mmap
import multiprocessing.connection
import os
import runpy
import select
import struct
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

SLOTS = 32
SLOT = struct.Struct(
    "=qqdq"
)  # process, thread, chip's time until which it waits (0: it computes), how often it went on
NOW = struct.Struct("=d")
ALL = struct.Struct("=" + SLOTS * "qqdq")
SIZE = NOW.size + ALL.size
_START_S = 1000.0  # so that no difference of two times is near zero
_LOOK_S = 0.05  # of real time, after which a thread looks at the clock by itself


@dataclass(frozen=True)
class Slot:
    """What a thread has told."""

    pid: int
    thread: int
    until_s: float
    wakes: int


NOBODY = Slot(0, 0, 0.0, 0)


class ClockFile:
    """The shared file, seen from either side."""

    def __init__(self, path: str, create: bool = False):
        self._path = path
        self._file = open(path, "w+b" if create else "r+b")
        if create:
            self._file.truncate(SIZE)
            for number in range(SLOTS):
                with contextlib.suppress(FileExistsError):
                    os.mkfifo(self.bell(number))
        self._map = mmap.mmap(self._file.fileno(), SIZE)

    @property
    def now_s(self) -> float:
        """The chip's time."""
        return float(NOW.unpack_from(self._map, 0)[0])

    @now_s.setter
    def now_s(self, value: float) -> None:
        NOW.pack_into(self._map, 0, value)

    def slots(self) -> dict[int, Slot]:
        """The slots in use, by their number."""
        words = ALL.unpack_from(self._map, NOW.size)
        return {i // 4: Slot(*words[i : i + 4]) for i in range(0, len(words), 4) if words[i]}

    def put(self, number: int, slot: Slot) -> None:
        """Write a slot."""
        SLOT.pack_into(self._map, NOW.size + number * SLOT.size, slot.pid, slot.thread, slot.until_s, slot.wakes)

    def bell(self, number: int) -> str:
        """Path of the pipe by which the thread with this slot is woken."""
        return f"{self._path}.{number}"

    def ring(self, number: int) -> None:
        """Have the thread with this slot look at the clock."""
        with contextlib.suppress(OSError):  # it has gone, or was woken before
            pipe = os.open(self.bell(number), os.O_WRONLY | os.O_NONBLOCK)
            try:
                os.write(pipe, b".")
            finally:
                os.close(pipe)

    def claim(self) -> int:
        """A free slot, taken for this thread."""
        fcntl.lockf(self._file, fcntl.LOCK_EX)
        try:
            number = next(i for i in range(SLOTS) if i not in self.slots())
            self.put(number, _slot(0.0, 0))
            return number
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN)


def _slot(until_s: float, wakes: int) -> Slot:
    return Slot(os.getpid(), threading.get_native_id(), until_s, wakes)


class _Process:
    """This process at the clock."""

    def __init__(self, clock: ClockFile):
        self.clock = clock
        self._own = threading.local()
        self._claim()
        os.register_at_fork(after_in_child=self._forked)
        atexit.register(self._leave)

    def _forked(self) -> None:
        self._own = threading.local()
        self._claim()

    def _leave(self) -> None:
        for number, slot in self.clock.slots().items():
            if slot.pid == os.getpid():
                self.clock.put(number, NOBODY)

    def _claim(self) -> int:
        if not hasattr(self._own, "number"):
            self._own.number, self._own.wakes = self.clock.claim(), 0
            self._own.bell = os.open(self.clock.bell(self._own.number), os.O_RDWR | os.O_NONBLOCK)
        return int(self._own.number)

    def now(self) -> float:
        return _START_S + self.clock.now_s

    def now_ns(self) -> int:
        return int(self.now() * 1e9)

    def wait(self, seconds: float | None, look: Callable[[int, float], Any]) -> Any:
        """`look(bell, at most so long)` until it finds something besides the bell, or the time is up; what it found."""
        end = math.inf if seconds is None else self.now() + seconds
        own, number = self._own, self._claim()
        self.clock.put(number, _slot(max(end - _START_S, 1e-9), own.wakes))
        try:
            while True:
                found = look(own.bell, _LOOK_S)
                with contextlib.suppress(BlockingIOError):
                    os.read(own.bell, 64)
                if found or self.now() >= end:
                    return found
        finally:
            own.wakes += 1
            self.clock.put(number, _slot(0.0, own.wakes))


def install(path: str) -> None:
    """Have this process, and those it forks, live by the clock in the file."""
    process = _Process(ClockFile(path))
    real_select, real_wait = select.select, multiprocessing.connection.wait

    def sleep(seconds: float) -> None:
        process.wait(seconds, lambda bell, most: real_select([bell], [], [], most) and None)

    def select_(r: Any, w: Any, x: Any, timeout: float | None = None) -> Any:
        if timeout is not None and timeout <= 0:
            return real_select(r, w, x, timeout)

        def look(bell: int, most: float) -> Any:
            readable, writable, other = real_select([*r, bell], w, x, most)
            readable = [one for one in readable if one is not bell]
            return (readable, writable, other) if readable or writable or other else None

        return process.wait(timeout, look) or ([], [], [])

    def wait(objects: Any, timeout: float | None = None) -> Any:
        # The original counts its time by time.monotonic, which stands still meanwhile: below zero it looks once.
        if timeout is not None and timeout <= 0:
            return real_wait(objects, -1)
        objects = list(objects)

        def look(bell: int, most: float) -> Any:
            real_select([*objects, bell], [], [], most)
            return real_wait(objects, -1)

        return process.wait(timeout, look) or []

    replacements: list[tuple[Any, str, Callable[..., Any]]] = [
        (time, "sleep", sleep), (select, "select", select_), (multiprocessing.connection, "wait", wait),
        (time, "monotonic", process.now), (time, "perf_counter", process.now),
        (time, "monotonic_ns", process.now_ns), (time, "perf_counter_ns", process.now_ns),
    ]  # fmt: skip
    for module, name, function in replacements:
        setattr(module, name, function)


def main() -> None:
    """See the head of the file."""
    clock, command, *arguments = sys.argv[1:]
    install(clock)
    if command == "-m":
        command, *arguments = arguments
        sys.argv = [command, *arguments]
        runpy.run_module(command, run_name="__main__", alter_sys=True)
    else:
        from sentill_host.start import main as sentill

        sys.argv = [command, *arguments]
        sentill()


if __name__ == "__main__":
    main()
