"""The clock of a board with keys: set with them, and what its journal dates from then on."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

from sentill_host.board.link import Link
from sentill_host.deploy import deploy
from sentill_host.errors import UsageError
from sentill_host.keys.key_file import KeyFile
from sentill_host.node import access, clock
from sentill_host.node.client import NodeClient
from sentill_host.virtual import VirtualBoards
from tests.e2e.conftest import DEADLINE_S

SENTILL = [sys.executable, "-c", "from sentill_host.cli import main; main()"]


def test_the_journal_of_a_board_with_keys_dates_from_when_its_clock_was_set(tmp_path):
    password = "a password of tests"
    keys = KeyFile.create(tmp_path / "keys.json", password)
    # Of no fleet: a home without a key file.
    plain = {name: value for name, value in os.environ.items() if not name.startswith("SENTILL_")}
    plain |= {"HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path / "data"), "XDG_CONFIG_HOME": str(tmp_path / "c")}
    with_keys = plain | {"SENTILL_KEYS": str(keys.path), "SENTILL_KEYS_PASSWORD": password}

    def sentill(*arguments: str, environment: dict[str, str], code: int = 0) -> str:
        done = subprocess.run(
            [*SENTILL, *arguments], capture_output=True, text=True, timeout=DEADLINE_S, env=environment
        )
        assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
        return done.stdout + done.stderr

    with VirtualBoards(1, heap="288K") as boards:
        port = boards[0].usb
        deployed = deploy.deploy([port], keys=keys, profile="service")[0]
        assert not deployed.error, deployed
        assert "not set" in sentill("clock", port, environment=plain)
        assert "has keys" in sentill("clock", port, "--set", environment=plain, code=2)
        assert "not set" in sentill("clock", port, environment=plain)
        began = datetime.now(UTC) - timedelta(seconds=2)
        assert "it was not set" in sentill("clock", port, "--set", environment=with_keys)
        told = json.loads(sentill("clock", port, "--json", environment=plain))
        assert told["set"] and abs(told["ahead_s"]) <= 30, told
        sentill("unlock", port, environment=with_keys)
        journals = str(tmp_path / "journals")
        sentill("journal", "pull", port, "--dir", journals, environment=with_keys)
        shown = sentill("journal", "show", "--dir", journals, environment=with_keys)
        (setting,) = (line for line in shown.splitlines() if "cmd=set_time" in line)
        assert "power-on +" in setting, "what came before keeps its date"
        (unlocked,) = (line for line in shown.splitlines() if "ev=unlock" in line)
        at = datetime.fromisoformat(" ".join(unlocked.split()[1:3]) + "+00:00")
        assert began <= at <= datetime.now(UTC) + timedelta(seconds=2), unlocked


def test_a_clock_set_wrong_by_15_minutes_is_no_tampering(tmp_path, monkeypatch):
    keys = KeyFile.create(tmp_path / "keys.json", "a password of tests")
    with VirtualBoards(1, heap="288K") as boards:
        board = boards[0]
        deployed = deploy.deploy([board.usb], keys=keys, profile="service")[0]
        assert not deployed.error, deployed
        with Link(board.usb) as link:
            client = NodeClient(link)
            true = clock.host_time_s
            monkeypatch.setattr(clock, "host_time_s", lambda: true() + 900)
            assert not clock.adjust(client, keys).is_set
            boots = board.status()["boots"]
            client.command("reboot")
        board.wait(boots=boots + 1)
        monkeypatch.setattr(clock, "host_time_s", true)
        with Link(board.usb) as link:
            client = NodeClient(link)
            with pytest.raises(UsageError, match="latest time known to the node"):
                clock.adjust(client, keys)
            told = access.identity(client)
            assert "tamper" not in told and told["gen"] == 1, told
            assert clock.adjust(client, keys, force=True).new_epoch
            assert abs(clock.read(client).ahead_s) <= 30
            monkeypatch.setattr(clock, "host_time_s", lambda: true() + 7200)
            with pytest.raises(UsageError, match="latest time known to the node"):
                clock.adjust(client, keys)
            assert not clock.adjust(client, keys, force=True).new_epoch
