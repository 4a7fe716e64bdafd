"""The device package as a graph: its modules, what each imports, and an order that respects it."""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DEVICE = ROOT / "device"
LOADERS = {
    "native": ("",),
    "borrow": ("",),
    "borrow_at_once": ("",),
    "Lent": ("",),
    "kernels": ("", "_viper", "_thumb"),
}


def modules() -> dict[str, Path]:
    """Every module of the device package by dotted name (`sentill.hal.hardware`), the package itself as `sentill`."""
    found = {}
    for path in sorted((DEVICE / "sentill").rglob("*.py")):
        parts = path.relative_to(DEVICE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(name: str, path: Path, tree: ast.AST | None = None) -> set[str]:
    """Absolute names of all that the module `name` imports, at any depth; `from x import y` gives x and x.y.

    Also what it has compat load by name: `native("x")` and `borrow("x")` give sentill.x, `borrow("room", "x")` gives
    sentill.room.x, `kernels` its twins too.
    """
    package = name if path.stem == "__init__" else name.rpartition(".")[0]
    found = set()
    for node in ast.walk(tree or ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".")
                base = ".".join([*parts[: len(parts) - node.level + 1], *([node.module] if node.module else [])])
                found.add(base)
            found |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in LOADERS:
            parts = [arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
            if parts:
                found |= {f"sentill.{'.'.join(parts)}{ending}" for ending in LOADERS[node.func.id]}
    return found


def in_import_order() -> list[str]:
    """Names of all modules, each after those it imports."""
    known = modules()
    order: list[str] = []

    def visit(name: str, above: tuple[str, ...]) -> None:
        if name in order or name in above:
            return
        for other in sorted(imports(name, known[name]) & known.keys()):
            visit(other, (*above, name))
        order.append(name)

    for name in known:
        visit(name, ())
    return order
