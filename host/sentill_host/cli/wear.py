"""`sentill wear`: train the index that tells how long a part will last, and look at one."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from sentill.errors import ModelError
from sentill.health.degradation import WearIndex
from sentill_host import user_files
from sentill_host.board import catalogue
from sentill_host.cli.output import err, out, print_json, print_table
from sentill_host.errors import UsageError, VerifyError
from sentill_host.health import degradation as trainer
from sentill_host.health import degradation_runs

app = typer.Typer(no_args_is_help=True, help="Wear indexes: remaining life from several channels, trained on failures.")
DAY_S = 86400


@app.command()
def train(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN", help="A file per run to failure, or folders: CSV of readings, or the monitor's JSON lines."
        ),
    ],
    inputs: Annotated[str, typer.Option(help="The channels that show the wear, with commas between.")],
    target: Annotated[Path, typer.Option("--out", help="File to write.")] = Path("wear.stw"),
    board: Annotated[str, typer.Option(help="Board whose channels were recorded.")] = "SIM",
    unit_h: Annotated[int, typer.Option(min=1, max=720, help="Hours per unit of life.")] = 24,
    cap: Annotated[int, typer.Option(min=2, max=10_000, help="Longest life told, in units.")] = 30,
    quick: Annotated[int, typer.Option(min=0, max=12, help="The quick mean spans 2^quick units.")] = 1,
    slow: Annotated[int, typer.Option(min=0, max=12, help="The slow mean spans 2^slow units.")] = 4,
    json: Annotated[bool, typer.Option("--json", help="The result as JSON on stdout.")] = False,
) -> None:
    """Train a wear index from runs to failure, and tell how well it does on runs it has not seen.

    A CSV file has a column t in seconds and one per channel; `sentill monitor PORT --json > run.jsonl` writes the other
    kind, until the part fails. `sentill deploy --model` takes the index to the board; a channel with the source
    `wear:models/NAME.stw`, such as that of `sentill channels --with printer_life`, then shows the life left, with a
    band, and warns below its limits. `sentill simulate faults --out FOLDER` makes runs to try it with.
    """
    files: list[Path] = []
    for path in runs:
        found = sorted(path.glob("*.*")) if path.is_dir() else [path]
        if not found:
            raise UsageError(f"the folder {path} is empty", "`sentill simulate faults --out FOLDER` makes runs to try")
        files += found
    names = [name.strip() for name in inputs.split(",")]
    specs = degradation_runs.chosen(catalogue.load(board).data.get("channels", []), names)
    settings = trainer.WearSettings(cap, quick, slow, unit_s=unit_h * 3600)
    courses = [
        degradation_runs.read(f) if f.suffix == ".csv" else degradation_runs.read_frames(f, specs) for f in files
    ]
    seen = [degradation_runs.observe(specs, course, settings.unit_s) for course in courses]
    data = trainer.train(seen, settings, names)
    rmse, covered = degradation_runs.cross_validate(seen, settings)
    user_files.save(target, data)
    if json:
        print_json({
            "file": str(target), "bytes": len(data), "runs": len(files), "unit_h": unit_h, "rmse_units": round(rmse, 2),
            "coverage": round(covered, 3),
        })  # fmt: skip
        return
    out.print(f"{target}: {len(data)} bytes from {len(files)} runs")
    unit = "days" if unit_h == 24 else f"units of {unit_h} h"
    out.print(f"on unseen runs: off by {rmse:.1f} {unit} (root mean square), band holds {covered:.0%}")
    err.print(f"`sentill deploy PORT --model {target}`; a channel with the source wear:models/{target.name} shows it")


@app.command()
def inspect(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A wear index.")],
    json: Annotated[bool, typer.Option("--json", help="As JSON on stdout.")] = False,
) -> None:
    """Check a wear index as the node does, and show its inputs and the lives it tells."""
    data = user_files.read_bytes(file)
    try:
        index = WearIndex(data)
    except ModelError as error:
        raise VerifyError(f"{file}: {error.message}") from None
    knots = [list(index._knots[k : k + 4]) for k in range(0, len(index._knots), 4)]
    if json:
        print_json({"inputs": list(index.names), "unit_s": index.unit_s, "cap": index.cap, "knots": knots})
        return
    inputs = ", ".join(index.names) or f"{index.inputs}, not named"
    out.print(f"inputs: {inputs}\nunit of life: {index.unit_s / 3600:g} h, at most {index.cap}")
    view = Table("index", "life", "low", "high", box=None)
    for knot in knots:
        view.add_row(*map(str, knot))
    print_table(view)
