"""What people are told to type exists: commands, subcommands and options in README.md, docs/, hints and helps."""

import re
import shlex
from pathlib import Path

import pytest
import typer

from sentill_host.cli import build

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# On a board, or of a board's folder.
ON_BOARDS = {"board.py", "boot.py", "port_NAME.py"}
COMMAND = typer.main.get_command(build())


def commands(text: str) -> list[str]:
    """Lines of code, and spans in running text, that begin with `sentill`."""
    lines = re.findall(r"^(?: {4})?sentill (.*)$", text, re.M)
    # A span may go over a line's end.
    spans = re.findall(r"`sentill\s([^`]+)`", re.sub(r"```.*?```", "", text, flags=re.S))
    return [line.split("   #")[0].split(" | ")[0].strip() for line in lines] + [" ".join(s.split()) for s in spans]


def offence(line: str) -> str:
    """What the command does not know of a line; "" when it knows all."""
    command, words = COMMAND, shlex.split(line, comments=True)
    while words and hasattr(command, "commands"):
        if words[0].startswith("-"):
            break
        if words[0] not in command.commands:
            return f"no command {words[0]}"
        command = command.commands[words.pop(0)]
    known = {name for option in command.params for name in (*option.opts, *option.secondary_opts)} | {"--help"}
    return ", ".join(f"no option {word}" for word in words if word.startswith("-") and word.split("=")[0] not in known)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_what_documents_tell_to_type_exists(path):
    found = commands(path.read_text())
    assert found or path.name in ("README.md", "architecture.md", "glossary.md"), path
    wrong = {line: why for line in found if (why := offence(line))}
    assert not wrong, wrong


def anchors(path: Path) -> set[str]:
    """What a link can point to within a document: its headlines as GitHub spells them."""
    lines = re.findall(r"^#+ (.+)$", path.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-") for line in lines}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_to_what_exists(path):
    wrong = []
    for link in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", path.read_text(), flags=re.S)):
        if "://" in link or link.startswith("mailto:"):
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            wrong.append(link)
    assert not wrong, wrong


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_source_files_that_are_named_exist(path):
    """By their path in the repository, or within one of the two packages, the tests or the tools."""
    places = [ROOT, ROOT / "device", ROOT / "device/sentill", ROOT / "device/frozen", ROOT / "host/sentill_host"]
    places += [path for top in ("tests", "tools") for path in (ROOT / top, *(ROOT / top).iterdir()) if path.is_dir()]
    named = {name for name in re.findall(r"`(\w[\w/]*\.py)`", path.read_text()) if name not in ON_BOARDS}
    missing = {name for name in named if not any((place / name).is_file() for place in places)}
    assert not missing, missing


def test_what_hints_and_helps_tell_to_type_exists():
    wrong = {}
    found = 0
    for path in sorted((ROOT / "host").rglob("*.py")):
        for span in re.findall(r"`sentill ([^`\"\n]+)`", path.read_text()):
            found += 1
            if why := offence(re.sub(r"\{.*\}", " VALUE", span)):
                wrong[f"{path.name}: {span}"] = why
    assert found > 50
    assert not wrong, wrong


def test_what_does_not_exist_is_seen():
    assert offence("frobnicate") == "no command frobnicate"
    assert offence("fleet frobnicate") == "no command frobnicate"
    assert offence("deploy PORT --frob 3") == "no option --frob"
    assert commands("a `sentill fleet\n  status` b\n```\nsentill ports   # c\n```\n") == ["ports", "fleet status"]
