"""What was pulled and is gone is a finding, whatever was taken away; what is covered on a day is told."""

import json
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from sentill.journal import chain as journal
from sentill_host.board.link import Link
from sentill_host.journal import ledger as ledgers
from sentill_host.journal.ledger import Ledger, default_folder
from sentill_host.journal.store import Terminal, whole_records
from sentill_host.node import journal_pull as puller
from sentill_host.node.client import NodeClient
from tests.host.fakes import FakeNode
from tests.host.test_pull import Node, chain

SENTILL = [sys.executable, "-c", "from sentill_host.cli import main; main()", "journal"]
A, B = b"device-A", b"device-B"
UIDS = [A.hex(), B.hex()]


def sentill(*arguments: object, code: int = 0) -> str:
    """Run `sentill journal ...`, which has to end with `code`; all it says."""
    command = [*SENTILL, *(str(argument) for argument in arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == code, f"{arguments}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def verified(*arguments: object, code: int = 0) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(sentill("verify", "--json", *arguments, code=code).splitlines()[0])
    return told


def pull(n: int, device: bytes = A, first: int = 0) -> None:
    """A pull of a node that made `n` records and holds those from `first` on."""
    records = chain(n, device=device, generation=0)
    with FakeNode(Node(records, first, device, 0)) as fake, Link(fake.port) as link:
        puller.pull(NodeClient(link), Terminal(default_folder(), device.hex()))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where two terminals were pulled to, twice each; their roster is beside, and in the ledger."""
    for n in (20, 40):
        pull(n)
        pull(n + 5, B)
    (tmp_path / "fleet.toml").write_text("")
    (tmp_path / "boards.csv").write_text(f"uid,label\n{UIDS[0]},till 1\n{UIDS[1]},till 2\n")
    return default_folder()


@pytest.fixture
def anchored(folder: Path, tmp_path: Path) -> Path:
    """The same with an anchor: its page."""
    page = tmp_path / "anchor.txt"
    sentill("anchor", "--fleet", tmp_path, "-o", page)
    return page


def cut_head(folder: Path, path: Path, upto: int = 10) -> None:
    """Have a file begin with a later record, and be right in all its chain says."""
    data = path.read_bytes()
    records = dict(whole_records(data))
    generation, start = struct.unpack_from("<HI", data, 12)
    head = journal.file_head(data[4:12], generation, start, records[upto - 1][-16:])
    path.write_bytes(head + b"".join(record for number, record in records.items() if number >= upto))


def cut_head_and_name(folder: Path, path: Path) -> None:
    cut_head(folder, path)
    path.rename(path.with_stem("0000000a"))


def cut_tail(folder: Path, path: Path) -> None:
    """Take the last pull back: its records, and its checkpoint."""
    data = path.read_bytes()
    path.write_bytes(data[:34] + b"".join(record for number, record in whole_records(data) if number < 20))
    lines = path.with_name("checkpoints.jsonl")
    lines.write_text(lines.read_text().splitlines()[0] + "\n")


def drop_lines(*numbers: int) -> Callable[[Path, Path], None]:
    def drop(folder: Path, path: Path) -> None:
        lines = path.with_name("checkpoints.jsonl")
        kept = [line for n, line in enumerate(lines.read_text().splitlines(True)) if n not in numbers]
        lines.write_text("".join(kept))

    return drop


def cut_ledger(folder: Path, path: Path) -> None:
    """The ledger as it was before the last pulls."""
    lines = (folder / "ledger.jsonl").read_text().splitlines(True)
    (folder / "ledger.jsonl").write_text("".join(lines[:1]))


def edit_ledger(folder: Path, path: Path) -> None:
    text = (folder / "ledger.jsonl").read_text()
    (folder / "ledger.jsonl").write_text(text.replace('"sequence":39', '"sequence":19'))


TAKEN: dict[str, tuple[Callable[[Path, Path], Any], str]] = {
    "folder": (lambda folder, path: shutil.rmtree(path.parent), "missing terminal"),
    "files": (lambda folder, path: path.unlink(), "missing terminal"),
    "checkpoint file": (lambda folder, path: path.with_name("checkpoints.jsonl").unlink(), "checkpoints cut"),
    "first checkpoint": (drop_lines(0), "checkpoints cut"),
    "last checkpoint": (drop_lines(1), "checkpoints cut"),
    "head": (cut_head, "head cut"),
    "head and name": (cut_head_and_name, "missing file"),
    "tail": (cut_tail, "tail cut"),
    "end of the ledger": (cut_ledger, "ledger altered"),
    "ledger": (lambda folder, path: (folder / "ledger.jsonl").unlink(), "ledger altered"),
    "an entry": (edit_ledger, "ledger altered"),
}  # fmt: skip


@pytest.mark.parametrize("what", TAKEN)
def test_what_is_taken_away_is_found(folder: Path, what: str) -> None:
    take, fault = TAKEN[what]
    told = verified()
    assert told["findings"] == [] and [row["proven"] for row in told["journals"]] == [40, 45], told
    take(folder, folder / UIDS[0] / "00000000.sjl")
    told = verified(code=4)
    assert fault in {one["fault"] for one in told["findings"]}, told
    assert "proven" in sentill("verify", UIDS[1], code=4 if "ledger" in fault else 0), "the other one is as it was"


def test_a_file_of_many_is_missed(folder: Path) -> None:
    pull(90, first=60)
    pull(120, first=100)
    sentill("verify", "--gaps")
    middle = folder / UIDS[0] / "0000003c.sjl"
    middle.unlink()
    (one,) = (one for one in verified("--gaps", code=4)["findings"] if one["fault"] == "missing file")
    assert one["uid"] == UIDS[0] and str(middle) in one["detail"]


def test_a_terminal_of_the_roster_that_was_never_pulled_is_missed(folder: Path, tmp_path: Path) -> None:
    with open(tmp_path / "boards.csv", "a") as roster:
        roster.write("e6605838834c,till 3\n")
    (one,) = verified("--fleet", tmp_path, code=4)["findings"]
    assert (one["uid"], one["fault"]) == ("e6605838834c0000", "missing terminal") and "never pulled" in one["detail"]
    assert "e6605838834c0000 (till 3): missing terminal" in sentill("verify", "--fleet", tmp_path, code=4)


def test_who_leaves_the_roster_is_missed_until_it_is_retired(anchored: Path, tmp_path: Path) -> None:
    sentill("verify")
    (tmp_path / "boards.csv").write_text(f"uid,label\n{UIDS[0]},till 1\n")
    assert f"{UIDS[1]} (till 2): not in the roster" in sentill("verify", code=4)
    sentill("anchor")
    sentill("verify", code=4)
    assert "retired" in sentill("note", UIDS[1], "--retired", "--why", "sold")
    sentill("verify")
    (tmp_path / "fleet.toml").unlink()
    assert "fleet.toml, which the ledger names, is not there" in sentill("verify", code=4)


GONE: dict[str, Callable[[Path, Path], Any]] = {
    "ledger, roster and archive": lambda folder, fleet: [shutil.rmtree(folder), (fleet / "fleet.toml").unlink()],
    "ledger and a terminal": lambda folder, fleet: [
        (folder / "ledger.jsonl").unlink(), shutil.rmtree(folder / UIDS[0]),
    ],
    "all but one terminal": lambda folder, fleet: [
        shutil.rmtree(folder), (fleet / "fleet.toml").unlink(), (fleet / "boards.csv").unlink(), pull(40),
    ],
    "all, replaced by another past": lambda folder, fleet: [
        shutil.rmtree(folder), [pull(n, device) for n in (20, 40) for device in (A, B)],
        sentill("anchor", "--fleet", fleet),
    ],
    "all, put back to before": lambda folder, fleet: [
        shutil.rmtree(folder), shutil.copytree(fleet / "before", folder),
    ],
}  # fmt: skip


@pytest.mark.parametrize("what", GONE)
def test_what_is_gone_together_is_found_by_the_anchor(folder: Path, tmp_path: Path, what: str) -> None:
    shutil.copytree(folder, tmp_path / "before")
    pull(60)
    page = tmp_path / "anchor.txt"
    code = sentill("anchor", "--fleet", tmp_path, "-o", page).splitlines()[0]
    for anchor in (code, page):
        sentill("verify", "--anchor", anchor)
    pull(70)
    for anchor in (code, page):
        sentill("verify", "--anchor", anchor)
    GONE[what](folder, tmp_path)
    assert "not as anchored" in sentill("verify", "--anchor", code, code=4)
    told = verified("--anchor", page, code=4)
    faults = [one for one in told["findings"] if one["fault"] == "not as anchored"]
    assert {one["uid"] for one in faults} >= {"", UIDS[0]}, "the page names terminals, too"


def test_an_anchor_is_short_and_its_page_fits(anchored: Path, folder: Path) -> None:
    told = json.loads(sentill("anchor", "--json").splitlines()[0])
    assert len(told["code"]) <= 40 and told["entries"] == len(Ledger(folder).read().entries)
    page = anchored.read_text()
    assert f"{UIDS[0]}       39" in page and "till 2" in page
    assert "no anchor" in sentill("verify", "--anchor", told["code"][:-1] + "?", code=2)


def test_a_ledger_that_is_wrong_is_not_anchored(folder: Path) -> None:
    edit_ledger(folder, folder)
    assert "nothing was anchored" in sentill("anchor", code=4)


def test_nothing_to_anchor() -> None:
    assert "no ledger" in sentill("anchor", code=2)


def test_a_crash_between_file_and_ledger_accuses_nobody(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        pass

    def killed(*_: object, **__: object) -> None:
        raise Killed

    for name in ("head", "append"):
        with monkeypatch.context() as patch:
            patch.setattr(Ledger, name, killed)
            with pytest.raises(Killed):
                pull(55 if name == "head" else 60)
        sentill("verify")
    pull(60)
    sentill("verify")
    ledger = folder / "ledger.jsonl"
    ledger.write_bytes(ledger.read_bytes()[:-30])
    assert "half-written entry" in sentill("verify")
    pull(60)
    assert "took the place of a half-written one" in sentill("verify")


def test_terminals_that_the_ledger_does_not_know_are_told(folder: Path) -> None:
    copy = folder.parent / "copied"
    shutil.copytree(folder / UIDS[0], copy / UIDS[0])
    lines = copy / UIDS[0] / "checkpoints.jsonl"
    lines.write_text(
        "".join(
            json.dumps({"sequence": 39, "tag": json.loads(x)["tag"]}) + "\n" for x in lines.read_text().splitlines()[1:]
        )
    )
    assert "no ledger" in sentill("verify", "--dir", copy)
    Ledger(copy).append("anchor")
    assert f"not in the ledger, so that nothing tells whether all is there: {UIDS[0]}" in sentill(
        "verify", "--dir", copy
    )


def test_a_life_that_ended_on_purpose_stays_under_proof(folder: Path) -> None:
    assert "say what happened" in sentill("note", UIDS[0], "--why", "x", code=2)
    assert "say why" in sentill("note", UIDS[0], "--why", " ", "--anew", code=2)
    assert "nothing is known" in sentill("note", "ab" * 8, "--why", "x", "--anew", code=2)
    sentill("note", UIDS[0], "--anew", "--why", "new firmware")
    sentill("verify")
    pull(10)
    told = verified()
    assert [(row["journal"], row["proven"]) for row in told["journals"]] == [
        (UIDS[0], 10), (UIDS[1], 45), (f"{UIDS[0]}-1", 40),
    ]  # fmt: skip
    cut_head(folder, folder / f"{UIDS[0]}-1" / "00000000.sjl")
    assert "head cut" in sentill("verify", code=4)
    shutil.rmtree(folder / f"{UIDS[0]}-1")
    assert "missing terminal" in sentill("verify", code=4)


class Days:
    """Has the ledger date its entries."""

    def __init__(self, patch: pytest.MonkeyPatch):
        self.now = datetime.now(UTC).replace(microsecond=0) - timedelta(days=9)
        days = self

        class Clock(datetime):
            @classmethod
            def now(cls, tz: Any = None) -> Any:
                return days.now

        patch.setattr(ledgers, "datetime", Clock)

    def later(self) -> str:
        """A day passes; its date."""
        self.now += timedelta(days=1)
        return f"{self.now:%Y-%m-%dT%H:%M:%S}"


def test_what_is_covered_on_a_day_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    days = Days(monkeypatch)
    (tmp_path / "fleet.toml").write_text("")
    (tmp_path / "boards.csv").write_text(f"uid,label\n{UIDS[0]},till 1\n{UIDS[1]},till 2\n{'cc' * 8},till 3\n")
    pull(20)
    pull(20, B)
    first = days.later()
    pull(60, first=30)
    second = days.later()
    pull(70, B)
    third = days.later()
    options = ("--fleet", tmp_path, "--gaps")
    rows = {row["uid"]: row for row in verified("--as-of", first, *options, code=4)["coverage"]}
    assert [rows[uid]["covered"] for uid in UIDS] == [True, True] and not rows["cc" * 8]["covered"]
    assert rows[UIDS[0]]["holes"] and "records 20 to 29 gave way" in rows[UIDS[0]]["holes"][0]
    rows = {row["uid"]: row for row in verified("--as-of", second, *options, code=4)["coverage"]}
    assert [rows[uid]["covered"] for uid in UIDS] == [False, True]
    assert rows[UIDS[0]]["until"] == first.replace("T", " ") and rows[UIDS[1]]["until"] == second.replace("T", " ")
    assert "no terminal was known by then" in sentill(
        "verify", "--as-of", "2024-06-01", "--dir", default_folder(), "--gaps"
    )
    text = sentill("verify", "--as-of", third, *options, code=4)
    assert f"{UIDS[1]} (till 2): not covered: after its last whole pull, {second.replace('T', ' ')}" in text
    assert f"{'cc' * 8} (till 3): not covered: it was never pulled whole" in text
    path = default_folder() / UIDS[1] / "00000000.sjl"
    data = bytearray(path.read_bytes())
    data[3000] ^= 1
    path.write_bytes(data)
    rows = {row["uid"]: row for row in verified("--as-of", first, *options, code=4)["coverage"]}
    assert not rows[UIDS[1]]["covered"] and "not proven from record" in rows[UIDS[1]]["holes"][0]
    assert "still to come" in sentill("verify", "--as-of", "2999-01-01", code=2)
