"""Bring boards to the state of a bundle: copy only what differs, verify every hash, and see the node come up.

New files are written beside the ones in use (`.new`), verified there, and put in place at the end by one command on the
board, main.py last. Until that command a cut leaves the old version whole; within it the board stops at its prompt. In
both cases running the deploy again completes it and copies only what is still missing.
"""

import base64
import contextlib
import json
import re
import threading
import time
import zlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from sentill import config as node_config
from sentill.errors import ConfigError
from sentill_host import agent, boards, client
from sentill_host.bundle import Bundle, Entry, Firmware, build
from sentill_host.errors import LinkError, PortGone, SentillHostError, UsageError, VerifyError
from sentill_host.link import Link

CONFIG = "/config.json"
# Content per piece, and source text per command: both must fit a small board's heap several times over.
_PIECE_BYTES = 2048
_SCRIPT_CHARS = 6000
_STEP_S = 20.0
_BOOT_S = 20.0
_TRIES = 3
# littlefs needs a few blocks to work in besides the files themselves.
_SPARE_BLOCKS = 4
_MIN_HEAP_FREE = 40_000

# The last line of a traceback.
_EXCEPTION = re.compile(r"\w+(Error|Exception|Interrupt)\b")
# A start interrupted before the node took its flag would make the next one stand aside, too.
_CLEAR_FLAG = "import os\nif 'maintenance' in os.listdir('/'):\n os.remove('/maintenance')\n"

Progress = Callable[[str, str, int, int], None]
"""Called with (port, step in words, bytes done, bytes in all)."""


@dataclass
class Survey:
    """What a board said about itself and the files on it: path to (bytes, SHA-256)."""

    about: dict[str, Any]
    files: dict[str, tuple[int, str]]
    manifest: dict[str, Any]

    @property
    def firmware(self) -> Firmware:
        """The interpreter on the board."""
        version = self.about["version"]
        return Firmware((version[0], version[1], version[2]), self.about["mpy"])

    def holds(self, entry: Entry, suffix: str = "") -> bool:
        """Whether the board has exactly this content under the entry's path plus `suffix`."""
        return self.files.get(entry.path + suffix) == (len(entry.data), entry.sha256)


@dataclass
class Result:
    """What a deploy did on one port. `error` is empty on success; `exit_code` is that of its error class."""

    port: str
    board: str = ""
    uid: str = ""
    before: str = ""
    version: str = ""
    rung: str = ""
    copied: list[str] = field(default_factory=list)
    copied_bytes: int = 0
    removed: list[str] = field(default_factory=list)
    resent: int = 0
    seconds: float = 0.0
    error: str = ""
    hint: str = ""
    exit_code: int = 0

    @property
    def unchanged(self) -> bool:
        """Whether everything was on the board already."""
        return not self.error and not self.copied and not self.removed


def read_config(text: str, name: str) -> bytes:
    """A configuration file checked by the node's own rules, as it goes to the board. Raises UsageError."""
    try:
        node_config.parse(text.encode())
    except ConfigError as error:
        raise UsageError(f"{name}: {error.message}") from None
    return json.dumps(json.loads(text), separators=(",", ":")).encode()


def deploy(
    ports: list[str], board_id: str = "", config: bytes | None = None, progress: Progress | None = None
) -> list[Result]:
    """Deploy to all `ports` at once; one Result each, in the same order. Failures are in the results, not raised.

    `board_id` overrides what the boards say they are; `config` is from `read_config`, None keeps what is there. On
    Ctrl-C every board not yet switched over is put back to work and KeyboardInterrupt raised.
    """
    if len(set(ports)) != len(ports):
        raise UsageError("a port is named twice")
    if board_id:
        boards.load(board_id)
    stop = threading.Event()
    with ThreadPoolExecutor(max_workers=max(1, len(ports)), thread_name_prefix="deploy") as pool:
        jobs = [pool.submit(deploy_one, port, board_id, config, progress, stop) for port in ports]
        try:
            return [job.result() for job in jobs]
        except BaseException:
            stop.set()
            raise


def deploy_one(
    port: str,
    board_id: str = "",
    config: bytes | None = None,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
) -> Result:
    """Deploy to one port; failures are reported in the Result."""
    result = Result(port)
    start = time.monotonic()
    try:
        _Deployment(port, result, progress or (lambda *_: None), stop or threading.Event()).run(board_id, config)
    except SentillHostError as error:
        result.error, result.hint, result.exit_code = str(error), error.hint, error.exit_code
    result.seconds = round(time.monotonic() - start, 3)
    return result


class _Deployment:
    """The steps of one deploy, in order."""

    def __init__(self, port: str, result: Result, progress: Progress, stop: threading.Event):
        self.port = port
        self.result = result
        self.progress = progress
        self.stop = stop

    def run(self, board_id: str, config: bytes | None) -> None:
        self._say("connecting")
        with Link(self.port) as link:
            client.request_maintenance(client.NodeClient(link))
            self.result.rung = link.enter_repl()
            # Whatever ran has left its modules in the heap.
            link.soft_reset()
            placed = False
            try:
                placed = self._bring(link, board_id, config)
            finally:
                # Also after a failure: whatever whole version is on the board goes back to work.
                if not placed:
                    self._restart(link)
            self._say("starting the node")
            self._restart(link)
            self._await_node(link)

    def _bring(self, link: Link, board_id: str, config: bytes | None) -> bool:
        self._say("reading what is there")
        survey = read_survey(link)
        board = self._board(survey, board_id)
        self.result.board, self.result.uid = board.id, survey.about["uid"]
        self.result.before = survey.manifest.get("version", "")
        self._say("compiling")
        bundle = build(board, survey.firmware)
        self.result.version = bundle.version
        entries = _wanted(bundle, config, survey)
        copy = [entry for entry in entries if not survey.holds(entry)]
        stale = _stale(entries, copy, survey)
        if copy or stale:
            preflight(survey, bundle, copy)
            self._send(link, [entry for entry in copy if not survey.holds(entry, ".new")], survey.about["inflate"])
            self._check_stop()
            self._say("putting in place")
            self._place(link, entries, copy, stale)
            self.result.copied = [entry.path for entry in copy]
            self.result.copied_bytes = sum(len(entry.data) for entry in copy)
            self.result.removed = stale
        return True

    def _board(self, survey: Survey, board_id: str) -> boards.Board:
        if board_id:
            return boards.load(board_id)
        about = survey.about
        board = boards.recognise(about["build"], about["machine"], about["platform"])
        if board is None:
            raise UsageError(
                f"{self.port}: unknown board ({about['machine'] or about['platform']})",
                "name it with --board; known boards: " + ", ".join(boards.all_boards()),
            )
        return board

    def _send(self, link: Link, entries: list[Entry], inflate: bool) -> None:
        """Write the entries as `.new` files and have their hashes read back; a garbled one is sent again."""
        total = sum(len(entry.data) for entry in entries)
        done = 0
        link.exec(agent.source("receive"), _STEP_S)
        for _ in range(_TRIES):
            wrong = []
            for script, batch in _scripts(entries, inflate):
                self._check_stop()
                self._say("copying", done, total)
                answer = link.exec(script, _STEP_S).decode("utf-8", "replace")
                told = {item[0]: (item[1], item[2]) for item in map(json.loads, answer.splitlines())}
                wrong += [e for e in batch if told.get(e.path + ".new") != (len(e.data), e.sha256)]
                done = min(done + sum(len(entry.data) for entry in batch), total)
            if not wrong:
                return
            entries = wrong
            self.result.resent += len(wrong)
        raise VerifyError(
            f"{self.port}: {entries[0].path} arrives damaged, {_TRIES} times", "try another cable or a lower baud rate"
        )

    def _place(self, link: Link, entries: list[Entry], copy: list[Entry], stale: list[str]) -> None:
        # main.py is taken away first, so it is written again even when its content stays the same.
        main = next(entry for entry in entries if entry.path == "/main.py")
        if main not in copy:
            self._send(link, [main], False)
        order = [entry.path for entry in copy if entry is not main] + [main.path]
        link.exec(f"_place({order!r},{stale!r})", _STEP_S)
        self._say("verifying")
        survey = read_survey(link)
        for entry in entries:
            if not survey.holds(entry):
                raise VerifyError(f"{self.port}: {entry.path} on the board is not what was sent", "run this again")

    def _await_node(self, link: Link) -> None:
        """Wait for the identity frame of the version just deployed; what the board printed explains a failure."""
        want = self.result.version
        try:
            identity, console = client.await_identity(client.NodeClient(link), _BOOT_S)
        except PortGone:
            raise LinkError(f"{self.port}: the port did not come back after the reset", "check the cable") from None
        if identity is None:
            words = [line for line in console if _EXCEPTION.match(line)] or console
            raise VerifyError(
                f"{self.port}: the node does not report within {_BOOT_S:g} s" + (f": {words[-1]}" if words else ""),
                f"`sentill monitor {self.port}` shows what the board prints",
            )
        told = str(identity.get("sw", ""))
        if told != want:
            raise VerifyError(f"{self.port}: the node reports version {told!r} instead of {want!r}", "run this again")

    def _restart(self, link: Link) -> None:
        # When the port is gone, the error under way, or the wait for the node, says so.
        with contextlib.suppress(SentillHostError):
            link.exec(_CLEAR_FLAG, _STEP_S)
            link.reset()

    def _check_stop(self) -> None:
        if self.stop.is_set():
            raise LinkError(f"{self.port}: interrupted", "run this again; it goes on where it stopped")

    def _say(self, step: str, done: int = 0, total: int = 0) -> None:
        self.progress(self.port, step, done, total)


def read_survey(link: Link) -> Survey:
    """Ask the board, in its raw REPL, what it is and what lies on it, in one round trip."""
    lines = link.exec(agent.source("survey"), 60.0).decode("utf-8", "replace").splitlines()
    try:
        # A manifest damaged on the board is like none: its own hash does not match either.
        values = [json.loads(line) for line in lines[:-1]] + [_json_or_none(lines[-1])]
        about, manifest = values[0], values[-1]
        files = {path: (size, digest) for path, size, digest in values[1:-1]}
    except (ValueError, IndexError):
        raise LinkError(f"{link.port}: garbled survey", "check the cable; run this again") from None
    return Survey(about, files, manifest if isinstance(manifest, dict) else {})


def _json_or_none(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def preflight(survey: Survey, bundle: Bundle, copy: Iterable[Entry]) -> None:
    """Refuse before the first write what cannot succeed. Raises VerifyError with the finding and what to do."""
    about = survey.about
    block = about["block"]
    if not block:
        raise VerifyError("the board has no file system", "flash MicroPython anew; its first start makes one")
    need = sum(-(-len(entry.data) // block) * block for entry in copy if not survey.holds(entry, ".new"))
    need += _SPARE_BLOCKS * block
    if need > about["flash_free"]:
        raise VerifyError(
            f"flash is too full: {need // 1024} KB needed, {about['flash_free'] // 1024} KB free",
            "remove files that are not part of the node, or format the file system",
        )
    if about["heap_free"] < _MIN_HEAP_FREE:
        raise VerifyError(f"only {about['heap_free']} bytes of heap are free", "choose smaller firmware")
    least = tuple(int(part) for part in bundle.min_firmware.split("."))
    if survey.firmware.version < least:
        raise VerifyError(
            f"MicroPython {survey.firmware.text} is too old, {bundle.min_firmware} is needed", "flash new firmware"
        )


def _wanted(bundle: Bundle, config: bytes | None, survey: Survey) -> list[Entry]:
    """Every file the board must hold at the end; main.py last."""
    entries = list(bundle.entries[:-1])
    if config is None and CONFIG not in survey.files:
        config = b"{}"  # every key at its default
    if config is not None:
        entries.append(Entry(CONFIG, config))
    return [*entries, bundle.manifest, bundle.entries[-1]]


def _stale(entries: list[Entry], copy: list[Entry], survey: Survey) -> list[str]:
    """Left by earlier deploys: in the node's own folders a .py would even hide the .mpy of its name."""
    keep = {entry.path for entry in entries} | {entry.path + ".new" for entry in copy}
    ours = [
        path for path in survey.files if path.startswith(("/sentill/", "/models/", "/board.")) or path.endswith(".new")
    ]
    return sorted(p for p in ours if p not in keep)


def _scripts(entries: list[Entry], inflate: bool) -> Iterable[tuple[str, list[Entry]]]:
    """Commands that write the entries, each with the entries it completes. Small files share a command."""
    lines: list[str] = []
    batch: list[Entry] = []
    length = 0
    for entry in entries:
        commands = [f"_open({entry.path!r})"]
        for start in range(0, len(entry.data), _PIECE_BYTES):
            commands.append(_piece(entry.data[start : start + _PIECE_BYTES], inflate))
        commands.append("_done()")
        for command in commands:
            if length + len(command) > _SCRIPT_CHARS and lines:
                yield "\n".join(lines), batch
                lines, batch, length = [], [], 0
            lines.append(command)
            length += len(command) + 1
        batch.append(entry)
    if lines:
        yield "\n".join(lines), batch


def _piece(data: bytes, inflate: bool) -> str:
    packer = zlib.compressobj(9, zlib.DEFLATED, -12)
    packed = packer.compress(data) + packer.flush()
    if inflate and len(packed) < len(data):
        return f"_packed('{base64.b64encode(packed).decode()}')"
    return f"_raw('{base64.b64encode(data).decode()}')"
