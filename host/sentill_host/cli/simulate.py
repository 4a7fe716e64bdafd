"""`sentill simulate`: make data for tests and trials."""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.table import Table

from sentill_host.cli import simulate_faults
from sentill_host.cli.output import out, print_json, print_table
from sentill_host.models import simulate as generator

app = typer.Typer(no_args_is_help=True, help="Generate data for tests and trials.")
app.command()(simulate_faults.faults)


@app.command()
def traffic(
    target: Annotated[Path, typer.Option("--out", help="File to write: .csv or .parquet.")],
    cards: Annotated[int, typer.Option(help="Number of cards.")] = generator.TrafficOptions.cards,
    terminals: Annotated[int, typer.Option(help="Number of terminals.")] = generator.TrafficOptions.terminals,
    days: Annotated[int, typer.Option(help="Days of traffic.")] = generator.TrafficOptions.days,
    rate: Annotated[float, typer.Option(help="Purchases per card and day.")] = generator.TrafficOptions.rate,
    frauds: Annotated[bool, typer.Option(help="Include the four fraud patterns.")] = True,
    seed: Annotated[int, typer.Option(help="The same seed gives the same file.")] = generator.TrafficOptions.seed,
    json: Annotated[bool, typer.Option("--json", help="Summary as JSON on stdout.")] = False,
) -> None:
    """Card transactions with labelled frauds: outliers, compromised terminals, leaked cards, card testing."""
    table = generator.traffic(generator.TrafficOptions(cards, terminals, days, rate, frauds, seed))
    generator.write(table, target)
    counts = np.bincount(table["scenario"].to_numpy(), minlength=len(generator.SCENARIOS)).tolist()
    summary = dict(zip(generator.SCENARIOS, counts, strict=True))
    if json:
        print_json({"file": str(target), "transactions": table.num_rows, "scenarios": summary})
        return
    view = Table("pattern", "transactions", "share", box=None)
    for name, count in summary.items():
        view.add_row(name, f"{count:,}", f"{count / max(table.num_rows, 1):.3%}")
    out.print(f"{target}: {table.num_rows:,} transactions of {cards:,} cards at {terminals:,} terminals in {days} days")
    print_table(view)
