"""The device tests run on a board when SENTILL_PORT names its port; here the board is a virtual one."""

import os
import re
import subprocess
import sys

from sentill_host.virtual import VirtualBoards
from tests.interpreters import ROOT


def test_device_tests_run_over_the_cable() -> None:
    with VirtualBoards(1, heap="512K") as boards:
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "[board]"]
        files = ["tests/device/test_support.py", "tests/device/test_protocol.py"]
        environment = dict(os.environ, SENTILL_PORT=str(boards[0].usb), PYTEST_ADDOPTS="")
        run = subprocess.run([*command, *files], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stdout + run.stderr
    summary = [line for line in run.stdout.splitlines() if line.startswith("board ")]
    assert summary and re.search(r"micropython .* [1-9]\d* device tests", summary[0]), run.stdout
