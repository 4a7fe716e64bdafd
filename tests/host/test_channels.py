"""The channels of the boards as data, and `sentill channels` that chooses from them."""

import json

import pytest
from typer.testing import CliRunner

from sentill.health.channel_spec import KEYS
from sentill.health.monitor import MAX_CHANNELS, Monitor
from sentill.node import config
from sentill_host.board import catalogue
from sentill_host.cli import app
from sentill_host.deploy.deploy import read_config

run = CliRunner().invoke


@pytest.mark.parametrize("board", catalogue.all_boards())
def test_every_channel_a_board_can_have_is_accepted_by_the_device(board):
    data = catalogue.load(board).data
    every = data["channels"] + data["optional"]
    for spec in every:
        Monitor([spec])
        assert set(spec) <= {*KEYS, "name", "unit", "source", "advice"}, spec
        assert len(spec["name"]) <= 16 and len(spec["source"]) <= 32 and len(spec.get("advice", "")) <= 60, spec
        assert config.parse(json.dumps({"channels": [spec]}).encode())["channels"] == [spec], "no card number"
    names = [spec["name"] for spec in every]
    assert len(set(names)) == len(names)
    assert len(data["channels"]) <= MAX_CHANNELS
    watched = {spec["name"] for spec in data["channels"]}
    assert {"card_errors", "link_errors", "heap", "jitter", "flash_wear", "disk", "journal"} <= watched
    assert {"printer_faults", "keys", "paper_out", "resets", "brownouts", "tamper", "light"} <= set(names)


def test_a_choice_becomes_a_configuration_the_node_takes(tmp_path):
    path = tmp_path / "config.json"
    path.write_text('{"name": "till 4", "rate_hz": 2}')
    options = ["--with", "tamper", "--with", "hum", "--without", "keys", "--config", str(path)]
    done = run(app, ["channels", "RPI_PICO", *options])
    assert done.exit_code == 0, done.output
    values = json.loads(read_config(path.read_text(), "config.json"))
    names = [spec["name"] for spec in values["channels"]]
    assert {"tamper", "hum", "supply"} <= set(names) and "keys" not in names, names
    assert (values["name"], values["rate_hz"]) == ("till 4", 2), "the other keys stay"
    assert run(app, ["channels", "RPI_PICO", *options]).exit_code == 0, "again over its own work"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--with", "gremlins"], "no channel"),
        (["--with", "hum"], "16 at most"),
        (["--config", "TMP"], "no configuration"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path, options, text):
    path = tmp_path / "bad.json"
    path.write_text("[1")
    done = run(app, ["channels", "SIM", *[str(path) if o == "TMP" else o for o in options]])
    assert done.exit_code != 0 and text in str(done.exception), (done.output, done.exception)
    assert path.read_text() == "[1"


def test_the_table_tells_what_is_watched():
    shown = run(app, ["channels", "ESP32_GENERIC"]).stdout
    assert "supply" in shown and "tamper" in shown and "--with NAME" in shown
    listed = json.loads(run(app, ["channels", "ESP32_GENERIC", "--json"]).stdout)
    assert {spec["name"] for spec in listed["optional"]} >= {"tamper", "light", "hum", "printer_life"}
