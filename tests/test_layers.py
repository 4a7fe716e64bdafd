"""The rules of the house that an AST can see: who may import whom, and what code of device/ and host/ may not contain.

Each rule is a function from a parsed module to its offences; the last test plants every offence and expects to see it.
"""

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tools.device_modules import DEVICE, ROOT, imports, modules

HOST = ROOT / "host" / "sentill_host"
# Sent to boards, real and virtual; not of this computer.
ONBOARD = (HOST / "virtual" / "onboard", HOST / "agent")

BASE = {"compat", "crypto", "errors", "files", "flash", "mac", "pan", "sha"}
# A split module belongs to the family before its first underscore (tree_viper to tree), or to the one named here.
FAMILIES = {
    **dict.fromkeys(("channel", "detector", "points", "rul", "wear"), "health"),
    **dict.fromkeys(("wire", "reader", "exchange"), "protocol"),
    **dict.fromkeys(("access", "audit", "commands", "loop", "pinned", "port", "recovery", "session"), "node"),
    **dict.fromkeys(("setup", "sleeper", "starts", "store", "tamper", "tasks", "terminal", "update"), "node"),
    **dict.fromkeys(("vitals", "waves", "worker"), "node"),
    "sentill_start": "main",
}
ABOVE_PURE = ("risk", "node")  # in this order; everything else but hal is pure logic
HARDWARE = {"machine", "esp", "esp32", "rp2", "network", "neopixel", "onewire", "bluetooth"}
# Not on every interpreter the code runs on.
ABSENT = {"typing", "dataclasses", "functools", "contextlib", "unittest", "hmac", "logging", "enum", "pathlib"}
# Pure logic gets its clock, storage and entropy as arguments.
PURE_STDLIB = {"array", "binascii", "collections", "gc", "hashlib", "io", "json", "micropython", "struct", "ulab"}
# Calls a module-level assignment may make: they build constants and touch nothing.
BUILDERS = {
    *("const", "array", "bytes", "bytearray", "tuple", "frozenset", "dict", "set", "range", "len", "sorted", "zip"),
    *("enumerate", "min", "max", "sum", "ord", "calcsize", "join", "encode", "crc32"),
}

Rule = Callable[[str, ast.Module], Iterator[str]]


def family(name: str) -> str:
    """The family a device module belongs to: `sentill.risk.tree_viper` is of `tree`, all of `sentill.hal` is of
    `hal`."""
    part = name.split(".")[1] if "." in name else name
    stem = part.split("_")[0]
    return FAMILIES.get(part) or FAMILIES.get(stem, stem)


def device_imports(name: str, tree: ast.Module) -> Iterator[str]:
    """DESIGN's direction: base <- pure logic <- risk <- node <- main; hal sees only compat, errors and hardware."""
    path = DEVICE_FILES.get(name, DEVICE / "sentill" / "planted.py")
    own = family(name)
    pure = own not in {*BASE, *ABOVE_PURE, "hal", "main", "sentill"}
    for other in sorted(imports(name, path, tree)):
        root = other.split(".")[0]
        if root == "sentill_host":
            yield "device code imports the host package"
        elif root in ABSENT:
            yield f"imports {root}, which MicroPython lacks"
        elif root in HARDWARE and own not in ("hal", "compat", "main"):
            yield f"imports {root}: only hal and main may touch hardware"
        elif root == "sentill" and other in modules() and "." in other:
            kin = family(other)
            if kin == own or own == "main":
                continue
            if own in BASE:
                allowed = kin in BASE
            elif own == "hal":
                allowed = kin in ("compat", "errors")
            elif pure:
                allowed = kin in BASE
            else:
                allowed = kin != "hal" and (kin not in ABOVE_PURE or ABOVE_PURE.index(kin) < ABOVE_PURE.index(own))
            if not allowed:
                yield f"imports {other}, which is not below it"
        elif root != "sentill" and pure and root not in PURE_STDLIB:
            yield f"imports {root}: pure logic gets clock, files and entropy as arguments"


def host_imports(name: str, tree: ast.Module) -> Iterator[str]:
    """The host runs the pure device modules, never the node, its hardware layer or main."""
    for other in imports(name, Path(name.replace(".", "/") + ".py"), tree):
        if other in ("main", "sentill_start") or other.startswith(("sentill.hal", "sentill.node.node")):
            yield f"imports {other}"


def handlers(name: str, tree: ast.Module) -> Iterator[str]:
    """No bare except; on the device, `except ImportError` only in compat."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler):
            if node.type is None:
                yield f"line {node.lineno}: bare except"
            elif name in DEVICE_FILES and name != "sentill.compat":
                kinds = {getattr(kind, "id", "") for kind in ast.walk(node.type)}
                if kinds & {"ImportError", "ModuleNotFoundError"}:
                    yield f"line {node.lineno}: except ImportError outside compat"


def asserts(name: str, tree: ast.Module) -> Iterator[str]:
    """Asserts vanish under -O: bad input is answered by raise."""
    yield from (f"line {node.lineno}: assert" for node in ast.walk(tree) if isinstance(node, ast.Assert))


def printing(name: str, tree: ast.Module) -> Iterator[str]:
    """Nothing prints or exits (the host's command line is not asked)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called in ("print", "exit", "quit", "sys.exit", "SystemExit"):
                yield f"line {node.lineno}: {called}()"
        elif isinstance(node, ast.Raise) and isinstance(node.exc, ast.Name) and node.exc.id == "SystemExit":
            yield f"line {node.lineno}: raise SystemExit"


def floats(name: str, tree: ast.Module) -> Iterator[str]:
    """Integers only: no float literal, no true division, no float()."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, float | complex):
            yield f"line {node.lineno}: {node.value}"
        elif isinstance(node, ast.BinOp | ast.AugAssign) and isinstance(node.op, ast.Div):
            yield f"line {node.lineno}: true division"
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("float", "math.sqrt", "round"):
            yield f"line {node.lineno}: {ast.unparse(node.func)}()"


def effects(name: str, tree: ast.Module) -> Iterator[str]:
    """Importing a device module only defines: no call but those that build constants, no loop, no deletion."""
    yield from _effects(tree.body)


def _effects(body: list[ast.stmt]) -> Iterator[str]:
    for node in body:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Import() | ast.ImportFrom() | ast.Pass():
                pass
            case ast.ClassDef():
                yield from _effects(node.body)
            case ast.Expr(value=ast.Constant()):
                pass
            case ast.Assign() | ast.AnnAssign():
                for call in ast.walk(node):
                    if isinstance(call, ast.Call):
                        called = call.func.attr if isinstance(call.func, ast.Attribute) else ast.unparse(call.func)
                        if called not in BUILDERS:
                            yield f"line {call.lineno}: calls {called} at import"
            case ast.If():
                yield from _effects([*node.body, *node.orelse])
            case ast.Try():
                yield from _effects(node.body)
                for handler in node.handlers:
                    yield from _effects(handler.body)
            case _:
                yield f"line {node.lineno}: {type(node).__name__} at import"


def _name(path: Path, base: Path) -> str:
    parts = path.relative_to(base).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


# main.py is the one file whose import is meant to do something: it starts the node.
DEVICE_FILES = {**modules(), "sentill_start": DEVICE / "sentill_start.py", "main": DEVICE / "main.py"}
HOST_FILES = {_name(p, HOST.parent): p for p in sorted(HOST.rglob("*.py")) if not set(ONBOARD) & set(p.parents)}

CHECKS = [
    *((rule, *file) for file in DEVICE_FILES.items() for rule in (device_imports, handlers, asserts, printing, floats)),
    *((effects, *file) for file in DEVICE_FILES.items() if file[0] != "main"),
    *((rule, *file) for file in HOST_FILES.items() for rule in (host_imports, handlers, asserts)),
    *((printing, *file) for file in HOST_FILES.items() if not file[0].startswith("sentill_host.cli")),
]  # fmt: skip


@pytest.mark.parametrize(
    ("rule", "name", "path"), CHECKS, ids=[f"{rule.__name__}-{name}" for rule, name, path in CHECKS]
)
def test_rule(rule: Rule, name: str, path: Path) -> None:
    offences = list(rule(name, ast.parse(path.read_text(), str(path))))
    assert not offences, f"{path.relative_to(ROOT)}: {'; '.join(offences)}"


PLANTED = [
    (device_imports, "sentill.risk.features", "from . import channel"),
    (device_imports, "sentill.risk.features", "from .health import Monitor"),
    (device_imports, "sentill.errors", "import sentill.risk.features"),
    (device_imports, "sentill.risk.features", "from machine import Pin"),
    (device_imports, "sentill.node.node", "import machine"),
    (device_imports, "sentill.risk.features", "import time"),
    (device_imports, "sentill.risk.features", "def f():\n    import os"),
    (device_imports, "sentill.node.node", "from typing import Any"),
    (device_imports, "main", "import sentill_host"),
    (device_imports, "sentill.hal.hardware", "from ..features import NAMES"),
    (host_imports, "sentill_host.train", "from sentill.node import node"),
    (host_imports, "sentill_host.train", "from sentill.hal import base"),
    (handlers, "sentill.risk.features", "try:\n    pass\nexcept:\n    pass"),
    (handlers, "sentill.risk.features", "try:\n    pass\nexcept (OSError, ImportError):\n    pass"),
    (asserts, "sentill.risk.features", "def f(x):\n    assert x"),
    (printing, "sentill_host.train", "def f():\n    print(1)"),
    (printing, "sentill_host.train", "import sys\ndef f():\n    sys.exit(1)"),
    (printing, "sentill_host.train", "def f():\n    raise SystemExit"),
    (floats, "sentill.risk.features", "X = 0.5"),
    (floats, "sentill.risk.features", "def f(x):\n    return x / 2"),
    (floats, "sentill.risk.features", "def f(x):\n    x /= 2"),
    (effects, "sentill.risk.features", "import gc\ngc.collect()"),
    (effects, "sentill.risk.features", "F = open('x')"),
    (effects, "sentill.risk.features", "for i in range(3):\n    pass"),
    (effects, "sentill.risk.features", "class A:\n    x = open('x')"),
]


@pytest.mark.parametrize(("rule", "name", "source"), PLANTED)
def test_a_planted_offence_is_seen(rule: Rule, name: str, source: str) -> None:
    assert list(rule(name, ast.parse(source))), source


def test_the_rules_have_files_to_look_at() -> None:
    assert {"sentill", "sentill.compat", "sentill.errors", "main"} <= DEVICE_FILES.keys()
    assert {"sentill_host", "sentill_host.errors", "sentill_host.cli"} <= HOST_FILES.keys()
