"""One process per port, each step with a deadline: a dead board or a hung driver takes nothing else with it.

A worker announces each step and how long it may last; the parent ends a worker that outlives its word. Workers never
see Ctrl-C: the parent tells them to stop, and they leave their board in order.
"""

import contextlib
import gc
import multiprocessing
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any

from sentill_host.errors import LinkError

# What a worker may take beyond its own deadlines: to start on a busy computer, to end.
_GRACE_S = 30.0
_STOP_S = 60.0
_MEANWHILE_S = 5.0


_GROUP_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGHUP") if hasattr(signal, name)]


class Stopped(LinkError):
    """The user ended the command while this port was being worked on."""


class Reporter:
    """A worker's line to its parent."""

    def __init__(self, line: Connection):
        self._line = line
        self._stop = False

    def step(self, name: str, limit_s: float, done: int = 0, total: int = 0) -> None:
        """Begin a step, or tell its progress: `limit_s` from now without another word, and the worker is ended."""
        try:
            self._line.send(("step", (name, limit_s, done, total)))
        except OSError:
            raise _orphaned() from None

    def ask(self, question: Any, limit_s: float = 120.0, meanwhile: Callable[[], object] | None = None) -> Any:
        """Have the parent answer `question`. Raises what the parent's answer raised, LinkError when it is late.

        `meanwhile` is called now and then: for a board that gives up who says nothing.
        """
        try:
            self._line.send(("ask", question))
            end = time.monotonic() + limit_s
            while (left := end - time.monotonic()) > 0:
                if not self._line.poll(min(left, _MEANWHILE_S)):
                    if meanwhile is not None:
                        meanwhile()
                else:
                    kind, value = self._line.recv()
                    if kind == "answer":
                        return value
                    if kind == "error":
                        raise value
                    self._stop = True
                    self.check()
        except (EOFError, OSError):
            raise _orphaned() from None
        raise LinkError("the parent process does not answer")

    def stop(self, *_: object) -> None:
        """Have `check` raise: as a handler of a signal."""
        self._stop = True

    def check(self) -> None:
        """Raise Stopped once the user has asked for an end."""
        try:
            while not self._stop and self._line.poll():
                self._stop = self._line.recv()[0] == "stop"
        except (EOFError, OSError):
            raise _orphaned() from None
        if self._stop:
            raise Stopped("interrupted", "run this again; it goes on where it stopped")


def _orphaned() -> Stopped:
    return Stopped("the command that started this has ended", "run it again")


@dataclass
class Outcome:
    """How a worker ended: its `result`, or None and the step it was ended in (or died in) with `reason`."""

    result: Any = None
    step: str = "starting"
    reason: str = ""

    def failure(self) -> LinkError:
        """Of a worker without a result."""
        hint = "check cable and power; run this again, it goes on where it stopped"
        return LinkError(f"{self.step}: {self.reason}", hint)


@dataclass
class _Worker:
    process: Any
    line: Connection
    outcome: Outcome = field(default_factory=Outcome)
    deadline: float = 0.0


Work = Callable[[Reporter, Any], Any]
OnStep = Callable[[int, str, int, int], None]
MayStart = Callable[[int], bool]
OnEnd = Callable[[int, Outcome], None]


def run(
    work: Work,
    arguments: Sequence[Any],
    answer: Callable[[Any], Any],
    on_step: OnStep | None = None,
    at_once: int = 128,
    may_start: MayStart | None = None,
    on_end: OnEnd | None = None,
) -> list[Outcome]:
    """Call `work(reporter, argument)` in a process for each of `arguments`; their outcomes in the same order.

    `work` is a function of a module; arguments and results can be pickled. `answer` serves Reporter.ask in it.
    `may_start` is asked with the number of an argument just before its process is made; one that may not is left out,
    and its outcome says so. `on_end` is called as each process ends. On Ctrl-C the workers are told to stop, waited
    for, and KeyboardInterrupt is raised.
    """
    pool = _Pool(work, arguments, answer, on_step or _ignore, may_start or _always, on_end or _ignore)
    try:
        while pool.unfinished:
            pool.start(at_once)
            pool.serve()
    except (KeyboardInterrupt, SystemExit):
        pool.stop()
        raise
    finally:
        pool.kill()
    return [pool.outcomes[i] for i in range(len(arguments))]


def _ignore(*_: Any) -> None:
    """Nobody wants to know."""


def _always(_: int) -> bool:
    return True


class _Pool:
    def __init__(
        self,
        work: Work,
        arguments: Sequence[Any],
        answer: Callable[[Any], Any],
        on_step: OnStep,
        may_start: MayStart,
        on_end: OnEnd,
    ):
        # A fork shares what is loaded already: a few megabytes per port instead of thirty.
        self._forks = sys.platform == "linux"
        self._context: Any = multiprocessing.get_context("fork" if self._forks else "spawn")
        self._work = work
        self._waiting = list(enumerate(arguments))[::-1]
        self._answer = answer
        self._on_step = on_step
        self._may_start = may_start
        self._on_end = on_end
        self._workers: dict[int, _Worker] = {}
        self.outcomes: dict[int, Outcome] = {}

    @property
    def unfinished(self) -> bool:
        return bool(self._waiting or self._workers)

    def start(self, at_once: int) -> None:
        gc.freeze()
        while self._waiting and len(self._workers) < at_once:
            number, argument = self._waiting.pop()
            if not self._may_start(number):
                self.outcomes[number] = Outcome(reason="not started")
                continue
            ours, theirs = self._context.Pipe()
            # A forked worker has a copy of every end of ours, and would never see the parent go.
            ends = [worker.line for worker in self._workers.values()] + [ours] if self._forks else []
            process = self._context.Process(target=_main, args=(self._work, theirs, argument, ends), daemon=True)
            process.start()
            theirs.close()
            self._workers[number] = _Worker(process, ours, deadline=time.monotonic() + _GRACE_S)
        gc.unfreeze()

    def serve(self, limit_s: float = 0.5) -> None:
        """Handle what the workers said within `limit_s`, and end those past their deadline."""
        lines = {worker.line: number for number, worker in self._workers.items()}
        for line in wait(list(lines), limit_s):
            number = lines[line]  # type: ignore[index]
            worker = self._workers[number]
            try:
                kind, value = worker.line.recv()
            except (EOFError, OSError):
                worker.process.join(5.0)
                worker.outcome.reason = f"its process ended (exit code {worker.process.exitcode})"
                self._finish(number)
                continue
            if kind == "step":
                name, step_s, done, total = value
                worker.outcome.step = name
                worker.deadline = time.monotonic() + step_s + _GRACE_S
                self._on_step(number, name, done, total)
            elif kind == "ask":
                worker.deadline = time.monotonic() + 120.0 + _GRACE_S
                try:
                    reply = ("answer", self._answer(value))
                except Exception as error:
                    reply = ("error", error)
                with contextlib.suppress(OSError):
                    worker.line.send(reply)
            else:
                if kind == "result":
                    worker.outcome.result = value
                else:
                    worker.outcome.reason = value
                worker.process.join(5.0)
                self._finish(number)
        now = time.monotonic()
        for number, worker in list(self._workers.items()):
            if now > worker.deadline:
                worker.outcome.reason = "no answer in time"
                self._finish(number)

    def stop(self) -> None:
        """Have the workers put their boards in order, and wait for them."""
        self._waiting.clear()
        for worker in self._workers.values():
            with contextlib.suppress(OSError):
                worker.line.send(("stop", None))
        end = time.monotonic() + _STOP_S
        with contextlib.suppress(KeyboardInterrupt):  # a second one: at once
            while self._workers and time.monotonic() < end:
                self.serve()

    def kill(self) -> None:
        for number in list(self._workers):
            self._finish(number)

    def _finish(self, number: int) -> None:
        worker = self._workers.pop(number)
        if worker.process.is_alive():
            _kill(worker.process)
        worker.process.join(5.0)
        worker.line.close()
        self.outcomes[number] = worker.outcome
        self._on_end(number, worker.outcome)


def _kill(process: Any) -> None:
    """End a process and the programs it has started (esptool), which would go on without it."""
    import psutil  # takes as long to load as a fork

    with contextlib.suppress(psutil.NoSuchProcess):
        for child in psutil.Process(process.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
    process.kill()


def _main(work: Work, line: Connection, argument: Any, ends: list[Connection]) -> None:
    for end in ends:
        end.close()
    # What a terminal sends to all of a group is the parent's to pass on; who means this process alone is heard.
    reporter = Reporter(line)
    for number in _GROUP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, reporter.stop)
    try:
        said = ("result", work(reporter, argument))
    except Exception as error:
        said = ("failed", f"unexpected {type(error).__name__}: {error}")
    with contextlib.suppress(OSError):
        line.send(said)
