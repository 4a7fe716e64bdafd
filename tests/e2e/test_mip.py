"""The package by other roads than `sentill deploy`: mip from a checkout, and what a firmware would freeze."""

import json
import runpy
from pathlib import Path
from typing import Any

from sentill import __version__
from sentill_host.board import catalogue
from sentill_host.board.link import Link
from sentill_host.node.client import NodeClient, await_identity
from sentill_host.virtual import VirtualBoards
from tests.e2e.conftest import mpremote_reset, run_mpremote
from tools.device_modules import DEVICE, modules


def test_mpremote_installs_the_package_from_a_checkout_and_the_node_runs():
    # The sources are compiled on the board, which takes more heap than the bytecode that a deploy sends.
    with VirtualBoards(1, heap="2M") as started:
        board = started[0]
        told = run_mpremote(board.usb, "mip", "install", "--target", "/", str(DEVICE / "package.json"))
        assert "Done" in told
        package = json.loads((DEVICE / "package.json").read_text())
        targets = [target for target, _ in package["urls"]]
        code = f"import os\nfor p in {targets!r}:\n print(p, os.stat('/' + p)[6])"
        sizes = dict(line.split() for line in run_mpremote(board.usb, "exec", code).splitlines())
        assert sizes == {target: str((DEVICE / url).stat().st_size) for target, url in package["urls"]}
        pins, main = catalogue.load("SIM").pins, DEVICE / "main.py"
        mpremote_reset(board, "fs", "cp", str(main), str(pins), ":", "+", "exec", "f = open('/config.json', 'w')\n"
                       "f.write('{}')\nf.close()", "+")  # fmt: skip
        with Link(board.usb) as link:
            identity, console = await_identity(NodeClient(link), 30)
        assert identity is not None, console
        assert (identity["sw"], identity["board"], identity.get("faults")) == (__version__, "SIM", None)


def test_the_manifest_freezes_every_module_and_nothing_else():
    """Runs manifest.py as MicroPython's build does: its functions are given to it as globals."""
    frozen: set[str] = set()
    told: dict[str, Any] = {}

    def package(path: str, files: list[str] | None = None, base_path: str = ".", opt: int | None = None) -> None:
        assert (files, opt in (None, 0, 1, 2, 3)) == (None, True)
        base = DEVICE / base_path
        frozen.update(file.relative_to(base).as_posix() for file in (base / path).rglob("*.py"))

    def module(path: str, base_path: str = ".", opt: int | None = None) -> None:
        assert (DEVICE / base_path / path).is_file()
        frozen.add(path)

    names = {"package": package, "module": module, "metadata": told.update}
    runpy.run_path(str(DEVICE / "manifest.py"), names)
    wanted = {Path(path).relative_to(DEVICE).as_posix() for path in modules().values()}
    assert frozen == wanted | {"sentill_start.py"}
    assert told["version"] == __version__
