"""`sentill journal` with virtual boards: pull, verify, show, archive; cut cables, other boards, old flash put back."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from sentill.journal import chain, recovery
from sentill.keys import derivation
from sentill_host.board.link import Link
from sentill_host.deploy import deploy
from sentill_host.errors import PortGone
from sentill_host.journal.store import Terminal, whole_records
from sentill_host.keys.key_file import KeyFile
from sentill_host.models import simulate
from sentill_host.node import access
from sentill_host.node import journal_pull as puller
from sentill_host.node.client import NodeClient, await_identity
from sentill_host.node.frames import Frame
from sentill_host.virtual import Board, VirtualBoards
from tests.e2e.conftest import until

DOCS = Path(__file__).parents[2] / "docs" / "journal.md"
SENTILL = [sys.executable, "-c", "from sentill_host.cli import main; main()", "journal"]
ENOUGH = 120


def sentill(*arguments: object, code: int = 0) -> str:
    """Run `sentill journal ...`, which has to end with `code`; its stdout, and stderr as well unless it is 0."""
    command = [*SENTILL, *(str(argument) for argument in arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == code, f"{arguments}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout + (done.stderr if code else "")


def verdict(client: NodeClient, ref: int) -> dict[str, Any]:
    """Have the node decide on a transaction; one in seven is large."""
    client.send("T", [("ref", ref), ("t", 1000 + ref), ("amt", 500 if ref % 7 else 50_000), ("card", f"tok-{ref}")])
    while True:
        item = client.receive(20)
        assert item is not None, f"no verdict on {ref}"
        if isinstance(item, Frame) and item.kind == "T" and item.fields["ref"] == ref:
            return item.fields


def judge(board: Board, first: int, count: int) -> None:
    """Have the node decide on transactions, until the records of all of them are kept."""
    with Link(board.uart) as line:
        client = NodeClient(line)
        made = [verdict(client, ref)["j"] for ref in range(first, first + count)]
    with Link(board.usb) as link:
        console = NodeClient(link)
        until(lambda: console.command("status")["jk"] > made[-1])


@pytest.fixture(scope="module")
def boards() -> Iterator[list[Board]]:
    """Two boards that run the node; the first has decided on some transactions."""
    with VirtualBoards(2) as started:
        for result in deploy.deploy([board.usb for board in started]):
            assert not result.error, result
        judge(started[0], 0, ENOUGH)
        yield started


@pytest.fixture(scope="module")
def folder(boards: list[Board], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the journals of both boards were pulled to."""
    where = tmp_path_factory.mktemp("journals")
    rows = [
        json.loads(line) for line in sentill("pull", *(b.usb for b in boards), "--dir", where, "--json").splitlines()
    ]
    assert {row["exit_code"] for row in rows} == {0} and all(row["count"] > 3 for row in rows), rows
    assert all(row["proven"] == row["count"] and row["proof"] == "lab" for row in rows), rows
    return where


def rows_of(query: str) -> list[tuple[Any, ...]]:
    """What DuckDB answers."""
    return [tuple(row.values()) for row in duckdb.sql(query).to_arrow_table().to_pylist()]


def uid_of(board: Board) -> str:
    with Link(board.usb) as link:
        return puller.identify(NodeClient(link))


def test_a_second_pull_brings_only_what_is_new(boards: list[Board], folder: Path) -> None:
    assert "nothing new" in sentill("pull", boards[0].usb, "--dir", folder)
    judge(boards[0], 1000, 10)
    (row,) = [json.loads(line) for line in sentill("pull", boards[0].usb, "--dir", folder, "--json").splitlines()]
    assert row["count"] == 10 and row["proven"] == row["end"] > ENOUGH, row
    (listed,) = [
        entry for entry in json.loads(sentill("list", "--dir", folder, "--json")) if entry["uid"] == row["uid"]
    ]
    assert (listed["records"], listed["last"]) == (row["end"], row["end"] - 1)


def test_show_tells_what_was_decided(boards: list[Board], folder: Path) -> None:
    uid = uid_of(boards[0])
    lines = [json.loads(x) for x in sentill("show", uid, "--dir", folder, "--kind", "verdict", "--json").splitlines()]
    assert [line["ref"] for line in lines[:ENOUGH]] == list(range(ENOUGH))
    assert all((line["verdict"] != "approve") == bool(line["reasons"]) for line in lines)
    assert lines[0]["verdict"] != "approve" and lines[0]["amount_cents"] == 50_000 and len(lines[0]["card"]) == 16
    text = sentill("show", uid, "--dir", folder, "--last", 3)
    assert len(text.splitlines()) == 3 and " verdict " in text and "\x1b" not in text
    assert "reset" not in sentill("show", uid, "--dir", folder, "--kind", "boot", "--since", "2031-01-01")
    assert "kinds: boot, verdict" in sentill("show", uid, "--dir", folder, "--kind", "boots", code=2)
    assert uid in sentill("show", "--dir", folder, code=2), "two journals, and none was named"


def test_another_board_is_refused(boards: list[Board], folder: Path, tmp_path: Path) -> None:
    assert "wrong device" in sentill("pull", boards[1].usb, "--device", uid_of(boards[0]), "--dir", folder, code=4)
    # The journal of the first under the name of the second: what that one has does not go on from it.
    shutil.copytree(folder / uid_of(boards[0]), tmp_path / uid_of(boards[1]))
    assert "was pulled before" in sentill("pull", boards[1].usb, "--dir", tmp_path, code=4)
    assert "wrong device" in sentill("verify", uid_of(boards[1]), "--dir", tmp_path, code=4)


def test_a_bad_port_fails_and_the_others_go_on(boards: list[Board], folder: Path, tmp_path: Path) -> None:
    output = sentill("pull", "/dev/pts/does-not-exist", boards[1].usb, "--dir", tmp_path, code=3)
    assert "does-not-exist" in output and "proven" in output


@pytest.mark.parametrize(
    ("fault", "change"),
    [
        ("altered", lambda data: data[:3000] + bytes([data[3000] ^ 1]) + data[3001:]),
        ("truncated", lambda data: data[:-40]),
        ("truncated", lambda data: data[: 34 + sum(len(r) for n, r in whole_records(data) if n < 50)]),
        ("missing", lambda data: b"".join([data[:34], *(r for n, r in whole_records(data) if n != 50)])),
    ],
    ids=["altered", "cut", "cut at a record", "missing"],
)
def test_verify_names_what_is_wrong(boards: list[Board], folder: Path, tmp_path: Path, fault: str, change) -> None:
    uid = uid_of(boards[0])
    bad = tmp_path / "journals"
    shutil.copytree(folder, bad)
    path = bad / uid / "00000000.sjl"
    path.write_bytes(change(path.read_bytes()))
    told = json.loads(sentill("verify", path, "--dir", tmp_path / "none", "--json", code=4).splitlines()[0])
    (row,) = told["journals"]
    assert row["finding"]["fault"] == fault and 0 < row["proven"] <= ENOUGH + 20, row
    both = sentill("verify", "--dir", bad, code=4)
    assert "proven" in both and fault in both and f"record {row['finding']['sequence']}: {fault}" in both
    if fault == "altered":
        added = json.loads(sentill("archive", uid, "--dir", bad, "--json", code=4).splitlines()[0])
        assert added[0]["added"] == row["proven"], "only what is proven is archived"


def test_verify_without_anything_to_verify(tmp_path: Path) -> None:
    assert "no journals in" in sentill("verify", "--dir", tmp_path, code=2)
    assert "neither a journal file nor a device" in sentill("verify", "x.sjl", "--dir", tmp_path, code=2)
    (tmp_path / "x.sjl").write_bytes(b"SJL0" + bytes(100))
    assert "no journal file" in sentill("verify", tmp_path / "x.sjl", "--dir", tmp_path, code=2)


def test_the_documented_queries_work_on_the_archive(boards: list[Board], folder: Path, monkeypatch) -> None:
    first = json.loads(sentill("archive", "--dir", folder, "--json"))
    assert len(first) == 2 and all(row["added"] == row["proven"] > 3 for row in first), first
    judge(boards[0], 2000, 5)
    sentill("pull", boards[0].usb, "--dir", folder)
    again = {row["uid"]: row for row in json.loads(sentill("archive", "--dir", folder, "--json"))}
    assert again[uid_of(boards[0])]["added"] == 5 and again[uid_of(boards[1])]["added"] == 0, again
    monkeypatch.chdir(folder)
    queries = re.findall(r"```sql\n(.*?)```", DOCS.read_text(), re.DOTALL)
    assert len(queries) == 5
    per_day, reasons, starts, changes, gaps = (rows_of(query) for query in queries)
    rows = {row["uid"]: row["proven"] for row in again.values()}
    assert sum(row[2] for row in per_day) >= ENOUGH + 5
    assert 0 < per_day[0][3] < 100 and {row[0] for row in per_day} == {uid_of(boards[0])}
    assert reasons and all(isinstance(row[0], str) and row[1] > 0 for row in reasons), reasons
    assert {row[0] for row in starts} == set(rows) and all(row[1] for row in starts), starts
    assert {row[2] for row in changes} == {"software", "config", "model", "generation"}
    assert gaps == []
    assert rows_of("SELECT count(*) FROM read_parquet('archive/**/*.parquet')") == [(sum(rows.values()),)]


def test_a_pull_that_is_cut_goes_on(boards: list[Board], tmp_path: Path) -> None:
    board = boards[0]
    whole, cut = (Terminal(tmp_path / name, uid_of(board)) for name in ("whole", "cut"))
    with Link(board.usb) as link:
        puller.pull(NodeClient(link), whole)
    done = 0

    def unplug(now: int, _of: int) -> None:
        nonlocal done
        if done < 40 <= now:
            board.control("pull_cable", ms=300)
        done = now

    with Link(board.usb) as link, pytest.raises(PortGone):
        puller.pull(NodeClient(link), cut, unplug)
    held = cut.last()
    assert held and 39 <= held.sequence < ENOUGH, held
    until(lambda: board.status()["usb"])
    assert f"{held.sequence + 1} to" in sentill("pull", board.usb, "--dir", tmp_path / "cut")
    assert cut.files()[0].read_bytes() == whole.files()[0].read_bytes()[: cut.files()[0].stat().st_size]
    assert cut.last() == whole.last()


NOTICE = [
    *("monitor {port} --seconds 20", "health {port}", "clock {port}", "clock {port} --set", "doctor {port}"),
    *(
        "deploy {port}",
        "rollback {port}",
        "provision {port}",
        "unlock {port}",
        "journal pull {port} --dir {folder}/none",
    ),
    *("replay {folder}/traffic.csv --uart {uart}", "fleet status --fleet {folder}"),
]


def test_flash_that_was_rolled_back_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Someone keeps a copy of the flash and puts it back later: all in it is genuine, and older than what was pulled.
    folder = tmp_path / "journals"
    with VirtualBoards(1, dir=tmp_path / "boards") as started:
        assert not deploy.deploy([started[0].usb])[0].error
        judge(started[0], 0, 20)
        sentill("pull", started[0].usb, "--dir", folder)
        name = started[0].name
    image = tmp_path / "boards" / name / "flash.img"
    copy = image.read_bytes()
    with VirtualBoards(1, dir=tmp_path / "boards") as started:
        judge(started[0], 100, 40)
        sentill("pull", started[0].usb, "--dir", folder)
    image.write_bytes(copy)
    with VirtualBoards(1, dir=tmp_path / "boards") as started:
        port = started[0].usb
        output = sentill("pull", port, "--dir", folder, code=4)
        assert "ends at record" in output and "was seen before" in output
        assert "proven" in sentill("verify", "--dir", folder)
        monkeypatch.setenv("SENTILL_KEYS", str(KeyFile.create(tmp_path / "keys.json", "correct horse").path))
        monkeypatch.setenv("SENTILL_KEYS_PASSWORD", "correct horse")
        traffic = simulate.traffic(simulate.TrafficOptions(cards=20, terminals=2, days=2))
        simulate.write(traffic, tmp_path / "traffic.csv")
        unnoticed = {}
        (tmp_path / "fleet.toml").write_text(f'ports = ["{port}"]')
        for command in NOTICE:
            names = {"port": port, "uart": started[0].uart, "folder": tmp_path}
            words = [*SENTILL[:-1], *(word.format(**names) for word in command.split())]
            done = subprocess.run(words, capture_output=True, text=True, timeout=300)
            told = " ".join((done.stdout + done.stderr).split())
            if "ends at record" not in told or (done.returncode == 0 and not command.startswith("fleet status")):
                unnoticed[command] = (done.returncode, told)
        assert not unnoticed, unnoticed
        uid = sentill("list", "--dir", folder, "--json").split('"uid": "')[1][:16]
        sentill("note", uid, "--anew", "--why", "a copy of the flash, put back by a test", "--dir", folder)
        assert "proven" in sentill("pull", port, "--dir", folder)
        assert f"{uid}-1" in sentill("verify", "--dir", folder)


def test_a_journal_under_keys_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, path = tmp_path / "journals", tmp_path / "keys.json"
    keys = KeyFile.create(path, "correct horse")
    monkeypatch.setenv("SENTILL_KEYS_PASSWORD", "correct horse")
    with VirtualBoards(1, dir=tmp_path / "boards") as started:
        board = started[0]
        assert not deploy.deploy([board.usb])[0].error
        for generation in (1, 2):
            with Link(board.usb) as link:
                client = NodeClient(link)
                access.provision(client, keys, "service", 0)
                until(lambda: (client_of(client) or {}).get("gen") == generation)  # noqa: B023
        judge(board, 0, 20)
        (row,) = [
            json.loads(x) for x in sentill("pull", board.usb, "--dir", folder, "--keys", path, "--json").splitlines()
        ]
        uid = row["uid"]
        assert row["proof"] == "device" and row["proven"] == row["count"] > 20, row
        kinds = sentill("show", uid, "--dir", folder, "--keys", path, "--kind", "generation")
        assert [line.split()[-1] for line in kinds.splitlines()] == ["0", "1", "2"], kinds
        image = board_image(tmp_path, board)
    # Whoever reads the flash finds neither a root key nor a journal key of the past, nor what leads to them.
    flash = image.read_bytes()
    for generation in (1, 2):
        root = keys.root(uid, generation)
        key = recovery.first_key(root, generation)
        assert root not in flash
        for _ in range(10):  # the present one is some 20 records on
            assert key not in flash, generation
            key = chain.next_key(key)
    assert derivation.kept(keys.root(uid, 1)) not in flash and derivation.kept(keys.root(uid, 2)) in flash
    # Without the key file nothing can be said; with a wrong one, that it is not right.
    monkeypatch.delenv("SENTILL_KEYS_PASSWORD")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert "no key for generation 1" in sentill("verify", uid, "--dir", folder, code=2)
    monkeypatch.setenv("SENTILL_KEYS_PASSWORD", "another horse")
    KeyFile.create(tmp_path / "others.json", "another horse")
    assert "altered" in sentill("verify", uid, "--dir", folder, "--keys", tmp_path / "others.json", code=4)
    # A board that shows a lab journal although it was given keys is told apart.
    keys.devices[uid] = 3
    keys.save()
    monkeypatch.setenv("SENTILL_KEYS_PASSWORD", "correct horse")
    with VirtualBoards(1, dir=tmp_path / "boards") as started:
        output = sentill("pull", started[0].usb, "--dir", folder, "--keys", path, code=4)
    assert "keys of generation 2, and the device was given 3" in output


def client_of(client: NodeClient) -> dict[str, Any] | None:
    """Who answers, once it is up again."""
    return await_identity(client, 5)[0]


def board_image(tmp_path: Path, board: Board) -> Path:
    """The flash of a board."""
    return tmp_path / "boards" / board.name / "flash.img"
