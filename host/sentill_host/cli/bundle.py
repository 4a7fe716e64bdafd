"""`sentill bundle`: a version of the node's software in one file, to be deployed elsewhere or later."""

from pathlib import Path
from typing import Annotated

import typer

from sentill_host.board import catalogue
from sentill_host.bundle import build as bundle
from sentill_host.cli.keys import KeysOption, PasswordOption, open_keys
from sentill_host.cli.output import out, print_json
from sentill_host.deploy import signing

app = typer.Typer(no_args_is_help=True, help="A version of the node's software in one file.")


@app.command()
def build(
    board: Annotated[str, typer.Option(help="Board id the bundle is for.")],
    path: Annotated[
        Path | None, typer.Option("--out", "-o", help="File to write; default: sentill-VERSION-BOARD.sentill here.")
    ] = None,
    mpy: Annotated[
        int, typer.Option(help="The boards' sys.implementation._mpy; default: usual firmware for the board.")
    ] = 0,
    model: Annotated[
        list[Path] | None,
        typer.Option(help="Model (.stm) or wear index (.stw), or a folder of them, beside the shipped or instead."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Compile this version for one kind of board. The same sources give the same bytes, on any computer."""
    kind = catalogue.load(board)
    firmware = bundle.usual_firmware(kind)
    if mpy:
        firmware = bundle.Firmware(firmware.version, mpy)
    made = bundle.build(kind, firmware, bundle.read_models(model or []))
    target = path or Path(f"sentill-{made.version}-{kind.id}{bundle.SUFFIX}")
    digest = bundle.write(made, target)
    if json:
        print_json({"path": str(target), "sha256": digest, **_about(made)})
        return
    out.print(f"[green]built[/]  {target}: version {made.version} for {kind.id}, {firmware.arch or 'no native code'}")
    out.print(f"       {len(made.entries)} files, {made.size / 1024:.1f} KB on the board; SHA-256 {digest}")


@app.command()
def sign(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="Bundle file; it is written anew.")],
    keys: KeysOption = None,
    password_file: PasswordOption = None,
) -> None:
    """Sign a bundle file for the fleet of a key file: boards with keys take no other.

    Know where it comes from first.
    """
    opened = open_keys(keys, password_file)
    made = signing.sign_bundle(bundle.read(path), opened)
    digest = bundle.write(made, path)
    out.print(f"[green]signed[/] {path}: version {made.version} for {made.board}; SHA-256 {digest}")


@app.command()
def show(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="Bundle file.")],
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Say what is in a bundle file, and check that it is whole."""
    made = bundle.read(path)
    if json:
        files = [[entry.path, len(entry.data), entry.sha256] for entry in made.entries]
        print_json({"path": str(path), **_about(made), "files": files})
        return
    firmware = bundle.Firmware((0, 0, 0), made.mpy)
    out.print(f"version {made.version} for {made.board}, MicroPython {made.min_firmware} or later, {firmware.arch}")
    out.print("signed for a fleet" if made.signature else "not signed")
    for entry in made.entries:
        out.print(f"{len(entry.data):8} {entry.sha256[:16]} {entry.path}", markup=False)


def _about(made: bundle.Bundle) -> dict[str, object]:
    return {
        "id": made.id, "version": made.version, "board": made.board, "mpy": made.mpy, "min_firmware": made.min_firmware,
        "bytes": made.size, "signed": bool(made.signature),
    }  # fmt: skip
