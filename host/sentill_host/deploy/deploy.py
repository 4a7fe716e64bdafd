"""Bring boards to a version: into the slot that does not run, only what the board lacks, every hash read back.

The version that runs is never touched. The new one is complete and verified before the pointer names it, and proves
itself in a few boots or the board returns to the old one by itself (device/sentill/update/slots.py). Whatever is cut,
the board starts one whole version, and running the deploy again completes it.
"""

import base64
import contextlib
import json
import re
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sentill.errors import ConfigError
from sentill.node import config as node_config
from sentill.update import slots
from sentill_host.board import catalogue
from sentill_host.board.link import Link
from sentill_host.bundle import archive as image
from sentill_host.bundle import build as bundle
from sentill_host.bundle import preflight
from sentill_host.bundle.build import Bundle, Firmware
from sentill_host.bundle.seal import parse_head
from sentill_host.deploy import prompt, workers
from sentill_host.deploy.job_result import JobResult
from sentill_host.deploy.session import Session
from sentill_host.deploy.signing import FLOOR, NO_KEYS, Signer
from sentill_host.deploy.transfer import Transfer
from sentill_host.errors import LinkError, PortGone, SentillHostError, UsageError, VerifyError
from sentill_host.keys.key_file import KeyFile
from sentill_host.node import access, client
from sentill_host.node import foreign_code as foreign

CONFIG = "config.json"
_MOST_CONFIG = 8192  # sentill.node.config takes no longer one
_STEP_S = 60.0
_CONNECT_S = 60.0
# Sixty boards that start at once on one computer take their time.
_FIRST_BOOT_S = 60.0
_TRIAL_S = 120.0

# The last line of a traceback.
_EXCEPTION = re.compile(r"\w+(Error|Exception|Interrupt)\b")

Progress = Callable[[str, str, int, int], None]
"""Called with (port, step in words, bytes done, bytes in all)."""


@dataclass
class Result(JobResult):
    """What a deploy or rollback did on one port.

    `copied` came over the wire, `reused` counts files the board had already; `verified_s` runs from the start until
    every file was verified on the board, `restart_s` from the reset until the version had proven itself. `keys` is the
    generation of the board's keys when it is known, 0 without; `keys_given` when they are its first, just given.
    `foreign` is code on the board that is not the node's, as far as its flash was looked at.
    """

    slot: str = ""
    rung: str = ""
    copied: list[str] = field(default_factory=list)
    copied_bytes: int = 0
    reused: int = 0
    removed: list[str] = field(default_factory=list)
    resent: int = 0
    verified_s: float = 0.0
    restart_s: float = 0.0
    step: str = ""
    unchanged: bool = False
    foreign: list[str] = field(default_factory=list)
    warning: str = ""  # what is wrong with a node that runs the version wanted
    keys: int = 0
    keys_given: bool = False


@dataclass(frozen=True)
class Job:
    """What to do on one port. `board_id` overrides what the board says it is, `config` what it keeps.

    `keys` are the fleet's: they open a locked board and sign for one that has keys. One that has none is given its
    first under `profile`, unless that is "none". `remove_foreign` removes code that is not the node's.
    """

    port: str
    board_id: str = ""
    config: bytes | None = None
    bundles: tuple[Bundle, ...] = ()
    back: bool = False
    verify: bool = False
    keys: KeyFile | None = None
    profile: str = NO_KEYS
    remove_foreign: bool = False


def read_config(text: str, name: str) -> bytes:
    """A configuration file checked by the node's own rules, as it goes to the board. Raises UsageError."""
    try:
        node_config.parse(text.encode())
    except ConfigError as error:
        raise UsageError(f"{name}: {error.message}") from None
    return json.dumps(json.loads(text), separators=(",", ":")).encode()


def deploy(
    ports: list[str],
    board_id: str = "",
    config: bytes | None = None,
    progress: Progress | None = None,
    bundles: list[Path] | None = None,
    models: list[Path] | None = None,
    verify: bool = False,
    keys: KeyFile | None = None,
    profile: str = NO_KEYS,
    remove_foreign: bool = False,
) -> list[Result]:
    """Deploy to all `ports` at once; one Result each, in the same order. Failures are in the results, not raised.

    `board_id` overrides what the boards say they are; `config` is from `read_config`, None keeps what is there;
    `bundles` are bundle files to take the version from instead of this installation; `models` are files and folders of
    models that join the shipped ones or replace them; `verify` reads every file back even where the running node is the
    one wanted; `keys`, `profile` and `remove_foreign`: see Job. On Ctrl-C every board is put back to work and
    KeyboardInterrupt raised.
    """
    if board_id:
        catalogue.load(board_id)
    given = tuple(bundle.read(path) for path in bundles or [])
    jobs = [
        Job(port, board_id, config, given, verify=verify, keys=keys, profile=profile, remove_foreign=remove_foreign)
        for port in ports
    ]
    return run(jobs, progress, bundle.read_models(models or []))


def roll_back(ports: list[str], progress: Progress | None = None, keys: KeyFile | None = None) -> list[Result]:
    """Return all `ports` to the version in their other slot, on trial as after a deploy; one Result each."""
    return run([Job(port, back=True, keys=keys) for port in ports], progress)


def run(jobs: list[Job], progress: Progress | None = None, models: Mapping[str, bytes] | None = None) -> list[Result]:
    """Carry out the jobs, each in a process of its own; their results in the same order. `models`: see bundle.build."""
    if len({job.port for job in jobs}) != len(jobs):
        raise UsageError("a port is named twice")

    def tell(number: int, step: str, done: int, total: int) -> None:
        if progress is not None:
            progress(jobs[number].port, step, done, total)

    # Once, before the workers are forked, rather than in each.
    catalogue.all_boards()
    bundle.agent_code()
    results = []
    for job, outcome in zip(jobs, workers.run(work, jobs, builder(models), tell), strict=True):
        results.append(outcome.result or Result(job.port, step=outcome.step))
        if outcome.result is None:
            results[-1].fail(outcome.failure())
    for keys in [job.keys for job in jobs if job.keys is not None][:1]:
        with contextlib.suppress(UsageError):  # the results count, even where its medium was pulled meanwhile
            keys.refresh()  # the workers noted whom they gave keys
    return results


def builder(models: Mapping[str, bytes] | None = None) -> Callable[[tuple[str, Firmware]], Bundle]:
    """What answers the workers' question for a bundle (board id, firmware): builds each once, in the parent process."""
    built: dict[tuple[str, Firmware], Bundle] = {}

    def build(question: tuple[str, Firmware]) -> Bundle:
        if question not in built:
            built[question] = bundle.build(catalogue.load(question[0]), question[1], models)
        return built[question]

    return build


def work(reporter: workers.Reporter, job: Job) -> Result:
    """One port, in a process of its own; failures are reported in the Result."""
    made = Result(job.port)
    with made.recording():
        _Deployment(job, made, reporter, time.monotonic()).run()
    return made


class _Deployment:
    """The steps of one deploy, in order."""

    def __init__(self, job: Job, result: Result, reporter: workers.Reporter, start: float):
        self.job = job
        self.port = job.port
        self.result = result
        self.reporter = reporter
        self.start = start
        self.signer = Signer(job.port, job.keys)
        self.runs = False  # a node did, before anything was changed

    def run(self) -> None:
        self._step("connecting", _CONNECT_S)
        with Link(self.port) as link:
            node = client.NodeClient(link)
            seen = client.look(node)
            looks = self.job.back or self.job.verify or self.job.remove_foreign
            if looks or not self._runs_already(seen):
                self._change(link, node, seen)
                node = client.NodeClient(link)
            if not self.job.back:
                self._step("giving it keys", _FIRST_BOOT_S)
                self.result.keys_given = self.signer.give_keys(node, self.job.profile, _FIRST_BOOT_S)
                if self.result.keys_given and self.job.profile == "sealed" and not access.frozen_start(node):
                    self.result.warning = f"sealed, but {access.NOT_FROZEN}"
        self.result.keys = self.signer.generation

    def _change(self, link: Link, node: client.NodeClient, seen: client.Presence) -> None:
        self.runs = seen.identity is not None
        if seen.identity is not None:
            self.signer.enter(node, str(seen.identity.get("uid", "")))
            client.request_maintenance(node, box_s=prompt.BOX_S)
        self.result.rung = link.enter_repl()
        session = None
        try:
            prompt.fresh(link)
            self._step("reading what is there", _STEP_S)
            session = Session(link, bundle.agent_code())
            self._take(session)
            self._check_stop()
            slot = self._back(session) if self.job.back else self._bring(session)
            self.result.resent += session.resent
        except BaseException:
            # Whatever whole version is on the board goes back to work. When the port is gone or nothing gets through,
            # the error under way says so.
            self._step("restarting what was there", _STEP_S)
            with contextlib.suppress(SentillHostError):
                prompt.back(link, session)
            raise
        self._step("starting the node", _TRIAL_S)
        prompt.back(link, session)
        self._await_node(link, slot, session)

    def _runs_already(self, seen: client.Presence) -> bool:
        """Whether the node that runs is the one wanted: the archive of its slot was hashed when it started."""
        about = seen.identity
        board = catalogue.all_boards().get(self.job.board_id or str((about or {}).get("board")))
        if about is None or board is None or seen.slot not in ("a", "b") or not seen.bundle:
            return False
        version = [int(part) for part in str(about.get("fw", "")).split(".") if part.isdecimal()]
        major, minor, patch = [*version, 0, 0, 0][:3]
        self._step("compiling", 120.0)
        self.result.uid = str(about.get("uid", ""))
        made = self._bundle(board, Firmware((major, minor, patch), int(about.get("mpy", 0))))
        if made.id != seen.bundle:
            return False
        if self.job.config is not None and f"{zlib.crc32(self.job.config):08x}" != about.get("cfg"):
            return False
        self.result.board, self.result.slot = board.id, seen.slot
        self.result.version = self.result.before = made.version
        self.result.unchanged = True
        if about.get("tamper"):
            self.result.warning = f"it was tampered with ({about['tamper']}) and refuses its work"
        elif about.get("faults"):
            self.result.warning = f"it reports faults: {about['faults']}"
        self._verified()
        return True

    def _take(self, session: Session) -> None:
        """What the board said of itself, and which version it runs."""
        about = session.about
        pointer = str(about["pointer"]).split()
        self.pointer = pointer
        self.proven = pointer[-1] if pointer and pointer[-1] in ("a", "b") else ""
        self.heads = {name: parse_head(slot["head"]) for name, slot in about["slots"].items()}
        self.result.uid = about["uid"]
        self.result.before = self.heads.get(self.proven, {}).get("version", "")
        self._mind_foreign(session, about["foreign"])

    def _mind_foreign(self, session: Session, found: list[str]) -> None:
        """Remove the code on the board that is not the node's, refuse to go on because of it, or warn."""
        if found and self.job.remove_foreign:
            self._step("removing what is not the node's", _STEP_S)
            called = session.call("remove", paths=found, on_progress=self._alive("removing what is not the node's"))
            self.result.removed += called["removed"]
            return
        self.result.foreign = found
        if not found or self.job.back:
            return
        words = f"{self.port}: {foreign.words(found)}"
        has_keys = bool(self.signer.signs_with(self.result.uid))
        gets_keys = self.job.keys is not None and self.job.profile != NO_KEYS
        if has_keys and self.job.verify:
            raise VerifyError(words, foreign.fix(self.port))
        if gets_keys and not has_keys:
            raise UsageError(f"{words}; it would stay on the board under the keys", foreign.fix(self.port))
        if has_keys:
            self.result.warning = foreign.words(found)

    # A new version

    def _bring(self, session: Session) -> str:
        """Put the version into a slot and point to it; returns the slot."""
        about = session.about
        firmware = Firmware(tuple(about["version"][:3]), about["mpy"])
        board = self._board(about)
        self.result.board = board.id
        self._step("compiling", 120.0)
        made = self._bundle(board, firmware, lambda: session.call("stay"))
        self.result.version = made.version
        archive = self._archive(made, about)
        sha = image.digest(archive).hex()
        running = about["slots"].get(self.proven, {})
        same = len(self.pointer) == 1 and running.get("sha") == sha and self._signed(running, sha, about)
        if same and not self._fault(session, self.proven):
            self.result.unchanged = True
            self.result.slot = self.proven
            self._verified()
            return self.proven
        slot = "b" if self.proven == "a" else "a"
        self.result.slot = slot
        preflight.require(self.port, preflight.findings(about, made, slot))
        seal = self.signer.seal(sha, about["uid"], running.get("sig", ""), note=about["note"])
        Transfer(session, self._step, self._check_stop, self.result).fill(slot, archive, seal)
        self._verified()
        self._check_stop()
        self._step("switching over", _STEP_S)
        # A proven version that this start code cannot read is none to return to.
        text = f"{slot} {slots.TRIES} {self.proven}" if self.heads.get(self.proven) else slot
        session.call("point", on_progress=self._alive("switching over"), text=text)
        tidied = session.call("tidy", on_progress=self._alive("switching over"))
        self.result.removed += [path for path in tidied["removed"] if not path.endswith(".new")]
        return slot

    def _archive(self, made: Bundle, about: dict[str, Any]) -> bytes:
        files = {entry.path: entry.data for entry in made.entries}
        # What it has, or every key at its default.
        files[CONFIG] = self.job.config or base64.b64decode(about["config"]) or b"{}"
        if self.job.config is None and len(files[CONFIG]) > _MOST_CONFIG:
            raise VerifyError(f"{self.port}: {CONFIG} is damaged on the board", "give one with --config")
        return image.build(made.head, files)

    def _signed(self, running: dict[str, Any], sha: str, about: dict[str, Any]) -> bool:
        """Whether the proven version may run as it is; what a board had when it got its keys needs no signature."""
        seal = self.signer.seal(sha, about["uid"], running["sig"], same=True, note=about["note"])
        return seal == running["sig"].encode() or (self.runs and not running["sig"])

    def _board(self, about: dict[str, Any]) -> catalogue.Board:
        if self.job.board_id:
            return catalogue.load(self.job.board_id)
        board = catalogue.recognise(about["build"], about["machine"], about["platform"])
        if board is None:
            raise UsageError(
                f"{self.port}: unknown board ({about['machine'] or about['platform']})",
                "name it with --board; known boards: " + ", ".join(catalogue.all_boards()),
            )
        return board

    def _bundle(
        self, board: catalogue.Board, firmware: Firmware, meanwhile: Callable[[], object] | None = None
    ) -> Bundle:
        if not self.job.bundles:
            made = self.reporter.ask((board.id, firmware), meanwhile=meanwhile)
            return made if isinstance(made, Bundle) else bundle.build(board, firmware)
        for given in self.job.bundles:
            if given.fits(board, firmware):
                self.signer.require_signed(given, self.result.uid)
                return given
        raise UsageError(
            f"{self.port}: no bundle for {board.id} with MicroPython {firmware.text} {firmware.arch}".rstrip(),
            f"`sentill bundle build --board {board.id} --mpy {firmware.mpy}` makes one",
        )

    # Back to the other slot

    def _back(self, session: Session) -> str:
        self.result.board = self.heads.get(self.proven, {}).get("board", "")
        # From a version on trial back to the proven one, else from the proven one to the other.
        slot = self.proven if len(self.pointer) == 3 else "b" if self.proven == "a" else "a"
        head = self.heads.get(slot, {})
        if not self.proven or not head:
            raise VerifyError(f"{self.port}: there is no other version on the board", "deploy the one you want")
        fault = self._fault(session, slot)
        if fault:
            raise VerifyError(f"{self.port}: the other slot is not whole ({fault})", "deploy the version you want")
        self.result.before = self.heads.get(self.pointer[0], {}).get("version", "")
        self.result.version, self.result.slot = head["version"], slot
        self._verified()
        self._step("switching over", _STEP_S)
        text = slot if slot == self.proven else f"{slot} {slots.TRIES} {self.proven}"
        session.call("point", on_progress=self._alive("switching over"), text=text)
        return slot

    def _fault(self, session: Session, slot: str) -> str:
        """What is wrong with a slot, "" when it is whole."""
        return str(session.call("check", slot=slot, on_progress=self._alive("reading what is there"))["fault"])

    # The end

    def _await_node(self, link: Link, slot: str, session: Session) -> None:
        """Wait until the version has proven itself; what the board printed explains a failure."""
        began = time.monotonic()
        limit_s = _TRIAL_S if self.proven and not self.result.unchanged else _FIRST_BOOT_S
        seen = client.Boot(console=list(session.console))
        heard = len(seen.console)
        ended = False
        try:
            for _ in client.watch_boot(client.NodeClient(link), limit_s, seen):
                self._check_stop()
                news = seen.console[heard:]
                heard = len(seen.console)
                session.leave_again(news)
                ended = seen.identity is None and any(line.startswith(">>> ") for line in news)
                if ended:  # MicroPython's prompt
                    break
                if seen.slot == slot and seen.identity is not None:
                    break
                if len(seen.slot) == 1 and seen.slot != slot and seen.identity is not None:
                    break
        except PortGone:
            raise LinkError(f"{self.port}: the port did not come back after the reset", "check the cable") from None
        self.result.restart_s = round(time.monotonic() - began, 3)
        console = [line for line in seen.console if not line.startswith(("#", "@"))]
        raised = [line for line in console if _EXCEPTION.match(line)]
        sayings = raised or [line for line in console if line.startswith("sentill:")]
        words = [seen.why] if seen.why else seen.faults or sayings or console
        said = f": {words[-1]}" if words else ""
        if (seen.identity or {}).get("rst") == "watchdog":
            said += " (the watchdog has reset the board)"
        if seen.identity is None:
            raise VerifyError(
                f"{self.port}: the node {'has ended' if ended else f'does not report within {limit_s:g} s'}{said}",
                "set this computer's clock; run this again: it is signed for what the board accepts then"
                if FLOOR.search(said)
                else f"`sentill monitor {self.port}` shows what the board prints",
            )
        if len(seen.slot) == 1 and seen.slot != slot:
            raise VerifyError(
                f"{self.port}: version {self.result.version} did not prove itself; the board returned to "
                f"{seen.identity.get('sw')}{said}",
                "the version before runs; correct the new one and deploy it again",
            )
        if seen.slot != slot:
            raise VerifyError(
                f"{self.port}: the node has not proven itself within {limit_s:g} s{said}", "run this again"
            )
        told = str(seen.identity.get("sw", ""))
        if told != self.result.version:
            raise VerifyError(
                f"{self.port}: the node reports version {told!r} instead of {self.result.version!r}", "run this again"
            )

    def _verified(self) -> None:
        self.result.verified_s = round(time.monotonic() - self.start, 3)

    def _check_stop(self) -> None:
        self.reporter.check()

    def _alive(self, name: str) -> Callable[[int, int], None]:
        return lambda done, total: self._step(name, _STEP_S)

    def _step(self, name: str, limit_s: float, done: int = 0, total: int = 0) -> None:
        self.result.step = name
        self.reporter.step(name, limit_s, done, total)
