"""Names that only one module knows are shortened before they go on a board."""

import ast
import json
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

from sentill_host.shorten import constants, shorten
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


def test_what_only_one_module_knows_is_shortened() -> None:
    short = shorten(
        {
            "sentill/a.py": "_N = const(3)\n\ndef _long_name(_x): return _x + _N  # _long_name\nS = '_long_name'\n",
            "sentill/b.py": "class B:\n    def _other(self): return self._shared, self.__dict__, self._other\n",
            "sentill/c.py": "def f(b): return b._shared\n",
        }
    )
    assert short["sentill/a.py"] == "_N = const(3)\n\ndef _a(_b): return _b + _N  # _long_name\nS = '_long_name'\n"
    assert short["sentill/b.py"] == "class B:\n    def _a(self): return self._shared, self.__dict__, self._a\n"
    assert short["sentill/c.py"] == "def f(b): return b._shared\n"


def test_what_a_module_only_asks_for_keeps_its_name() -> None:
    """It is an attribute of somebody else's object, such as `sys.implementation._machine`."""
    source = "import sys, _thread\nclass C:\n  _x = 1\n  def _f(self):\n    self._y, _z = sys._machine, _thread\n"
    short = shorten({"sentill/a.py": source})["sentill/a.py"]
    assert "sys._machine, _thread" in short
    assert not any(name in short for name in ("_x ", "_f(", "_y,", "_z "))


def test_no_foreign_object_is_asked_for_a_shortened_name() -> None:
    """Every private attribute that our sources ask for and none of them defines is in what goes on a board."""
    found = set()
    for sources in (device(), {"agent/session.py": (files("sentill_host.agent") / "session.py").read_text()}):
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
    sources = device() | {"agent/session.py": (files("sentill_host.agent") / "session.py").read_text()}
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


def test_a_short_name_in_use_is_not_given_away() -> None:
    short = shorten({"sentill/a.py": "_a = _secret = 1\n", "sentill/b.py": "_a = 2\n"})
    assert short == {"sentill/a.py": "_a = _b = 1\n", "sentill/b.py": "_a = 2\n"}


def test_what_an_f_string_names_keeps_its_name() -> None:
    source = "_secret = 1\ndef _f(value, other): return f'{value} {_secret}', rf\"{other}\", other\n"
    short = shorten({"sentill/a.py": source})
    assert short == {"sentill/a.py": source.replace("_f(", "_a(")}


def test_the_modules_of_a_package_get_different_names() -> None:
    short = shorten({"sentill/hal/base.py": "_first = 1\n", "sentill/hal/port.py": "_second = 2\n"})
    assert short == {"sentill/hal/base.py": "_a = 1\n", "sentill/hal/port.py": "_b = 2\n"}


def test_classes_inherit_within_a_package_only() -> None:
    """Else two modules could give the same short name to different attributes of one object."""
    across = inherits_across(device())
    assert across, "nothing to look at"
    inside = {"base.HAL", "Stream", "io.IOBase"}
    assert all(path.startswith("sentill/hal/") and base in inside for path, base in across), across


def test_the_program_stays_the_same_but_for_names() -> None:
    sources = device()
    for path, short in shorten(sources).items():
        assert len(short) <= len(sources[path])
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
            if isinstance(target, ast.Name)
        }
        assert constants(source) == parsed, path
        number += len(parsed)
    assert number > 100


def test_parameters_are_shortened_where_nothing_else_has_their_name() -> None:
    short = shorten(
        {
            "sentill/a.py": "def f(length, width, *, depth, _x): return lambda given: (length, given, width, depth)\n",
            "sentill/b.py": "width = 1\n\ndef g(self, length, min): return f(depth=length), self.x, 'given'\n",
        }
    )
    assert short["sentill/a.py"] == "def f(_b, width, *, depth, _a): return lambda given: (_b, given, width, depth)\n"
    assert short["sentill/b.py"] == "width = 1\n\ndef g(self, _a, min): return f(depth=_a), self.x, 'given'\n"


def test_instructions_are_no_parameters() -> None:
    asm = "@micropython.asm_thumb\ndef f(r0):\n    mov(r0, r1)\n    data(4, 7)\n    label(NEXT)\n"
    short = shorten({"sentill/a.py": asm, "sentill/b.py": "def g(data, r0): return data\n"})
    assert short["sentill/a.py"] == asm
