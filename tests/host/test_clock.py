"""Telling and setting a node's clock: what is sent, what is refused before it could count as tampering."""

import json

import pytest
from typer.testing import CliRunner

from sentill.wire import protocol
from sentill_host import cli
from sentill_host.board.link import Link
from sentill_host.errors import UsageError
from sentill_host.journal.decode import EPOCH
from sentill_host.node import clock
from sentill_host.node.client import NodeClient
from tests.host.fakes import FakeNode, reply

NOON_S = 91_281_600  # 2026-11-22 12:00:00 UTC


class Node(FakeNode):
    """Shows `node_s` until its clock is set."""

    def __init__(self, node_s: int, generation: int = 0):
        super().__init__(self._answer)
        self.node_s = node_s
        self.generation = generation

    def _answer(self, kind, fields):
        q = 2 * len(self.seen)
        if fields["cmd"] == "set-time":
            if self.node_s > fields["t"] + 600 and fields["t"] > 723 and not fields.get("force"):
                why = f"the clock would go back; the latest time known here is {self.node_s}"
                return reply(fields, q, ok=False, err="clock", msg=why)
            if self.node_s > fields["t"]:
                self.node_s = fields["t"]
                return reply(fields, q, t=self.node_s, epoch=True)
            self.node_s = fields["t"]
            return reply(fields, q, t=self.node_s)
        who = [("q", q), ("t", self.node_s), ("uid", "0123456789abcdef"), ("gen", self.generation)]
        return protocol.encode("I", who) + reply(fields, q + 1, slot="a")

    @property
    def commands(self) -> list[str]:
        return [fields["cmd"] for _, fields in self.seen]


@pytest.fixture
def noon(monkeypatch):
    monkeypatch.setattr(clock.time, "time", lambda: EPOCH.timestamp() + NOON_S + 0.9)


def command(*arguments: str):
    return CliRunner().invoke(cli.build("clock"), ["clock", *arguments])


@pytest.mark.parametrize(
    ("node_s", "said"),
    [
        (723, "not set, 723 s since power-on; `sentill clock PORT --set` sets it"),
        (NOON_S + 1, "2026-11-22 12:00:01 UTC, as this computer's"),
        (NOON_S - 75, "2026-11-22 11:58:45 UTC, 75 s behind this computer's"),
        (NOON_S + 3600, "2026-11-22 13:00:00 UTC, 3600 s ahead of this computer's"),
    ],
)
def test_what_a_clock_shows(noon, monkeypatch, tmp_path, node_s, said):
    monkeypatch.setenv("SENTILL_KEYS", str(tmp_path / "absent.json"))  # is not asked for
    with Node(node_s) as node:
        done = command(node.port)
        assert (done.exit_code, done.output) == (0, f"{node.port}: {said}\n".replace("PORT", node.port))
        told = json.loads(command(node.port, "--json").stdout)
        assert (told["set"], told["adjusted"]) == (node_s > 723, False)
        assert told["ahead_s"] == (node_s - NOON_S if node_s > 723 else None)
        assert "set-time" not in node.commands


@pytest.mark.parametrize(
    ("node_s", "was"),
    [(5, "not set, 5 s since power-on"), (NOON_S - 600, "600 s behind this computer's")],
)
def test_a_clock_is_set(noon, monkeypatch, tmp_path, node_s, was):
    monkeypatch.delenv("SENTILL_KEYS", raising=False)
    monkeypatch.setattr("sentill_host.cli.keys.default_path", lambda: tmp_path / "absent.json")
    with Node(node_s) as node:
        done = command(node.port, "--set")
        assert (done.exit_code, done.output) == (0, f"{node.port}: set to 2026-11-22 12:00:00 UTC; it was {was}\n")
        assert node.node_s == NOON_S


def test_a_clock_is_set_back_by_force_only(noon, monkeypatch, tmp_path):
    monkeypatch.delenv("SENTILL_KEYS", raising=False)
    monkeypatch.setattr("sentill_host.cli.keys.default_path", lambda: tmp_path / "absent.json")
    with Node(NOON_S + 601) as node:
        with Link(node.port) as link, pytest.raises(UsageError) as caught:
            clock.adjust(NodeClient(link), None)
        told = str(caught.value)
        assert "says 2026-11-22 12:00:00 UTC, the latest time known to the node is 2026-11-22 12:10:01 UTC" in told
        assert "--force" in caught.value.hint and node.node_s == NOON_S + 601
        done = command(node.port, "--set", "--force")
        assert done.exit_code == 0 and "a new epoch began" in done.output, done.output
        assert node.node_s == NOON_S


def test_a_computer_without_the_time_sets_none(monkeypatch):
    monkeypatch.setattr(clock.time, "time", lambda: 3_600.0)
    with Node(5) as node, Link(node.port) as link:
        with pytest.raises(UsageError, match="says 1970-01-01 01:00:00 UTC; nothing was set"):
            clock.adjust(NodeClient(link), None)
        assert "set-time" not in node.commands


def test_a_board_with_keys_needs_them(noon):
    with Node(5, generation=3) as node, Link(node.port) as link:
        with pytest.raises(UsageError, match="has keys") as caught:
            clock.adjust(NodeClient(link), None)
        assert "--keys" in caught.value.hint
        assert "set-time" not in node.commands
