"""One serial port of a board: bytes, and the raw REPL through mpremote's transport, every step with a deadline.

mpremote's own calls can wait forever on a dead board, print to the terminal and hide why a port did not open. This
adapter is the only place that touches its transport: it bounds each step, climbs a ladder of recovery rungs when a
program does not yield, and turns each failure into a LinkError that says what to do.
"""

import contextlib
import errno
import io
import json
import math
import os
import select
import struct
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self

import serial
from mpremote.transport import TransportError
from mpremote.transport_serial import SerialTransport

from sentill_host.board import port_lock, ports
from sentill_host.errors import BoardError, LinkError, PortGone

# What is imported is the firmware's from then on: no file on the board takes the place of a module.
_FROZEN_ONLY = "import sys\nsys.path[:]=['.frozen']\n"
# device/frozen/_boot.py has begun with USB, which then ends at a soft reset.
_FROZEN_START = "print(int(hasattr(sys.modules.get('sentill_start'),'usb')))\n"
_RAW_PROMPT = b"raw REPL; CTRL-B to exit\r\n"
_CTRL_A, _CTRL_B, _CTRL_C, _CTRL_D = b"\x01", b"\x02", b"\x03", b"\x04"
# Longest silence inside one answer of the raw-paste protocol. The board only reads and compiles there.
_SILENCE_S = 3.0
_POLL_S = 0.05
# A soft reset runs boot.py.
_RESTART_S = 10.0

# What a port that goes away raises, depending on the moment: pyserial wraps most of termios' errors, not all, and
# those of termios are no OSErrors.
PORT_FAULTS: tuple[type[Exception], ...] = (OSError, serial.SerialException)
try:
    import termios

    PORT_FAULTS += (termios.error,)
except ImportError:
    pass  # Windows


def looks(timeout_s: float) -> Iterator[float]:
    """The seconds left, again and again until `timeout_s` have passed, and then once 0.

    A busy computer can keep a program waiting until its time is up: what came in time is there, and wants a last look.
    """
    end = time.monotonic() + timeout_s
    while (left := end - time.monotonic()) > 0:
        yield left
    yield 0.0


class _Transport(SerialTransport):
    """mpremote's, whose waits never end while a board keeps printing something else than what is waited for."""

    def read_until(
        self,
        min_num_bytes: int,
        ending: bytes,
        timeout: float | None = 10,
        data_consumer: Callable[[bytes], None] | None = None,
        timeout_overall: float | None = None,
    ) -> bytes:
        """As the original, whose limits hold only while nothing comes, and on a pseudo-terminal not even then.

        Without a consumer and any limit asked for, `timeout` is one for the whole.
        """
        now = time.monotonic()
        if data_consumer is None and timeout_overall is None:
            timeout_overall = timeout
        end = math.inf if timeout_overall is None else now + timeout_overall
        patience = math.inf if timeout is None else timeout
        silence = now + patience
        data = b""
        in_time = -1
        while not data.endswith(ending):
            left = min(silence, end) - time.monotonic()
            if left > 0:
                in_time = -1
                if not self._arrives(left):
                    continue
            else:
                # As in looks(): what had come by then counts, and no more of a board that prints without end.
                in_time = self.serial.in_waiting if in_time < 0 else in_time - 1
                if in_time <= 0:
                    break
            piece = self.serial.read(1)
            if data_consumer is not None:
                data_consumer(piece)
                data = b""
            data += piece
            silence = now + patience
        return data

    def _arrives(self, timeout_s: float) -> bool:
        """Whether something has come; waits at most `timeout_s` for it, a moment where one cannot wait for a port."""
        if os.name == "posix":
            return bool(select.select([self.serial.fileno()], [], [], min(timeout_s, _SILENCE_S))[0])
        if not self.serial.in_waiting:
            time.sleep(0.01)
            return False
        return True


class Link:
    """An open port. Use as a context manager; closing leaves the board running what it runs.

    `port` may be a stable name (`serial:NUMBER`, `at:LOCATION`, see ports.py) or link (`/dev/serial/by-id/...`): it is
    resolved at each opening, since the device behind it can change over a reset. Attaching does not reset the board
    where the adapter allows that. Raises LinkError when it cannot be opened, with the reason and a way out.
    """

    def __init__(self, port: str, baudrate: int = 115_200):
        self.port = port
        self.baudrate = baudrate
        self.q = 0  # of the last frame sent: clients of one link count on, or a late reply to one would suit the next
        self._asked = 0  # how often for the raw REPL
        self._address = ports.Address(port)
        device = self._address.device()
        self._lock = port_lock.lock(self._address.spoken(device), self._address.key)
        try:
            self._transport = self._open()
        except BaseException:
            self._lock.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the port and give up its lock. Closing twice is harmless."""
        self._close_transport()
        self._lock.close()

    # --- bytes -------------------------------------------------------------------------------------------------

    def fileno(self) -> int:
        """Descriptor to wait on for input."""
        return int(self._transport.serial.fileno())

    def read(self, timeout_s: float, limit: int = 65_536) -> bytes:
        """What has arrived, waiting at most `timeout_s` for the first byte; b"" when nothing came. Raises PortGone."""
        port = self._transport.serial
        try:
            if os.name == "posix":
                # pyserial reconfigures the port at each change of its timeout, which costs more than a transaction.
                if not select.select([port.fileno()], [], [], timeout_s)[0]:
                    return b""
                data = os.read(port.fileno(), limit)
                if not data:
                    raise OSError(errno.EIO, os.strerror(errno.EIO))
                return data
            if port.timeout != timeout_s:
                port.timeout = timeout_s
            data = port.read(1)
            waiting = port.in_waiting if data else 0
            return data + port.read(min(waiting, limit - 1)) if waiting else data
        except PORT_FAULTS as error:
            raise self._gone(error) from error

    def write(self, data: bytes, timeout_s: float = 5.0) -> None:
        """Send `data`. Raises PortGone, or LinkError when the board does not take it within `timeout_s`."""
        port = self._transport.serial
        try:
            if port.write_timeout != timeout_s:
                port.write_timeout = timeout_s
            port.write(data)
        except serial.SerialTimeoutException as error:
            raise LinkError(f"{self.port}: takes no data for {timeout_s:g} s", "press the board's reset key") from error
        except PORT_FAULTS as error:
            raise self._gone(error) from error

    def drain(self, quiet_s: float = 0.05, limit_s: float = 1.0) -> bytes:
        """Read until the line is quiet for `quiet_s`, at most `limit_s`; returns what came."""
        end = time.monotonic() + limit_s
        data = b""
        while time.monotonic() < end and (more := self.read(quiet_s)):
            data += more
        return data

    # --- raw REPL ----------------------------------------------------------------------------------------------

    def enter_repl(self, patience_s: float = 3.0) -> str:
        """Stop whatever runs and enter the raw REPL without resetting its state; returns the rung that worked.

        Rungs, each tried only when the one before failed: `interrupt` (Ctrl-C), `insist` (Ctrl-C every 50 ms for
        `patience_s`, for programs that catch it), `reset` (reset line, then Ctrl-C through the boot). When none works,
        or this is interrupted, the board is left running what it finds to run. Raises LinkError.
        """
        try:
            return self._climb(patience_s)
        except BaseException:
            # A prompt that came too late for us starts main.py; a program that runs takes it for input.
            with contextlib.suppress(LinkError):
                self._raw_write(b"\r" + _CTRL_B + _CTRL_D)
            raise

    def _climb(self, patience_s: float) -> str:
        self._asked = 0
        for rung, prepare in (("interrupt", None), ("insist", None), ("reset", self._pulse_reset)):
            if prepare is not None and not prepare():
                continue
            if rung == "interrupt":
                self._raw_write(b"\r" + _CTRL_C + _CTRL_C)
                self.drain(limit_s=0.5)
            else:
                self._insist(patience_s)
            if self._ask_raw_repl():
                return rung
        raise LinkError(
            f"{self.port}: the program on the board does not yield to Ctrl-C",
            "press the board's reset key and run this again at once; if that fails, flash MicroPython anew",
        )

    def exec(self, code: str, timeout_s: float = 10.0, on_data: Callable[[bytes], None] | None = None) -> bytes:
        """Run `code` in the raw REPL and return what it printed, within `timeout_s` overall.

        `on_data` sees each piece as it arrives. Raises BoardError when the code raises, LinkError when the answer is
        late or garbled, PortGone when the port disappears.
        """
        end = time.monotonic() + timeout_s
        output = bytearray()

        def collect(piece: bytes) -> None:
            if piece != _CTRL_D:
                output.extend(piece)
                if on_data is not None:
                    on_data(piece)
            if time.monotonic() > end:
                raise TransportError("too much output")

        transport = self._transport
        try:
            self._begin(code)
            _, failure = transport.follow(timeout_s, collect)
        except TransportError as error:
            raise LinkError(
                f"{self.port}: the board did not answer within {timeout_s:g} s", "check the cable; run this again"
            ) from error
        except PORT_FAULTS as error:
            raise self._gone(error) from error
        if failure:
            trace = failure.decode("utf-8", "replace").strip()
            raise BoardError(f"{self.port}: the board says {trace.splitlines()[-1]}", "run this again", traceback=trace)
        return bytes(output)

    def launch(self, code: str) -> None:
        """Run `code` in the raw REPL and return at once: what it prints is for `read`. Raises LinkError, PortGone."""
        try:
            self._begin(code)
        except TransportError as error:
            raise LinkError(f"{self.port}: the board takes no command", "check the cable; run this again") from error
        except PORT_FAULTS as error:
            raise self._gone(error) from error
        self._transport.in_raw_repl = False

    def exec_json(self, code: str, timeout_s: float = 10.0) -> Any:
        """Run `code`, which prints one line of JSON last, and return the value. Raises as `exec`."""
        text = self.exec(code, timeout_s).decode("utf-8", "replace").strip()
        try:
            return json.loads(text.splitlines()[-1])
        except (ValueError, IndexError):
            raise LinkError(f"{self.port}: garbled answer {text[-60:]!r}", "check the cable; run this again") from None

    def soft_reset(self) -> None:
        """From the raw REPL, start the interpreter anew and stay there; main.py does not run, boot.py does.

        Nothing is imported from the board's files from then on. Where the firmware's own start runs the node, that is
        all: the port would go away. Raises LinkError, BoardError.
        """
        if self.exec(_FROZEN_ONLY + _FROZEN_START).strip() == b"1":
            return
        transport = self._transport
        try:
            self._raw_write(_CTRL_D)
            transport.serial.timeout = _POLL_S
            for ending in (b"soft reboot\r\n", _RAW_PROMPT):
                if not transport.read_until(1, ending, timeout=5.0, timeout_overall=_RESTART_S).endswith(ending):
                    raise LinkError(
                        f"{self.port}: the board does not come back from a soft reset", "press its reset key"
                    )
        except PORT_FAULTS as error:
            raise self._gone(error) from error
        self.exec(_FROZEN_ONLY)

    def leave_repl(self) -> None:
        """Back to the friendly REPL; the program stays stopped."""
        self._raw_write(b"\r" + _CTRL_B)
        self._transport.in_raw_repl = False

    def reset(self) -> None:
        """Reset the board from the raw REPL as a power-on would; the port may disappear for a moment (`reopen`)."""
        self.start(_FROZEN_ONLY + "import machine\nmachine.reset()")

    def start(self, code: str) -> None:
        """Start `code` that ends the raw REPL: a reset, the boot loader. The port may disappear (`reopen`)."""
        try:
            self._begin(code)
        except (TransportError, *PORT_FAULTS):
            # A board that resets before it has acknowledged the command has done what was asked.
            pass
        self._transport.in_raw_repl = False

    def reopen(self, timeout_s: float = 10.0) -> None:
        """Close and open the port again, waiting up to `timeout_s` for it to come back. Raises LinkError."""
        self._close_transport()
        end = time.monotonic() + timeout_s
        while True:
            try:
                self._transport = self._open()
                return
            except LinkError:
                if time.monotonic() > end:
                    raise
            time.sleep(_POLL_S)

    # --- inside ------------------------------------------------------------------------------------------------

    def _open(self) -> SerialTransport:
        path = self._address.device()
        transport = None
        try:
            transport = _Transport(path, baudrate=self.baudrate, timeout=_SILENCE_S, exclusive=True)
            transport.serial.write_timeout = _SILENCE_S
            _keep_lines(transport.serial)
        except (TransportError, *PORT_FAULTS, ValueError) as error:
            # A board in the middle of a reset can go away between any two of these.
            if transport is not None:
                transport.serial.close()
            raise port_lock.diagnose(self._address.spoken(path), error) from error
        return transport

    def _close_transport(self) -> None:
        try:
            self._transport.close()
        except PORT_FAULTS:
            # The device is gone; the descriptor still has to be closed.
            self._transport.serial.close()

    def _gone(self, error: Exception) -> PortGone:
        return PortGone(
            f"{self.port}: the port disappeared ({_reason(error)})",
            "check cable and power; run this again, it goes on where it stopped",
        )

    def _begin(self, code: str) -> None:
        """Hand `code` to the raw REPL, which starts it. Raises TransportError and what a port raises."""
        transport = self._transport
        transport.serial.timeout = _SILENCE_S
        transport.serial.write_timeout = _SILENCE_S
        try:
            with _silently():
                transport.exec_raw_no_follow(code)
        except struct.error as error:
            # mpremote unpacks the window size of raw paste from whatever has come, also from less than two bytes.
            raise TransportError("no answer to raw paste") from error

    def _raw_write(self, data: bytes) -> None:
        self.write(data, _SILENCE_S)

    def _insist(self, patience_s: float) -> None:
        end = time.monotonic() + patience_s
        # As often as it takes, too: a busy computer may be kept from most of them.
        least = int(patience_s / _POLL_S)
        while time.monotonic() < end or least > 0:
            self._raw_write(_CTRL_C)
            self.read(_POLL_S)
            least -= 1
        self.drain(limit_s=0.5)

    def _ask_raw_repl(self) -> bool:
        transport = self._transport
        for _ in range(2):
            # Ctrl-B first: from a half-sent raw command only the friendly prompt is a known place.
            self._raw_write(b"\r" + _CTRL_B + _CTRL_C + b"\r" + _CTRL_A)
            self._asked += 1
            try:
                transport.serial.timeout = _POLL_S
                data = transport.read_until(1, _RAW_PROMPT, timeout=1.0, timeout_overall=2.0)
            except PORT_FAULTS as error:
                raise self._gone(error) from error
            if data.endswith(_RAW_PROMPT) and (self._asked == 1 or self._in_step()):
                transport.in_raw_repl = True
                return True
        return False

    def _in_step(self) -> bool:
        """Whether the raw REPL has dealt with all it was sent: else what it still has to say would be taken for the
        answer to something else. Leaves its prompt unread, as it is found after a single question."""
        mark = os.urandom(8).hex().encode()
        self._raw_write(b"print('" + mark + b"', end='')" + _CTRL_D)
        ending = mark + _CTRL_D + _CTRL_D
        try:
            return self._transport.read_until(1, ending, timeout=_SILENCE_S).endswith(ending)
        except PORT_FAULTS as error:
            raise self._gone(error) from error

    def _pulse_reset(self) -> bool:
        """Pull EN low through RTS, as the auto-reset circuit of most ESP32 boards does. False without such a line."""
        port = self._transport.serial
        try:
            port.dtr = False
            port.rts = True
            time.sleep(0.1)
            port.rts = False
        except PORT_FAULTS as error:
            if getattr(error, "errno", None) in (errno.ENOTTY, errno.EINVAL):
                return False
            raise self._gone(error) from error
        return True


@contextlib.contextmanager
def _silently() -> Iterator[None]:
    """mpremote prints what it does not understand; the error it raises then says enough."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield


def _keep_lines(port: serial.Serial) -> None:
    """Have the driver leave DTR and RTS alone when the port closes: on most ESP32 boards they are the reset line."""
    if os.name != "posix":
        return
    try:
        settings = termios.tcgetattr(port.fd)
        settings[2] &= ~termios.HUPCL
        termios.tcsetattr(port.fd, termios.TCSANOW, settings)
    except (termios.error, OSError, AttributeError, TypeError):
        # A port without a line discipline (rfc2217:, socket:) has nothing to hang up.
        return


def _reason(error: Exception) -> str:
    code = getattr(error, "errno", None) or (error.args[0] if error.args else None)  # termios.error has no errno
    return os.strerror(code) if isinstance(code, int) and code > 0 else str(error).split(":")[0]
