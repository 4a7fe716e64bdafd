"""The same call on every interpreter must end the same way: same value, or same type of error."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.interpreters import NAMES, Interpreters

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
