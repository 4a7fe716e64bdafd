"""What a .mpy file says of itself: its names, and where the code of its functions lies."""

import ast
import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentill_host.board import catalogue
from sentill_host.bundle import build as bundle
from sentill_host.bundle import mpy
from sentill_host.errors import VerifyError

SOURCE = b"""
LONG = ("an object of more than ten characters", b"bytes\\0more", 1 << 40, 1.5, None, (True, ("nested", 2)))
def first(a, b=2, *, c=3):
    return [x + a for x in range(b)], lambda: c
class Thing:
    def method(self):
        yield from self.other
async def last(thing):
    await thing.method()
"""
_RETURN = 0x63


def count(source: bytes) -> int:
    """Functions, classes, lambdas and comprehensions: each is code of its own."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef, ast.ListComp, ast.GeneratorExp)
    return sum(isinstance(node, kinds) for node in ast.walk(ast.parse(source)))


PLAIN = [path for path in sorted(catalogue.device_package().rglob("*.py")) if not bundle.is_native(path.read_bytes())]


@pytest.mark.parametrize("path", [None, *PLAIN], ids=lambda path: path.stem if path else "own")
def test_every_function_is_found_where_it_lies(path: Path | None) -> None:
    source = path.read_bytes() if path else SOURCE
    code = bundle.compile_file("a", source)
    places = list(mpy.functions(code))
    assert len(places) >= count(source)
    end = 0
    for at, length in places:
        assert at > end and length > 4, "one behind the other, with their lengths between them"
        end = at + length
        assert end <= len(code)
    # Most end with a return; not one that ends with a raise.
    assert not places or sum(code[at + length - 1] == _RETURN for at, length in places) >= len(places) * 2 // 3


def test_native_functions_are_left_out() -> None:
    source = (
        b"import micropython\n@micropython.viper\ndef fast(a: int) -> int:\n    return a\ndef slow():\n    return 1\n"
    )
    code = bundle.compile_file("a", source, "armv6m")
    assert len(list(mpy.functions(code))) == 1
    assert {"fast", "slow"} <= set(mpy.names(code))


def test_names_are_those_of_the_source() -> None:
    names = set(mpy.names(bundle.compile_file("a", SOURCE)))
    assert {"first", "Thing", "method", "last", "LONG", "other"} <= names
    assert "bytes" not in names, "which is numbered the same everywhere"


@given(st.binary(max_size=60))
def test_what_is_no_mpy_file_is_told(data: bytes) -> None:
    for found in (mpy.functions, mpy.names):
        with contextlib.suppress(VerifyError):
            list(found(b"M\x06\0\x1f" + data))


def test_a_file_that_is_cut_short_is_told() -> None:
    code = bundle.compile_file("a", SOURCE)
    with pytest.raises(VerifyError, match="damaged"):
        list(mpy.functions(code[: len(code) // 2]))
