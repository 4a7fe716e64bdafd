"""`sentill keys`: the key file of a fleet."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from sentill.keys import vault
from sentill_host import user_files
from sentill_host.cli.output import ask, err, print_json, print_table
from sentill_host.deploy.signing import NO_KEYS
from sentill_host.errors import UsageError
from sentill_host.keys.key_file import PASSWORD, PATH, KeyFile, default_path

app = typer.Typer(no_args_is_help=True, help="The key file of a fleet: make it, look at it, change its password.")

KeysOption = Annotated[
    Path | None,
    typer.Option("--keys", help=f"Key file; without it ${PATH} or the user's own.", show_default=False),
]
PasswordOption = Annotated[
    Path | None,
    typer.Option(help=f"File whose first line is the password; without it ${PASSWORD}, or asked.", show_default=False),
]
ProfileOption = Annotated[
    str, typer.Option(help="Profile of boards that get their first keys: open, service, sealed; none gives none.")
]


def require_profile(name: str) -> None:
    """Raise UsageError unless `name` is one of ProfileOption's."""
    if name not in (*vault.PROFILES, NO_KEYS):
        raise UsageError(f"no profile {name!r}", "one of " + ", ".join((*vault.PROFILES, NO_KEYS)))


def password(file: Path | None, twice: bool = False) -> str:
    """The password from a file, the environment, or a person. Raises UsageError where nobody can be asked."""
    if file is not None:
        return user_files.read_text(file).split("\n", 1)[0]
    given = os.environ.get(PASSWORD)
    if given is not None:
        if not given.isascii() and "\udc80" <= max(given) <= "\udcff":  # bytes that are no text
            raise UsageError(f"${PASSWORD} is no text in UTF-8")
        return given
    if not sys.stdin.isatty():
        raise UsageError("the key file needs its password", f"--password-file FILE, or ${PASSWORD}")
    return str(ask("Password of the key file", hide_input=True, confirmation_prompt=twice))


def open_keys(path: Path | None, password_file: Path | None) -> KeyFile:
    """The key file that a command shall use. Raises UsageError."""
    where = path or default_path()
    if not where.exists():
        raise UsageError(f"no key file {where}", "`sentill keys new` makes one; --keys names another")
    return KeyFile.open(where, password(password_file))


def keys_at_hand(path: Path | None, password_file: Path | None) -> KeyFile | None:
    """The same for commands that need keys only on locked boards: None without a key file.

    One that is named must be there: a slip of the pen shall not leave boards without keys.
    """
    named = path or os.environ.get(PATH)
    return open_keys(path, password_file) if named or default_path().exists() else None


@app.command()
def new(keys: KeysOption = None, password_file: PasswordOption = None) -> None:
    """Make a key file with a fresh master secret. Keep a copy of it: without it no device can be opened again."""
    where = keys or default_path()
    KeyFile.create(where, password(password_file, twice=True))
    err.print(f"{where}: made; keep a copy and the password at a safe place")


@app.command()
def show(
    keys: KeysOption = None,
    password_file: PasswordOption = None,
    json: Annotated[bool, typer.Option("--json", help="JSON on stdout.")] = False,
) -> None:
    """Show which devices were given keys, and of which generation. No secret is shown."""
    opened = open_keys(keys, password_file)
    if json:
        print_json({"path": str(opened.path), "devices": opened.devices})
        return
    table = Table("device", "generation", box=None)
    for uid, generation in sorted(opened.devices.items()):
        table.add_row(uid, str(generation))
    print_table(table)
    err.print(f"{opened.path}: {len(opened.devices)} device{'s' * (len(opened.devices) != 1)}")


@app.command()
def passwd(
    keys: KeysOption = None,
    password_file: PasswordOption = None,
    new_password_file: Annotated[
        Path | None, typer.Option(help="File whose first line is the new password.", show_default=False)
    ] = None,
) -> None:
    """Change the password of the key file."""
    opened = open_keys(keys, password_file)
    if new_password_file is None and not sys.stdin.isatty():
        raise UsageError("nobody can be asked for the new password", "--new-password-file FILE")
    if new_password_file is not None:
        fresh = password(new_password_file)
    else:
        fresh = str(ask("New password", hide_input=True, confirmation_prompt=True))
    opened.protect(fresh)
    err.print(f"{opened.path}: password changed")
