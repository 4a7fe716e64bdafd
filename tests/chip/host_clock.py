"""Run a host command by the clock of an emulated chip, whatever the speed of the emulation.

    python -m tests.chip.host_clock CLOCK sentill deploy LINK
    python -m tests.chip.host_clock CLOCK -m mpremote connect LINK ls

The command sees a board at real speed: its waits end by the chip's time, and the bridge (bridge.py) lets the chip run
on while the command waits, and as long as the command's own processor time while it computes. CLOCK is a file shared
with the bridge: the chip's time in seconds, then a slot per process.
"""

import atexit
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

SLOTS = 16
SLOT = struct.Struct("=qdq")  # process, chip's time until which it waits (0: it computes), how often it went on
NOW = struct.Struct("=d")
ALL = struct.Struct("=" + SLOTS * "qdq")
SIZE = NOW.size + ALL.size
_START_S = 1000.0  # so that no difference of two times is near zero
_SLICE_S = 0.001
_NAP_S = 0.0003


@dataclass(frozen=True)
class Slot:
    """What a process has told."""

    pid: int
    until_s: float
    wakes: int


class ClockFile:
    """The shared file, seen from either side."""

    def __init__(self, path: str, create: bool = False):
        self._file = open(path, "w+b" if create else "r+b")
        if create:
            self._file.truncate(SIZE)
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
        return {i // 3: Slot(*words[i : i + 3]) for i in range(0, len(words), 3) if words[i]}

    def put(self, number: int, slot: Slot) -> None:
        """Write a slot."""
        SLOT.pack_into(self._map, NOW.size + number * SLOT.size, slot.pid, slot.until_s, slot.wakes)

    def claim(self) -> int:
        """A free slot, taken for this process."""
        fcntl.lockf(self._file, fcntl.LOCK_EX)
        try:
            number = next(i for i in range(SLOTS) if i not in self.slots())
            self.put(number, Slot(os.getpid(), 0.0, 0))
            return number
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN)


class _Process:
    """This process at the clock. Only its main thread tells when it waits; that others do, the bridge notices."""

    def __init__(self, clock: ClockFile):
        self.clock = clock
        self._wakes = 0
        self._number = clock.claim()
        os.register_at_fork(after_in_child=self._forked)
        atexit.register(lambda: clock.put(self._number, Slot(0, 0.0, 0)))

    def _forked(self) -> None:
        self._wakes = 0
        self._number = self.clock.claim()

    def now(self) -> float:
        return _START_S + self.clock.now_s

    def now_ns(self) -> int:
        return int(self.now() * 1e9)

    def wait(self, seconds: float | None, look: Callable[[float], Any]) -> Any:
        """`look(at most so long)` again and again until it finds something or the time is up; the last it returned."""
        end = math.inf if seconds is None else self.now() + seconds
        tells = threading.current_thread() is threading.main_thread()
        if tells:
            self.clock.put(self._number, Slot(os.getpid(), max(end - _START_S, 1e-9), self._wakes))
        try:
            while True:
                found = look(_SLICE_S)
                if found or self.now() >= end:
                    return found
        finally:
            if tells:
                self._wakes += 1
                self.clock.put(self._number, Slot(os.getpid(), 0.0, self._wakes))


def install(path: str) -> None:
    """Have this process, and those it forks, live by the clock in the file."""
    process = _Process(ClockFile(path))
    real_sleep, real_select, real_wait = time.sleep, select.select, multiprocessing.connection.wait

    def sleep(seconds: float) -> None:
        process.wait(seconds, lambda _: real_sleep(_NAP_S))

    def select_(r: Any, w: Any, x: Any, timeout: float | None = None) -> Any:
        if timeout is not None and timeout <= 0:
            return real_select(r, w, x, timeout)
        found = process.wait(timeout, lambda most: _any(real_select(r, w, x, most)))
        return found or ([], [], [])

    def wait(objects: Any, timeout: float | None = None) -> Any:
        # The original counts its time by time.monotonic, which stands still meanwhile: below zero it looks once.
        if timeout is not None and timeout <= 0:
            return real_wait(objects, -1)

        def look(_: float) -> Any:
            return real_wait(objects, -1) or real_sleep(_NAP_S)

        return process.wait(timeout, look) or []

    replacements: list[tuple[Any, str, Callable[..., Any]]] = [
        (time, "sleep", sleep), (select, "select", select_), (multiprocessing.connection, "wait", wait),
        (time, "monotonic", process.now), (time, "perf_counter", process.now),
        (time, "monotonic_ns", process.now_ns), (time, "perf_counter_ns", process.now_ns),
    ]  # fmt: skip
    for module, name, function in replacements:
        setattr(module, name, function)


def _any(found: tuple[Any, Any, Any]) -> tuple[Any, Any, Any] | None:
    return found if any(found) else None


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
