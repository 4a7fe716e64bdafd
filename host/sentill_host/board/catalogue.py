"""Boards are data: a folder per MicroPython board id, with `board.toml` for the host and `board.py` for the board.

In a checkout the folders lie at the root of the repository; in an installed wheel under `sentill_host/_data`.
"""

import runpy
import tomllib
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import sentill
from sentill_host.errors import UsageError

_DATA = Path(__file__).parents[1] / "_data"
_REPOSITORY = Path(__file__).parents[3]


@dataclass(frozen=True)
class Board:
    """One supported board. `data` is the whole of board.toml for the tools that need more of it."""

    id: str
    name: str
    port: str
    directory: Path
    data: dict[str, Any] = field(default_factory=dict, compare=False, hash=False)

    @property
    def pins(self) -> Path:
        """The board's pin file, copied to `/board.py`."""
        return self.directory / "board.py"

    @property
    def light(self) -> int | str | None:
        """Pin of the board's own light, as machine.Pin takes it; None when it has none."""
        pin: int | str | None = runpy.run_path(str(self.pins)).get("LIGHT")
        return pin

    @property
    def usb_ids(self) -> list[tuple[int, int]]:
        """USB (vendor, product) pairs under which the board or its serial chip appears."""
        return [(int(vid), int(pid)) for vid, pid in self.data.get("usb", {}).get("ids", [])]


def boards_root() -> Path:
    """Folder that holds the board folders."""
    return _DATA / "boards" if (_DATA / "boards").is_dir() else _REPOSITORY / "boards"


def device_package() -> Path:
    """Folder of the device package `sentill`; the sources that go to the board."""
    return Path(sentill.__file__).parent


def device_data(name: str) -> Path:
    """A file or folder that lies beside the device package: `main.py`, `models`."""
    installed = _DATA / "device" / name
    return installed if installed.exists() else device_package().parent / name


@lru_cache
def all_boards() -> dict[str, Board]:
    """Every supported board by id, in alphabetical order."""
    boards = {}
    for path in sorted(boards_root().glob("*/board.toml")):
        data = _with_common(tomllib.loads(path.read_text(encoding="utf-8")))
        board = Board(data["id"], data["name"], data["port"], path.parent, data)
        boards[board.id] = board
    return boards


def _with_common(data: dict[str, Any]) -> dict[str, Any]:
    """Resolve `common`: the channels of boards/channels.toml a board has join its own, the others are optional."""
    catalogue = tomllib.loads((boards_root() / "channels.toml").read_text(encoding="utf-8"))["channels"]
    by_name = {channel["name"]: channel for channel in catalogue}
    own = data.get("channels", []) + [by_name[name] for name in data.get("common", [])]
    taken = {channel["name"] for channel in [*own, *data.get("optional", [])]}
    others = [channel for channel in catalogue if channel["name"] not in taken]
    return {**data, "channels": own, "optional": data.get("optional", []) + others}


def load(board_id: str) -> Board:
    """The board with this id. Raises UsageError that lists the known ids."""
    try:
        return all_boards()[board_id.upper()]
    except KeyError:
        raise UsageError(f"unknown board {board_id!r}", "known boards: " + ", ".join(all_boards())) from None


def recognise(build: str, machine: str, platform: str) -> Board | None:
    """The board a running MicroPython says it is, or None.

    `build` is `sys.implementation._build` (the board id, with `-VARIANT` appended on variants), `machine` is
    `sys.implementation._machine`, `platform` is `sys.platform`. The id decides; firmware too old to tell it is
    recognised by the `[recognise]` table of board.toml: `machine` is a part of the machine text, `platform` equals.
    """
    by_id = all_boards().get(build.split("-")[0])
    if by_id is not None:
        return by_id
    for board in all_boards().values():
        clue = board.data.get("recognise", {})
        if clue and clue.get("machine", "") in machine and clue.get("platform", platform) == platform:
            return board
    return None


def guess(vid: int | None, pid: int | None) -> list[Board]:
    """The boards that appear under this USB vendor and product; several share the common serial chips."""
    return [board for board in all_boards().values() if vid is not None and (vid, pid) in board.usb_ids]
