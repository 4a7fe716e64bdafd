"""`sentill provision`, `unlock`, `lock`, `order`: who may do what with a device."""

from pathlib import Path
from typing import Annotated

import typer

from sentill.keys import vault
from sentill_host import user_files
from sentill_host.board.link import Link
from sentill_host.cli.keys import KeysOption, PasswordOption, open_keys
from sentill_host.cli.output import err, out, print_json
from sentill_host.errors import UsageError
from sentill_host.keys.key_file import device_id
from sentill_host.node import access
from sentill_host.node.client import NodeClient

PortArgument = Annotated[str, typer.Argument(metavar="PORT", help="Serial port of the board (USB).")]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON on stdout.")]
MinutesOption = Annotated[int, typer.Option(min=1, max=480, help="Length of the session.")]
_BOOT_S = 30.0
_POLICY = {"erase": vault.ERASE, "lock": vault.LOCK, "refuse": vault.REFUSE}


def provision(
    port: PortArgument,
    profile: Annotated[str, typer.Option(help="open, service or sealed.")] = "service",
    tamper: Annotated[str, typer.Option(help="What a tamper event does: none, or of erase,lock,refuse.")] = (
        "erase,lock,refuse"
    ),
    blank: Annotated[
        bool, typer.Option("--blank", help="You erased its flash: that it knows no keys any more is as it should be.")
    ] = False,
    keys: KeysOption = None,
    password_file: PasswordOption = None,
    json: JsonOption = False,
) -> None:
    """Give a board its first keys, new ones, or another profile; it restarts with them.

    Also the only way back after a tamper event erased them: inspect the terminal first. The first keys travel over the
    cable in the clear, so give them at a place you trust; later ones travel under those they replace.
    """
    if profile not in vault.PROFILES:
        raise UsageError(f"no profile {profile!r}", "one of " + ", ".join(vault.PROFILES))
    words = [] if tamper == "none" else tamper.split(",")
    if not set(words) <= _POLICY.keys():
        raise UsageError(f"unknown tamper response in {tamper!r}", "none, or of " + ",".join(_POLICY))
    opened = open_keys(keys, password_file)
    with Link(port) as link:
        client = NodeClient(link, "provision --blank" if blank else "")
        before = access.provision(client, opened, profile, sum(_POLICY[word] for word in set(words)), blank)
        fields = access.await_generation(client, before.fresh, _BOOT_S)
        frozen = access.frozen_start(client)
    if json:
        told = {"port": port, "uid": before.uid, "generation": fields["gen"], "profile": fields["prof"]}
        print_json(told | {"frozen_start": frozen})
    else:
        was = f" (was {before.profile}, generation {before.generation})" if before.generation else ""
        out.print(f"{port}: {before.uid} has keys of generation {fields['gen']}, profile {fields['prof']}{was}")
    if profile == "sealed" and not frozen:
        err.print(f"{port}: sealed, but {access.NOT_FROZEN}; {access.FREEZE}")


def unlock(
    port: PortArgument,
    minutes: MinutesOption = access.MINUTES,
    order: Annotated[
        Path | None, typer.Option(help="Maintenance order in place of the key file.", show_default=False)
    ] = None,
    keys: KeysOption = None,
    password_file: PasswordOption = None,
    json: JsonOption = False,
) -> None:
    """Let people at a locked board's REPL for some minutes: then Ctrl-C stops the node, and deploy works.

    Also tells an older copy of the key file of a board that was given keys since; such keys are tried without counting
    as an answer. A wrong answer makes the board refuse the next for 2, 4, 8, ... seconds; the tenth is a tamper event.
    A reset ends the session.
    """
    opened = None if order else open_keys(keys, password_file)
    given = access.Order.read(user_files.read_text(order)) if order else None
    with Link(port) as link:
        client = NodeClient(link)
        state = access.challenge(client)
        if given is not None:
            state = access.follow(client, given, state)
        elif opened is not None:
            access.prove(client, opened, state)
            state = access.unlock(client, opened, minutes, state)
    if json:
        print_json({"port": port, "uid": state.uid, "profile": state.profile, "left_s": state.left_s})
    elif state.profile == "open":
        err.print(f"{port}: profile open, nothing to unlock")
    else:
        out.print(f"{port}: unlocked for {state.left_s // 60} min {state.left_s % 60} s")


def lock(
    port: PortArgument, keys: KeysOption = None, password_file: PasswordOption = None, json: JsonOption = False
) -> None:
    """End a session at once: also where the node was stopped for the prompt; the board is reset then."""
    with Link(port) as link:
        state = access.lock(NodeClient(link), open_keys(keys, password_file))
    if json:
        print_json({"port": port, "uid": state.uid, "profile": state.profile, "left_s": 0})
    else:
        out.print(f"{port}: " + ("locked" if state.left_s else f"no session was open, profile {state.profile}"))


def order(
    uid: Annotated[str, typer.Argument(metavar="UID", help="Unique id of the device, 16 hex digits.")],
    out_file: Annotated[Path, typer.Option("--out", "-o", help="Where to write the order.")],
    number: Annotated[int, typer.Option(help="Opens once; the device takes the next it tells, or up to 1000 ahead.")],
    minutes: MinutesOption = access.MINUTES,
    keys: KeysOption = None,
    password_file: PasswordOption = None,
) -> None:
    """Sign a maintenance order: whoever has the file can open this one device, once, for so long."""
    device_id(uid)
    opened = open_keys(keys, password_file)
    if not opened.newest(uid):
        raise UsageError(
            f"device {uid} was given no keys that {opened.path} knows of",
            "where the file is an older copy, `sentill unlock PORT` tells it of the board",
        )
    user_files.save(out_file, access.issue(opened, uid, number, minutes).text())
    err.print(f"{out_file}: opens device {uid} once, for {minutes} minutes")
