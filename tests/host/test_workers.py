"""One process per port: deadlines, deaths, questions and the end."""

import os
import signal
import time

import pytest

from sentill_host.deploy import workers
from sentill_host.errors import LinkError


def work(reporter: workers.Reporter, argument):
    reporter.step("first", 5.0)
    if argument == "hang":
        reporter.step("hanging", 0.0)
        while True:
            time.sleep(1)
    if argument == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if argument == "trip":
        raise ValueError("over a stone")
    if argument == "ask":
        return reporter.ask("what")
    if argument == "fail":
        try:
            reporter.ask("fail")
        except LinkError as error:
            return str(error)
    if argument == "told":
        os.kill(os.getpid(), signal.SIGHUP)  # to all of the terminal: the parent's to pass on
        reporter.check()
        os.kill(os.getpid(), signal.SIGTERM)
        try:
            reporter.check()
        except workers.Stopped:
            return "in order"
    if argument == "wait":
        while True:
            time.sleep(0.05)
            reporter.check()
    return argument


def answer(question):
    if question == "fail":
        raise LinkError("refused")
    return question + "?"


def test_results_come_in_order_and_questions_are_answered():
    seen = []
    outcomes = workers.run(work, ["a", "ask", "fail", "b"], answer, lambda *step: seen.append(step), at_once=2)
    assert [outcome.result for outcome in outcomes] == ["a", "what?", "refused", "b"]
    assert (0, "first", 0, 0) in seen


def test_a_worker_that_dies_or_outlives_its_deadline_is_reported(monkeypatch):
    monkeypatch.setattr(workers, "_GRACE_S", 3.0)
    start = time.monotonic()
    died, hung, tripped, fine = workers.run(work, ["die", "hang", "trip", "fine"], answer)
    assert time.monotonic() - start < 20
    assert died.result is None and "ended" in died.reason
    assert (hung.result, hung.step, hung.reason) == (None, "hanging", "no answer in time")
    assert (tripped.result, tripped.reason) == (None, "unexpected ValueError: over a stone")
    assert fine.result == "fine"


def test_a_worker_that_is_told_to_end_ends_in_order():
    assert workers.run(work, ["told"], answer)[0].result == "in order"


def test_ctrl_c_tells_the_workers_to_stop():
    def interrupt(number, step, done, total):
        raise KeyboardInterrupt

    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        workers.run(work, ["wait"], answer, interrupt)
    assert time.monotonic() - start < 20


def test_workers_notice_when_their_parent_is_gone(tmp_path):
    """Killed like by a failing computer: both workers end by themselves, the first one too."""
    pid = os.fork()
    if pid == 0:
        os.setsid()
        workers.run(note_and_wait, [tmp_path / "one", tmp_path / "two"], answer)
        os._exit(0)
    end = time.monotonic() + 30
    while not all((tmp_path / name).exists() and (tmp_path / name).read_text() for name in ("one", "two")):
        assert time.monotonic() < end
        time.sleep(0.05)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    for name in ("one", "two"):
        worker = int((tmp_path / name).read_text())
        while _alive(worker):
            assert time.monotonic() < end, name
            time.sleep(0.05)


def note_and_wait(reporter: workers.Reporter, path):
    path.write_text(str(os.getpid()))
    while True:
        time.sleep(0.05)
        try:
            reporter.check()
        except LinkError:
            return


def _alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
