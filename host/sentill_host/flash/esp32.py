"""ESP32 family: esptool, run as a program of its own. It resets the chip into its loader, writes, compares hashes."""

import contextlib
import importlib.util
import os
import queue
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import psutil

from sentill_host.errors import LinkError, PlatformError, UsageError, VerifyError
from sentill_host.flash.backend import Context, Voice

BAUD = 460_800
_IMAGE_MAGIC = b"\xe9"
_CONNECT_S = 25.0
_END_S = 10.0
_SILENCE_S = 120.0  # erasing a whole flash chip is the longest silence
_PROGRESS = re.compile(r"Writing at 0x[0-9a-f]+.*?(\d+(?:\.\d+)?)\s?%")
_CHIP = re.compile(r"^Connected to (ESP32[-A-Z0-9]*)", re.MULTILINE)
_MAC = re.compile(r"^MAC:\s+((?:[0-9a-f]{2}:){5}[0-9a-f]{2})", re.MULTILINE)
_VERIFIED = "Hash of data verified"
_DEAF = ("Failed to connect", "Wrong boot mode", "No serial data received")

BOOT_KEYS = "hold the BOOT key (IO0), press EN (RST) briefly, then let BOOT go"


@dataclass(frozen=True)
class Chip:
    """What the chip's loader says it is: "esp32s3", and its MAC in hex, which is MicroPython's unique id."""

    name: str
    uid: str


class Esptool:
    """The backend for every ESP32."""

    name = "esptool"
    chips = frozenset({"esp32", "esp32s2", "esp32s3", "esp32c3", "esp32c6"})

    def missing(self) -> str:
        """What this computer lacks."""
        return "" if importlib.util.find_spec("esptool") else "esptool"

    def flash(self, context: Context) -> None:
        """Write the image at the board's offset; esptool reads the hash back from the chip. Starts the firmware."""
        firmware = context.board.data["firmware"]
        if context.image.data[:1] != _IMAGE_MAGIC:
            raise UsageError(f"{context.image.path.name} is no firmware for an ESP32", "take the .bin for this board")
        chip = identify(context.port, context.voice, context.patience_s)
        if chip.name != firmware["chip"]:
            raise UsageError(
                f"{context.port}: the chip is an {chip.name.upper()}, {context.board.name} has an "
                f"{firmware['chip'].upper()}",
                "name the right board with --board",
            )
        handle, path = tempfile.mkstemp(suffix=".bin")
        try:
            with os.fdopen(handle, "wb") as file:
                # What has been checked is what is written, whatever happens to the file meanwhile.
                file.write(context.image.data)
            arguments = ["--chip", chip.name, "--baud", str(BAUD), "--after", "hard-reset", "write-flash"]
            arguments += ["--erase-all"] if context.erase else []
            text = self._write(context, [*arguments, hex(firmware["offset"]), path])
        finally:
            os.unlink(path)
        if _VERIFIED not in text:
            raise VerifyError(f"{context.port}: the chip does not confirm the hash of its flash", "flash it again")

    def _write(self, context: Context, arguments: list[str]) -> str:
        total = len(context.image.data)

        def watch(line: str) -> None:
            if match := _PROGRESS.search(line):
                context.voice.say("writing", round(total * float(match[1]) / 100), total)

        context.voice.say("erasing" if context.erase else "writing", 0, total)
        try:
            return _run(context.port, context.voice, arguments, _SILENCE_S, watch)
        except _Deaf as deaf:
            raise LinkError(f"{context.port}: the chip left its loader ({deaf})", "flash it again") from None


def identify(port: str, voice: Voice, patience_s: float) -> Chip:
    """Bring the chip into its loader and ask what it is; tells a person which keys to press when resetting it fails."""
    end = time.monotonic() + patience_s
    told = False
    while True:
        voice.say("connecting to the chip's loader", 0, 0)
        try:
            text = _run(port, voice, ["--chip", "auto", "--after", "no-reset", "chip-id"], _CONNECT_S)
            break
        except _Deaf as deaf:
            if time.monotonic() >= end:
                raise LinkError(
                    f"{port}: the chip does not enter its loader ({deaf})", f"{BOOT_KEYS}; run this again"
                ) from None
            if not told:
                voice.instruct(f"{port}: {BOOT_KEYS}")
                told = True
    chip, mac = _CHIP.search(text), _MAC.search(text)
    if chip is None or mac is None:
        raise LinkError(f"{port}: esptool does not tell the chip", "is this version of esptool too new?")
    return Chip(chip[1].lower().replace("-", ""), mac[1].replace(":", ""))


class _Deaf(Exception):
    """The chip's loader did not answer."""


def _run(
    port: str, voice: Voice, arguments: list[str], silence_s: float, watch: Callable[[str], None] | None = None
) -> str:
    """Run esptool on the port; all it printed. Raises _Deaf, LinkError, PlatformError; ends it when it falls silent."""
    if Esptool().missing():
        raise PlatformError("esptool is not installed", "pip install 'sentill[flash]'")
    command = [sys.executable, "-m", "esptool", "--port", port, "--before", "default-reset", *arguments]
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
        env={**os.environ, "PYTHONIOENCODING": "utf-8", "PYTHONUNBUFFERED": "1", "NO_COLOR": "1"},
    )
    lines = []
    try:
        for line in _lines(process, port, voice, silence_s):
            lines.append(line)
            if watch is not None:
                watch(line)
        with contextlib.suppress(subprocess.TimeoutExpired):  # having said all, it is as good as ended
            process.wait(_END_S)
    finally:
        _end(process)
    text = "".join(lines)
    if process.returncode == 0:
        return text
    failure = next((line for line in reversed(lines) if "rror" in line), lines[-1] if lines else "no output").strip()
    failure = failure.rpartition("occurred: ")[2]
    if any(words in text for words in _DEAF):
        raise _Deaf(failure)
    if "MD5 of file does not match" in text:
        raise VerifyError(f"{port}: what the chip holds is not what was sent", "try another cable; flash again")
    raise LinkError(f"{port}: esptool: {failure}", "check the cable; flash it again")


def _lines(process: "subprocess.Popen[str]", port: str, voice: Voice, silence_s: float) -> Iterator[str]:
    """Lines of output until the end; raises LinkError when there is none for `silence_s`, or the user interrupts."""
    arrived: queue.Queue[str | None] = queue.Queue()

    def read() -> None:
        if process.stdout is not None:
            with contextlib.suppress(ValueError):  # closed by _end
                for line in process.stdout:
                    arrived.put(line)
        arrived.put(None)

    threading.Thread(target=read, daemon=True).start()
    last = time.monotonic()
    while True:
        voice.check_stop()
        try:
            line = arrived.get(timeout=0.2)
        except queue.Empty:
            if time.monotonic() - last > silence_s:
                raise LinkError(
                    f"{port}: esptool says nothing for {silence_s:g} s", "unplug the board and flash it again"
                ) from None
            continue
        if line is None:
            return
        last = time.monotonic()
        yield line


def _end(process: "subprocess.Popen[str]") -> None:
    if process.poll() is None:
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(process.pid).children(recursive=True):
                child.kill()
        process.kill()
        process.wait(10)
