"""Steps of a measurement: each in a process of its own, forked from a started board, its result kept.

A step is a function `(Bench) -> dict[str, number]`. Results and images of file systems lie in build/chip/KEY/, where
KEY stands for firmware, node, host and lab: a run that was interrupted goes on where it stopped, and one after a change
begins anew.
"""

import hashlib
import json
import multiprocessing
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from tests.chip.bridge import Bridge
from tests.chip.chip import BUILD, Chip, Firmware
from tests.chip.heap import Heap
from tests.chip.terminal import Terminal

ROOT = Path(__file__).resolve().parents[2]
_SOURCES = ("device", "host/sentill_host", "boards", "tests/chip", "tests/device", "pyproject.toml")
_START_S = 30.0
_SETTLE_S = 5.0

Numbers = dict[str, Any]


@dataclass(frozen=True)
class Options:
    """How much to do: requests in each regime, power cuts; paths the user gave."""

    requests: int = 200
    cuts: int = 20
    emlearn: Path | None = None


@dataclass
class Bench:
    """What a step works with. `folder` is this run's, `own` the step's."""

    firmware: Firmware
    options: Options
    folder: Path
    name: str = ""
    chip: Chip | None = None  # the started board that the process was forked with

    @property
    def own(self) -> Path:
        """A folder for the step's files."""
        made = self.folder / self.name
        made.mkdir(parents=True, exist_ok=True)
        return made

    def image(self, name: str) -> bytes:
        """A file system that an earlier step left."""
        return (self.folder / f"{name}.img").read_bytes()

    def keep(self, name: str, chip: Chip) -> None:
        """Leave the chip's file system for later steps."""
        (self.folder / f"{name}.img").write_bytes(chip.files())

    def say(self, text: str) -> None:
        """Tell the user."""
        say(f"{self.name}: {text}")

    def bridge(self, chip: Chip) -> Bridge:
        """`chip` behind pseudo-terminals."""
        return Bridge(chip, self.own)

    def started(self) -> Chip:
        """The board with the node running, some seconds after its start; this process's own copy."""
        if self.chip is None:
            self.chip = start(self.firmware, self.image("deployed"))
        return self.chip


def start(firmware: Firmware, image: bytes) -> Chip:
    """A board with these files, once its node has said who it is and has settled."""
    chip = Chip(firmware, image)
    Terminal(chip).wait_for("I", _START_S)
    end = chip.ns + _SETTLE_S * 1e9
    while chip.ns < end:
        chip.run((end - chip.ns) / 1e9)
    assert Heap(chip).found()
    return chip


@dataclass
class Step:
    """`work` of a name; `needs` are the steps whose images it uses; a step with `begins` is forked with no board.

    `by` is the field of Options that decides what it does, if any.
    """

    name: str
    work: Callable[[Bench], Numbers]
    needs: tuple[str, ...] = ("deploy",)
    begins: bool = False
    by: str = ""


def say(text: str) -> None:
    """A line of progress."""
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)


@dataclass
class Run:
    """All steps that are wanted, `jobs` at once."""

    firmware: Firmware
    options: Options
    steps: list[Step]
    jobs: int = 2
    fresh: bool = False
    failed: dict[str, str] = field(default_factory=dict)

    @cached_property
    def key(self) -> str:
        """Names what is measured."""
        digest = hashlib.sha256(self.firmware.sha256.encode())
        for source in _SOURCES:
            path = ROOT / source
            for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
                if file.is_file() and "__pycache__" not in file.parts and file.suffix != ".md":
                    digest.update(f"{file.relative_to(ROOT)}\n".encode() + file.read_bytes())
        return digest.hexdigest()[:12]

    @property
    def folder(self) -> Path:
        """Where this run's results lie."""
        return BUILD / self.key

    def _result(self, step: Step) -> Path:
        given = getattr(self.options, step.by) if step.by else ""
        if isinstance(given, Path):
            given = hashlib.sha256(given.read_bytes()).hexdigest()[:12]
        return self.folder / f"{step.name}{'-' * bool(step.by)}{given}.json"

    def results(self) -> Numbers:
        """The numbers of all steps that are done, in one."""
        found: Numbers = {}
        for step in self.steps:
            if self._result(step).exists():
                found |= json.loads(self._result(step).read_text())
        return found

    def go(self) -> bool:
        """Run what is missing; whether every step ended well."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.fresh:
            for step in self.steps:
                self._result(step).unlink(missing_ok=True)
        waiting = [step for step in self.steps if not self._result(step).exists()]
        for step in self.steps:
            if step not in waiting:
                say(f"{step.name}: done before")
        chip: Chip | None = None
        running: dict[str, tuple[Any, float]] = {}
        context = multiprocessing.get_context("fork")
        while waiting or running:
            for step in list(waiting):
                if len(running) >= self.jobs or any(need in running for need in step.needs):
                    break
                if broken := [need for need in step.needs if need in self.failed]:
                    self.failed[step.name] = f"needs {', '.join(broken)}"
                    waiting.remove(step)
                    continue
                if any(other.name in step.needs for other in waiting):
                    continue
                if not step.begins and chip is None:
                    say("starting a board")
                    chip = start(self.firmware, (self.folder / "deployed.img").read_bytes())
                waiting.remove(step)
                bench = Bench(self.firmware, self.options, self.folder, step.name, None if step.begins else chip)
                process = context.Process(target=_work, args=(step, bench, self._result(step)))
                process.start()
                say(f"{step.name}: started")
                running[step.name] = process, time.monotonic()
            for name, (process, begun) in list(running.items()):
                process.join(0.1)
                if process.exitcode is None:
                    continue
                del running[name]
                took = time.monotonic() - begun
                if process.exitcode:
                    self.failed[name] = f"failed, see {self.folder / name}.txt"
                    say(f"{name}: FAILED after {took:.0f} s")
                else:
                    say(f"{name}: done in {took:.0f} s")
        return not self.failed


def _work(step: Step, bench: Bench, result: Path) -> None:
    try:
        numbers = step.work(bench)
    except KeyboardInterrupt:
        sys.exit(130)
    except BaseException:
        text = traceback.format_exc()
        (bench.folder / f"{step.name}.txt").write_text(text)
        print(text, file=sys.stderr, flush=True)
        sys.exit(1)
    fresh = result.with_suffix(".new")
    fresh.write_text(json.dumps(numbers, indent=1))
    fresh.replace(result)
