"""The boot drive of an RP2 chip as a folder: takes a UF2 file, keeps what an independent reader finds, goes."""

import contextlib
import io
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

from adafruit_uf2 import uf2conv

RP2040, RP2350 = 0xE48BFF56, 0xE48BFF59
FLASH_START = 0x10000000
_BOARD_IDS = {"rp2040": "RPI-RP2", "rp2350": "RP2350"}


def make_uf2(content: bytes, family: int = RP2040, address: int = FLASH_START) -> bytes:
    """A UF2 file as Microsoft's converter writes it."""
    uf2conv.familyid, uf2conv.appstartaddr = family, address
    return uf2conv.convert_to_uf2(content)


def read_uf2(data: bytes) -> tuple[int, bytes]:
    """Address and content of a UF2 file as Microsoft's converter reads it."""
    uf2conv.familyid, uf2conv.appstartaddr = 0, 0
    with contextlib.redirect_stdout(io.StringIO()):
        content = uf2conv.convert_from_uf2(data)
    return uf2conv.appstartaddr, content


class BootDrive:
    """`insert()` shows the drive at `path`; once a whole file is on it, it goes and `booted(content)` is called.

    `refuses` keeps the drive where it is, as the chip does with a file it does not like.
    """

    def __init__(self, path: Path, chip: str = "rp2040", booted: Callable[[], None] = lambda: None, refuses=False):
        self.path = path
        self.written: tuple[int, bytes] | None = None
        self._chip = chip
        self._booted = booted
        self._refuses = refuses
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def insert(self) -> None:
        beside = self.path.with_name(self.path.name + ".new")
        beside.mkdir()
        (beside / "INDEX.HTM").write_text("<html></html>")
        (beside / "INFO_UF2.TXT").write_text(
            f"UF2 Bootloader v3.0\r\nModel: Raspberry Pi\r\nBoard-ID: {_BOARD_IDS[self._chip]}\r\n"
        )
        beside.rename(self.path)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(10)

    def _run(self) -> None:
        while not self._stop.is_set():
            for file in self.path.glob("*.uf2"):
                data = file.read_bytes()
                if len(data) >= 512 and len(data) == 512 * int.from_bytes(data[24:28], "little") and not self._refuses:
                    self.written = read_uf2(data)
                    gone = self.path.with_name(self.path.name + ".gone")
                    self.path.rename(gone)
                    shutil.rmtree(gone)
                    self._booted()
                    return
            time.sleep(0.02)
