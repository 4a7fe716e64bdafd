"""What the benchmarks share: where the data are, and how results are kept."""

import json
import os
import platform
import sys
import tarfile
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


def write_results(name: str, results: dict[str, float]) -> Path:
    """Keep `results` (flat keys to numbers) as build/bench/NAME.json."""
    path = ROOT / "build" / "bench" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
    return path
