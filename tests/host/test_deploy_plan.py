"""What a deploy decides before it writes: which files, in which commands, and what it refuses."""

import base64
import json
import re
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentill_host import agent, boards, bundle, deploy
from sentill_host.bundle import Entry
from sentill_host.errors import UsageError, VerifyError

ABOUT = {
    "version": [1, 29, 0], "mpy": 2822, "machine": "", "build": "SIM", "platform": "linux", "uid": "01", "block": 4096,
    "flash_bytes": 1 << 20, "flash_free": 1 << 19, "heap_free": 150_000, "inflate": True,
}  # fmt: skip


def survey(files=(), **about) -> deploy.Survey:
    held = {e.path: (len(e.data), e.sha256) for e in files}
    return deploy.Survey({**ABOUT, **about}, held, {})


def run_scripts(entries: list[Entry], inflate: bool) -> dict[str, bytes]:
    """What the board would hold after the commands, by the meaning of the agent's functions."""
    board: dict[str, bytes] = {}
    path = ""
    completed: list[str] = []
    for script, batch in deploy._scripts(entries, inflate):
        assert len(script) < 12_000
        for line in script.splitlines():
            name, argument = re.fullmatch(r"(_\w+)\((?:'(.*)')?\)", line).groups()
            if name == "_open":
                path, board[argument] = argument, b""
            elif name == "_done":
                completed.append(path)
            else:
                data = base64.b64decode(argument)
                board[path] += zlib.decompress(data, -12) if name == "_packed" else data
        assert [e.path for e in batch] == completed
        completed.clear()
    return board


@settings(max_examples=50, deadline=None)
@given(st.lists(st.binary(max_size=9_000), max_size=6), st.booleans())
def test_the_commands_write_the_files_whatever_their_content(contents, inflate):
    entries = [Entry(f"/sentill/f{i}.mpy", data) for i, data in enumerate(contents)]
    assert run_scripts(entries, inflate) == {e.path: e.data for e in entries}


def test_small_files_share_a_command_and_text_travels_packed():
    entries = [Entry(f"/sentill/f{i}.py", b"x = 1\n" * 50) for i in range(10)]
    scripts = list(deploy._scripts(entries, True))
    assert len(scripts) == 1
    assert len(scripts[0][0]) < 1_500


def test_the_agents_files_compile_and_lose_their_comments_on_the_wire():
    for name in ("survey", "receive"):
        text = agent.source(name)
        compile(text, name, "exec")
        assert '"""' not in text
        assert not re.search(r"^\s*#", text, re.MULTILINE)


def test_stale_files_are_those_of_the_nodes_folders_and_leftovers():
    entry = Entry("/sentill/node.mpy", b"new")
    on_board = [
        Entry("/sentill/node.py", b"hides node.mpy"), Entry("/sentill/node.mpy", b"old"), Entry("/models/old.stm", b""),
        Entry("/sentill/node.mpy.new", b"half"), Entry("/main.py.new", b"half"), Entry("/main.py", b"kept"),
    ]  # fmt: skip
    main = Entry("/main.py", b"kept")
    found = deploy._stale([entry, main], [entry], survey(on_board))
    assert found == ["/main.py.new", "/models/old.stm", "/sentill/node.py"]


def test_preflight_names_the_finding():
    made = bundle.build(boards.load("SIM"), bundle.Firmware((1, 29, 0), 2822))
    copy = list(made.entries)
    deploy.preflight(survey(), made, copy)
    with pytest.raises(VerifyError, match="flash is too full"):
        deploy.preflight(survey(flash_free=20_000), made, copy)
    with pytest.raises(VerifyError, match="heap"):
        deploy.preflight(survey(heap_free=20_000), made, copy)
    with pytest.raises(VerifyError, match=r"1\.19\.0 is too old"):
        deploy.preflight(survey(version=[1, 19, 0]), made, copy)
    half_there = [Entry(e.path + ".new", e.data) for e in copy]
    deploy.preflight(survey(half_there, flash_free=40_000), made, copy)


def test_configurations_are_checked_by_the_nodes_own_rules():
    assert json.loads(deploy.read_config('{ "rate_hz": 2 }', "c.json")) == {"rate_hz": 2}
    with pytest.raises(UsageError, match=r"c\.json: rate_hz"):
        deploy.read_config('{"rate_hz": 2000}', "c.json")
    with pytest.raises(UsageError, match="configuration"):
        deploy.read_config("{rate", "c.json")


def test_a_port_named_twice_is_refused():
    with pytest.raises(UsageError, match="twice"):
        deploy.deploy(["/dev/ttyACM0", "/dev/ttyACM0"])


def test_ports_that_do_not_open_are_results_not_exceptions():
    first, second = deploy.deploy(["/dev/sentill-absent-1", "/dev/sentill-absent-2"])
    assert "no such port" in first.error
    assert first.exit_code == second.exit_code == 3
    assert second.port == "/dev/sentill-absent-2"
