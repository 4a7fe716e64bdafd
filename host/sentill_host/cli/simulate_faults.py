"""`sentill simulate faults`: what the node makes of the fault library, and readings for other tools."""

import csv
import io
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from sentill_host import user_files
from sentill_host.board import catalogue
from sentill_host.cli.output import err, out, print_json, print_table
from sentill_host.health import fault_scenario
from sentill_host.health import faults as library
from sentill_host.health.fault_scenario import STEP_S


def faults(
    name: Annotated[str, typer.Option("--fault", help="One fault; all without it.")] = "",
    board: Annotated[str, typer.Option(help="Board whose channels are simulated.")] = "SIM",
    seeds: Annotated[int, typer.Option(min=1, help="Lives per fault.")] = 3,
    seed: Annotated[int, typer.Option(help="First seed; the same seed gives the same lives.")] = 0,
    target: Annotated[
        Path | None,
        typer.Option("--out", help="Write raw readings: of the first life to FILE.csv, or of every life to a folder."),
    ] = None,
    scenario: Annotated[
        Path | None, typer.Option(help="Write --fault as a scenario for `sentill virtual up --scenario`.")
    ] = None,
    warp: Annotated[int, typer.Option(min=1, max=3600, help="How many times as fast the scenario runs.")] = 1800,
    json: Annotated[bool, typer.Option("--json", help="Results as JSON on stdout.")] = False,
) -> None:
    """Let hardware faults take their course on simulated channels and show when the node warns, and of what."""
    specs = catalogue.load(board).data.get("channels", [])
    if scenario:
        _write_scenario(scenario, specs, name, seed, warp)
        return
    chosen = [library.find(name)] if name else list(library.FAULTS.values())
    results = []
    for fault in chosen:
        for k in range(seed, seed + seeds):
            course = library.simulate(specs, fault, k, all_channels=False)
            outcome = library.watch(specs, course)
            first = outcome.warnings[outcome.false] if len(outcome.warnings) > outcome.false else None
            results.append({
                "fault": fault.name, "seed": k, "lead_h": None if outcome.lead_h is None else round(outcome.lead_h, 1),
                "wanted_h": fault.lead_h, "channel": first[1] if first else "", "cause": first[2] if first else "",
                "false": outcome.false,
            })  # fmt: skip
            if target and target.suffix != ".csv":
                _write(target / f"{fault.name}-{k:04}.csv", course)
            elif target and fault is chosen[0] and k == seed:
                _write(target, course)
    if json:
        print_json(results)
        return
    print_table(_table(results))


def _write_scenario(target: Path, specs: list[dict[str, Any]], name: str, seed: int, warp: int) -> None:
    text, begin_s, fail_s = fault_scenario.write(specs, library.find(name), seed, warp)
    user_files.save(target, text)
    out.print(f"{target}: the fault begins after {begin_s:.0f} s and leads to the failure after {fail_s:.0f} s")
    sample_ms = max(100, 1000 * STEP_S // warp)
    err.print(f"`sentill virtual up --scenario {target}` plays it, for a node configured with sample_ms = {sample_ms}")


def _table(results: list[dict[str, Any]]) -> Table:
    view = Table("fault", "seed", "warned before the failure", "wanted", "by", "cause", "false", box=None)
    for row in results:
        lead = "not at all" if row["lead_h"] is None else f"{row['lead_h']:.1f} h"
        view.add_row(
            row["fault"],
            str(row["seed"]),
            lead,
            f"{row['wanted_h']:g} h",
            row["channel"],
            row["cause"],
            str(row["false"]),
        )
    return view


def _write(target: Path, course: library.Course) -> None:
    text = io.StringIO(newline="")
    rows = csv.writer(text)
    rows.writerow(["t", *course.raw])
    rows.writerows(zip(course.times_s, *course.raw.values(), strict=True))
    user_files.save(target, text.getvalue())
