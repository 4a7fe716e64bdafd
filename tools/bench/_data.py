"""What the benchmarks share: where the data are, their arguments, and how results are kept."""

import argparse
import json
import os
import platform
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
for folder in (ROOT, ROOT / "device", ROOT / "host"):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def data_folder() -> Path:
    """The folder of benchmark data: $SENTILL_DATA, else shared/data beside the repository (it may not exist)."""
    named = os.environ.get("SENTILL_DATA")
    return Path(named) if named else ROOT.parent / "shared" / "data"


def members(pattern: str) -> dict[str, bytes]:
    """Files of all archives in the data folder whose name fits `pattern`, by their path; empty when there is none."""
    found: dict[str, bytes] = {}
    for archive in sorted(data_folder().glob(pattern)):
        with tarfile.open(archive) as tar:
            for member in tar:
                content = tar.extractfile(member) if member.isfile() else None
                if content is not None:
                    found[member.name.removeprefix("./")] = content.read()
    return found


def about() -> str:
    """One line on what a benchmark ran on."""
    return f"{platform.python_implementation()} {platform.python_version()}, {platform.machine()}, {platform.system()}"


# The results that others rely on, whatever else a benchmark tells.
KEYS = {
    "fraud": (
        *("tree_bytes", "tree_ap", "week_forest_bytes", "week_forest_ap", "week_forest_cp100"),
        *("forest_bytes", "forest_ap", "forest_cp100"),
    ),
    "tree": tuple(
        f"{name}_{key}"
        for name in ("one_d8", "ten_d8", "fifty_d6")
        for key in ("us", "vs_m2cgen", "vs_everywhereml", "vs_bytecode", "alloc_bytes")
    ),
    "decision": ("us", "alloc_bytes"),
    "health": (
        *("nab_standard", "nab_half_transfer", "state_bytes", "sample_us"),
        *("rul_battery_median_cycles", "rul_battery_coverage", "rul_fd001_rmse"),
    ),
    "journal": (
        *("bytes_per_record", "erases_per_record", "batched_bytes_per_record", "batched_erases_per_record"),
        *("raw_bytes_per_record", "append_us", "cuts_tried", "cuts_lost"),
    ),
    "deploy": (
        *("first_vs_mpremote_paced", "first_vs_mpremote_mpy_paced", "change_vs_mpremote_paced"),
        *("first_vs_belay_paced", "boards64_s", "boards64_peak_mb"),
    ),
}


def parser(doc: str | None) -> argparse.ArgumentParser:
    """The arguments that all benchmarks have."""
    made = argparse.ArgumentParser(description=doc)
    made.add_argument("--short", action="store_true", help="seconds, on generated input: only whether it works")
    return made


def results_path(name: str, short: bool = False) -> Path:
    """Where the results of a run are kept: build/bench/NAME.json, those of short runs in a folder of their own."""
    return ROOT / "build" / "bench" / ("short" if short else "") / f"{name}.json"


def write_results(
    name: str, results: Mapping[str, float], short: bool = False, absent: Mapping[str, str] | None = None
) -> Path:
    """Keep `results` (flat keys to numbers). `absent`: keys that could not be measured, each with the reason, which is
    printed; they become null. SystemExit when a key of KEYS is in neither."""
    reasons = absent or {}
    missing = [key for key in KEYS.get(name, ()) if key not in results and key not in reasons]
    if missing:
        raise SystemExit(f"{name}: no result for {', '.join(missing)}")
    nulls = {key: why for key, why in reasons.items() if key not in results}
    for why in dict.fromkeys(nulls.values()):
        print(f"null, {why}: {', '.join(key for key in nulls if nulls[key] == why)}")
    path = results_path(name, short)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**results, **dict.fromkeys(nulls)}, indent=1, sort_keys=True) + "\n")
    return path
