"""Names for boards: MicroPython keeps every name it has seen for good, and looks each new one up among all of them.

The names that firmware brings along lie in flash and cost nothing. So such of them as no source uses take the place of
names of ours: those that the package defines, and that nobody but the package asks for.

Left as they are: names of errors, which people read; what firmware knows already; what a string
holds, for an attribute may be asked for by it; names of arguments in calls; what is imported from elsewhere or asked of
it, which is somebody else's; what files outside the package define or ask for, such as the start code, which may be
older than the package.

Names with a leading underscore that only one module knows, and names that are parameters and nothing else, are given
the same few names in every module; modules whose classes inherit from each other get different ones. All others get one
of their own. Where firmware lacks such a name it is one more to keep, as ours would be.
"""

import ast
import builtins
import itertools
import json
import keyword
import re
import string
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

from sentill_host.bundle import cache

# Modules whose classes inherit from each other's.
_FAMILY = "sentill/hal/"
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
_CONSTANT = re.compile(r"^(_\w+) *= *const\(", re.MULTILINE)
# What MicroPython asks of any object of a kind: file systems, block devices, streams, what `yield from` is given.
_ASKED = {
    *("mount", "umount", "stat", "statvfs", "ilistdir", "open", "chdir", "getcwd", "mkdir", "remove", "rename"),
    *("readblocks", "writeblocks", "ioctl", "read", "readinto", "readline", "write", "flush", "close", "seek"),
    *("rmdir", "send", "throw", "keys", "items", "value", "args", "append", "path", "modules", "argv", "ps1", "ps2"),
}  # fmt: skip


@dataclass(frozen=True)
class _Names:
    """The names in one source, as far as shortening wants to know them."""

    every: frozenset[str]  # also in strings
    kept: frozenset[str]  # that it defines and bytecode keeps: no constants, no variables of functions
    others: frozenset[str]  # that stand for something else than parameters and variables of functions
    private: frozenset[str]  # with a leading underscore, and of this module or of its own objects
    asked: frozenset[str]  # attributes
    fixed: frozenset[str]  # that are to stay, in all sources


def shorten(sources: Mapping[str, str]) -> dict[str, str]:
    """The package's `sources` (by path, such as "sentill/node/node.py") with their names replaced."""
    return {path: _replace(sources[path], names) for path, names in given(sources).items()}


def given(sources: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """The names that are replaced in each of the `sources`, and by which."""
    seen = {path: _names(path, source) for path, source in sources.items()}
    every = frozenset[str]().union(*(names.every for names in seen.values()))
    others = frozenset[str]().union(*(names.others for names in seen.values()))
    users = Counter(name for names in seen.values() for name in names.every)
    fixed = _fixed(seen, every)
    shared: dict[str, set[str]] = {}
    families: dict[str, list[str]] = defaultdict(list)
    for path, names in seen.items():
        shared[path] = {name for name in names.kept & names.private if users[name] == 1} | names.kept - others
        shared[path] -= fixed
        families[_FAMILY if path.startswith(_FAMILY) else path].append(path)
    public = frozenset[str]().union(*(names.kept - shared[path] for path, names in seen.items())) - fixed
    spare = _spare(every)
    few = list(itertools.islice(spare, max(sum(len(shared[path]) for path in family) for family in families.values())))
    own = dict(zip(sorted(public), spare, strict=False))
    result = {path: {name: own[name] for name in names.every & public} for path, names in seen.items()}
    for family in families.values():
        fresh = iter(few)
        for path in family:
            result[path].update(zip(sorted(shared[path]), fresh, strict=False))
    return result


def _fixed(seen: Mapping[str, _Names], every: frozenset[str]) -> set[str]:
    """What stays in all sources."""
    fixed = {"self", *dir(builtins), *firmware(), *itertools.chain.from_iterable(p[:-3].split("/") for p in seen)}
    fixed.update(*(names.fixed for names in seen.values()))
    beginnings = tuple(name for name in fixed if name.endswith("_") and name != "_")
    fixed.update(name for name in every if name.startswith(beginnings))
    hardware = [names for path, names in seen.items() if path.startswith("sentill/hal/")]
    asked = frozenset[str]().union(*(names.asked for names in hardware))
    return fixed | asked.difference(*(names.kept for names in hardware))


@lru_cache
def firmware() -> frozenset[str]:
    """The names that stock firmware brings along; tests/chip/names.py made the list."""
    return frozenset((files(__package__) / "firmware_names.txt").read_text().split())


def _spare(every: frozenset[str]) -> Iterator[str]:
    # Names that are free, those that cost nothing first.
    used = every | _ASKED | set(dir(builtins))
    free = (name for name in firmware() - used if not name.startswith("__") and not keyword.iskeyword(name))
    yield from sorted(free, key=lambda name: (len(name), name))
    for length in itertools.count(1):
        for letters in itertools.product(string.ascii_lowercase, repeat=length):
            if (name := "_" + "".join(letters)) not in used:
                yield name


@lru_cache(maxsize=256)
def _names(path: str, source: str) -> _Names:
    # Kept from one command to the next: when one source changes, the others need not be parsed again.
    outside = b"" if "/" in path else b"outside"
    found = cache.kept("names", (_way(), outside, source.encode()), lambda: _names_in(source, "/" not in path))
    return _Names(*map(frozenset, json.loads(found)))


@lru_cache
def _way() -> bytes:
    return Path(__file__).read_bytes()


def _names_in(source: str, outside: bool) -> bytes:
    # The fields of _Names, as JSON. `outside` is what does not belong to the package.
    every = {match["name"] for match in _TOKEN.finditer(source) if match["name"]}
    tree = ast.parse(source)
    reader = _Reader(tree)
    strings = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    held = {text for text in strings if text.isidentifier()}
    for match in _TOKEN.finditer(source):
        if match[0].split('"')[0].split("'")[0].lower() in ("f", "rf", "fr"):
            held.update(_NAME.findall(match[0]))
    fixed = reader.foreign | held | {name for name in every if name.startswith("__")}
    if outside:
        fixed |= reader.asked - reader.kept | reader.imported | {name for name in reader.kept if name[0] != "_"}
    kept = reader.kept - constants(source)
    found = (every | held, kept, reader.others | held, kept & reader.private, reader.asked, fixed)
    return json.dumps([sorted(names) for names in found]).encode()


def constants(source: str) -> set[str]:
    """Names of the private constants of `const()`: they are no names in bytecode. By the look of a line."""
    return set(_CONSTANT.findall(source))


class _Reader:
    """What the names in a parsed source stand for; see _Names. `foreign` are those of somebody else, of arguments in
    calls and of errors, `imported` those of the package that are imported."""

    def __init__(self, tree: ast.AST):
        self.kept: set[str] = set()
        self.others: set[str] = set()
        self.private: set[str] = set()
        self.asked: set[str] = set()
        self.foreign: set[str] = set()
        self.imported: set[str] = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                self._import(node)
        waiting = [(tree, False)]
        while waiting:
            node, local = waiting.pop()
            self._look(node, local)
            local = local or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            waiting.extend((inner, local) for inner in ast.iter_child_nodes(node))

    def _import(self, node: ast.Import | ast.ImportFrom) -> None:
        ours = isinstance(node, ast.ImportFrom) and (node.level > 0 or (node.module or "").startswith("sentill"))
        for alias in node.names:
            names = {*alias.name.split("."), alias.asname or alias.name}
            (self.imported if ours else self.foreign).update(names)
            self.others |= names

    def _look(self, node: ast.AST, local: bool) -> None:
        if isinstance(node, ast.Name):
            if not local:
                self.others.add(node.id)
                if isinstance(node.ctx, ast.Store):
                    self._own(node.id)
        elif isinstance(node, ast.Attribute):
            self.others.add(node.attr)
            self.asked.add(node.attr)
            of = node.value.id if isinstance(node.value, ast.Name) else ""
            if of in self.foreign:
                self.foreign.add(node.attr)
            elif isinstance(node.ctx, ast.Store):
                self.kept.add(node.attr)
                if of == "self":
                    self._own(node.attr)
        elif isinstance(node, ast.arg):
            self.kept.add(node.arg)
        elif isinstance(node, ast.keyword):
            self.foreign.add(node.arg or "")
        elif isinstance(node, ast.Global):
            self.others.update(node.names)
            self.kept.update(node.names)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            self.others.add(node.name)
            self._own(node.name)
            if any("asm_thumb" in ast.unparse(by) for by in node.decorator_list):
                # Instructions, registers and labels.
                self.foreign.update(inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name))
                self.foreign.update(argument.arg for argument in node.args.args)
        elif isinstance(node, ast.ClassDef):
            if node.name.endswith("Error"):
                self.foreign.add(node.name)
            self.others.add(node.name)
            self._own(node.name)

    def _own(self, name: str) -> None:
        self.kept.add(name)
        if name[0] == "_":
            self.private.add(name)


def _replace(source: str, names: Mapping[str, str]) -> str:
    return _TOKEN.sub(lambda match: names.get(match["name"] or "", match[0]), source)
