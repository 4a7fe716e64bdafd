"""Device tests on a real board, through mpremote's transport, when SENTILL_PORT names its serial port.

The package and the tests are mounted from a staging folder, so nothing is written to the board: as bytecode, where the
board loads what mpy-cross writes, which leaves it more of its heap.
"""

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from sentill_host.bundle.build import Firmware, compile_file
from tests.interpreters import DEADLINE_S, DEVICE, RUNNER, TESTS, ChildDied, compile_device, compile_tests

PORT = os.environ.get("SENTILL_PORT", "")
_ANSWER_MS = 30_000


class Board:
    """The runner on a board in raw REPL: one exec per request, same replies as tests/interpreters.py."""

    def __init__(self, port: str):
        from mpremote import transport_serial

        self.requests = 0
        self.starts = 1
        self._folder = Path(tempfile.mkdtemp(prefix="sentill-board-"))
        if (vectors := TESTS.parent / "vectors").is_dir():
            shutil.copytree(vectors, self._folder / "tests" / "vectors")
        (self._folder / "scratch").mkdir()
        self._transport = transport_serial.SerialTransport(os.path.realpath(port), baudrate=115200)
        self._transport.enter_raw_repl()
        self._stage()
        # Else this computer has to answer the board within a second, however busy it is.
        code = transport_serial.fs_hook_code.replace("ipoll(1000)", f"ipoll({_ANSWER_MS})")
        assert code != transport_serial.fs_hook_code
        self._transport.exec(code)
        self._transport.mount_local(str(self._folder))
        self._exec(f"import sys; sys.path.insert(0, '/remote/tests/device'); import {RUNNER.stem} as runner")
        reply, _ = self._exec("runner.prepare('/remote/device', '/remote/tests/device', '/remote/scratch')")
        self.about = "{name} {version}, {bits}-bit".format(**reply["val"])

    def _stage(self) -> None:
        firmware = Firmware((0, 0, 0), int(self._transport.eval("getattr(__import__('sys').implementation,'_mpy',0)")))
        if firmware.mpy_version == compile_file("probe.py", b"")[1]:
            compile_device(self._folder / "device", firmware.arch)
            compile_tests(self._folder / "tests" / "device")
            return
        shutil.copytree(DEVICE, self._folder / "device", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(TESTS, self._folder / "tests" / "device", ignore=shutil.ignore_patterns("__pycache__"))

    def request(self, request: dict[str, Any]) -> tuple[dict[str, Any], str]:
        """Send one request of _runner.py; its reply and what was printed meanwhile."""
        self.requests += 1
        return self._exec(f"runner.handle({json.dumps(request)!r})")

    def close(self) -> None:
        """Unmount, leave raw REPL and close the port."""
        self._transport.umount_local()
        self._transport.exit_raw_repl()
        self._transport.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _exec(self, code: str) -> tuple[dict[str, Any], str]:
        output, error = self._transport.exec_raw(code, timeout=DEADLINE_S)
        if error:
            raise ChildDied(f"board: {error.decode(errors='replace')}")
        printed, _, reply = output.decode(errors="replace").partition("\x1e")
        return (json.loads(reply.splitlines()[0]) if reply else {}), printed


_board: Board | None = None


def get() -> Board:
    """The board at SENTILL_PORT, connected on first use."""
    global _board
    if _board is None:
        _board = Board(PORT)
    return _board


def connected() -> bool:
    """Whether a test has used the board."""
    return _board is not None


def close() -> None:
    """Let go of the board, if it was used."""
    if _board is not None:
        _board.close()
