"""Names of ours are replaced by some that firmware knows before they go on a board."""

import ast
import builtins
import io
import json
import tokenize
from collections import defaultdict
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

import pytest

from sentill_host.bundle.shorten_names import constants, firmware, given, shorten
from tools.device_modules import DEVICE


def inherits_across(sources: Mapping[str, str]) -> set[tuple[str, str]]:
    """(path, base) of classes whose base is of another module, but not an error class."""
    found = set()
    for path, source in sources.items():
        tree = ast.parse(source)
        local = {node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                found |= {(path, ast.unparse(base)) for base in node.bases if ast.unparse(base) not in local}
    return {(path, base) for path, base in found if not base.endswith(("Exception", "Error"))}


def device() -> dict[str, str]:
    return {
        path.relative_to(DEVICE).as_posix(): path.read_text() for path in sorted((DEVICE / "sentill").rglob("*.py"))
    }


def agent() -> dict[str, str]:
    return {"bundle/onboard/agent.py": (files("sentill_host.bundle.onboard") / "agent.py").read_text()}


def tokens(source: str) -> list[tokenize.TokenInfo]:
    """The names in a source, not those in its comments and strings."""
    found = tokenize.generate_tokens(io.StringIO(source).readline)
    return [token for token in found if token.type == tokenize.NAME]


def test_firmwares_names_take_the_place_of_ours() -> None:
    sources = {
        "sentill/a.py": "_N = const(3)\n\ndef _long_name(_x): return _x + _N  # _long_name\nS = '_long_name_'\n",
        "sentill/b.py": "class BError:\n    def other(self): return self._shared, self.__dict__, self.other\n",
        "sentill/c.py": "def fetch(given): return given.other()\n",
    }
    names = given(sources)
    assert set(names["sentill/a.py"]) == {"_long_name", "_x", "S"}
    assert set(names["sentill/b.py"]) == {"other"}
    assert set(names["sentill/c.py"]) == {"given", "fetch", "other"}
    assert names["sentill/b.py"]["other"] == names["sentill/c.py"]["other"]
    assert all(name in firmware() for inside in names.values() for name in inside.values())
    short = shorten(sources)
    taken = names["sentill/b.py"]["other"]
    written = f"class BError:\n    def {taken}(self): return self._shared, self.__dict__, self.{taken}\n"
    assert short["sentill/b.py"] == written
    assert "_N = const(3)" in short["sentill/a.py"] and "# _long_name\n" in short["sentill/a.py"]
    assert "'_long_name_'" in short["sentill/a.py"]


@pytest.mark.parametrize(
    ("source", "stays"),
    [
        ("def asked(x): return getattr(x, 'asked')\n", "asked"),
        ("def start_all(x): return globals()['start_' + x]\n", "start_all"),
        ("class ThingError(Exception): pass\n", "ThingError"),
        ("def far(near): return far(near=1)\n", "near"),
        ("import machine\nwarp = 1\nmachine.warp = warp\n", "warp"),
        ("from machine import warp\nwarp = 1\n", "warp"),
        ("def readinto(buffer): pass\n", "readinto"),
        ("def __exit__(self): pass\n", "__exit__"),
        ("def min(a): pass\n", "min"),
        ("def told(x): return f'{told}'\n", "told"),
    ],
)
def test_what_others_may_ask_for_keeps_its_name(source: str, stays: str) -> None:
    names = given({"sentill/a.py": source, "sentill/b.py": f"def f(x): return x.{stays}\n"})
    assert all(stays not in inside for inside in names.values()), names


def test_what_the_start_code_asks_of_a_slot_keeps_its_name() -> None:
    names = given(
        {
            "sentill/a.py": "def begin(hal): return other(hal)\ndef other(hal): return hal.PORT_NAME\n",
            "start.py": "from sentill.a import begin\n_own = begin(1)\n",
            "board.py": "PORT_NAME = 1\n",
        }
    )
    assert set(names["sentill/a.py"]) == {"hal", "other"}
    assert set(names["start.py"]) == {"_own"} and not names["board.py"]


def test_what_hardware_code_asks_of_hardware_keeps_its_name() -> None:
    names = given(
        {
            "sentill/hal/port.py": "def tickle(chip): return chip.strobe()\n",
            "sentill/a.py": "def strobe(): pass\ndef tickle(): pass\n",
        }
    )
    assert set(names["sentill/a.py"]) == {"tickle"}


def test_what_a_module_only_asks_for_keeps_its_name() -> None:
    """It is an attribute of somebody else's object, such as `sys.implementation._machine`."""
    source = "import sys, _thread\nclass C:\n  _x = 1\n  def _f(self):\n    self._y, _z = sys._machine, _thread\n"
    short = shorten({"sentill/a.py": source})["sentill/a.py"]
    assert "sys._machine, _thread" in short
    assert not any(name in short for name in ("_x ", "_f(", "_y,"))


def test_no_foreign_object_is_asked_for_a_shortened_name() -> None:
    """Every private attribute that our sources ask for and none of them defines is in what goes on a board."""
    found = set()
    for sources in (device(), agent()):
        parsed = {path: ast.parse(source) for path, source in sources.items()}
        defined = {name for tree in parsed.values() for name in definitions(tree)}
        for path, source in shorten(sources).items():
            asked = {node.attr for node in ast.walk(parsed[path]) if isinstance(node, ast.Attribute)}
            foreign = {name for name in asked - defined if name.startswith("_") and not name.startswith("__")}
            kept = {node.attr for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Attribute)}
            assert foreign <= kept, (path, foreign - kept)
            found |= {(path, name) for name in foreign}
    assert ("sentill/hal/port_rp2.py", "_machine") in found


def test_no_shortened_name_is_one_that_stock_firmware_knows() -> None:
    """An attribute that both have could be asked of an object of either."""
    known = json.loads((Path(__file__).parents[1] / "chip" / "firmware_names.json").read_text())["names"]
    firmware = {name for names in known.values() for name in names}
    assert {"_machine", "_mpy", "readinto", "sleep_ms"} <= firmware
    sources = device() | agent()
    number = 0
    for path, source in shorten(sources).items():
        before, after = attributes(sources[path]), attributes(source)
        replaced = before - after
        assert not replaced & firmware, path
        number += len(replaced)
    assert number > 100


def attributes(source: str) -> set[str]:
    """Names after a dot."""
    return {node.attr for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Attribute)}


def definitions(tree: ast.AST) -> set[str]:
    """The names of functions, classes, parameters, and of variables and attributes that are given a value."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.arg):
            found.add(node.arg)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            found.add(node.attr)
    return found


def test_a_name_is_given_once_and_only_when_no_source_has_it() -> None:
    sources = device()
    every = {token.string for source in sources.values() for token in tokens(source)}
    owners: dict[str, set[str]] = defaultdict(set)
    number = 0
    for path, names in given(sources).items():
        assert len(set(names.values())) == len(names), path
        assert not every & set(names.values()), path
        number += len(names)
        for name, other in names.items():
            owners[other].add(name)
            assert not other.startswith("__") and other not in dir(builtins) and other not in ("send", "mount", "ioctl")
    assert number > 1000
    one_each = [other for other, names in owners.items() if len(names) == 1]
    assert len(one_each) > 300, "names of several modules have one of their own"


def test_what_the_objects_of_others_are_given_is_not_shared() -> None:
    """`_mark` of an object of another module must not meet a private name of that module."""
    names = given({"sentill/a.py": "class A:\n  def f(self): self._x = 1\n", "sentill/b.py": "def g(a): a._mark = 2\n"})
    assert names["sentill/a.py"]["_x"] != names["sentill/b.py"]["_mark"]


def test_the_modules_of_a_package_get_different_names() -> None:
    names = given({"sentill/hal/hardware.py": "_first = 1\n", "sentill/hal/port.py": "_second = 2\n"})
    assert names["sentill/hal/hardware.py"]["_first"] != names["sentill/hal/port.py"]["_second"]
    names = given({"sentill/a.py": "_first = 1\n", "sentill/b.py": "_second = 2\n"})
    assert names["sentill/a.py"]["_first"] == names["sentill/b.py"]["_second"]


def test_classes_inherit_within_a_package_only() -> None:
    """Else two modules could give the same short name to different attributes of one object."""
    across = inherits_across(device())
    assert across, "nothing to look at"
    inside = {"hardware.HAL", "Stream", "io.IOBase"}
    assert all(path.startswith("sentill/hal/") and base in inside for path, base in across), across


def test_the_program_stays_the_same_but_for_names() -> None:
    sources = device()
    for path, short in shorten(sources).items():
        ours, theirs = list(ast.walk(ast.parse(sources[path]))), list(ast.walk(ast.parse(short)))
        assert [type(node) for node in ours] == [type(node) for node in theirs], path


def test_constants_are_those_that_a_parser_finds() -> None:
    number = 0
    for path, source in device().items():
        parsed = {
            target.id
            for node in ast.parse(source).body
            if isinstance(node, ast.Assign)
            and isinstance(node.value, ast.Call)
            and ast.unparse(node.value.func) == "const"
            for target in node.targets
            if isinstance(target, ast.Name) and target.id[0] == "_"
        }
        assert constants(source) == parsed, path
        number += len(parsed)
    assert number > 100


def test_parameters_share_names_where_nothing_else_has_theirs() -> None:
    names = given(
        {
            "sentill/a.py": "def gauge(length, width, *, depth, _x): return lambda given: (length, width, depth)\n",
            "sentill/b.py": "width = 1\n\ndef g(self, length, min): return gauge(depth=length), self.x, 'given'\n",
        }
    )
    assert set(names["sentill/a.py"]) == {"gauge", "length", "width", "_x"}
    assert set(names["sentill/b.py"]) == {"gauge", "g", "length", "width"}
    assert names["sentill/a.py"]["width"] == names["sentill/b.py"]["width"]


def test_instructions_are_no_parameters() -> None:
    asm = "@micropython.asm_thumb\ndef f(r0):\n    mov(r0, r1)\n    data(4, 7)\n    label(NEXT)\n"
    short = shorten({"sentill/a.py": asm, "sentill/b.py": "def g(data, r0): return data\n"})
    assert asm.split("(", 1)[1] in short["sentill/a.py"]
