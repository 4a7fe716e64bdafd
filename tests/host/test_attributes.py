"""The attribute table: every row is collected, the node's rate restored, the table says what a person needs."""

import pytest
from rich.console import Console

from sentill.health import reset_log
from sentill_host.cli.health import headline, notes, table
from sentill_host.errors import LinkError, RefusedError
from sentill_host.node import health_table
from sentill_host.node.frames import Frame


class FakeLink:
    port = "/dev/fake"


class FakeClient:
    """A node with `channels` rows that reports round and round; every `lost`-th frame does not arrive."""

    link = FakeLink()

    def __init__(self, channels, lost=0, hz=1, refuses=""):
        self.commands = []
        self._refuses = refuses
        self._channels, self._lost, self._hz = channels, lost, hz
        self._sent = self._missed = self.rows = 0

    def command(self, name, **arguments):
        if name != "status":
            self.commands.append((name, arguments))
            if self._refuses:
                raise RefusedError("no", self._refuses)
        return {"ok": True, "hz": self._hz}

    def receive(self, timeout_s):
        self._sent += 1
        if self._sent % 2:
            missed, self._missed = self._missed, 0
            return Frame("H", {"q": self._sent, "hz": self._hz}, missed)
        number = self._sent // 2
        if not self._channels or (self._lost and number % self._lost == 0):
            self._missed = 1
            return None
        self.rows += 1
        return Frame("H", {"q": self._sent, "ch": number % self._channels, "name": f"c{number % self._channels}"})


@pytest.mark.parametrize("channels", [1, 2, 16])
@pytest.mark.parametrize("lost", [0, 3, 5, 17])
def test_every_row_is_collected_and_the_rate_restored(lost, channels):
    client = FakeClient(channels, lost, hz=2)
    rows = health_table.collect(client, 5.0)
    assert [row["ch"] for row in rows] == list(range(channels))
    assert client.commands == [("set-rate", {"hz": 10}), ("set-rate", {"hz": 2})]
    if not lost:
        assert client.rows == channels + 1, "one lap is enough where nothing is lost"


def test_a_node_without_channels_is_an_error_and_keeps_its_rate():
    client = FakeClient(0)
    with pytest.raises(LinkError, match="no health channels"):
        health_table.collect(client, 0.05)
    assert client.commands[-1] == ("set-rate", {"hz": 1})


def test_a_node_with_keys_is_read_at_its_own_pace():
    client = FakeClient(16, refuses="mac")
    assert [row["ch"] for row in health_table.collect(client, 5.0)] == list(range(16))
    assert len(client.commands) == 1
    with pytest.raises(LinkError, match="reports nothing by itself"):
        health_table.collect(FakeClient(16, hz=0, refuses="mac"), 5.0)
    assert len(health_table.collect(FakeClient(16, refuses="tampered"), 5.0)) == 16, "a tampered board is read, too"
    with pytest.raises(RefusedError):
        health_table.collect(FakeClient(16, refuses="range"), 5.0)


def test_time_left_is_in_hours_then_days():
    assert health_table.remaining({}) == ""
    assert health_table.remaining({"left_h": 20, "lo_h": 12, "hi_h": 40}) == "20 h (12..40)"
    assert health_table.remaining({"left_h": 240, "lo_h": 120, "hi_h": 480}) == "10 d (5..20)"


def test_a_reading_is_in_the_unit_people_know():
    for raw, unit, text in (
        (5874, "0.01C", "58.74 °C"), (-5, "0.1C", "-0.5 °C"), (5, "0.1%", "0.5 %"), (12_345, "mV", "12,345 mV"),
        (0, "", "0"), (3, "/h", "3 /h"),
    ):  # fmt: skip
        assert health_table.reading({"raw": raw, "u": unit}) == text


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_table_fits_its_terminal_and_names_every_channel_in_full(width):
    rows = [{"ch": 0, "name": "printer_faults", "raw": 123_456, "u": "mV", "v": 100, "w": 100, "th": 100, "st": "watch",
             "tr": -1, "left_h": 900, "lo_h": 400, "hi_h": 2400, "why": "dispersion"}]  # fmt: skip
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(table(rows, width))
    text = console.export_text()
    assert len(text.splitlines()) == 2, text
    for word in ("printer_faults", "watch", "123,456 mV", "37 d (16..100)"):
        assert word in text, text
    assert ("worst" in text) == (width == 120)


def test_the_worst_state_counts():
    assert health_table.worst([{"st": "ok"}, {"st": "warn"}, {"st": "watch"}]) == "warn"
    assert health_table.worst([]) == ""


def test_the_nodes_own_life_in_words():
    fields = {"up": 277_200, "asleep": 138_600, "erases": 4000, "power": 9, "watchdog": 1, "hard": 0}
    assert health_table.life(fields) == (
        "up 3 d 5 h, 50 % of it asleep; started 10 times (9 power, 1 watchdog); about 4,000 flash erases"
    )
    assert health_table.life({"up": 59, "erases": 1, "planned": 1}).startswith("up 59 s; started once (1 planned)")
    assert health_table.life({"up": 3660, "erases": 1, "hard": 2}).startswith("up 1 h 1 min; started 2 times")
    assert health_table.uptime(164) == "up 2 min"
    assert health_table.STARTS == reset_log.CAUSES


def test_the_table_says_what_to_do():
    rows = [
        {"ch": 4, "name": "motor", "raw": 712, "u": "mA", "v": 38, "w": 36, "th": 30, "st": "warn", "tr": 1,
         "left_h": 216, "lo_h": 160, "hi_h": 300, "why": "forecast", "adv": "Clean the printer within 9 days"},
        {"ch": 1, "name": "chip_temp", "raw": -5874, "u": "0.01C", "v": 52, "w": 52, "th": 30, "st": "ok", "tr": 0,
         "lrn": 438},
        {"ch": 5, "name": "vibration", "raw": 40, "u": "mg", "v": 100, "w": 99, "th": 43, "st": "ok", "tr": 0,
         "lrn": 12},
    ]  # fmt: skip
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(headline(rows), table(rows, 200), *notes(rows))
    text = console.export_text()
    assert text.startswith("warn: 1 of 3 channels")
    for word in (
        "712 mA",
        "warn",
        "rising",
        "9 d (6..12)",
        "forecast",
        "motor: Clean the printer within 9 days",
        "-58.74 °C",
        "12 to 438 steps to go: chip_temp, vibration",
    ):
        assert word in text, (word, text)
