"""Files that people write, checked against a type: what is wrong is told with file, line, key and what was meant.

    profile = schema.read(path, Profile)

The types are msgspec structs: small to install, strict, with a JSON Schema for editors.
"""

import re
import tomllib
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar, get_args

import msgspec

from sentill_host.errors import UsageError

MOST_BYTES = 1 << 20
MOST_DEPTH = 20

T = TypeVar("T")
_TABLE = re.compile(r"\s*(\[\[?)\s*([\w.\"' -]+?)\s*\]\]?\s*(#.*)?$")
_KEY = re.compile(r"\s*([\w.\"'-]+)\s*=")
_PATH = re.compile(r" - at `\$?(.*)`$")


def read(path: Path, kind: type[T]) -> T:
    """What the TOML file `path` says, as a `kind` (a msgspec.Struct). Raises UsageError."""
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    if len(data) > MOST_BYTES:
        raise UsageError(f"{path} has more than {MOST_BYTES >> 20} MB")
    try:
        return parse(data.decode("utf-8-sig"), kind, str(path))
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise UsageError(f"{path}:{line}: not UTF-8 text") from None


def parse(text: str, kind: type[T], name: str) -> T:
    """As `read`, from `text`; errors name the file `name`."""
    deepest = depth = 0
    for c in text:
        depth += (c in "[{") - (c in "]}")
        deepest = max(deepest, depth)
    try:
        if deepest > MOST_DEPTH:
            raise RecursionError
        return msgspec.convert(tomllib.loads(text), kind)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{name}:{_line_in(str(error), text)}: {_plain(str(error))}") from None
    except (RecursionError, ValueError, OverflowError) as error:
        if not isinstance(error, msgspec.ValidationError):
            raise UsageError(f"{name}: nested too deeply, or a number is too long") from None
        raise UsageError(_located(text, kind, name, str(error))) from None


def line_of(text: str, path: list[str | int]) -> int:
    """The line of a key, such as ["limit", 2, "amount"], or of the table it should be in; 1 where neither is."""
    best, best_line = 0, 1
    for here, line in _places(text):
        common = 0
        while common < min(len(here), len(path)) and here[common] == path[common]:
            common += 1
        if common > best and common == len(here):
            best, best_line = common, line
    return best_line


def _places(text: str) -> list[tuple[list[str | int], int]]:
    """Where the tables and keys of a TOML text are: path and line. Keys within values are not looked for."""
    found: list[tuple[list[str | int], int]] = []
    counts: dict[str, int] = {}
    table: list[str | int] = []
    for number, line in enumerate(text.splitlines(), 1):
        if heading := _TABLE.match(line):
            table = []
            parts = _parts(heading[2])
            for i, part in enumerate(parts):
                table.append(part)
                known = ".".join(map(str, table))
                if i == len(parts) - 1 and heading[1] == "[[":
                    counts[known] = counts.get(known, -1) + 1
                if known in counts:
                    table.append(counts[known])
            found.append((list(table), number))
        elif key := _KEY.match(line):
            found.append(([*table, *_parts(key[1])], number))
    return found


def _parts(dotted: str) -> list[str]:
    return [part.strip().strip("\"'") for part in dotted.split(".")]


def _located(text: str, kind: Any, name: str, message: str) -> str:
    where = _PATH.search(message)
    path: list[str | int] = []
    for word, number in re.findall(r"\.([\w-]+)|\[(\d+)\]", where[1] if where else ""):
        path.append(word or int(number))
    said = _PATH.sub("", message)
    if unknown := re.search(r"unknown field `(.*)`", said):
        path.append(unknown[1])
        names = _fields(kind, path[:-1])
        close = get_close_matches(unknown[1], names, n=1)
        said = f"there is no key {unknown[1]!r}"
        said += f"; did you mean {close[0]!r}?" if close else f"; keys are {', '.join(names)}"
    elif missing := re.search(r"missing required field `(.*)`", said):
        said = f"the key {missing[1]!r} is missing"
    else:
        said = said[:1].lower() + said[1:]
        if said.startswith("invalid enum value") and path:
            choices = _choices(kind, path)
            value = re.sub(r"^invalid enum value ", "", said).strip("'")
            close = get_close_matches(value, choices, n=1)
            said = f"{value!r} is not one of {', '.join(choices)}" + (f"; did you mean {close[0]!r}?" if close else "")
    key = ".".join(str(part) for part in path if isinstance(part, str))
    return f"{name}:{line_of(text, path)}: {key + ': ' if key else ''}{said}"


def _type_at(kind: Any, path: list[str | int]) -> Any:
    """The type of the value at `path` in a struct; None where that cannot be said."""
    for part in path:
        kind = next((one for one in (kind, *get_args(kind)) if hasattr(one, "__struct_fields__")), kind)
        if isinstance(part, int):
            inner = [one for one in get_args(kind) if one is not type(None)]
            while inner and not hasattr(inner[0], "__struct_fields__") and str(inner[0]).startswith("list"):
                inner = list(get_args(inner[0]))
            kind = inner[0] if inner else None
        elif hasattr(kind, "__struct_fields__"):
            kind = {field.name: field.type for field in msgspec.structs.fields(kind)}.get(part)
        else:
            return None
    return kind


def _fields(kind: Any, path: list[str | int]) -> list[str]:
    at = _type_at(kind, path)
    at = next((one for one in (at, *get_args(at)) if hasattr(one, "__struct_fields__")), at)
    return list(getattr(at, "__struct_fields__", ()))


def _choices(kind: Any, path: list[str | int]) -> list[str]:
    def literals(one: Any) -> list[str]:
        inside = get_args(one)
        return [value for value in inside if isinstance(value, str)] or [v for i in inside for v in literals(i)]

    return literals(_type_at(kind, path))


def _line_in(message: str, text: str) -> int:
    if found := re.search(r"line (\d+)", message):
        return int(found[1])
    return text.count("\n") + 1


def _plain(message: str) -> str:
    return re.sub(r" \(at (line \d+, )?(column (\d+)|end of document)\)", lambda m: f" (column {m[3]})" if m[3] else
                  " (at the end)", message)  # fmt: skip
