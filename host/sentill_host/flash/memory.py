"""Which board a chip sits on, asked once and remembered by the chip's unique id: chips alone do not tell."""

import contextlib
import json
import os
import tempfile
from pathlib import Path

import filelock
import platformdirs


class Remembered:
    """Unique id (hex) to board id, in one JSON file; a damaged file counts as empty."""

    def __init__(self, path: Path | None = None):
        self.path = path or Path(platformdirs.user_data_dir("sentill")) / "boards.json"

    def board_of(self, uid: str) -> str:
        """The board id remembered for `uid`, or ""."""
        return str(self._read().get(uid.lower(), "")) if uid else ""

    def remember(self, uid: str, board_id: str) -> None:
        """Keep what was found out; nothing without a unique id."""
        if not uid or self.board_of(uid) == board_id:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(self.path.with_suffix(".lock"), timeout=10):
            known = {**self._read(), uid.lower(): board_id}
            handle, beside = tempfile.mkstemp(dir=self.path.parent)
            try:
                with os.fdopen(handle, "w", encoding="utf-8") as file:
                    json.dump(known, file, indent=1, sort_keys=True)
                os.replace(beside, self.path)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(beside)
                raise

    def _read(self) -> dict[str, str]:
        try:
            known = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return known if isinstance(known, dict) else {}
