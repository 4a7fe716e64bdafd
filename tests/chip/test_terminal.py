"""What the terminal of the lab tells of the node's heap."""

from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("rp2040py", reason="no emulated RP2040: pip install 'sentill[chip]'")

from tests.chip.heap import Look
from tests.chip.terminal import _Taken


class Heap:
    """A heap of which so much is in use at each look."""

    def __init__(self, *used: int):
        self._used = list(used)

    def look(self) -> Look:
        return Look(self._used.pop(0), 0, 0)


class Chip:
    """Alarms that come when the test says so."""

    def alarm(self, callback: Callable[[], None]) -> Any:
        self.ring = callback
        self.waits = False
        return self

    def schedule(self, ns: float) -> None:
        self.waits = True

    def cancel(self) -> None:
        self.waits = False


def test_what_a_collection_gives_back_does_not_hide_what_was_taken() -> None:
    chip: Any = Chip()
    taken = _Taken(chip, Heap(100, 150, 90, 130, 500, 510))  # type: ignore[arg-type]
    taken.watch()
    for total in (50, 50, 90):
        assert chip.waits
        chip.ring()
        assert taken.bytes == total
    taken.rest()
    assert not chip.waits
    taken.watch()
    chip.ring()
    assert taken.bytes == 100
