"""`sentill policy`: limits and budgets that people write, as the node keeps them."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.markup import escape
from rich.table import Table

from sentill_host import user_files
from sentill_host.cli.output import out, print_json, print_table
from sentill_host.policy import compiler, source, words

app = typer.Typer(no_args_is_help=True, help="Limits, budgets and alerts: write, check, compile.")

FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="Profile of limits, TOML.")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]


@app.command()
def check(path: FileArgument, json: JsonOption = False) -> None:
    """Say whether a profile is right, and what it takes on a node."""
    profile, image = _compiled(path)
    about = _about(path, profile, image)
    if json:
        print_json(about)
        return
    out.print(f"[green]right[/]  {escape(str(path))}: {profile.id} version {profile.version}, "
              f"{len(profile.limit)} limits in {about['limits']} parts")  # fmt: skip
    out.print(f"       {about['bytes']} bytes, {about['bytes_kept']} of them in memory; "
              f"a card takes {about['bytes_card']} bytes more while it is in use")  # fmt: skip


@app.command("compile")
def compile_(
    path: FileArgument,
    target: Annotated[Path | None, typer.Option("--out", "-o", help="File to write; default: ID.spl here.")] = None,
    json: JsonOption = False,
) -> None:
    """Turn a profile into what a node reads. The same file gives the same bytes on the same day."""
    profile, image = _compiled(path)
    target = target or Path(f"{profile.id}.spl")
    user_files.save(target, image.data)
    if json:
        print_json({**_about(path, profile, image), "out": str(target)})
        return
    out.print(f"[green]compiled[/] {escape(str(target))}: {len(image.data)} bytes")


@app.command()
def explain(path: FileArgument, json: JsonOption = False) -> None:
    """Say in words what each limit of a profile means."""
    profile = source.read(path)
    if json:
        print_json({limit.id: words.explain(profile, limit) for limit in profile.limit})
        return
    for limit in profile.limit:
        out.print(f"[bold]{limit.id}[/]" + (f" ({escape(limit.name)})" if limit.name else ""))
        out.print("  " + words.explain(profile, limit), markup=False)


@app.command()
def categories(
    text: Annotated[str, typer.Argument(help="Part of a name, or a number.")] = "", json: JsonOption = False
) -> None:
    """List the names that categories have, and their numbers (ISO 18245)."""
    found = {
        name: span for name, span in source.CATEGORY_RANGES.items()
        if text.lower() in name or (text.isdecimal() and span[0] <= int(text) <= span[1])
    }  # fmt: skip
    if json:
        print_json({name: list(span) for name, span in found.items()})
        return
    table = Table("name", "numbers", box=None)
    for name, (first, last) in sorted(found.items(), key=lambda item: item[1]):
        table.add_row(name, str(first) if first == last else f"{first}-{last}")
    print_table(table)


@app.command()
def schema() -> None:
    """Write the JSON Schema of a profile, for editors."""
    print_json(msgspec.json.schema(source.Profile))


def _compiled(path: Path) -> tuple[source.Profile, compiler.Image]:
    profile = source.read(path)
    return profile, compiler.compile_profile(profile, datetime.now(UTC).date())


def _about(path: Path, profile: source.Profile, image: compiler.Image) -> dict[str, object]:
    return {
        "path": str(path), "id": profile.id, "version": profile.version, "number": compiler.number_of(profile.id),
        "limits": len(image.limits), "bytes": len(image.data), "bytes_kept": image.kept_bytes,
        "bytes_card": image.card_bytes,
    }  # fmt: skip
