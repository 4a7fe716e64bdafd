"""The table of what was measured beside what must be reached, and the file of figures that the docs quote from."""

import datetime
import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.chip import energy

ROOT = Path(__file__).resolve().parents[2]
BENCH = ROOT / "build" / "bench" / "chip.json"
RECORD = ROOT / "docs" / "measured" / "chip.json"
PAGE = ROOT / "docs" / "measured.md"
_BEGIN, _END = "<!-- chip:table -->", "<!-- chip:end -->"
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# In a document: a figure, its unit if any, and behind it the key that it must agree with.
_QUOTED = r"(\d[\d,]*(?:\.\d+)?)([^\d<>\n]{0,16}<!-- %s:(\w+) -->)"


@dataclass(frozen=True)
class Row:
    """One line: what it is, its keys with the words between them, its unit, and what each must be at most or least."""

    what: str
    keys: tuple[str, ...]
    unit: str
    limits: tuple[float | None, ...]
    least: bool = False
    digits: int = 1

    def met(self, numbers: Mapping[str, Any]) -> bool | None:
        """Whether every limit is met; None where there is none, or not every number."""
        bound = {key: limit for key, limit in zip(self.keys, self.limits, strict=True) if limit is not None}
        if not bound or not bound.keys() <= numbers.keys():
            return None
        return all(numbers[key] >= limit if self.least else numbers[key] <= limit for key, limit in bound.items())

    def measured(self, numbers: Mapping[str, Any]) -> str:
        """The numbers, as they are read."""
        shown = [f"{numbers[key]:,.{self.digits}f}" if key in numbers else "-" for key in self.keys]
        return f"{' / '.join(shown)} {self.unit}".rstrip()

    def wanted(self) -> str:
        """The limits, as they are read."""
        shown = ["-" if limit is None else f"{limit:g}" for limit in self.limits]
        if all(limit is None for limit in self.limits):
            return ""
        return f"{'at least' if self.least else 'at most'} {' / '.join(shown)} {self.unit}".rstrip()


def _row(what: str, keys: str, unit: str, *limits: float | None, least: bool = False, digits: int = 1) -> Row:
    names = tuple(keys.split())
    return Row(what, names, unit, limits or (None,) * len(names), least, digits)


ROWS = (
    _row("power-on to identity frame; on trial", "boot_s trial_boot_s", "s", 2.5, 3.5),
    _row("request's end to verdict, pausing: p50, p90, p99, max",
         "verdict_p50_ms verdict_p90_ms verdict_p99_ms verdict_max_ms", "ms", 2, None, 10, None, digits=2),
    _row("the same, sustained", "sustained_p50_ms sustained_p90_ms sustained_p99_ms sustained_max_ms", "ms",
         2, None, 80, None, digits=2),
    _row("what a verdict says it took, pausing, sustained", "verdict_us_p50 sustained_us_p50", "us", digits=0),
    _row("requests without a verdict to their first sending", "lost", "", 0, digits=0),
    _row("processor, judgement with its record", "decision_cpu_ms", "ms", 2.5, digits=2),
    _row("all that a request takes of it", "request_cpu_ms", "ms", digits=2),
    _row("garbage of a request", "decision_alloc_bytes", "bytes", 600, digits=0),
    _row("processor, idle with telemetry; without", "idle_cpu_pct idle_silent_cpu_pct", "%", 8, None),
    _row("longest time without a look at the terminal's line", "longest_block_ms", "ms", 60),
    _row("flash of a slot; of two slots and all else", "slot_blocks two_slots_blocks", "blocks", 40, None, digits=0),
    _row("heap in use; at most during the start; largest free piece", "heap_used_kb heap_peak_kb heap_largest_kb",
         "KB", 110, 125, None, digits=0),
    _row("names that MicroPython keeps, of the 1,260 it has room for", "names", "", 1260, digits=0),
    _row("`journal pull`", "pull_records_s", "records/s", 100, least=True, digits=0),
    _row("deploy to a blank chip; until verified; another version", "deploy_s deploy_verified_s deploy_change_s", "s",
         12, 7, None),
    _row("waveform of a 141 Hz tone, error", "wave_error_pct", "%", 3),
    _row("processor at 9,600 baud, three requests a second", "baud9600_cpu_pct", "%", 15),
    _row("trees, sums: one d8, ten d8, fifty d6", "tree_one_d8_us tree_ten_d8_us tree_fifty_d6_us", "us", 17, 30, 80),
    _row("trees, votes: one d8, ten d8", "tree_one_d8_vote_us tree_ten_d8_vote_us", "us", 17, 40),
    _row("device tests that fail", "device_tests_failed", "", 0, digits=0),
    _row("power cuts: tried; boards not back or journals not proven", "cuts cuts_failed", "", None, 0, digits=0),
    _row("energy of a judgement with its record", "energy_uj_decision", "uJ", digits=0),
    _row("mean current idle with telemetry; in light sleep", "idle_ma asleep_ma", "mA"),
)  # fmt: skip
KEYS = tuple(key for row in ROWS for key in row.keys)
EMLEARN_ROW = _row("emlearn's trees, votes: one d8, ten d8, fifty d6",
                   "emlearn_one_d8_vote_us emlearn_ten_d8_vote_us emlearn_fifty_d6_vote_us", "us")  # fmt: skip
"""Where the user gave its module."""
ABOUT = (
    "firmware", "firmware_sha256", "commit", "date", "clock_hz", "erase_ms", "program_ms", "emulator", "patch_hash",
    "requests", "cuts_wanted",
)  # fmt: skip


def derived(numbers: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers that several steps give together, and those of energy."""
    made: dict[str, Any] = {}
    if "verdict_lost" in numbers and "sustained_lost" in numbers:
        made["lost"] = numbers["verdict_lost"] + numbers["sustained_lost"]
    if "request_alloc_bytes" in numbers:
        made["decision_alloc_bytes"] = numbers["request_alloc_bytes"]
    kinds = [key.removesuffix("_failed") for key in numbers if key.startswith("cuts_") and key.endswith("_failed")]
    if kinds:
        made["cuts"] = sum(numbers[kind] for kind in kinds)
        made["cuts_failed"] = sum(numbers[f"{kind}_failed"] for kind in kinds)
    return {**numbers, **made, **energy.figures(numbers)}


def lines(numbers: Mapping[str, Any]) -> Iterator[str]:
    """The table for a terminal, 100 columns at most."""
    yield f"{'':60} {'measured':>22}   must reach"
    for row in _rows(numbers):
        mark = {True: "", False: "  MISSED", None: ""}[row.met(numbers)]
        yield f"{row.what:60} {row.measured(numbers):>22}   {row.wanted()}{mark}"


def _rows(numbers: Mapping[str, Any]) -> Iterator[Row]:
    yield from ROWS
    if all(key in numbers for key in EMLEARN_ROW.keys):
        yield EMLEARN_ROW


def missed(numbers: Mapping[str, Any]) -> list[str]:
    """What does not meet its limits."""
    return [row.what for row in ROWS if row.met(numbers) is False]


def about_tree() -> dict[str, str]:
    """The commit that was measured, with a + when files differ from it, and the day."""
    git = ["git", "-C", str(ROOT)]
    commit = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True).stdout.strip()
    changed = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True).stdout.strip()
    return {
        "commit": commit + "+" * bool(changed),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }


def write(path: Path, figures: Mapping[str, Any]) -> None:
    """Write the figures, sorted: numbers with four digits, what they are of first."""
    head = {key: figures[key] for key in ABOUT if key in figures}
    rest = {key: figures[key] for key in sorted(figures) if key not in head}
    rounded = {key: float(f"{value:.4g}") if isinstance(value, float) else value for key, value in rest.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**head, **rounded}, indent=1) + "\n")


def record(figures: Mapping[str, Any]) -> None:
    """Make these the figures that the docs quote: in the table of docs/measured.md, and wherever a key is named."""
    write(RECORD, figures)
    kept = json.loads(RECORD.read_text())
    page = PAGE.read_text()
    before, _, rest = page.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    PAGE.write_text(before + page_table(kept) + after)
    for path in DOCUMENTS:
        text = path.read_text()
        if text != (fresh := requoted(text, kept)):
            path.write_text(fresh)


def page_table(figures: Mapping[str, Any]) -> str:
    """The table as docs/measured.md has it, from marker to marker."""
    told = [
        _BEGIN,
        f"MicroPython {figures['firmware']}, commit {figures['commit']}, {figures['date']}; {figures['requests']:,} "
        f"requests in each regime, {figures['cuts']:,} power cuts.",
        "",
        "| what | measured | must reach |",
        "|---|---|---|",
    ]
    for row in _rows(figures):
        missing = " (missed)" if row.met(figures) is False else ""
        told.append(f"| {row.what} | {row.measured(figures)}{missing} | {row.wanted()} |")
    return "\n".join([*told, _END])


def quoted(text: str, of: str = "chip") -> Iterator[tuple[str, str]]:
    """Every figure in a document that names its key: (as it is written, key)."""
    for match in re.finditer(_QUOTED % of, text):
        yield match[1], match[3]


def requoted(text: str, figures: Mapping[str, Any]) -> str:
    """The document with the figures of today, each with as many digits as it had."""

    def fresh(match: re.Match[str]) -> str:
        decimals = len(match[1].partition(".")[2])
        return f"{figures[match[3]]:,.{decimals}f}{match[2]}" if match[3] in figures else match[0]

    return re.sub(_QUOTED % "chip", fresh, text)


def agrees(written: str, value: float) -> bool:
    """Whether a figure is `value` rounded to the digits it is written with."""
    plain = written.replace(",", "")
    return f"{value:.{len(plain.partition('.')[2])}f}" == plain
