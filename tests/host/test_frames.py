"""The functions of a decision run on the stack: MicroPython takes a frame of more than eleven words from the heap.

Words are locals and stack slots, and three per nested exception block. The compiler's own listing tells them.
"""

import re
import subprocess

import pytest

from tests.interpreters import DEVICE, unix_command

MOST_WORDS = 11
PATH = {
    "wire.reader": ("window", "received", "next"),
    "node.terminal": ("judge", "_judge", "_assess", "_take", "_send", "_keep"),
    "wire.request_verdict": (
        *("scan", "token", "recall", "next", "remember"),
        *("open", "_why", "_reason", "_ready", "close"),
    ),
    "risk.assess": ("judge", "_add_facts", "_judge", "remember"),
    "risk.features_plain": ("own", "find", "keep"),
    "risk.features": ("own", "advance", "_catch_up", "put", "_bump", "_resolve", "_count", "_window"),
    "risk.pending_labels": ("find", "push", "pop", "_seconds"),
    "risk.model": ("rule", "explain"),
    "journal.recorder": ("verdict", "next"),
    "wire.port": ("next_q", "put", "_write"),
    "wire.protocol": ("seen", "next_q"),
}


def frames(module: str) -> dict[str, int]:
    """Words of the frame of every function of a device module, by name; the largest where a name occurs twice."""
    code = f"import sys; sys.path.insert(0, {str(DEVICE)!r}); import sentill.{module}"
    command = [*unix_command(), "-X", "heapsize=2M", "-v", "-v", "-v", "-c", code]
    text = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    found: dict[str, int] = {}
    listing = re.compile(r"File \S*/(\w+)\.py, code block '(\w+)'.*?\(N_STATE (\d+)\)\n\(N_EXC_STACK (\d+)\)", re.S)
    for file, name, state, blocks in listing.findall(text):
        if file == module.rpartition(".")[2]:
            found[name] = max(found.get(name, 0), int(state) + 3 * int(blocks))
    return found


@pytest.mark.parametrize("module", PATH)
def test_no_function_of_a_decision_takes_its_frame_from_the_heap(module: str) -> None:
    found = frames(module)
    if not found:
        pytest.skip("this interpreter was built without listings of bytecode")
    assert not {name: found[name] for name in PATH[module] if found[name] > MOST_WORDS}


def test_a_frame_that_is_too_large_is_seen() -> None:
    found = frames("wire.request_verdict")
    if not found:
        pytest.skip("this interpreter was built without listings of bytecode")
    assert found["_judge"] > MOST_WORDS, "the slow path of a request, which may use the heap"
