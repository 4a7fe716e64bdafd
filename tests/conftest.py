"""Runs every test of tests/device on every interpreter, one pytest item each: tests/device/test_x.py::test_y[unix-mpy].

Adds the fixture `interpreters` (the session's children by name) for the differential tests, and a summary of who ran
what.
"""

import ast
import itertools
import os
import signal
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis.internal.conjecture import providers

from tests import board
from tests.interpreters import NAMES, TESTS, ULAB, ULAB_PATH, ChildDied, Interpreters

# No deadline: examples travel to other processes on a machine that may be busy. The same examples in every run.
hypothesis.settings.register_profile("sentill", deadline=None, derandomize=True, max_examples=300)
hypothesis.settings.load_profile("sentill")
# Nor may the examples depend on which of our modules a process has loaded by then, whose constants it would draw from.
providers._get_local_constants = providers.Constants

_INTERPRETERS = pytest.StashKey[Interpreters]()
_FOLDER = pytest.StashKey[tempfile.TemporaryDirectory[str]]()
_SECONDS = pytest.StashKey[dict[str, float]]()
_ITEMS = pytest.StashKey[Counter[str]]()

# Interpreter, what it says of itself, device tests, seconds, requests, starts.
Served = tuple[Any, ...]
_ELSEWHERE = pytest.StashKey[list[Served]]()


class DeviceFile(pytest.File):
    """A file of device tests. It is read, not imported: it belongs to the interpreters."""

    def collect(self) -> Iterator[pytest.Item]:
        names = [*NAMES, *([ULAB] if ULAB_PATH else []), *(["board"] if board.PORT else [])]
        for node in ast.parse(self.path.read_text(), str(self.path)).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                for name in names:
                    item = DeviceItem.from_parent(self, name=f"{node.name}[{name}]")
                    item.target, item.interpreter, item.line = node.name, name, node.lineno
                    yield item


class DeviceFailure(Exception):
    """A device test failed inside its interpreter; the message is that interpreter's traceback."""


class DeviceItem(pytest.Item):
    """One device test on one interpreter."""

    target: str
    interpreter: str
    line: int

    def runtest(self) -> None:
        stash = self.config.stash
        child: Any = board.get() if self.interpreter == "board" else stash[_INTERPRETERS][self.interpreter]
        start = time.perf_counter()
        try:
            reply, printed = child.request({"run": self.path.stem, "fn": self.target})
        finally:
            stash[_SECONDS][self.interpreter] += time.perf_counter() - start
            stash[_ITEMS][self.interpreter] += 1
        if printed:
            self.add_report_section("call", f"stdout of {self.interpreter}", printed)
        if "skip" in reply:
            pytest.skip(f"{self.interpreter}: {reply['skip']}")
        if "err" in reply:
            raise DeviceFailure(reply["tb"])

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        if isinstance(excinfo.value, DeviceFailure | ChildDied):
            return f"on {self.interpreter}:\n{excinfo.value}"
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int, str]:
        return self.path, self.line - 1, self.name


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> Any:
    """Collect files of tests/device our way; None leaves all others to pytest."""
    return DeviceFile.from_parent(parent, path=module_path) if module_path.parent == TESTS else None


def pytest_configure(config: pytest.Config) -> None:
    # A shell that starts us in the background has us, and all commands under test, ignore Ctrl-C.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # Keys, journals and what is remembered of boards are the user's, and none of the tests'.
    config.stash[_FOLDER] = folder = tempfile.TemporaryDirectory(prefix="sentill-user-")
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME"):
        os.environ[name] = f"{folder.name}/{name}"
    for name in ("SENTILL_KEYS", "SENTILL_KEYS_PASSWORD"):
        os.environ.pop(name, None)
    config.stash[_INTERPRETERS] = Interpreters()
    config.stash[_SECONDS] = defaultdict(float)
    config.stash[_ITEMS] = Counter()
    config.stash[_ELSEWHERE] = []


def pytest_unconfigure(config: pytest.Config) -> None:
    config.stash[_INTERPRETERS].close()
    board.close()
    config.stash[_FOLDER].cleanup()


_records = itertools.count()


def _own_records(folder: Path) -> Iterator[None]:
    """Journals, ledger and what was seen of boards are kept apart per file and per test, and never with the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SENTILL_JOURNALS", str(folder / f"records{next(_records)}"))
        yield


@pytest.fixture(scope="module", autouse=True)
def records_of_the_file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """For what a file's own fixtures do."""
    yield from _own_records(tmp_path_factory.getbasetemp())


@pytest.fixture(autouse=True)
def records_of_the_test(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """For what a test does."""
    yield from _own_records(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="session")
def interpreters(request: pytest.FixtureRequest) -> Interpreters:
    """The session's interpreter children, by name."""
    return request.config.stash[_INTERPRETERS]


def pytest_report_header() -> list[str]:
    return [
        f"device tests also run on ulab's {ULAB_PATH}"
        if ULAB_PATH
        else "device tests on MicroPython with ulab: skipped, MICROPYTHON_ULAB is not set",
        f"device tests also run on the board at {board.PORT}"
        if board.PORT
        else "device tests on a real board: skipped, SENTILL_PORT is not set",
    ]


def _served(config: pytest.Config) -> list[Served]:
    children: dict[str, Any] = dict(config.stash[_INTERPRETERS].children)
    if board.connected():
        children["board"] = board.get()
    items, seconds = config.stash[_ITEMS], config.stash[_SECONDS]
    return [(n, c.about, items[n], seconds[n], c.requests, c.starts) for n, c in children.items()]


def pytest_sessionfinish(session: pytest.Session) -> None:
    # A worker of pytest-xdist hands its part to the process that prints the summary.
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["served"] = _served(session.config)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    node.config.stash[_ELSEWHERE].extend(getattr(node, "workeroutput", {}).get("served", []))


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    served = [*_served(config), *config.stash[_ELSEWHERE]]
    if not served:
        return
    terminalreporter.section("interpreters")
    for name in (*NAMES, ULAB, "board"):
        if rows := [row for row in served if row[0] == name]:
            about = next((row[1] for row in rows if row[1]), "")
            items, seconds, requests, starts = (sum(row[i] for row in rows) for i in range(2, 6))
            terminalreporter.line(
                f"{name:9} {about:32} {items:5} device tests in {seconds:6.2f} s,"
                f" {requests} requests, {starts} start(s)"
            )
    if not ULAB_PATH:
        terminalreporter.line(f"{ULAB:9} skipped: MICROPYTHON_ULAB is not set")
    if not board.PORT:
        terminalreporter.line("board     skipped: SENTILL_PORT is not set")
