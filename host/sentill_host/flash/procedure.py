"""Flash one board from start to end: what is it, what does it get, write it, see MicroPython answer."""

import contextlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import serial

from sentill_host.board import catalogue, ports
from sentill_host.board.catalogue import Board
from sentill_host.board.link import PORT_FAULTS, Link
from sentill_host.deploy import prompt, signing
from sentill_host.deploy.job_result import JobResult
from sentill_host.errors import BoardError, LinkError, SentillHostError, UsageError, VerifyError
from sentill_host.flash import esp32, firmware, rp2
from sentill_host.flash.backend import PATIENCE_S, Backend, Context, Voice
from sentill_host.flash.firmware import Image
from sentill_host.flash.memory import Remembered
from sentill_host.keys.key_file import KeyFile
from sentill_host.node import access, client, high_water_marks

PLAIN = "PLAIN"
_BACK_S = 60.0
_ERASED = "flash --erase"
_TRIES = 3
_RASPBERRY_PI = 0x2E8A
_TOUCH_BAUD = 1200

_ABOUT = """\
import sys, json
from binascii import hexlify
i = sys.implementation
try:
 import machine
 u = hexlify(machine.unique_id()).decode()
except (ImportError, AttributeError):
 u = ''
try:
 import ulab
 n = ulab.__version__
except (ImportError, AttributeError):
 n = ''
print(json.dumps({'version': '.'.join(str(x) for x in i.version[:3]), 'build': getattr(i, '_build', ''),
 'machine': getattr(i, '_machine', ''), 'platform': sys.platform, 'uid': u, 'ulab': n}))
"""


@dataclass(frozen=True)
class Options:
    """What the user asked for; empty fields are found out."""

    board: str = ""
    version: str = ""
    variant: str = ""  # of the board's builds; "" keeps the one that runs, PLAIN is the one without a name
    file: Path | None = None
    sha256: str = ""
    ulab: bool = False
    site: str = ""
    drive: Path | None = None
    erase: bool = False
    tool: str = ""  # "drive" or "picotool"
    patience_s: float = PATIENCE_S
    expect_uid: str = ""  # refuse any other board
    keys: KeyFile | None = None  # open a locked board


@dataclass
class Result(JobResult):
    """What flashing did. `before` and `version` are of MicroPython."""

    ulab: str = ""
    file: str = ""
    sha256: str = ""
    pinned: bool = False
    tool: str = ""


def flash(port: str, options: Options, voice: Voice | None = None, remembered: Remembered | None = None) -> Result:
    """Flash the board at `port` ("" for a bare RP2 in its boot loader); failures are reported in the Result."""
    made = Result(port)
    with made.recording():
        _Flashing(port, options, voice or Voice(), remembered or Remembered(), made).run()
    return made


def ask(link: Link) -> dict[str, Any]:
    """What the MicroPython in the raw REPL says about itself: version, build, machine, platform, uid, ulab."""
    about: dict[str, Any] = link.exec_json(_ABOUT)
    return about


class _Flashing:
    """The steps for one board."""

    def __init__(self, port: str, options: Options, voice: Voice, remembered: Remembered, result: Result):
        self.port = port
        self.options = options
        self.voice = voice
        self.remembered = remembered
        self.result = result
        self.info = _port_info(port)
        self.before = {item.device for item in ports.found()}

    def run(self) -> None:
        self.voice.say("asking the board what it is", 0, 0)
        about = self._about() if self.port else None
        if about:
            self.result.uid, self.result.before = about["uid"], about["version"]
        self._check_uid()
        board = self._board(about)
        self.result.board = board.id
        image = self._image(board, about)
        self.result.file, self.result.sha256, self.result.pinned = image.path.name, image.sha256, image.pinned
        backend = self._backend(board)
        self.result.tool = backend.name
        context = Context(
            board,
            image,
            self.voice,
            port=self._device(),
            socket=self.info.socket if self.info else "",
            drive=self.options.drive,
            erase=self.options.erase,
            patience_s=self.options.patience_s,
        )
        if isinstance(backend, esp32.Esptool):
            backend.flash(context)
        else:
            self._flash_rp2(backend, context, bool(about))
        self._see_it_start(board, image)

    def _check_uid(self) -> None:
        wanted, uid = self.options.expect_uid, self.result.uid
        if wanted and uid != wanted:
            raise UsageError(
                f"{self.port}: here is {uid or 'a board that does not tell who it is'}, not {wanted}",
                "another board was plugged in meanwhile; run this again",
            )

    def _about(self) -> dict[str, Any] | None:
        """What runs on the board says; None when nothing of MicroPython answers."""
        with Link(self.port) as link:
            try:
                there = client.look(client.NodeClient(link))
                if there.identity is not None:
                    return _told(there.identity)
                link.enter_repl(patience_s=1.0)
                if not there.prompt:  # a program ran, which goes on should nothing come of this
                    prompt.hold(link)
                return ask(link)
            except (LinkError, BoardError):
                return None

    def _board(self, about: dict[str, Any] | None) -> Board:
        if self.options.board:
            board = catalogue.load(self.options.board)
            firmware.file_ending(board)
            return board
        if about and (known := catalogue.recognise(about["build"], about["machine"], about["platform"])):
            firmware.file_ending(known)
            return known
        chip = self._chip(about)
        if remembered := self.remembered.board_of(self.result.uid):
            board = catalogue.load(remembered)
            if board.data.get("firmware", {}).get("chip") == chip or not chip:
                return board
        fitting = [b for b in catalogue.all_boards().values() if b.data.get("firmware", {}).get("chip") == chip]
        if len(fitting) == 1:
            return fitting[0]
        why = f"the chip is an {chip.upper()}" if chip else "the board does not tell its chip"
        chosen = self.voice.choose(fitting or _flashable(), why)
        if chosen is None:
            names = ", ".join(b.id for b in fitting or _flashable())
            raise UsageError(f"{self.port or 'boot drive'}: which board? {why}", f"name it with --board: {names}")
        return chosen

    def _chip(self, about: dict[str, Any] | None) -> str:
        """The chip's name as in board.toml, "" when it takes a person to know."""
        if self.options.drive is not None:
            drive = rp2.read_drive(self.options.drive)
            return drive.chip if drive else ""
        if about and about["platform"] == "rp2":
            return "rp2350" if "RP2350" in about["machine"] else "rp2040"
        if not self.port:
            found = {drive.chip for drive in rp2.drives()}
            return found.pop() if len(found) == 1 else ""
        if about is None and self.info is not None and self.info.vid == _RASPBERRY_PI:
            return ""
        # Anything else with a serial port is asked by its own loader.
        chip = esp32.identify(self._device(), self.voice, self.options.patience_s)
        self.result.uid = chip.uid
        self._check_uid()
        return chip.name

    def _image(self, board: Board, about: dict[str, Any] | None) -> Image:
        options = self.options
        if options.file is not None:
            return firmware.local(options.file, options.sha256, options.version)
        return firmware.download(
            board,
            options.version,
            variant=self._variant(about).removeprefix(PLAIN),
            ulab=options.ulab,
            sha256=options.sha256,
            say=self.voice.say,
            site=options.site,
        )

    def _variant(self, about: dict[str, Any] | None) -> str:
        """The wanted variant, else that of the firmware that runs: one for more memory must not be lost unnoticed."""
        if self.options.variant or about is None or self.options.ulab:
            return self.options.variant
        build = about["build"]
        if not about["platform"]:
            # A node told of itself, and does not know. It stops for the question, and goes on until it is flashed.
            with Link(self.port) as link:
                self._stop_node(link, "without it --variant says which build the board shall get, PLAIN or another")
                try:
                    build = ask(link)["build"]
                finally:
                    client.restart(link)
                    client.await_identity(client.NodeClient(link), _BACK_S)
        return str(build).partition("-")[2]

    def _backend(self, board: Board) -> Backend:
        chip = board.data["firmware"]["chip"]
        choices: list[Backend] = [esp32.Esptool(), rp2.Picotool(), rp2.Uf2Drive()]
        if self.options.tool or self.options.drive is not None:
            unwanted = rp2.Uf2Drive if self.options.tool == "picotool" else rp2.Picotool
            choices = [choice for choice in choices if not isinstance(choice, unwanted)]
        fitting = [choice for choice in choices if chip in choice.chips]
        # The first that is there; the last one says what it lacks by failing.
        return next((choice for choice in fitting if not choice.missing()), fitting[-1])

    def _flash_rp2(self, backend: Backend, context: Context, running: bool) -> None:
        lock = None
        if isinstance(backend, rp2.Picotool) or not context.socket:
            lock = rp2.bootsel_lock(self.options.patience_s, self.voice.say)
        try:
            if self.port:
                self._enter_boot_loader(running)
            backend.flash(context)
        finally:
            if lock is not None:
                lock.close()

    def _enter_boot_loader(self, running: bool) -> None:
        """From a running MicroPython by command, else by opening the port at 1200 baud; else a person has to."""
        self.voice.say("entering the boot loader", 0, 0)
        for _ in range(_TRIES if running else 0):
            try:
                with Link(self.port) as link:
                    self._stop_node(link, "without it hold BOOTSEL while you plug the board in, and name no port")
                    link.start(prompt.BOOT_LOADER)
                    return
            except (access.AccessError, UsageError):
                raise
            except SentillHostError:
                time.sleep(1.0)  # it may be in the middle of a start
        with contextlib.suppress(*PORT_FAULTS, ValueError, LinkError):  # it may be in its boot loader already
            serial.Serial(self._device(), _TOUCH_BAUD).close()

    def _stop_node(self, link: Link, otherwise: str) -> None:
        """To the raw REPL, through a session where the board is locked; `otherwise` says what to do when it stays so.

        Raises LinkError, AccessError, UsageError.
        """
        node = client.NodeClient(link)
        identity = client.look(node).identity
        if identity is not None:
            try:
                signing.Signer(self.port, self.options.keys).enter(node, str(identity.get("uid", "")))
            except (access.AccessError, UsageError) as error:
                error.hint = f"{error.hint}\n{otherwise}"
                raise
            client.request_maintenance(node, box_s=prompt.BOX_S)
        link.enter_repl()

    def _see_it_start(self, board: Board, image: Image) -> None:
        """Wait for MicroPython on the flashed board and hold it against what was meant. Raises VerifyError."""
        self.voice.say("waiting for MicroPython", 0, 0)
        about = self._await_micropython()
        if self.result.uid and about["uid"] and about["uid"] != self.result.uid:
            raise VerifyError(f"{self.port}: another board answers now ({about['uid']})", "run this again")
        self.result.uid = about["uid"]
        self.result.version, self.result.ulab = about["version"], about.get("ulab", "")
        said = catalogue.recognise(about["build"], about["machine"], about["platform"])
        if said is not None and said.id != board.id:
            raise VerifyError(
                f"{self.port}: the firmware is one for {said.name}, not for {board.name}",
                f"flash again with --board {said.id} if that is what it is",
            )
        if image.version and about["version"] != image.version:
            raise VerifyError(
                f"{self.port}: MicroPython {about['version']} answers, {image.version} was written", "flash it again"
            )
        if self.options.ulab and not self.result.ulab:
            raise VerifyError(f"{self.port}: this firmware has no ulab", "choose another file")
        self.remembered.remember(about["uid"], board.id)
        if self.options.erase:
            high_water_marks.erased(about["uid"], _ERASED)

    def _await_micropython(self) -> dict[str, Any]:
        end = time.monotonic() + _BACK_S
        last: SentillHostError = LinkError(f"{self.port or 'the board'}: nothing comes back", "unplug it, plug it in")
        while time.monotonic() < end:
            self.voice.check_stop()
            name = self._name_after()
            if name:
                try:
                    with Link(name) as link:
                        # A node that was on the board before is at work again, and may be locked.
                        node = client.NodeClient(link, _ERASED if self.options.erase else "")
                        fields = client.look(node).identity
                        if fields is None:
                            link.enter_repl(patience_s=1.0)
                            about = ask(link)
                            link.soft_reset()
                            link.leave_repl()
                        else:
                            about = _told(fields)
                        if not self.port:
                            self.port = self.result.port = name
                        return about
                except (LinkError, BoardError) as error:
                    last = error
            time.sleep(0.3)
        raise LinkError(
            f"MicroPython does not answer after flashing: {last}", "unplug the board, plug it in; try again"
        )

    def _name_after(self) -> str:
        """The flashed board's port; its name and serial number may have changed, its socket has not."""
        if self.info is not None and self.info.socket:
            here = [item for item in ports.found() if item.socket == self.info.socket]
            return here[0].device if here else ""
        if self.port:
            return self.port
        new = [item.device for item in ports.found() if item.device not in self.before]
        return new[0] if len(new) == 1 else ""

    def _device(self) -> str:
        return ports.Address(self.port).device() if self.port else ""


def _told(fields: dict[str, Any]) -> dict[str, Any]:
    """As from `ask`, what a running node's I frame tells; machine and platform it does not."""
    return {
        "uid": str(fields.get("uid", "")), "version": str(fields.get("fw", "")), "build": str(fields.get("board", "")),
        "machine": "", "platform": "", "ulab": str(fields.get("ulab") or ""),
    }  # fmt: skip


def _port_info(port: str) -> ports.PortInfo | None:
    if not port:
        return None
    device = ports.Address(port).device()
    return next((item for item in ports.found() if item.device == device), None)


def _flashable() -> list[Board]:
    return [board for board in catalogue.all_boards().values() if board.data.get("firmware")]
