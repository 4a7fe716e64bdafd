"""Fewer names for boards: MicroPython keeps every name it has seen for good, in pools that double as they fill.

A node has room for 1,260; one more takes a pool of 14 KB in one piece, which a board in use does not have. So the names
that only one module knows, those with a leading underscore that occur in no other file, are replaced by a few that all
modules share: `_a`, `_b`, ... Modules whose classes inherit from each other get different ones. So are the names that
are parameters and nothing else, which bytecode keeps, too.
"""

import ast
import builtins
import itertools
import re
import string
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

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


def shorten(sources: Mapping[str, str]) -> dict[str, str]:
    """The package's `sources` (by path, such as "sentill/node.py") with their private names replaced."""
    used = {path: _private(source) for path, source in sources.items()}
    parameters = _parameters(sources.values())
    files = Counter(name for names in used.values() for name in names)
    taken: dict[str, set[str]] = {}
    result = {}
    for path, source in sources.items():
        # The package a module is in stands for those that may inherit: all base classes are of the same one.
        family = taken.setdefault(path.rpartition("/")[0] if path.count("/") > 1 else path, set())
        own = {name for name in used[path] if files[name] == 1} if path not in AS_WRITTEN else set()
        own -= _formatted(source)
        own |= parameters & {match["name"] for match in _TOKEN.finditer(source)}
        fresh = (name for name in _names() if name not in family and name not in files)
        names = dict(zip(sorted(own), fresh, strict=False))
        family.update(names.values())
        result[path] = _replace(source, names) if names else source
    return result


def _names() -> Iterator[str]:
    for length in itertools.count(1):
        for letters in itertools.product(string.ascii_lowercase, repeat=length):
            yield "_" + "".join(letters)


def constants(source: str) -> set[str]:
    """Names of the constants of `const()`: they are no names in bytecode. By the look of a line: parsing takes longer
    than all the rest."""
    return set(_CONSTANT.findall(source))


def _private(source: str) -> set[str]:
    """Names of one leading underscore in a source, without its constants."""
    names = {match["name"] for match in _TOKEN.finditer(source) if match["name"]} - constants(source)
    return {name for name in names if len(name) > 1 and name[0] == "_" and name[1] != "_"}


def _formatted(source: str) -> set[str]:
    """Names in f-strings, where nothing is replaced."""
    prefixes = ((match[0], match[0].split('"')[0].split("'")[0]) for match in _TOKEN.finditer(source))
    return {name for text, prefix in prefixes if prefix.lower() in ("f", "rf", "fr") for name in _NAME.findall(text)}


def _parameters(sources: Iterable[str]) -> set[str]:
    """Names of parameters that no source gives to anything but parameters and variables of functions."""
    found: set[str] = set()
    kept = {"self", *dir(builtins)}
    for source in sources:
        kept |= _formatted(source)
        tree = ast.parse(source)
        local: set[int] = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.arg):
                found.add(node.arg)
            elif isinstance(node, ast.Attribute):
                kept.add(node.attr)
            elif isinstance(node, ast.keyword):
                kept.add(node.arg or "")
            elif isinstance(node, ast.alias):
                kept.update((node.asname or node.name).split("."), node.name.split("."))
            elif isinstance(node, ast.ImportFrom):
                kept.update((node.module or "").split("."))
            elif isinstance(node, ast.Global):
                kept.update(node.names)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                kept.add(node.value)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                local.update(id(inner) for inner in ast.walk(node) if inner is not node)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                kept.add(node.name)
        kept.update(node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and id(node) not in local)
    return {name for name in found - kept if len(name) > 2}


def _replace(source: str, names: Mapping[str, str]) -> str:
    return _TOKEN.sub(lambda match: names.get(match["name"] or "", match[0]), source)
