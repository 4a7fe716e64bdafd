"""`sentill fleet`: many boards at once."""

import dataclasses
import glob
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from sentill_host import user_files
from sentill_host.bundle import build as bundler
from sentill_host.cli.fleet_view import live
from sentill_host.cli.keys import KeysOption, PasswordOption, ProfileOption, keys_at_hand, open_keys, require_profile
from sentill_host.cli.output import err, out, print_json, print_table, table_width
from sentill_host.deploy import deploy as deployer
from sentill_host.errors import UsageError
from sentill_host.fleet import campaign, plan, report
from sentill_host.fleet import store as states
from sentill_host.fleet.campaign import Campaign, Request, Whereabouts
from sentill_host.fleet.plan import Fleet, Member
from sentill_host.fleet.store import Run, Store
from sentill_host.journal.ledger import default_folder
from sentill_host.keys.key_file import KeyFile

app = typer.Typer(
    no_args_is_help=True,
    help="Many boards at once: canaries first, stopped when too many fail, resumed when interrupted.",
)

Who = Annotated[
    list[str] | None,
    typer.Argument(metavar="BOARD", help="Labels, unique ids, group:NAME, site:NAME; all without.", show_default=False),
]
Where = Annotated[Path, typer.Option("--fleet", help="The fleet's fleet.toml, or its folder.", show_default=False)]
Ports = Annotated[
    list[str] | None,
    typer.Option("--port", help="Look at this port only (repeatable, patterns allowed).", show_default=False),
]
Now = Annotated[bool, typer.Option("--now", help="Also outside the maintenance window.")]
Wait = Annotated[bool, typer.Option("--wait", help="Wait for the maintenance window to open.")]
New = Annotated[bool, typer.Option("--new", help="Give up an interrupted run.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]

_HERE = Path(plan.FILE)
_ENDLESS = 10_000


@app.command()
def init(where: Where = _HERE, name: Annotated[str, typer.Option(help="The fleet's name.")] = "") -> None:
    """Write a fleet.toml and an empty roster to start from."""
    path = _path(where)
    if path.exists():
        raise UsageError(f"{path} exists")
    title = name or path.parent.absolute().name
    user_files.save(path, plan.EXAMPLE.replace("my terminals", title.replace('"', "'")))
    roster = path.parent / "boards.csv"
    if not roster.exists():
        user_files.save(roster, ",".join(plan.COLUMNS) + "\n")
    out.print(f"wrote {path} and {roster}", markup=False)
    err.print("plug boards in; `sentill fleet status` shows their ids, `sentill fleet add` names them")


@app.command()
def add(
    uid: Annotated[str, typer.Argument(metavar="UID", help="Unique id, as `sentill fleet status` shows it.")],
    label: Annotated[str, typer.Argument(metavar="LABEL", help="What people call it.")],
    site: Annotated[str, typer.Option(help="Where it is.")] = "",
    group: Annotated[str, typer.Option(help="Group of fleet.toml.")] = "",
    where: Where = _HERE,
) -> None:
    """Add a board to the roster."""
    fleet = plan.load(_path(where))
    if group and fleet.groups and group not in fleet.groups:
        raise UsageError(f"no group {group!r}", "groups: " + ", ".join(fleet.groups))
    plan.add_to_roster(fleet.roster, Member(uid.lower(), label, site, group))
    out.print(f"added     {label} ({uid.lower()}) to {fleet.roster}", markup=False)


@app.command()
def status(
    who: Who = None,
    where: Where = _HERE,
    ports: Ports = None,
    offline: Annotated[bool, typer.Option("--offline", help="Show what was last seen; touch no port.")] = False,
    json: Json = False,
) -> None:
    """Show every board: where it is, what runs on it, when it was seen and what last became of it.

    Running nodes answer undisturbed. A program that is no node is interrupted for the question and started again.
    """
    fleet = plan.load(_path(where))
    with Store(fleet.folder) as store:
        found = Whereabouts()
        if not offline:
            with store.lock():
                found = _find(fleet, store, ports)
        inventory = store.inventory()
    members = fleet.select(who or [])
    rows = [_status_row(member, found, inventory.get(member.uid, {})) for member in members]
    strangers = [s for s in found.sightings if s.uid and fleet.member(s.uid) is None]
    silent = [s for s in found.sightings if not s.uid]
    if json:
        listed = [dataclasses.asdict(s) for s in strangers]
        print_json({"fleet": fleet.name, "boards": rows, "strangers": listed,
                    "silent": [dataclasses.asdict(s) for s in silent], "ambiguous": found.ambiguous})  # fmt: skip
        return
    if rows:
        print_table(_status_table(rows, table_width()))
    else:
        err.print(f"the roster {fleet.roster} is empty", markup=False)
    for row in rows:
        if row["trouble"]:
            err.print(f"[bold red]{escape(row['label'])}:[/] {escape(row['trouble'])}")
    for sighting in strangers:
        what = f"{sighting.board} {sighting.firmware}".strip()
        err.print(f"[yellow]not in the roster:[/] {sighting.port} {what} {sighting.uid}")
        err.print(f"    sentill fleet add {sighting.uid} LABEL", markup=False)
    for sighting in silent:
        err.print(f"[yellow]no answer:[/] {escape(sighting.error or sighting.port)}")


def _status_table(rows: list[dict[str, Any]], width: int) -> Table:
    """The boards for people: as many details as fit into `width` columns."""
    most = ["board", "place", "port", "firmware", "node", "model", "seen", "last result"]
    for left_out in ([], ["model"], ["model", "place", "firmware"]):
        table = _columns(rows, [name for name in most if name not in left_out])
        if Console(width=_ENDLESS).measure(table).maximum <= width:
            return table
    return _columns(rows, ["board", "port", "node", "last result"])


def _columns(rows: list[dict[str, Any]], names: list[str]) -> Table:
    table = Table(*(Column(name, no_wrap=True) for name in names), box=None)
    for row in rows:
        port = f"[green]{escape(row['port'])}[/]" if row["port"] else "[dim]away[/]"
        if row["ambiguous"]:
            port = f"[red]several: {escape(', '.join(row['ambiguous']))}[/]"
        cells = {
            "board": escape(row["label"]), "place": escape(", ".join(filter(None, (row["site"], row["group"])))),
            "port": port, "firmware": escape(f"{row['board']} {row['firmware']}".strip()),
            "node": f"{row['software']} [red]{escape(row['faults'])}[/]" if row["faults"] else row["software"],
            "model": escape(row["model"]), "last result": escape(row["last_result"]),
            "seen": "now" if row["port"] else row["last_seen"].replace("T", " ")[:16] or "never",
        }  # fmt: skip
        table.add_row(*(cells[name] for name in names))
    return table


def _status_row(member: Member, found: Whereabouts, seen: dict[str, str]) -> dict[str, Any]:
    names = ("board", "firmware", "software", "model", "last_seen", "last_result")
    sighting = next((s for s in found.sightings if s.uid == member.uid), None)
    return {
        **dataclasses.asdict(member),
        **{name: seen.get(name, "") for name in names},
        "port": found.at.get(member.uid, ""),
        "via": sighting.via if sighting else "",
        "faults": sighting.faults if sighting else "",
        "trouble": sighting.trouble if sighting else "",
        "ambiguous": found.ambiguous.get(member.uid, []),
    }


@app.command()
def deploy(
    who: Who = None, where: Where = _HERE, ports: Ports = None, now: Now = False, wait: Wait = False, new: New = False,
    bundle: Annotated[
        list[Path] | None, typer.Option(help="Bundle file instead of this version; once per kind of board.")
    ] = None,
    model: Annotated[
        list[Path] | None, typer.Option(help="Model, or folder of models, beside the shipped or instead.")
    ] = None,
    keys: KeysOption = None, password_file: PasswordOption = None, profile: ProfileOption = "service",
    json: Json = False,
) -> None:  # fmt: skip
    """Bring boards to this version of the node: canaries first, then all at once; stops when too many fail.

    With a key file at hand, boards without keys get their first, and what boards shall run is signed for each.
    """
    require_profile(profile)
    if bundle and model:
        raise UsageError("a bundle has its models", "give them to `sentill bundle build --model`")
    fleet = plan.load(_path(where))
    for path in {group.config for group in (fleet.default, *fleet.groups.values()) if group.config}:
        deployer.read_config(user_files.read_text(path), str(path))
    files = {"bundles": [str(path.absolute()) for path in bundle or []],
             "models": [str(path.absolute()) for path in model or []]}  # fmt: skip
    # Read here, so that a run is not begun with what cannot be read.
    for path in bundle or []:
        bundler.read(path)
    bundler.read_models(model or [])
    given = campaign.hashes([Path(path) for paths in files.values() for path in paths])
    options = {**files, "sha256": given, "profile": profile}
    opened = keys_at_hand(keys, password_file)
    _begin(fleet, Request("deploy", options, now, wait), who, ports, new, json, opened)


@app.command()
def rollback(
    who: Who = None, where: Where = _HERE, ports: Ports = None, now: Now = False, wait: Wait = False, new: New = False,
    every: Annotated[bool, typer.Option("--all", help="Really all boards of the roster.")] = False,
    keys: KeysOption = None, password_file: PasswordOption = None, json: Json = False,
) -> None:  # fmt: skip
    """Return boards to the version they had before."""
    if not who and not every:
        raise UsageError("roll back which boards?", "name them, or say --all")
    opened = keys_at_hand(keys, password_file)
    _begin(plan.load(_path(where)), Request("rollback", {}, now, wait), who, ports, new, json, opened)


@app.command()
def flash(
    who: Who = None, where: Where = _HERE, ports: Ports = None, now: Now = False, wait: Wait = False, new: New = False,
    version: Annotated[str, typer.Option(help="MicroPython version; fleet.toml's, else the newest.")] = "",
    file: Annotated[Path | None, typer.Option(help="Firmware file instead of a download.", show_default=False)] = None,
    ulab: Annotated[bool, typer.Option("--ulab", help="A build with ulab.")] = False,
    every: Annotated[bool, typer.Option("--all", help="Really all boards of the roster.")] = False,
    keys: KeysOption = None, password_file: PasswordOption = None, json: Json = False,
) -> None:  # fmt: skip
    """Put new MicroPython on boards that run one. A blank board cannot tell who it is: `sentill flash` does those."""
    if not who and not every:
        raise UsageError("flash which boards?", "name them, or say --all")
    fleet = plan.load(_path(where))
    options = {"version": version or fleet.firmware_version, "ulab": ulab, "file": str(file.absolute()) if file else ""}
    options["sha256_of"] = fleet.firmware_sha256
    opened = keys_at_hand(keys, password_file)
    _begin(fleet, Request("flash", options, now, wait), who, ports, new, json, opened)


@app.command()
def collect(
    who: Who = None, where: Where = _HERE, ports: Ports = None,
    folder: Annotated[Path | None, typer.Option(help="Where to; `collected` beside fleet.toml.")] = None,
    journals: Annotated[Path | None, typer.Option(help="Where to put journals; where `sentill journal` does.")] = None,
    keys: KeysOption = None, password_file: PasswordOption = None, json: Json = False,
) -> None:  # fmt: skip
    """Fetch identity, vital signs and health table of every running node, a file per board and time, and its journal.

    Journals are kept where `sentill journal` finds them to verify, show and archive. Boards with keys are read at their
    own pace; with --keys they hurry.
    """
    fleet = plan.load(_path(where))
    target = (folder or fleet.folder / "collected").absolute()
    kept = (journals or default_folder()).absolute()
    opened = open_keys(keys, password_file) if keys or password_file else None
    _begin(fleet, Request("collect", {"folder": str(target), "journals": str(kept)}), who, ports, False, json, opened)


@app.command()
def blink(
    who: Annotated[str, typer.Argument(metavar="BOARD", help="Label or unique id of one board.")],
    where: Where = _HERE,
    ports: Ports = None,
    times: Annotated[int, typer.Option(min=1, max=60, help="How often.")] = 10,
) -> None:
    """Blink one board's light, to find it among many."""
    fleet = plan.load(_path(where))
    targets = fleet.select([who])
    if len(targets) != 1:
        raise UsageError(f"{who!r} names {len(targets)} boards", "one at a time")
    _begin(fleet, Request("blink", {"times": times}), [who], ports, False, False)


@app.command()
def resume(
    where: Where = _HERE, ports: Ports = None, keys: KeysOption = None, password_file: PasswordOption = None,
    json: Json = False,
) -> None:  # fmt: skip
    """Go on with a run that was interrupted: boards already done are left alone."""
    fleet = plan.load(_path(where))
    with Store(fleet.folder) as store, store.lock():
        run = store.run()
        if run.state != states.RUNNING:
            raise UsageError(f"run {run.id} ({run.verb}) is {run.state}", "`sentill fleet retry` tries what failed")
        opened = _keys_for(run, keys, password_file)
        store.reopen(run.id)
        _carry_on(fleet, store, run, ports, json, opened)


@app.command()
def retry(
    where: Where = _HERE, ports: Ports = None, now: Now = False, keys: KeysOption = None,
    password_file: PasswordOption = None, json: Json = False,
) -> None:  # fmt: skip
    """Try again the boards of the last run that failed or were held back, and only those."""
    fleet = plan.load(_path(where))
    with Store(fleet.folder) as store, store.lock():
        run = store.run()
        if run.state == states.RUNNING:
            raise UsageError(f"run {run.id} ({run.verb}) was interrupted", "`sentill fleet resume` goes on with it")
        opened = _keys_for(run, keys, password_file)
        if not store.retry(run.id):
            raise UsageError(f"nothing failed in run {run.id} ({run.verb})")
        store.reopen(run.id)
        run = dataclasses.replace(run, options={**run.options, "now": now or run.options["now"]})
        _carry_on(fleet, store, run, ports, json, opened)


@app.command(name="report")
def show_report(
    number: Annotated[int, typer.Argument(metavar="RUN", help="Run; the last one without.", show_default=False)] = 0,
    where: Where = _HERE,
    html: Annotated[Path | None, typer.Option(help="Write the one-page report here.", show_default=False)] = None,
    csv: Annotated[Path | None, typer.Option(help="Write a table here.", show_default=False)] = None,
    listing: Annotated[bool, typer.Option("--list", help="List all runs.")] = False,
    json: Json = False,
) -> None:
    """Tell what became of a run, on the screen or as HTML, CSV or JSON."""
    fleet = plan.load(_path(where))
    with Store(fleet.folder) as store:
        if listing and json:
            print_json([dataclasses.asdict(run) for run in store.runs()])
            return
        if listing:
            table = Table("run", "what", "started", "state", box=None)
            for run in store.runs():
                table.add_row(str(run.id), run.verb, run.started.replace("T", " ").replace("+00:00", " UTC"), run.state)
            print_table(table)
            return
        made = report.make(fleet, store, number)
    for path, text in ((html, report.as_html), (csv, report.as_csv)):
        if path is not None:
            user_files.save(path, text(made))
            err.print(f"wrote {path}", markup=False)
    if json:
        print_json(report.document(made))
    elif html is None and csv is None:
        _print(made, "")


def _path(where: Path) -> Path:
    return where / plan.FILE if where.is_dir() else where


def _find(fleet: Fleet, store: Store, ports: list[str] | None, wanted: frozenset[str] = frozenset()) -> Whereabouts:
    extra = []
    for pattern in ports or []:
        extra.extend(sorted(glob.glob(pattern)) if glob.has_magic(pattern) else [pattern])
    names = campaign.ports_of(fleet, extra)
    with live(err, "looking at ports", dict.fromkeys(names, "")) as view:
        return campaign.find(store, names, max(fleet.policy.at_once, 16), view, wanted)


def _keys_for(run: Run, keys: Path | None, password_file: Path | None) -> KeyFile | None:
    """The key file for what changes boards; for the rest only when it is named."""
    if run.verb not in campaign.CHANGING and not keys and not password_file:
        return None
    return keys_at_hand(keys, password_file)


def _begin(
    fleet: Fleet, request: Request, who: list[str] | None, ports: list[str] | None, new: bool, json: bool,
    keys: KeyFile | None = None,
) -> None:  # fmt: skip
    targets = fleet.select(who or [])
    if not targets:
        raise UsageError(f"{fleet.roster} lists no boards", "`sentill fleet add` adds them")
    with Store(fleet.folder) as store, store.lock():
        last = next(iter(store.runs()), None)
        if last is not None and last.state == states.RUNNING:
            if not new:
                jobs = store.jobs(last.id)
                done = sum(job.state == states.DONE for job in jobs)
                raise UsageError(
                    f"run {last.id} ({last.verb}) was interrupted with {done} of {len(jobs)} boards done",
                    "`sentill fleet resume` goes on with it; --new gives it up",
                )
            store.end(last.id, states.STOPPED)
        where = _find(fleet, store, ports, campaign.worth_waiting(request.verb, (m.uid for m in targets)))
        run = campaign.start(fleet, store, request, targets, where)
        _finish(fleet, store, run, where, json, keys)


def _carry_on(fleet: Fleet, store: Store, run: Run, ports: list[str] | None, json: bool, keys: KeyFile | None) -> None:
    waiting = frozenset(job.uid for job in store.jobs(run.id) if job.state == states.WAITING)
    where = _find(fleet, store, ports, campaign.worth_waiting(run.verb, waiting))
    campaign.refuse_ambiguous([member for member in fleet.members if member.uid in waiting], where)
    _finish(fleet, store, run, where, json, keys)


def _finish(fleet: Fleet, store: Store, run: Run, where: Whereabouts, json: bool, keys: KeyFile | None) -> None:
    labels = {job.uid: job.label for job in store.jobs(run.id)}
    with live(err, f"{fleet.name}: {run.verb}", labels) as view:
        work = Campaign(fleet, store, run, where, view, keys=keys)
        try:
            work.go()
        except KeyboardInterrupt:
            err.print(f"run {run.id} is not finished: `sentill fleet resume` goes on with it", markup=False)
            raise
    made = report.make(fleet, store, run.id)
    page = fleet.folder / "reports" / f"run-{run.id}.html"
    for path, text in ((page, report.as_html), (page.with_suffix(".csv"), report.as_csv),
                       (page.with_suffix(".json"), report.as_json)):  # fmt: skip
        user_files.save(path, text(made))
    if json:
        print_json(report.document(made))
    else:
        _print(made, work.why)
        err.print(f"report: {page}", markup=False)
    if not made.ok:
        raise typer.Exit(max((int(job.exit_code) for job in store.jobs(run.id)), default=0) or 1)


STYLES = {states.DONE: "green", states.FAILED: "red", states.HELD: "yellow", states.RUNNING: "cyan", states.WAITING: ""}


def _print(made: report.Report, why: str) -> None:
    rows = sorted(made.rows, key=lambda row: row["wave"] if row["state"] == states.DONE else 2)
    for row, after in zip(rows, [*rows[1:], {"hint": ""}], strict=True):
        style = STYLES[row["state"]]
        out.print(f"[{style}]{row['state']:9}[/] " if style else f"{row['state']:9} ", end="")
        seconds = f", {row['seconds']:.1f} s" if row["state"] == states.DONE else ""
        out.print(f"{row['label']}: {row['told'] or 'nothing yet'}{seconds}", markup=False)
        if row["hint"] and row["hint"] != after["hint"]:  # once for many
            out.print(f"          try: {row['hint']}", markup=False)
    counts = ", ".join(f"{count} {state}" for state, count in made.counts.items())
    out.print(f"run {made.run.id} {made.run.verb}: {counts}")
    if why:
        err.print(f"[yellow]stopped:[/] {escape(why)}")
        err.print("`sentill fleet retry` tries what failed or was held back, once the cause is found", markup=False)
