"""Fewer names for boards: MicroPython keeps every name it has seen for good, in pools that double as they fill.

A node has room for 1,260; one more takes a pool of 14 KB in one piece, which a board in use does not have. So the names
that only one module knows, those with a leading underscore that it defines and no other file has, are replaced by a few
that all modules share: `_a`, `_b`, ... Modules whose classes inherit from each other get different ones. So are the
names that are parameters and nothing else, which bytecode keeps, too. What a module only asks for, such as
`sys.implementation._machine`, is somebody else's and stays.
"""

import ast
import builtins
import itertools
import json
import re
import string
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from sentill_host import cache

# What tests put their own code in place of.
AS_WRITTEN = {"sentill/node.py", "sentill/terminal.py"}
# Comments, strings, numbers, names: ten times as fast as tokenize, and the same on every version of Python.
_TOKEN = re.compile(
    r"""\#[^\n]*
      | [rbfuRBFU]{0,2} (?: \"{3}(?:\\.|[^\\])*?\"{3} | \'{3}(?:\\.|[^\\])*?\'{3}
                                    | "(?:\\.|[^"\\\n])*" | '(?:\\.|[^'\\\n])*' )
      | \d\w*
      | (?P<name>[^\W\d]\w*)""",
    re.VERBOSE | re.DOTALL,
)
_NAME = re.compile(r"[^\W\d]\w*")
_CONSTANT = re.compile(r"^(\w+) *= *const\(", re.MULTILINE)


@dataclass(frozen=True)
class _Names:
    """The names in one source, as far as shortening wants to know them. All of them, and of those: the private ones,
    with one leading underscore and no constants; of these the ones it defines; those in f-strings, where nothing is
    replaced; those of parameters; and those that stand for something else than parameters and variables of functions,
    or that a string holds."""

    every: frozenset[str]
    private: frozenset[str]
    defined: frozenset[str]
    formatted: frozenset[str]
    parameters: frozenset[str]
    others: frozenset[str]


def shorten(sources: Mapping[str, str]) -> dict[str, str]:
    """The package's `sources` (by path, such as "sentill/node.py") with their private names replaced."""
    seen = {path: _names(source) for path, source in sources.items()}
    parameters = frozenset[str]().union(*(names.parameters for names in seen.values()))
    parameters = parameters.difference({"self", *dir(builtins)}, *(names.others for names in seen.values()))
    files = Counter(name for names in seen.values() for name in names.private)
    taken: dict[str, set[str]] = {}
    result = {}
    for path, source in sources.items():
        names = seen[path]
        # The package a module is in stands for those that may inherit: all base classes are of the same one.
        family = taken.setdefault(path.rpartition("/")[0] if path.count("/") > 1 else path, set())
        own = {name for name in names.defined if files[name] == 1} if path not in AS_WRITTEN else set()
        own -= names.formatted
        own |= {name for name in parameters & names.every if len(name) > 2}
        fresh = (name for name in _short() if name not in family and name not in files)
        given = dict(zip(sorted(own), fresh, strict=False))
        family.update(given.values())
        result[path] = _replace(source, given) if given else source
    return result


@lru_cache(maxsize=256)
def _names(source: str) -> _Names:
    # Kept from one command to the next: when one source changes, the others need not be parsed again.
    found = cache.kept("names", (_way(), source.encode()), lambda: _names_in(source))
    return _Names(*map(frozenset, json.loads(found)))


@lru_cache
def _way() -> bytes:
    return Path(__file__).read_bytes()


def _names_in(source: str) -> bytes:
    # The fields of _Names, as JSON.
    every: set[str] = set()
    formatted: set[str] = set()
    for match in _TOKEN.finditer(source):
        if match["name"]:
            every.add(match["name"])
        elif match[0].split('"')[0].split("'")[0].lower() in ("f", "rf", "fr"):
            formatted.update(_NAME.findall(match[0]))
    private = {name for name in every - constants(source) if len(name) > 1 and name[0] == "_" and name[1] != "_"}
    parameters, others, defined = _roles(source)
    return json.dumps(
        [sorted(names) for names in (every, private, private & defined, formatted, parameters, others | formatted)]
    ).encode()


def _short() -> Iterator[str]:
    for length in itertools.count(1):
        for letters in itertools.product(string.ascii_lowercase, repeat=length):
            yield "_" + "".join(letters)


def constants(source: str) -> set[str]:
    """Names of the constants of `const()`: they are no names in bytecode. By the look of a line."""
    return set(_CONSTANT.findall(source))


def _roles(source: str) -> tuple[set[str], set[str], set[str]]:
    """Names of parameters, those that are (also) something else than parameters and variables of functions, and those
    that the source defines: parameters, functions, classes, what values are given to."""
    parameters: set[str] = set()
    others: set[str] = set()
    defined: set[str] = set()
    waiting: list[tuple[ast.AST, bool]] = [(ast.parse(source), False)]
    while waiting:
        node, local = waiting.pop()
        if isinstance(node, ast.Name):
            if isinstance(node.ctx, ast.Store):
                defined.add(node.id)
            if not local:
                others.add(node.id)
            continue
        if isinstance(node, ast.Attribute):
            if isinstance(node.ctx, ast.Store):
                defined.add(node.attr)
            others.add(node.attr)
        elif isinstance(node, ast.Constant):
            if isinstance(node.value, str) and node.value.isidentifier():
                others.add(node.value)
        elif isinstance(node, ast.arg):
            parameters.add(node.arg)
        elif isinstance(node, ast.keyword):
            others.add(node.arg or "")
        elif isinstance(node, ast.alias):
            others.update((node.asname or node.name).split("."), node.name.split("."))
            defined.add(node.asname or "")
        elif isinstance(node, ast.ImportFrom):
            others.update((node.module or "").split("."))
        elif isinstance(node, ast.Global):
            others.update(node.names)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            others.add(node.name)
            defined.add(node.name)
        local = (local or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)) and not _is_asm(node)
        waiting.extend((inner, local) for inner in ast.iter_child_nodes(node))
    return parameters, others, defined | parameters


def _is_asm(node: ast.AST) -> bool:
    # Instructions, registers and labels are no variables.
    return isinstance(node, ast.FunctionDef) and any("asm_thumb" in ast.unparse(by) for by in node.decorator_list)


def _replace(source: str, names: Mapping[str, str]) -> str:
    return _TOKEN.sub(lambda match: names.get(match["name"] or "", match[0]), source)
