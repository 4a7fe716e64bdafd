"""The tests of pinned.py, each in a Unix port of its own."""

import ast
import subprocess
from pathlib import Path

import pytest

from tests.interpreters import DEVICE, TESTS, unix_command

SCRIPT = Path(__file__).with_name("pinned.py")
NAMES = [
    node.name
    for node in ast.parse(SCRIPT.read_text()).body
    if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
]


@pytest.mark.parametrize("name", NAMES)
def test_on_littlefs(name: str) -> None:
    command = [*unix_command(), "-X", "heapsize=8M", str(SCRIPT), str(DEVICE), str(TESTS), name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and done.stdout.endswith("passed\n"), done.stdout + done.stderr
