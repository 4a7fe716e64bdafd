"""`sentill channels`: what a board can watch, and a configuration that chooses from it."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from sentill.errors import ConfigError
from sentill.health.monitor import MAX_CHANNELS, Monitor
from sentill.node import config as node_config
from sentill_host import user_files
from sentill_host.board import catalogue
from sentill_host.cli.output import err, print_json, print_table
from sentill_host.errors import UsageError


def channels(
    board: Annotated[str, typer.Argument(metavar="BOARD", help="Board id, such as RPI_PICO.")] = "SIM",
    adding: Annotated[list[str] | None, typer.Option("--with", help="Also watch this optional channel.")] = None,
    leaving: Annotated[list[str] | None, typer.Option("--without", help="Do not watch this one.")] = None,
    config: Annotated[
        Path | None, typer.Option(help="Write the choice into this configuration; its other keys stay.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The channels as JSON on stdout.")] = False,
) -> None:
    """Show the health channels of a board, and those it can have once their sensor is fitted.

    `sentill channels RPI_PICO --with tamper --with light --config config.json` writes a configuration for `sentill
    deploy --config`. Pins and limits in it can be edited before.
    """
    data = catalogue.load(board).data
    chosen = choose(data["channels"], data["optional"], adding or [], leaving or [])
    if config:
        write(config, chosen)
        err.print(f"{config}: {len(chosen)} channels; `sentill deploy PORT --config {config}` takes them to the board")
    if as_json:
        print_json({"channels": chosen, "optional": [c for c in data["optional"] if c not in chosen]})
    elif not config:
        print_table(_table(chosen, [c for c in data["optional"] + data["channels"] if c not in chosen]))


def choose(
    own: list[dict[str, Any]], optional: list[dict[str, Any]], adding: list[str], leaving: list[str]
) -> list[dict[str, Any]]:
    """The board's channels with and without those named. Raises UsageError for unknown names and too many channels."""
    known = {channel["name"]: channel for channel in [*own, *optional]}
    for name in [*adding, *leaving]:
        if name not in known:
            raise UsageError(f"no channel {name!r}", "there are " + ", ".join(known))
    chosen = [c for c in own if c["name"] not in leaving]
    chosen += [known[name] for name in dict.fromkeys(adding) if known[name] not in chosen]
    if len(chosen) > MAX_CHANNELS:
        raise UsageError(f"{len(chosen)} channels, a node has {MAX_CHANNELS} at most", "leave some out with --without")
    return chosen


def write(path: Path, chosen: list[dict[str, Any]]) -> None:
    """Put the channels into the configuration file, which is checked by the node's own rules. Raises UsageError."""
    try:
        values = json.loads(user_files.read_text(path)) if path.exists() else {}
        values["channels"] = chosen
        Monitor(chosen)
        text = json.dumps(values, indent=1)
        node_config.parse(json.dumps(values, separators=(",", ":")).encode())
    except ConfigError as error:
        raise UsageError(f"{path}: {error.message}") from None
    except (ValueError, TypeError) as error:
        raise UsageError(f"{path} is no configuration: {error}") from None
    user_files.save(path, text + "\n")


def _table(chosen: list[dict[str, Any]], others: list[dict[str, Any]]) -> Table:
    view = Table("", "channel", "unit", "source", "warns", "fails", box=None)
    for mark, group in (("*", chosen), ("", others)):
        for channel in group:
            view.add_row(
                mark, channel["name"], channel.get("unit", ""), channel["source"], _limits(channel, "warn"),
                _limits(channel, "fail"),
            )  # fmt: skip
    view.caption = "* is watched; the others by --with NAME"
    return view


def _limits(channel: dict[str, Any], which: str) -> str:
    low, high = channel.get(f"lo_{which}"), channel.get(f"hi_{which}")
    return " ".join([f"<{low}"] * (low is not None) + [f">{high}"] * (high is not None))
