"""The `sentill` command: every verb lives in a module of this package; nothing else in the package prints or exits."""

import os
import signal
import sys
import tempfile
import traceback
from importlib import import_module
from types import FrameType
from typing import NoReturn

import typer
import typer.core
from rich.markup import escape

from sentill import __version__
from sentill_host import user_files
from sentill_host.cli.output import err
from sentill_host.errors import PlatformError, SentillHostError


def _show_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"sentill {__version__}\n")
        raise typer.Exit


def _root(
    version: bool = typer.Option(False, "--version", callback=_show_version, is_eager=True, help="Show the version."),
) -> None:
    """Deploy, watch and audit the sensor node inside a payment terminal."""


INTERRUPTED = 130
EXIT_CODES = (
    "Exit codes: 0 done, 1 failed, 2 wrong request, 3 board not reachable, 4 verification failed, 5 this computer "
    f"lacks something (a program, space on the disk), {INTERRUPTED} interrupted."
)

# Who needs which verbs, and for each verb its module in this package and the function or group of commands there.
PANELS = {
    "Operators: nodes onto terminals": {
        "ports": ("ports", "ports"),
        "flash": ("flash", "flash"),
        "deploy": ("deploy", "deploy"),
        "rollback": ("deploy", "rollback"),
        "bundle": ("bundle", "app"),
        "fleet": ("fleet", "app"),
        "doctor": ("doctor", "doctor"),
        "policy": ("policy", "app"),
    },
    "Keys and access": {
        "keys": ("keys", "app"),
        "provision": ("access", "provision"),
        "unlock": ("access", "unlock"),
        "lock": ("access", "lock"),
        "order": ("access", "order"),
    },
    "Technicians and auditors: what a node tells": {
        "monitor": ("monitor", "monitor"),
        "health": ("health", "health"),
        "channels": ("channels", "channels"),
        "clock": ("clock", "clock"),
        "journal": ("journal", "app"),
    },
    "Developers: no hardware needed": {
        "demo": ("demo", "demo"),
        "virtual": ("virtual", "app"),
        "simulate": ("simulate", "app"),
        "replay": ("replay", "replay"),
        "model": ("model", "app"),
        "train": ("train", "command"),
        "wear": ("wear", "app"),
    },
}
VERBS = {name: place for verbs in PANELS.values() for name, place in verbs.items()}


class _InOrder(typer.core.TyperGroup):
    """Shows its verbs in the order of PANELS, groups among commands."""

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        return [name for name in VERBS if name in self.commands]


def build(verb: str = "") -> typer.Typer:
    """The command. With a known `verb` only that one is in it: the modules of all take a second to load."""
    app = typer.Typer(
        name="sentill",
        cls=_InOrder,
        no_args_is_help=True,
        rich_markup_mode="markdown",
        pretty_exceptions_show_locals=False,
        help="Deploy, watch and audit the sensor node inside a payment terminal.",
        epilog=EXIT_CODES,
    )
    app.callback()(_root)
    for panel, verbs in PANELS.items():
        for name, (module, attribute) in verbs.items():
            if verb not in VERBS or verb == name:
                value = getattr(import_module(f"sentill_host.cli.{module}"), attribute)
                if isinstance(value, typer.Typer):
                    app.add_typer(value, name=name, rich_help_panel=panel)
                else:
                    app.command(name, rich_help_panel=panel)(value)
    return app


def __getattr__(name: str) -> typer.Typer:
    """`app` is the command with all its verbs, made when it is asked for."""
    if name == "app":
        return build()
    raise AttributeError(name)


def _terminated(signum: int, frame: FrameType | None) -> None:
    # Unwinds like Ctrl-C, so that boards are put back to work and children end.
    sys.exit(128 + signum)


def main() -> None:
    """Runs a verb, turns failures into a message and an exit code."""
    signal.signal(signal.SIGTERM, _terminated)
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as nohup leaves it
        signal.signal(signal.SIGHUP, _terminated)
    _ready_streams()
    try:
        try:
            build(sys.argv[1] if len(sys.argv) > 1 else "")()
        finally:
            sys.stdout.flush()
    except SentillHostError as error:
        _fail(str(error), error.hint, error.exit_code)
    except KeyboardInterrupt:
        err.print("interrupted")
        sys.exit(INTERRUPTED)
    except SystemExit as end:
        if end.code == INTERRUPTED:  # typer has turned Ctrl-C into it
            err.print("interrupted")
        raise
    except BrokenPipeError:  # whoever reads has seen enough
        _drop_output()
        sys.exit(1)
    except OSError as error:
        _drop_output()
        told = user_files.failure(str(error.filename or "a file or the output"), error)
        _fail(str(told), told.hint, PlatformError.exit_code)
    except Exception as error:
        hint = f"this is Sentill's own fault: report it with {_kept()}"
        _fail(f"unexpected {type(error).__name__}: {error}", hint, 1)


def _ready_streams() -> None:
    """Letters that a terminal lacks become question marks there; output that was closed goes nowhere."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115  (open until the end)
        getattr(sys, name).reconfigure(errors="replace")


def _drop_output() -> None:
    """What stdout still holds cannot go where it should: at the end Python would fail on it with a code of its own."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(message: str, hint: str, exit_code: int) -> NoReturn:
    err.print(f"[bold red]error:[/] {escape(message)}")
    for line in filter(None, hint.splitlines()):
        err.print(f"[bold]try:[/] {escape(line)}")
    sys.exit(exit_code)


def _kept() -> str:
    """The file that tells where the present exception came from (no values: they may be secret)."""
    try:
        with tempfile.NamedTemporaryFile("w", prefix="sentill-", suffix=".txt", delete=False, encoding="utf-8") as file:
            traceback.print_exc(file=file)
    except OSError:
        return "what you did"
    return file.name
