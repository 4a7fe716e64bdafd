"""MicroPython code that the deployer runs on a board through the raw REPL; nothing of it is stored there."""

from functools import cache
from importlib.resources import files


@cache
def source(name: str) -> str:
    """Text of the agent file `name`, without comment lines, docstring and blank lines: they only cost transfer time."""
    text = files(__package__).joinpath(f"{name}.py").read_text(encoding="utf-8")
    if text.startswith('"""'):
        text = text.split('"""', 2)[2]
    lines = (line.rstrip() for line in text.splitlines())
    return "\n".join(line for line in lines if line and not line.lstrip().startswith("#")) + "\n"
