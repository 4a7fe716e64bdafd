"""What one worker process does to one board. Every task first makes sure that it has the right board in front of it."""

import dataclasses
import datetime as dt
import json
import os
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from sentill_host import user_files
from sentill_host.board import catalogue
from sentill_host.board.link import Link
from sentill_host.bundle.build import Bundle
from sentill_host.deploy import deploy, prompt, signing, workers
from sentill_host.errors import BoardError, LinkError, SentillHostError, UsageError
from sentill_host.flash import procedure
from sentill_host.flash.backend import Voice
from sentill_host.journal.store import Terminal
from sentill_host.keys.key_file import KeyFile
from sentill_host.node import access, client, health_table, journal_pull

_LOOK_S = 60.0
_COLLECT_S = 90.0
_BLINK_S = 60.0
# A step of flashing: erasing a whole chip, or a person looking for a key.
_FLASH_STEP_S = 180.0
_WATCH_S = 0.5

_BLINK = """\
import machine, time
p = machine.Pin({pin!r}, machine.Pin.OUT)
for i in range({times}):
 p.value(1)
 time.sleep_ms(250)
 p.value(0)
 time.sleep_ms(250)
"""


@dataclass(frozen=True)
class Task:
    """One board's part of a request. `uid` is the board that must be there; "" for `look`, which finds out.

    `config` and `bundles` are for `deploy`, see deploy.Job; `keys` for boards that have or get keys.
    """

    verb: str
    port: str
    uid: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    config: bytes | None = None
    bundles: tuple[Bundle, ...] = ()
    keys: KeyFile | None = None


@dataclass
class Sighting:
    """What answered at a port. `via` says how: "node" undisturbed, "prompt" at MicroPython's prompt, "interrupt"."""

    port: str
    uid: str = ""
    board: str = ""
    firmware: str = ""
    software: str = ""
    model: str = ""
    faults: str = ""
    trouble: str = ""  # what attributes.troubles tells of a running node
    via: str = ""
    error: str = ""
    hint: str = ""


def work(reporter: workers.Reporter, task: Task) -> dict[str, Any]:
    """Body of a worker: the outcome as a dict with `error`, `hint` and `exit_code` besides what the task tells."""
    _end_with_the_parent()
    start = time.monotonic()
    try:
        outcome = _VERBS[task.verb](reporter, task)
    except SentillHostError as error:
        outcome = error.told()
    outcome["seconds"] = round(time.monotonic() - start, 3)
    return {"error": "", "hint": "", "exit_code": 0, **outcome}


def look(port: str) -> Sighting:
    """Find out which board is at a port. A running node answers undisturbed; another program is interrupted for it and
    started again by a reset. Failures are in the Sighting."""
    sighting = Sighting(port)
    try:
        with Link(port) as link:
            node = client.NodeClient(link)
            there = client.look(node)
            if there.identity is not None:
                _take_identity(sighting, there.identity)
                sighting.trouble = _trouble(node)
            else:
                _ask_prompt(sighting, link, there.prompt)
    except SentillHostError as error:
        sighting.error, sighting.hint = str(error), error.hint
    return sighting


def _take_identity(sighting: Sighting, fields: dict[str, Any]) -> None:
    sighting.via = "node"
    sighting.uid, sighting.board = str(fields.get("uid", "")), str(fields.get("board", ""))
    sighting.firmware, sighting.software = str(fields.get("fw", "")), str(fields.get("sw", ""))
    models = [str(fields[key]) for key in ("mp", "ml") if key in fields]
    sighting.model = " ".join(dict.fromkeys(models))
    sighting.faults = str(fields.get("faults", ""))


def _trouble(node: client.NodeClient) -> str:
    try:
        return "; ".join(health_table.troubles(node.command("status")))
    except LinkError as error:
        return str(error)


def _ask_prompt(sighting: Sighting, link: Link, idle: bool) -> None:
    link.enter_repl()
    try:
        if not idle:
            prompt.hold(link)
        about = procedure.ask(link)
    finally:
        if idle:
            link.leave_repl()
        else:
            client.restart(link)
    known = catalogue.recognise(about["build"], about["machine"], about["platform"])
    sighting.via = "prompt" if idle else "interrupt"
    sighting.uid, sighting.firmware = about["uid"], about["version"]
    sighting.board = known.id if known else about["build"]


def _require(reporter: workers.Reporter, task: Task) -> Sighting:
    """The board that the task is meant for. Raises UsageError for another one there, LinkError when none answers."""
    reporter.step("making sure who it is", _LOOK_S)
    sighting = look(task.port)
    if sighting.error:
        raise LinkError(sighting.error, sighting.hint)
    if sighting.uid != task.uid:
        raise UsageError(
            f"{task.port}: here is {sighting.uid or 'a board without an id'}, not {task.uid}",
            "boards were moved meanwhile; run this again",
        )
    return sighting


def _look(reporter: workers.Reporter, task: Task) -> dict[str, Any]:
    reporter.step("looking", _LOOK_S)
    return {"sighting": dataclasses.asdict(look(task.port))}


def _deploy(reporter: workers.Reporter, task: Task) -> dict[str, Any]:
    _require(reporter, task)
    profile = str(task.options.get("profile", signing.NO_KEYS))
    job = deploy.Job(task.port, config=task.config, bundles=task.bundles, keys=task.keys, profile=profile)
    result = _told(task, dataclasses.asdict(deploy.work(reporter, job)))
    if not result["error"]:
        with Link(task.port) as link:
            ails = _trouble(client.NodeClient(link))
        result["warning"] = "; ".join(filter(None, (result["warning"], ails)))
    return result


def _rollback(reporter: workers.Reporter, task: Task) -> dict[str, Any]:
    _require(reporter, task)
    return _told(task, dataclasses.asdict(deploy.work(reporter, deploy.Job(task.port, back=True, keys=task.keys))))


def _flash(reporter: workers.Reporter, task: Task) -> dict[str, Any]:
    options = task.options

    def say(step: str, done: int, total: int) -> None:
        reporter.check()
        reporter.step(step, _FLASH_STEP_S, done, total)

    result = procedure.flash(
        task.port,
        procedure.Options(
            board=options.get("board", ""),
            version=options.get("version", ""),
            file=Path(options["file"]) if options.get("file") else None,
            sha256=options.get("sha256_of", {}).get(options.get("board", ""), ""),
            ulab=bool(options.get("ulab")),
            patience_s=float(options.get("patience_s", 60.0)),
            expect_uid=task.uid,
            keys=task.keys,
        ),
        Voice(say=say, instruct=lambda text: say(text, 0, 0)),
    )
    return _told(task, dataclasses.asdict(result))


def _told(task: Task, result: dict[str, Any]) -> dict[str, Any]:
    """A result, unless it is another board's."""
    if not result["error"] and result["uid"] != task.uid:
        raise UsageError(f"{task.port}: {result['uid']} was there in the end, not {task.uid}", "boards were moved")
    return result


def _collect(reporter: workers.Reporter, task: Task) -> dict[str, Any]:
    """Identity, vital signs and health table of a running node into a file of its own; then its new audit records."""
    reporter.step("reading the node", _COLLECT_S)
    with Link(task.port) as link:
        node = client.NodeClient(link)
        identity = client.look(node).identity
        if identity is None:
            raise LinkError(f"{task.port}: no node runs here", "`sentill fleet deploy` puts one on the board")
        if identity.get("uid") != task.uid:
            raise UsageError(f"{task.port}: here is {identity.get('uid')}, not {task.uid}", "run this again")
        if task.keys is not None:
            access.attach(node, task.keys)
        status, health = node.command("status"), health_table.collect(node, 30.0)
        path = _keep(
            Path(task.options["folder"]) / task.uid, {"identity": identity, "status": status, "health": health}
        )  # fmt: skip
        terminal = Terminal(Path(task.options["journals"]), journal_pull.identify(node))
        pulled = journal_pull.pull(
            node, terminal, lambda done, of: reporter.step("pulling its journal", _COLLECT_S, done, of)
        )  # fmt: skip
    worst, trouble = health_table.worst(health), "; ".join(health_table.troubles(status))
    version = str(identity.get("sw", ""))
    return {"file": str(path), "worst": worst, "version": version, "records": pulled.count, "trouble": trouble}


def _keep(folder: Path, document: dict[str, Any]) -> Path:
    taken = dt.datetime.now(dt.UTC)
    path = folder / f"{taken:%Y%m%dT%H%M%SZ}.json"
    text = json.dumps({"taken": taken.isoformat(timespec="seconds"), **document}, indent=1) + "\n"
    user_files.save(path, text)
    return path


def _blink(reporter: workers.Reporter, task: Task) -> dict[str, Any]:
    """Blink the board's light for a person to see. A running node does it beside its work, else the prompt does."""
    sighting = _require(reporter, task)
    times = int(task.options.get("times", 10))
    reporter.step("blinking", _BLINK_S + times)
    with Link(task.port) as link:
        if sighting.via == "node":
            client.NodeClient(link).command("blink", n=times)
            return {"via": "node"}
        pin = catalogue.load(sighting.board).light
        if pin is None:
            raise UsageError(f"{task.port}: no light is known for {sighting.board}", "look at its port instead")
        link.enter_repl()
        try:
            if sighting.via == "interrupt":
                prompt.hold(link)
            link.exec(_BLINK.format(pin=pin, times=times), _BLINK_S)
        except BoardError as error:
            raise LinkError(f"{task.port}: its light cannot be switched", error.hint) from None
        finally:
            client.restart(link) if sighting.via == "interrupt" else link.leave_repl()
    return {"via": sighting.via}


_VERBS = {
    "look": _look,
    "deploy": _deploy,
    "rollback": _rollback,
    "flash": _flash,
    "collect": _collect,
    "blink": _blink,
}


def _end_with_the_parent() -> None:
    """End this process and its children soon after the one that started it, however that ended: a board must not be
    worked on by nobody's order while the run is taken up again."""
    try:
        parent = psutil.Process(os.getppid())
        parent.create_time()
    except psutil.NoSuchProcess:
        os._exit(1)

    def watch() -> None:
        while parent.is_running() and parent.status() != psutil.STATUS_ZOMBIE:
            time.sleep(_WATCH_S)
        for child in psutil.Process().children(recursive=True):
            child.kill()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
