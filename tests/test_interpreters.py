"""The persistent children answer; one that crashes, hangs or runs out of memory costs only the request that did it."""

from pathlib import Path

import pytest

from sentill_host.bundle.build import is_for, is_native
from tests.interpreters import NAMES, UNIX_ARCH, ChildDied, ChildError, Interpreter
from tools.device_modules import modules

UNIX = [name for name in NAMES if name.startswith("unix")]


@pytest.fixture(params=NAMES)
def child(request: pytest.FixtureRequest, tmp_path: Path):
    with Interpreter(request.param, tmp_path) as interpreter:
        yield interpreter


def test_values_and_errors_come_back(child: Interpreter) -> None:
    for value in (0, -(2**30), 2**31, "é\n", b"\x00\xff", [1, [2, "x"]], None, True):
        assert child.call("_misbehave:echo", value) == value
    assert child.outcome("_misbehave:refuse") == ("raises", "FrameError")
    with pytest.raises(ChildError, match="planted") as caught:
        child.call("_misbehave:refuse")
    assert "in refuse" in caught.value.trace
    assert child.starts == 1, "an ordinary exception must not cost the child"


def test_what_is_printed_stays_apart(child: Interpreter) -> None:
    reply, printed = child.request({"call": "_misbehave:say", "args": ["a line"]})
    assert (reply["val"], printed) == (6, "a line\n")


def test_the_named_interpreter_answers(child: Interpreter) -> None:
    child.call("_misbehave:echo", 1)
    implementation, version, bits = child.about.split()
    assert implementation == ("cpython" if child.name == "cpython" else "micropython"), child.about
    assert bits == ("32-bit" if child.name.startswith("wasm") else "64-bit"), child.about


def test_mpy_children_have_only_compiled_modules(tmp_path: Path) -> None:
    with Interpreter("unix-mpy", tmp_path) as child:
        child.call("_misbehave:echo", 1)
        found = {path.suffix for path in (tmp_path / "unix-mpy-device" / "sentill").rglob("*") if path.is_file()}
        assert found == {".mpy"}
        assert child.call("sentill.compat:crc32", b"123456789") == 0xCBF43926


@pytest.mark.parametrize("name", UNIX)  # CPython has no such call, and in WebAssembly address 0 may be written
def test_a_crash_is_reported_with_its_output(name: str, tmp_path: Path) -> None:
    with Interpreter(name, tmp_path) as child:
        with pytest.raises(ChildDied, match=r"died with SIGSEGV\nabout to crash"):
            child.call("_misbehave:crash")
        assert child.call("_misbehave:echo", 5) == 5
        assert child.starts == 2


def test_a_hang_meets_its_deadline(child: Interpreter) -> None:
    child.call("_misbehave:echo", 1)
    child.deadline_s = 0.5
    with pytest.raises(ChildDied, match=r"no answer within 0.5 s\nabout to hang"):
        child.call("_misbehave:hang")
    child.deadline_s = 60
    assert child.call("_misbehave:echo", 5) == 5
    assert child.starts == 2


@pytest.mark.parametrize("name", UNIX)
def test_running_out_of_memory_is_reported_and_the_child_replaced(name: str, tmp_path: Path) -> None:
    with Interpreter(name, tmp_path) as child:
        assert child.outcome("_misbehave:use_up_the_heap") == ("raises", "MemoryError")
        assert child.call("_misbehave:echo", 5) == 5
        assert child.starts == 2


@pytest.mark.parametrize("name", NAMES)
def test_native_kernels_run_on_unix_and_nowhere_else(name: str, tmp_path: Path) -> None:
    """Without this, a kernel that no longer compiles would leave all tests to its plain twin."""
    sources = {name.partition(".")[2]: path.read_bytes() for name, path in modules().items()}
    kernels = {
        kernel: is_for(source, UNIX_ARCH)
        for kernel, source in sources.items()
        if is_native(source) and not kernel.startswith("hal.")  # which needs its hardware
    }
    assert sum(kernels.values()) > 1
    with Interpreter(name, tmp_path) as child:
        for kernel, runs in kernels.items():
            assert child.call("_drive_kernels:has", kernel) == (runs and name in UNIX), kernel
