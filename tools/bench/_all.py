"""Run every benchmark to its end: python tools/bench/_all.py [--short].

One that fails, or whose results lack a key of _data.KEYS, fails the run; the others are run all the same. Short runs
print only how long each took, and which keys are null and why.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

from _data import KEYS, parser, results_path

FOLDER = Path(__file__).resolve().parent


def run(name: str, short: bool) -> str:
    """Run a benchmark; what is wrong with it, or nothing."""
    path = results_path(name, short)
    path.unlink(missing_ok=True)
    command = [sys.executable, str(FOLDER / f"{name}.py"), *(["--short"] if short else [])]
    done = subprocess.run(command, stdout=subprocess.PIPE if short else None, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        print(done.stdout or "", end="")
        return f"ended with {done.returncode}"
    print("".join(line for line in (done.stdout or "").splitlines(True) if line.startswith("null, ")), end="")
    if not path.exists():
        return "no results" if short else ""  # a whole run without its data says so and keeps none
    missing = set(KEYS.get(name, ())) - json.loads(path.read_text()).keys()
    return f"no result for {', '.join(sorted(missing))}" if missing else ""


def main() -> int:
    """Run all; 1 when one is wrong."""
    short = parser(__doc__).parse_args().short
    names = sorted(path.stem for path in FOLDER.glob("[!_]*.py"))
    wrong = {}
    for name in names:
        start = time.monotonic()
        print(f"{name}: running", flush=True)
        wrong[name] = run(name, short)
        print(f"{name}: {wrong[name] or 'done'}, {time.monotonic() - start:.0f} s", flush=True)
    faulty = [name for name in names if wrong[name]]
    print(f"{len(names)} benchmarks, {', '.join(faulty) or 'none'} failed")
    return 1 if faulty else 0


if __name__ == "__main__":
    sys.exit(main())
