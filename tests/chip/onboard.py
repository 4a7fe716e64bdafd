"""Steps that run tests on the chip.

Those of tests/device: bytecode of node and tests on its flash, a fresh start for each file. And those of this folder.
"""

import ast
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.chip import files
from tests.chip.chip import Chip
from tests.chip.run import ROOT, Bench, Numbers
from tests.interpreters import TESTS, compile_device, compile_tests

_ARCH = "armv6m"
_TEST_S = 600.0
_SEPARATOR = "\x1e"


def device_tests(bench: Bench) -> Numbers:
    """How many tests ran, failed and were skipped, and why; every failure with its traceback in failures.txt."""
    image = _image()
    told: list[str] = []
    ran = failed = skipped = 0
    for path in sorted(TESTS.glob("test_*.py")):
        chip = Chip(bench.firmware, image)
        chip.enter_repl()
        chip.exec("import sys; sys.path.insert(0, '/tests/device'); import _runner as runner")
        chip.exec("runner.prepare('/device', '/tests/device', '/scratch')")
        names = [node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)]
        for name in names:
            if not name.startswith("test_"):
                continue
            reply, printed = _request(chip, {"run": path.stem, "fn": name})
            ran += 1
            if "skip" in reply:
                skipped += 1
                bench.say(f"{path.name}::{name} skipped: {reply['skip']}")
            elif "err" in reply:
                failed += 1
                bench.say(f"{path.name}::{name} FAILED")
                told.append(f"{path.name}::{name}\n{printed}{reply['tb']}")
    (bench.own / "failures.txt").write_text("\n".join(told))
    bench.say(f"{ran} tests, {failed} failed, {skipped} skipped")
    return {"device_tests": ran, "device_tests_failed": failed, "device_tests_skipped": skipped}


def node_tests(bench: Bench) -> Numbers:
    """The tests of this folder, which ask what only the chip can answer. Raises RuntimeError when one fails."""
    environment = {**os.environ, "FIRMWARE": str(bench.firmware.path.resolve())}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(Path(__file__).parent)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{done.stdout}{done.stderr}")
    passed = re.search(r"(\d+) passed", done.stdout)
    return {"chip_tests": int(passed[1]) if passed else 0}


def _request(chip: Chip, request: dict[str, Any]) -> tuple[dict[str, Any], str]:
    printed, _, reply = chip.exec(f"runner.handle({json.dumps(request)!r})", _TEST_S).partition(_SEPARATOR)
    return json.loads(reply.splitlines()[0]), printed


def _image() -> bytes:
    with tempfile.TemporaryDirectory(prefix="sentill-chip-") as name:
        folder = Path(name)
        compile_device(folder / "device", _ARCH)
        compile_tests(folder / "tests" / "device")
        content = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.*")}
    for path in (TESTS.parent / "vectors").glob("*.*"):
        content[path.relative_to(ROOT).as_posix()] = path.read_bytes()
    return files.make(content | {"scratch/empty": b""})
