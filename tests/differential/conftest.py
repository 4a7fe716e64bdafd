"""The same call on every interpreter must end the same way: same value, or same type of error."""

from collections.abc import Callable
from typing import Any

import hypothesis
import pytest

from tests.interpreters import NAMES, Interpreters

# No deadline: examples travel to other processes on a machine that may be busy. The same examples in every run.
hypothesis.settings.register_profile("differential", deadline=None, derandomize=True, max_examples=300)
hypothesis.settings.load_profile("differential")

Same = Callable[..., Any]


@pytest.fixture(scope="session")
def same(interpreters: Interpreters) -> Same:
    """`same("module:function", *args)`: the outcome on CPython, compared with that of all others."""

    def compare(target: str, *args: Any) -> Any:
        outcomes = {name: interpreters[name].outcome(target, *args) for name in NAMES}
        expected = outcomes["cpython"]
        for name, outcome in outcomes.items():
            assert outcome == expected, f"{target}{args}: {name} {outcome}, cpython {expected}"
        return expected

    return compare
