"""How a run goes about its boards. The workers are real processes; what they would do to a board is played."""

import contextlib
import dataclasses
import datetime as dt
import html.parser
import io
import os
import signal
import threading
import time

import psutil
import pytest
from rich.console import Console

from sentill_host.board import ports
from sentill_host.cli.fleet import _status_table
from sentill_host.deploy import workers
from sentill_host.errors import LinkError, UsageError
from sentill_host.fleet import campaign, plan, report, tasks
from sentill_host.fleet import store as states
from sentill_host.fleet.campaign import Campaign, Request, Whereabouts
from sentill_host.fleet.plan import Fleet, Group, Member, Policy, Window
from sentill_host.fleet.store import Store
from tools.device_modules import DEVICE

NOON = dt.datetime(2026, 7, 1, 12, tzinfo=dt.UTC)


class Log:
    """A watcher that keeps what it sees."""

    def __init__(self):
        self.steps: list[tuple[str, str]] = []
        self.ends: list[tuple[str, str]] = []

    def step(self, job: str, step: str, done: int, total: int) -> None:
        self.steps.append((job, step))

    def ended(self, job: str, state: str, text: str) -> None:
        self.ends.append((job, state))

    @property
    def started(self) -> list[str]:
        return [job for job, step in self.steps if step == "starting"]


class Bench:
    """A fleet of n boards ("aa00", "aa01", ...), all plugged in, and its store."""

    def __init__(self, folder, n: int = 6, policy: Policy = Policy(), group: Group = Group()):
        self.folder = folder
        members = tuple(Member(f"aa{i:02}", f"till {i}", "Lyon") for i in range(n))
        self.fleet = Fleet("test", folder, folder / "boards.csv", members, policy=policy, default=group)
        self.store = Store(folder)
        self.where = Whereabouts({member.uid: f"/dev/{member.uid}" for member in members})
        self.log = Log()
        self.clock = NOON

    def start(self, verb: str = "deploy", targets=None, **options):
        targets = list(self.fleet.members) if targets is None else targets
        return campaign.start(self.fleet, self.store, Request(verb, **options), targets, self.where)

    def go(self, run) -> Campaign:
        work = Campaign(self.fleet, self.store, run, self.where, self.log, lambda: self.clock)
        work.go()
        return work

    def states(self, run) -> dict[str, str]:
        return {job.uid: job.state for job in self.store.jobs(run.id)}


@pytest.fixture
def play(monkeypatch):
    """play(function) has workers call function(task) in place of the work on a board."""
    monkeypatch.setattr(workers, "_GRACE_S", 3.0)

    def install(function) -> None:
        def verb(reporter, task):
            reporter.step("playing", 20.0)
            return function(task) or {"version": "1.0", "uid": task.uid}

        for name in ("deploy", "rollback", "flash", "collect"):
            monkeypatch.setitem(tasks._VERBS, name, verb)

    return install


def fail(task) -> None:
    raise LinkError(f"{task.port}: no answer", "check the cable")


def test_the_canary_goes_first_and_alone_then_all(tmp_path, play):
    play(lambda task: None)
    bench = Bench(tmp_path)
    run = bench.start()
    assert bench.go(run).why == ""
    assert bench.log.started[0] == "aa00"
    assert bench.log.ends[0] == ("aa00", "done")
    assert bench.log.steps.index(("aa01", "starting")) > bench.log.steps.index(("aa00", "playing"))
    assert set(bench.states(run).values()) == {"done"}
    assert bench.store.run().state == states.FINISHED
    assert bench.store.inventory()["aa03"]["software"] == "1.0"


def test_a_failed_canary_leaves_all_others_alone(tmp_path, play):
    play(fail)
    bench = Bench(tmp_path)
    run = bench.start()
    work = bench.go(run)
    assert "canary till 0: /dev/aa00: no answer" in work.why
    assert set(bench.log.started) == {"aa00"}
    assert bench.states(run) == {"aa00": "failed", **{f"aa{i:02}": "held" for i in range(1, 6)}}
    assert bench.store.run().state == states.STOPPED


def test_a_board_is_tried_again_and_its_attempts_are_counted(tmp_path, play):
    marks = tmp_path / "marks"
    marks.mkdir()

    def at_the_second_try(task):
        if task.uid == "aa02" and not (marks / task.uid).exists():
            (marks / task.uid).touch()
            fail(task)

    play(at_the_second_try)
    bench = Bench(tmp_path)
    run = bench.start()
    bench.go(run)
    jobs = {job.uid: job for job in bench.store.jobs(run.id)}
    assert jobs["aa02"].state == "done"
    assert [jobs[uid].attempts for uid in ("aa01", "aa02")] == [1, 2]
    assert jobs["aa02"].error == ""


def test_a_wrong_request_is_not_tried_again(tmp_path, play):
    def wrong(task):
        raise UsageError("this is another board", "look")

    play(wrong)
    bench = Bench(tmp_path, 3, Policy(canary=0, stop_at=3.0, attempts=5))
    run = bench.start()
    bench.go(run)
    assert [job.attempts for job in bench.store.jobs(run.id)] == [1, 1, 1]


def test_too_many_failures_stop_the_run(tmp_path, play):
    play(fail)
    bench = Bench(tmp_path, 12, Policy(canary=0, stop_at=3.0, attempts=1, at_once=1))
    run = bench.start()
    work = bench.go(run)
    assert work.why == "3 of 12 boards failed"
    assert list(bench.states(run).values()).count("failed") == 3
    assert list(bench.states(run).values()).count("held") == 9


def test_retry_takes_only_what_failed_or_was_held(tmp_path, play):
    play(lambda task: fail(task) if task.uid == "aa04" else None)
    bench = Bench(tmp_path, 6, Policy(attempts=1, stop_at=2.0))
    run = bench.start()
    bench.go(run)
    assert bench.states(run)["aa04"] == "failed"
    play(lambda task: None)
    bench.log = Log()
    assert bench.store.retry(run.id) == 1
    bench.store.reopen(run.id)
    bench.go(bench.store.run())
    assert bench.log.started == ["aa04"]
    assert set(bench.states(run).values()) == {"done"}


def test_a_worker_that_hangs_is_killed_with_its_children_and_reported(tmp_path, play, monkeypatch):
    pid_file = tmp_path / "pid"

    def hang(reporter, task):
        reporter.step("waiting for a miracle", 0.5)
        if task.uid != "aa01":
            return {"version": "1.0", "uid": task.uid}
        import subprocess

        child = subprocess.Popen(["sleep", "600"])
        pid_file.write_text(str(child.pid))
        while True:
            time.sleep(60)

    monkeypatch.setattr(workers, "_GRACE_S", 3.0)
    monkeypatch.setitem(tasks._VERBS, "deploy", hang)
    bench = Bench(tmp_path, 3, Policy(attempts=1, stop_at=3.0))
    run = bench.start()
    start = time.monotonic()
    bench.go(run)
    assert time.monotonic() - start < 30
    jobs = {job.uid: job for job in bench.store.jobs(run.id)}
    assert (jobs["aa00"].state, jobs["aa01"].state, jobs["aa02"].state) == ("done", "failed", "done")
    assert "waiting for a miracle" in jobs["aa01"].error
    assert jobs["aa01"].exit_code == 3
    with contextlib.suppress(psutil.NoSuchProcess):
        child = psutil.Process(int(pid_file.read_text()))
        _, alive = psutil.wait_procs([child], timeout=30)
        assert not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]


def test_a_worker_that_crashes_is_reported(tmp_path, play):
    play(lambda task: os._exit(7) if task.uid == "aa01" else None)
    bench = Bench(tmp_path, 3, Policy(attempts=1, stop_at=3.0))
    run = bench.start()
    bench.go(run)
    jobs = {job.uid: job for job in bench.store.jobs(run.id)}
    assert (jobs["aa01"].state, jobs["aa02"].state) == ("failed", "done")
    assert "exit code 7" in jobs["aa01"].error


def test_outside_the_window_nothing_changes_and_looking_is_free(tmp_path, play):
    play(lambda task: None)
    night = Group(Window(22 * 60, 5 * 60, "UTC"))
    bench = Bench(tmp_path, 3, group=night)
    run = bench.start()
    work = bench.go(run)
    assert bench.log.started == []
    assert "opens in 10.0 h" in bench.store.jobs(run.id)[0].error
    assert "22:00-05:00 UTC" in work.why
    looking = bench.start("collect")
    bench.go(looking)
    assert set(bench.states(looking).values()) == {"done"}
    forced = bench.start(now=True)
    bench.go(forced)
    assert set(bench.states(forced).values()) == {"done"}


def test_waiting_for_the_window_begins_when_it_opens(tmp_path, play, monkeypatch):
    play(lambda task: None)
    monkeypatch.setattr(campaign, "_NAP_S", 0.01)
    bench = Bench(tmp_path, 3, group=Group(Window(22 * 60, 5 * 60, "UTC")))
    run = bench.start(wait=True)
    ticks = iter(range(10_000))
    began = []

    def clock() -> dt.datetime:
        now = NOON + dt.timedelta(hours=next(ticks) / 4)
        if bench.log.started and not began:
            began.append(now)
        return now

    Campaign(bench.fleet, bench.store, run, bench.where, bench.log, clock).go()
    assert set(bench.states(run).values()) == {"done"}
    assert began[0] >= NOON.replace(hour=22)
    assert ("aa00", "waits for 22:00-05:00 UTC") in bench.log.steps


def test_a_window_that_closes_stops_further_boards(tmp_path, play):
    play(lambda task: None)
    bench = Bench(tmp_path, 4, Policy(canary=0, at_once=1), Group(Window(22 * 60, 5 * 60, "UTC")))
    bench.clock = NOON.replace(hour=23)
    run = bench.start()

    class Late(Log):
        def ended(self, job, state, text):
            super().ended(job, state, text)
            if len(self.ends) == 2:
                bench.clock = NOON

    bench.log = Late()
    bench.go(run)
    assert list(bench.states(run).values()) == ["done", "done", "held", "held"]


def test_absent_boards_are_held_and_ambiguous_ones_refused(tmp_path, play):
    play(lambda task: None)
    bench = Bench(tmp_path, 3)
    del bench.where.at["aa02"]
    run = bench.start()
    bench.go(run)
    assert bench.states(run) == {"aa00": "done", "aa01": "done", "aa02": "held"}
    absent = next(job for job in bench.store.jobs(run.id) if job.uid == "aa02")
    assert (absent.error, absent.exit_code) == ("not plugged in", 3)
    assert "fleet retry" in absent.hint
    del bench.where.at["aa01"]
    bench.where.ambiguous["aa01"] = ["/dev/x", "/dev/y"]
    with pytest.raises(UsageError, match="answers at several ports: /dev/x, /dev/y"):
        bench.start()
    bench.where = Whereabouts()
    with pytest.raises(UsageError, match="none of these boards is plugged in"):
        bench.start()


def test_the_store_survives_being_cut_and_one_process_has_it(tmp_path, play):
    bench = Bench(tmp_path, 2)
    run = bench.start()
    bench.store.update(run.id, "aa00", state=states.RUNNING)
    other = Store(tmp_path)
    with bench.store.lock(), pytest.raises(UsageError, match="another command works on the fleet"), other.lock():
        pass
    again = Store(tmp_path)  # the first was never closed, as after kill -9
    assert again.run().state == states.RUNNING
    again.reopen(run.id)
    assert {job.state for job in again.jobs(run.id)} == {"waiting"}
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "fleet.db").write_bytes(b"not a database at all, really not one")
    with pytest.raises(UsageError, match="fleet.db"):
        Store(tmp_path / "sub")


class Page(html.parser.HTMLParser):
    """Checks that what is opened is closed, and gathers the words."""

    optional = {"tr", "td", "th", "tbody", "thead", "html", "meta", "li"}

    def __init__(self):
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag, attributes):
        self.links += [value for name, value in attributes if name in ("src", "href")]
        if tag not in self.optional:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.optional:
            assert self.open.pop() == tag, tag

    def handle_data(self, data):
        self.words.append(data)


def test_the_report_tells_everything_and_is_safe_to_open(tmp_path, play):
    play(lambda task: fail(task) if task.uid == "aa01" else None)
    bench = Bench(tmp_path, 3, Policy(attempts=1, stop_at=3.0))
    evil = dataclasses.replace(bench.fleet.members[1], label="<script>alert(1)</script>", site="=cmd()")
    bench.fleet = dataclasses.replace(bench.fleet, members=(bench.fleet.members[0], evil, bench.fleet.members[2]))
    run = bench.start()
    bench.go(run)
    made = report.make(bench.fleet, bench.store)
    assert made.counts == {"failed": 1, "done": 2}
    assert not made.ok
    assert [row["state"] for row in made.rows] == ["failed", "done", "done"]
    text = report.as_html(made)
    page = Page()
    page.feed(text)
    words = " ".join(page.words)
    assert (page.open, page.links) == ([], [])
    assert "<script>" not in text
    assert "<script>alert(1)</script>" in words
    for expected in ("till 0", "aa02", "/dev/aa01: no answer", "check the cable", "canary", "Lyon"):
        assert expected in words, expected
    table = report.as_csv(made).splitlines()
    assert table[0].startswith("label,uid,site,group,board")
    assert "'=cmd()" in table[1]
    assert len(table) == 4
    assert report.document(made)["boards"][0]["error"] == "/dev/aa01: no answer"


def test_a_silent_port_holds_up_changes_for_a_while_and_reading_not_at_all(tmp_path, monkeypatch):
    looked, said = [], []

    class Watcher:
        def step(self, job, step, done, total):
            said.append((job, step))

    def look(names, at_once, watcher):
        looked.append(names)
        return [campaign.Sighting(name, error="silent") for name in names]

    monkeypatch.setattr(campaign, "_look", look)
    monkeypatch.setattr(campaign, "_AGAIN_S", 0.05)
    monkeypatch.setattr(campaign, "_DEAF_S", 0.3)
    with Store(tmp_path) as store:
        campaign.find(store, ["/dev/x"], 4, Watcher(), campaign.worth_waiting("collect", ["aa00"]))
        assert (len(looked), said) == (1, [])
        campaign.find(store, ["/dev/x"], 4, Watcher(), campaign.worth_waiting("deploy", ["aa00"]))
    assert len(looked) > 3
    assert said[0][0] == "/dev/x" and "asked again" in said[0][1]


def test_ports_are_looked_at_once_whatever_they_are_called(tmp_path, monkeypatch):
    monkeypatch.setattr(campaign.ports, "found", list)
    (tmp_path / "a").symlink_to("/dev/null")
    (tmp_path / "b").symlink_to("/dev/null")
    (tmp_path / "c").symlink_to("/dev/zero")
    fleet = plan.Fleet("x", tmp_path, tmp_path / "r", (), (str(tmp_path / "[abc]"), "/dev/zero"))
    assert campaign.ports_of(fleet, []) == [str(tmp_path / "a"), str(tmp_path / "c")]
    assert campaign.ports_of(fleet, ["/dev/null"]) == ["/dev/null"]
    board = ports.PortInfo("/dev/null", "", "E66", "1-1.4:1.0", ())
    bare = ports.PortInfo("/dev/full", "", "", "", ())
    monkeypatch.setattr(ports, "found", lambda: [board, bare])
    unnamed = dataclasses.replace(fleet, ports=())
    assert campaign.ports_of(unnamed, []) == ["at:1-1.4:1.0", "/dev/full"], "by socket where there is one"


def test_ctrl_c_leaves_the_run_to_be_resumed(tmp_path, monkeypatch):
    def slow(reporter, task):
        for _ in range(400):
            reporter.check()
            if task.uid == "aa00" or (tmp_path / "quick").exists():
                break
            time.sleep(0.05)
        return {"version": "1.0", "uid": task.uid}

    monkeypatch.setitem(tasks._VERBS, "deploy", slow)
    bench = Bench(tmp_path, 4, Policy(attempts=1))
    run = bench.start()

    class Impatient(Log):
        def step(self, job, step, done, total):
            super().step(job, step, done, total)
            if self.started == ["aa00", "aa01", "aa02", "aa03"]:
                threading.Timer(0.3, signal.raise_signal, [signal.SIGINT]).start()
                self.step = super().step

    bench.log = Impatient()
    with pytest.raises(KeyboardInterrupt):
        bench.go(run)
    assert list(bench.states(run).values()) == ["done", "running", "running", "running"]
    assert bench.store.run().state == states.RUNNING
    (tmp_path / "quick").touch()
    bench.store.reopen(run.id)
    bench.log = Log()
    bench.go(bench.store.run())
    assert bench.log.started == ["aa01", "aa02", "aa03"]
    assert set(bench.states(run).values()) == {"done"}


def test_a_run_goes_on_only_with_the_files_it_began_with(tmp_path, play):
    play(lambda task: None)
    bench = Bench(tmp_path, 2)
    folder = tmp_path / "models"
    folder.mkdir()
    for name in ("rules.stm", "local.stm"):
        (folder / name).write_bytes((DEVICE / "models" / name).read_bytes())
    options = {"models": [str(folder)], "sha256": campaign.hashes([folder])}
    assert len(options["sha256"]) == 2
    run = bench.start(options=options)
    (folder / "local.stm").write_bytes((DEVICE / "models" / "rules.stm").read_bytes())
    with pytest.raises(UsageError, match=f"local.stm has changed since run {run.id} began"):
        bench.go(run)
    (folder / "local.stm").unlink()
    with pytest.raises(UsageError, match="local.stm"):
        bench.go(run)
    (folder / "local.stm").write_bytes((DEVICE / "models" / "local.stm").read_bytes())
    bench.go(run)
    assert set(bench.states(run).values()) == {"done"}


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_status_fits_its_terminal_and_names_every_board(width):
    row = {"label": "till 1 by the window", "site": "Lyon", "group": "", "port": "/dev/ttyACM10", "ambiguous": [],
           "board": "SIM", "firmware": "1.29.0", "software": "0.1.0", "faults": "", "model": "8c5f6220 567683d5",
           "last_seen": "", "last_result": "deploy: ok"}  # fmt: skip
    console = Console(width=width, file=io.StringIO(), record=True)
    console.print(_status_table([row], width))
    text = console.export_text()
    for word in ("till 1 by the window", "/dev/ttyACM10", "0.1.0", "deploy: ok"):
        assert word in text, text
    assert ("8c5f6220" in text) == (width == 120)
    assert len(text.splitlines()) == 2, text
