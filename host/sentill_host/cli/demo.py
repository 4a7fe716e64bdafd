"""`sentill demo`: the node at work on a virtual board."""

import io
import re
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console, Group
from rich.panel import Panel
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from sentill_host import demo as show
from sentill_host import user_files
from sentill_host.cli.health import STATE_STYLES
from sentill_host.cli.output import err, out, print_json

_WIDTH = 100


def demo(
    svg: Annotated[Path | None, typer.Option(help="Also write the summary as an SVG picture.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Summary as JSON on stdout.")] = False,
) -> None:
    """Show the node at work: deploy to a virtual board, replay two months of a terminal, break its supply.

    Takes about a minute. Exit code 0 when everything checked at the end holds, else 1. Leaves nothing behind.
    """
    bars = Progress(
        TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn(),
        console=err, transient=True, disable=not err.is_terminal,
    )  # fmt: skip
    with bars:
        task = bars.add_task("starting", total=None)
        last = ""

        def notify(step: str, done: int, total: int) -> None:
            nonlocal last
            bars.update(task, description=step, completed=done, total=total or None)
            if step != last and not err.is_terminal:
                err.print(f"{step} ...")
            last = step

        result = show.run(notify)
    if json:
        print_json(
            {
                "ok": result.ok,
                "checks": {text: held for held, text in result.checks()},
                **result.counts(),
                "health_events": result.health_events,
                "journalled": result.journalled(),
                **result.report.summary(),
                "seconds_in_all": round(result.seconds, 1),
            }
        )
    else:
        out.print(_summary(result), soft_wrap=False)
    if svg is not None:
        picture = Console(record=True, width=_WIDTH, file=io.StringIO())
        picture.print(_summary(result))
        drawing = picture.export_svg(title="sentill demo")
        # Without the fonts it would load from the network: the picture stands on its own.
        user_files.save(svg, re.sub(r"@font-face \{[^}]*\}\s*", "", drawing))
    if not result.ok:
        raise typer.Exit(1)


def _summary(result: show.Demo) -> Panel:
    counts, latency, report = result.counts(), result.report.latency(), result.report
    caught, frauds = counts["caught"], counts["frauds"]
    quiet, alarms = counts["quiet"], counts["quiet_false_alarms"]
    first, last = (t // 86_400 for t in result.compromised)
    declined = report.verdicts()["decline"]
    facts = Table.grid(padding=(0, 3))
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column()
    facts.add_row(
        "Deployed",
        f"version {result.deployed.version}: {len(result.deployed.copied)} files, "
        f"{result.deployed.copied_bytes / 1024:.0f} KB, each verified on the board, {result.deployed.seconds:.1f} s",
    )
    facts.add_row(
        "Transactions", f"{report.sent:,} of one terminal in {result.days} days, replayed in {report.seconds:.0f} s"
    )
    facts.add_row(
        "Frauds caught",
        Text.assemble(
            (f"{caught} of {frauds}", "bold green"),
            f" ({caught / max(frauds, 1):.0%}). Criminals ran the terminal from day {first} to {last - 7}; "
            "labels come seven days late, so the first seven days pass unseen.",
        ),
    )
    facts.add_row(
        "False alarms",
        Text.assemble(
            (f"{alarms} of {quiet:,}", "bold green"),
            f" genuine transactions on quiet days ({alarms / max(quiet, 1):.1%}); "
            f"{counts['false_alarms'] - alarms} more while the terminal was compromised, up to seven days on",
        ),
    )
    facts.add_row(
        "Verdicts",
        f"{report.verdicts()['approve']:,} approve, {report.verdicts()['review']} review, {declined} decline",
    )
    facts.add_row(
        "Latency",
        f"{_ms(latency['device_us'])} on the virtual board, {_ms(latency['round_trip_us'])} round trip",
    )
    events = Text()
    for event in result.health_events[-4:]:
        state = str(event.get("st", ""))
        events.append(f"{event.get('name')} ", style="bold").append(state, style=STATE_STYLES.get(state, ""))
        events.append(f" at {event.get('raw')} {event.get('u')}  {event.get('adv', '')}\n")
    if result.audit:
        proven = len(result.audit.records)
        facts.add_row(
            "Journal", f"{proven:,} records pulled, {result.journalled():,} of them verdicts, all proven by the chain"
        )
    facts.add_row("Health events", events if result.health_events else Text("none", style="red"))
    checks = Text("\n")
    for held, text in result.checks():
        checks.append(" ✔ " if held else " ✘ ", style="green" if held else "bold red").append(text + "\n")
    more = Text(
        "\nNext: `sentill virtual up` keeps a board running, `sentill deploy PORT` and `sentill monitor PORT` "
        "work on it and on real boards, `sentill replay FILE --uart PORT` plays your own transactions.",
        style="dim",
    )
    title = "the demo succeeded" if result.ok else "the demo FAILED"
    return Panel(
        Group(facts, checks, more),
        title=f"[bold]Sentill: {title} in {result.seconds:.0f} s[/]",
        border_style="green" if result.ok else "red",
        width=_WIDTH,
        padding=(1, 2),
    )


def _ms(values: dict[str, int]) -> str:
    return f"{values['p50'] / 1000:.2f} ms (99 of 100 below {values['p99'] / 1000:.2f})"
