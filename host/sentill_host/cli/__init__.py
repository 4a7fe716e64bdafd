"""The `sentill` command: every verb lives in a module of this package; nothing else in the package prints or exits.

Exit codes: 0 done, 1 failed, 2 wrong request, 3 board not reachable, 4 verification failed, 5 platform lacks something,
130 interrupted.
"""

import signal
import sys
from types import FrameType

import typer
from rich.markup import escape

from sentill import __version__
from sentill_host.cli import (
    bundle,
    channels,
    demo,
    deploy,
    doctor,
    flash,
    health,
    journal,
    model,
    monitor,
    ports,
    replay,
    simulate,
    simulate_faults,
    train,
    virtual,
    wear,
)
from sentill_host.cli.output import err
from sentill_host.errors import SentillHostError

app = typer.Typer(
    name="sentill",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_show_locals=False,
    help="Deploy, watch and audit the sensor node inside a payment terminal.",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"sentill {__version__}\n")
        raise typer.Exit


@app.callback()
def root(
    version: bool = typer.Option(False, "--version", callback=_show_version, is_eager=True, help="Show the version."),
) -> None:
    """Deploy, watch and audit the sensor node inside a payment terminal."""


# One line per verb.
app.command()(demo.demo)
app.command()(deploy.deploy)
app.command()(deploy.rollback)
app.add_typer(bundle.app, name="bundle")
app.command()(flash.flash)
app.command()(monitor.monitor)
app.command()(replay.replay)
app.command()(ports.ports)
app.command()(doctor.doctor)
simulate.app.command()(simulate_faults.faults)
app.add_typer(simulate.app, name="simulate")
app.add_typer(model.app, name="model")
app.command()(health.health)
app.add_typer(journal.app, name="journal")
app.command()(channels.channels)
app.command("train")(train.command)
app.add_typer(virtual.app, name="virtual")
app.add_typer(wear.app, name="wear")


def _terminated(signum: int, frame: FrameType | None) -> None:
    # Unwinds like Ctrl-C, so that boards are put back to work and children end.
    sys.exit(128 + signum)


def main() -> None:
    """Entry point of the `sentill` command: runs a verb, turns expected failures into a message and an exit code."""
    signal.signal(signal.SIGTERM, _terminated)
    try:
        app()
    except SentillHostError as error:
        err.print(f"[bold red]error:[/] {escape(str(error))}")
        if error.hint:
            err.print(f"[bold]try:[/] {escape(error.hint)}")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        err.print("interrupted")
        sys.exit(130)
