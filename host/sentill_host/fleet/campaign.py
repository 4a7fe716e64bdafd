"""Carries a request through a fleet: find the boards, canaries first, many at a time, stop when too many fail.

Everything that happens is in the store before it counts, so a run that is cut goes on with `resume`.
"""

import datetime as dt
import glob
import hashlib
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from sentill_host.board import ports
from sentill_host.bundle import build as bundle
from sentill_host.deploy import deploy, workers
from sentill_host.errors import LinkError, SentillHostError, UsageError
from sentill_host.fleet import store as states
from sentill_host.fleet import tasks
from sentill_host.fleet.plan import Fleet, Member, Window
from sentill_host.fleet.store import Job, Run, Store
from sentill_host.fleet.tasks import Sighting, Task
from sentill_host.keys.key_file import KeyFile

# Verbs that change boards: canaries first, inside the maintenance window.
CHANGING = ("deploy", "rollback", "flash")
_NAP_S = 30.0
_ABSENT, _PLUG = "not plugged in", "plug it in, then `sentill fleet retry`"
_CLOSED = "`sentill fleet retry` when it is open; --now does not wait for it"
# A little longer than an abandoned board waits before it resets itself (bundle/onboard/agent.py).
_DEAF_S = 80.0
_AGAIN_S = 3.0


class Watcher(Protocol):
    """Sees a run as it happens."""

    def step(self, job: str, step: str, done: int, total: int) -> None:
        """A board (by unique id; by port while looking) is at a step."""

    def ended(self, job: str, state: str, text: str) -> None:
        """A board is done, failed, or held back; `text` says why."""


@dataclass
class Whereabouts:
    """Where the boards are: unique id to port; and what stands in the way of using a port."""

    at: dict[str, str] = field(default_factory=dict)
    sightings: list[Sighting] = field(default_factory=list)
    ambiguous: dict[str, list[str]] = field(default_factory=dict)


def ports_of(fleet: Fleet, extra: list[str]) -> list[str]:
    """Every port to look at: USB, what fleet.toml names, what the command line names; each device once."""
    names = [*extra]
    if not extra:
        for pattern in fleet.ports:
            matches = sorted(glob.glob(pattern)) if glob.has_magic(pattern) else [pattern]
            names.extend(matches)
        # By socket: boards that are reset at once may swap the names of their devices.
        names.extend(port.place for port in ports.found())
    unique: dict[str, str] = {}
    for name in names:
        try:
            unique.setdefault(ports.Address(name).device(), name)
        except SentillHostError:
            unique.setdefault(name, name)
    return list(unique.values())


def find(
    store: Store, names: list[str], at_once: int, watcher: Watcher | None = None, wanted: frozenset[str] = frozenset()
) -> Whereabouts:
    """Look at all ports at once and keep what was seen.

    While boards of `wanted` are missing and ports are silent, these are looked at again: a board whose deploy was cut
    off answers nobody else for a minute, then resets itself.
    """
    sightings = dict(zip(names, _look(names, at_once, watcher), strict=True))
    end = time.monotonic() + _DEAF_S
    while time.monotonic() < end:
        silent = [name for name, sighting in sightings.items() if not sighting.uid]
        if not silent or wanted <= {sighting.uid for sighting in sightings.values()}:
            break
        for name in silent:
            if watcher is not None:
                watcher.step(name, "silent: asked again for a minute, as after a deploy that was cut off", 0, 0)
        time.sleep(_AGAIN_S)
        sightings.update(zip(silent, _look(silent, at_once, watcher), strict=True))
    where = Whereabouts(sightings=list(sightings.values()))
    by_uid: dict[str, list[str]] = {}
    for name, sighting in sightings.items():
        if sighting.uid:
            by_uid.setdefault(sighting.uid, []).append(name)
            facts = {key: getattr(sighting, key) for key in ("board", "firmware", "software", "model", "port")}
            store.saw(sighting.uid, **facts)
    for uid, found in by_uid.items():
        if len(found) == 1:
            where.at[uid] = found[0]
        else:
            where.ambiguous[uid] = found
    return where


def worth_waiting(verb: str, uids: Iterable[str]) -> frozenset[str]:
    """The boards that `find` waits for: those a run changes. To read the others does not hang on one that is silent."""
    return frozenset(uids) if verb in CHANGING else frozenset()


def _look(names: list[str], at_once: int, watcher: Watcher | None) -> list[Sighting]:
    def on_step(number: int, step: str, done: int, total: int) -> None:
        if watcher is not None:
            watcher.step(names[number], step, done, total)

    tasks_ = [Task("look", name) for name in names]
    sightings = []
    for name, outcome in zip(
        names, workers.run(tasks.work, tasks_, _no_answers, on_step, at_once=at_once), strict=True
    ):
        if outcome.result is None:
            sighting = Sighting(name, error=f"{name}: {outcome.step}: {outcome.reason}", hint="unplug it, plug it in")
        elif outcome.result["error"]:
            sighting = Sighting(name, error=outcome.result["error"], hint=outcome.result["hint"])
        else:
            sighting = Sighting(**outcome.result["sighting"])
        sightings.append(sighting)
    return sightings


def _no_answers(question: Any) -> Any:
    raise LinkError(f"nobody answers {question!r}")


@dataclass
class Request:
    """What is asked of the boards of a run: `options` go to every task, `now` ignores maintenance windows."""

    verb: str
    options: dict[str, Any] = field(default_factory=dict)
    now: bool = False
    wait: bool = False


def start(fleet: Fleet, store: Store, request: Request, targets: list[Member], where: Whereabouts) -> Run:
    """A new run over `targets` that are plugged in; the others are in it as held. Raises UsageError without any.

    An interrupted run has to be resumed or given up first.
    """
    refuse_ambiguous(targets, where)
    here = [member for member in targets if member.uid in where.at]
    if not here:
        raise UsageError("none of these boards is plugged in", "`sentill fleet status` shows which are")
    canaries = fleet.canaries(here) if request.verb in CHANGING else []
    first = {member.uid for member in canaries}
    options = {"request": request.options, "now": request.now, "wait": request.wait}
    run = store.begin(
        request.verb, options, [(m.uid, m.label, 0 if m.uid in first else 1) for m in targets]
    )  # fmt: skip
    for member in targets:
        if member.uid not in where.at:
            store.update(
                run.id, member.uid, state=states.HELD, error=_ABSENT, hint=_PLUG, exit_code=LinkError.exit_code
            )
    return run


def refuse_ambiguous(targets: list[Member], where: Whereabouts) -> None:
    """Raises UsageError when a target answers at more than one port."""
    for member in targets:
        if found := where.ambiguous.get(member.uid):
            raise UsageError(
                f"{member.label} ({member.uid}) answers at several ports: {', '.join(found)}",
                "unplug all but one; two boards with one id cannot be told apart",
            )


def hashes(paths: list[Path]) -> dict[str, str]:
    """SHA-256 of every file in `paths` (files and folders): what a run has begun with, it must go on with."""
    files = [file for path in paths for file in (sorted(path.rglob("*")) if path.is_dir() else [path])]
    try:
        return {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in files if not file.is_dir()}
    except OSError as error:
        raise UsageError(f"{error.filename}: {error.strerror}") from None


def _require_unchanged(run: Run) -> None:
    begun = run.options["request"].get("sha256", {})
    for path, digest in hashes([Path(path) for path in begun]).items():
        if digest != begun[path]:
            raise UsageError(
                f"{path} has changed since run {run.id} began", "put it back, or begin a new run with --new"
            )


class Campaign:
    """One run in progress."""

    def __init__(
        self,
        fleet: Fleet,
        store: Store,
        run: Run,
        where: Whereabouts,
        watcher: Watcher,
        clock: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC),
        keys: KeyFile | None = None,
    ):
        self.fleet = fleet
        self.store = store
        self.run = run
        self.where = where
        self.watcher = watcher
        self.clock = clock
        self.keys = keys  # with the workers only: nothing of them is in the store
        self._stopped = ""
        options = run.options["request"]
        _require_unchanged(run)
        self._bundles = tuple(bundle.read(Path(path)) for path in options.get("bundles", ()))
        self._answer = deploy.builder(bundle.read_models([Path(path) for path in options.get("models", ())]))

    def go(self) -> str:
        """Carry the run through; returns the state it ends in. KeyboardInterrupt leaves it to be resumed."""
        try:
            return self._go()
        except (KeyboardInterrupt, SystemExit):
            # What was broken off for it has not failed.
            for job in self._jobs():
                if job.state == states.FAILED and job.error.endswith("interrupted"):
                    self.store.update(self.run.id, job.uid, state=states.RUNNING)
            raise

    def _go(self) -> str:
        for wave in (0, 1):
            while not self._stopped and (jobs := [job for job in self._jobs() if job.wave == wave and self._may(job)]):
                if ready := self._ready(jobs):
                    self._work(ready)
            if wave == 0 and (bad := [job for job in self._jobs() if job.wave == 0 and job.state != states.DONE]):
                self._stopped = f"canary {bad[0].label}: {bad[0].error}"
        left = [job for job in self._jobs() if job.state == states.WAITING]
        if not left:
            self._stopped = ""  # the last one failed: there was nothing to stop
        for job in left:
            self._hold(job, self._stopped, "")
        state = states.STOPPED if self._stopped else states.FINISHED
        self.store.end(self.run.id, state, self._stopped)
        return state

    @property
    def why(self) -> str:
        """Why the run was stopped, "" when it was not."""
        return self._stopped

    def _jobs(self) -> list[Job]:
        return self.store.jobs(self.run.id)

    def _may(self, job: Job) -> bool:
        """Whether the board's turn can still come."""
        if job.state == states.FAILED:
            # A wrong request stays wrong.
            return job.attempts < self.fleet.policy.attempts and job.exit_code != UsageError.exit_code
        return job.state == states.WAITING

    def _ready(self, jobs: list[Job]) -> list[Job]:
        """Those of `jobs` that can be worked on now. Holds back what cannot be; waits when asked to and nothing can."""
        ready, opens_s = [], []
        for job in jobs:
            closed = self._closed(job)
            if job.uid not in self.where.at:
                self._hold(job, _ABSENT, _PLUG, LinkError.exit_code)
            elif closed is None:
                ready.append(job)
            elif self.run.options["wait"]:
                opens_s.append(closed.wait(self.clock()).total_seconds())
                self.watcher.step(job.uid, f"waits for {closed}", 0, 0)
            else:
                hours = closed.wait(self.clock()).total_seconds() / 3600
                self._hold(job, f"outside its maintenance window ({closed}), which opens in {hours:.1f} h", _CLOSED)
        if not ready and opens_s:
            time.sleep(min(_NAP_S, max(min(opens_s), 0.05)))
        return ready

    def _closed(self, job: Job) -> Window | None:
        """The maintenance window that keeps the board from being changed now, None when none does."""
        member = self.fleet.member(job.uid)
        window = self.fleet.group_of(member).window if member else None
        free = self.run.options["now"] or self.run.verb not in CHANGING
        return None if window is None or free or window.is_open(self.clock()) else window

    def _work(self, ready: list[Job]) -> None:
        """Work on all of `ready`, at_once at a time; no further board is begun once the run is stopped."""
        total = len(self._jobs())
        tolerated = self.fleet.policy.tolerated(total)

        def may_start(number: int) -> bool:
            job = ready[number]
            if self._stopped or self._closed(job):
                return False
            self.store.update(
                self.run.id, job.uid, state=states.RUNNING, attempts=job.attempts + 1, port=self.where.at[job.uid],
                error="", hint="", exit_code=0,
            )  # fmt: skip
            self.watcher.step(job.uid, "starting", 0, 0)
            return True

        def on_end(number: int, outcome: workers.Outcome) -> None:
            self._ended(ready[number], outcome)
            lost = [job for job in self._jobs() if job.state == states.FAILED and not self._may(job)]
            if len(lost) >= tolerated and total > 1 and not self._stopped:
                self._stopped = f"{len(lost)} of {total} boards failed"

        workers.run(
            tasks.work,
            [self._task(job) for job in ready],
            self._answer,
            lambda number, step, done, total: self.watcher.step(ready[number].uid, step, done, total),
            at_once=self.fleet.policy.at_once,
            may_start=may_start,
            on_end=on_end,
        )

    def _task(self, job: Job) -> Task:
        member = self.fleet.member(job.uid)
        options = dict(self.run.options["request"])
        config = None
        if self.run.verb == "deploy" and member is not None and (path := self.fleet.group_of(member).config):
            config = deploy.read_config(path.read_text(encoding="utf-8"), str(path))
        if self.run.verb == "flash":
            options["board"] = next((s.board for s in self.where.sightings if s.uid == job.uid), "")
        return Task(self.run.verb, self.where.at[job.uid], job.uid, options, config, self._bundles, self.keys)

    def _ended(self, job: Job, outcome: workers.Outcome) -> None:
        result = outcome.result
        if result is None:
            result = {**outcome.failure().told(), "seconds": 0.0}
        state = states.FAILED if result["error"] else states.DONE
        self.store.update(
            self.run.id,
            job.uid,
            state=state,
            step=outcome.step,
            error=result["error"],
            hint=result["hint"],
            exit_code=result["exit_code"],
            seconds=result["seconds"],
            result=result,
        )
        text = result["error"] or describe(self.run.verb, result)
        self.store.resulted(job.uid, f"{self.run.verb}: {text if result['error'] else 'ok'}")
        if not result["error"]:
            key = {"deploy": "software", "rollback": "software", "flash": "firmware"}.get(self.run.verb, "")
            self.store.saw(job.uid, **({key: str(result.get("version", ""))} if key else {}))
        self.watcher.ended(job.uid, state, text)

    def _hold(self, job: Job, why: str, hint: str, exit_code: int = 0) -> None:
        self.store.update(self.run.id, job.uid, state=states.HELD, error=why, hint=hint, exit_code=exit_code)
        self.watcher.ended(job.uid, states.HELD, why)


def describe(verb: str, result: dict[str, Any]) -> str:
    """A successful result in a few words."""
    version = result.get("version", "")
    if verb == "deploy":
        copied = len(result.get("copied", []))
        sent = f"{copied} file{'s' if copied != 1 else ''} sent"
        but = f", but {result['warning']}" if result.get("warning") else ""
        return f"version {version} {'was there' if result.get('unchanged') else 'installed, ' + sent}{but}"
    if verb == "rollback":
        return f"back to version {version}"
    if verb == "flash":
        return f"MicroPython {version}"
    if verb == "collect":
        ails = f"; {result['trouble']}" if result.get("trouble") else ""
        return f"health {result.get('worst') or 'unknown'}, {result.get('records')} new audit records{ails}"
    return str(result.get("via", "done"))
