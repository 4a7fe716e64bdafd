"""The rules of the house that an AST can see: who may import whom, and what code of device/ and host/ may not contain.

Each rule is a function from a parsed module to its offences; the last test plants every offence and expects to see it.
"""

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tools.device_modules import DEVICE, ROOT, imports, modules

HOST = ROOT / "host" / "sentill_host"
PLAN = ROOT / "docs" / "architecture.md"
# Sent to boards, real and virtual; not of this computer.
ONBOARD = (HOST / "virtual" / "onboard", HOST / "bundle" / "onboard")
MOST_GRANTS = 8
PURE = {"wire", "risk", "policy", "health", "journal", "keys"}
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


def tables(title: str) -> list[list[str]]:
    """The cells of the table below the headline `title` of the plan, without its head."""
    section = PLAN.read_text().split(f"\n## {title}\n")[1].split("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:1] == "|"]
    return rows[2:]


def plan(side: str) -> dict[str, set[str]]:
    """What each room of "device" or "host" may import: rooms."""
    rows = tables(f"Rooms of the {side}")
    return {room: {part.strip() for part in allowed.split(",")} - {"-"} for room, _, allowed in rows}


ROOMS = {"device": plan("device"), "host": plan("host")}
# Side and who, to what else it may import: a room, or one module of one.
GRANTS = [(side, who, what) for side, who, what, _ in tables("Grants")]
# What the host may import of the device; node's configuration is granted.
OF_DEVICE = PLAN.read_text().split("the host imports ")[1].split(".")[0].replace(" and ", ", ").split(", ")


def granted(side: str, who: str, what: str) -> bool:
    """Whether `what`, a module such as "wire.protocol", is granted to `who`."""
    return any((side, who) == grant[:2] and grant[2] in (what, what.split(".")[0]) for grant in GRANTS)


def device_room(name: str) -> str:
    """The room of a device module: `sentill.risk.model` is in `risk`, `sentill.compat` in the base."""
    parts = name.split(".")
    if parts[0] != "sentill":
        return "main"
    return parts[1] if len(parts) > 1 and parts[1] in ROOMS["device"] else "base"


def host_room(name: str) -> str:
    """The room of a host module."""
    parts = name.split(".")
    if len(parts) == 1 or parts[1] == "start":
        return "cli"
    if parts[1] in ROOMS["host"]:
        return parts[1]
    return "top" if parts[1] in ("doctor", "demo") else "root"


def device_imports(name: str, tree: ast.Module) -> Iterator[str]:
    """Rooms import what the plan says; pure logic needs nothing but them and a few modules of the standard library."""
    path = DEVICE_FILES.get(name, DEVICE / "sentill" / "planted.py")
    own = device_room(name)
    pure = own in PURE or granted("device", "host", name.removeprefix("sentill."))
    for other in sorted(imports(name, path, tree)):
        root = other.split(".")[0]
        if root == "sentill_host":
            yield "device code imports the host package"
        elif root in ABSENT:
            yield f"imports {root}, which MicroPython lacks"
        elif root in HARDWARE and own not in ("hal", "main") and name != "sentill.compat":
            yield f"imports {root}: only hal and main may touch hardware"
        elif root == "sentill" and other in KNOWN and "." in other:
            room = device_room(other)
            allowed = room == own or room in ROOMS["device"][own]
            if not allowed and not granted("device", own, other.removeprefix("sentill.")):
                yield f"imports {other}, which the plan does not let it"
        elif root != "sentill" and pure and root not in PURE_STDLIB:
            yield f"imports {root}: pure logic gets clock, files and entropy as arguments"


def host_imports(name: str, tree: ast.Module) -> Iterator[str]:
    """Rooms import what the plan says; of the device, the pure rooms and what is granted."""
    own = host_room(name)
    path = HOST_FILES.get(name, Path(name.replace(".", "/") + ".py"))
    for other in imports(name, path, tree):
        if other in ("main", "sentill_start"):
            yield f"imports {other}"
        elif other.startswith("sentill.") and other in KNOWN:
            if device_room(other) not in OF_DEVICE and not granted("device", "host", other.removeprefix("sentill.")):
                yield f"imports {other}"
        elif other.startswith("sentill_host.") and other in HOST_FILES:
            room = host_room(other)
            if room != own and room not in ROOMS["host"][own]:
                if not granted("host", own, other.removeprefix("sentill_host.")):
                    yield f"imports {other}, which the plan does not let it"


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
KNOWN = modules()
DEVICE_FILES = {**KNOWN, "sentill_start": DEVICE / "sentill_start.py", "main": DEVICE / "main.py"}
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
    (device_imports, "sentill.risk.features", "from sentill.health import channel"),
    (device_imports, "sentill.risk.features", "from sentill.health.monitor import Monitor"),
    (device_imports, "sentill.risk.features", 'borrow("health", "remaining_life")'),
    (device_imports, "sentill.errors", "import sentill.risk.features"),
    (device_imports, "sentill.risk.features", "from machine import Pin"),
    (device_imports, "sentill.node.node", "import machine"),
    (device_imports, "sentill.risk.features", "import time"),
    (device_imports, "sentill.risk.features", "def f():\n    import os"),
    (device_imports, "sentill.node.config", "import os"),
    (device_imports, "sentill.node.node", "from typing import Any"),
    (device_imports, "sentill.keys.unlock", "from sentill.node.terminal import Terminal"),
    (device_imports, "sentill.journal.recorder", "from sentill.keys.store import KeyStore"),
    (device_imports, "sentill.update.slots", "from sentill.node import files"),
    (device_imports, "main", "import sentill_host"),
    (device_imports, "sentill.hal.hardware", "from sentill.risk.features import NAMES"),
    (host_imports, "sentill_host.models.rules", "from sentill.node import node"),
    (host_imports, "sentill_host.models.rules", "from sentill.hal import hardware"),
    (host_imports, "sentill_host.models.rules", "import sentill_start"),
    (host_imports, "sentill_host.models.rules", "from sentill_host.deploy import workers"),
    (host_imports, "sentill_host.journal.store", "from sentill_host.node.client import NodeClient"),
    (host_imports, "sentill_host.board.link", "from sentill_host.keys import key_file"),
    (host_imports, "sentill_host.doctor", "from sentill_host.cli import output"),
    (handlers, "sentill.risk.features", "try:\n    pass\nexcept:\n    pass"),
    (handlers, "sentill.risk.features", "try:\n    pass\nexcept (OSError, ImportError):\n    pass"),
    (asserts, "sentill.risk.features", "def f(x):\n    assert x"),
    (printing, "sentill_host.models.rules", "def f():\n    print(1)"),
    (printing, "sentill_host.models.rules", "import sys\ndef f():\n    sys.exit(1)"),
    (printing, "sentill_host.models.rules", "def f():\n    raise SystemExit"),
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


def test_the_plan_has_every_room_and_every_room_has_files() -> None:
    folders = {"device": DEVICE / "sentill", "host": HOST}
    for side, folder in folders.items():
        there = {path.name for path in folder.iterdir() if path.is_dir() and any(path.rglob("*.py"))}
        assert there == set(ROOMS[side]) - {"base", "main", "root", "top"}
        assert all(allowed <= set(ROOMS[side]) for allowed in ROOMS[side].values())


def test_rooms_do_not_import_each_other_in_circles() -> None:
    for side, rooms in ROOMS.items():
        above = {room: set(allowed) for room, allowed in rooms.items()}
        for where, who, what in GRANTS:
            if where == side and who in above:
                above[who].add(what.split(".")[0])
        while leaves := {room for room, allowed in above.items() if not allowed & above.keys()}:
            above = {room: allowed for room, allowed in above.items() if room not in leaves}
        assert not above, (side, above)


def test_grants_are_few_and_needed() -> None:
    assert 0 < len(GRANTS) <= MOST_GRANTS
    used = set()
    for name, path in DEVICE_FILES.items():
        for other in imports(name, path) & KNOWN.keys():
            used |= {("device", device_room(name), device_room(other))}
            used |= {("device", device_room(name), other.removeprefix("sentill."))}
    for name, path in HOST_FILES.items():
        for other in imports(name, path):
            if other in HOST_FILES:
                used |= {("host", host_room(name), host_room(other))}
            elif other in KNOWN:
                used |= {("device", "host", other.removeprefix("sentill."))}
    assert set(GRANTS) <= used, set(GRANTS) - used


def test_every_file_the_plan_names_exists() -> None:
    named = set(re.findall(r"`([\w/]+\.(?:py|md))`", PLAN.read_text()))
    assert len(named) > 50
    places = (ROOT, DEVICE, DEVICE / "sentill", HOST)
    missing = {name for name in named if not any((place / name).is_file() for place in places)}
    assert not missing, missing
