"""The ROM loader of an ESP32 behind a pseudo-terminal or a network port, as far as esptool talks to it.

Follows Espressif's "Serial Protocol" page: SLIP packets, commands with checksums, and the flash they write. The flasher
stub that esptool uploads is not run (it is code for the chip): its bytes are taken, checked for their checksums, and
from its start on the loader answers as the stub does.
"""

import hashlib
import os
import pty
import select
import socket
import struct
import threading
import tty
import zlib

import serial.rfc2217

FLASH_BYTES = 4 << 20
_FLASH_ID = 0x164020  # 2^22 bytes
_OK, _FAILED, _BAD_CHECKSUM = b"\0\0", b"\x01\x06", b"\x01\x07"

# Registers that esptool reads, with their addresses from the chips' reference manuals.
CHIPS = {
    "esp32": {
        "registers": {
            0x40001000: 0x00F01D83,  # tells the chip
            0x3FF5A004: 0x0A0BA11D,  # MAC, low word
            0x3FF5A008: 0x00B0240A,  # MAC, high half-word, CRC
            0x3FF5A00C: 0x8000,  # package and revision bits
            0x3FF40014: 0x15B,  # divider of the UART: 40 MHz over 115200 baud
        },
        "spi": 0x3FF42000,
        "chip_id": None,
    },
    "esp32s3": {
        "registers": {0x60007044: 0x0A0BA11D, 0x60007048: 0x0000240A, 0x60000014: 0x15B},
        "spi": 0x60002000,
        "chip_id": 9,
    },
}
MAC = "240a0a0ba11d"


class EspRom:
    """Use as a context manager; `port` is what esptool gets, `flash` what it has written.

    `deaf_syncs` packets are ignored first, as by a chip that runs a program; `flips` is an address whose bit is written
    wrong; `dies_after` is a number of data packets after which nothing is answered any more.
    """

    def __init__(self, chip: str = "esp32", deaf_syncs: int = 0, flips: int | None = None, dies_after: int = 1 << 30):
        self.chip = chip
        self.flash = bytearray(b"\xff" * FLASH_BYTES)
        self.commands: list[int] = []
        self.stub = False
        self.uploaded = bytearray()
        self._registers = dict(CHIPS[chip]["registers"])
        self._spi = CHIPS[chip]["spi"]
        self._deaf = deaf_syncs
        self._flips = flips
        self._left = dies_after
        self._write_at = 0
        self._inflate = None
        self._packet_so_far, self._inside, self._escaped = bytearray(), False, False
        self._open()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _open(self) -> None:
        self._master, self._slave = pty.openpty()
        tty.setraw(self._slave)
        self.port = os.ttyname(self._slave)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join(5)
        self._close()

    def _close(self) -> None:
        os.close(self._master)
        os.close(self._slave)

    def _run(self) -> None:
        while not self._stop.is_set():
            if select.select([self._master], [], [], 0.05)[0]:
                self.feed(os.read(self._master, 65536))

    def feed(self, data: bytes) -> None:
        """Take bytes from the host: SLIP packets."""
        for byte in data:
            if byte == 0xC0:
                if self._inside and self._packet_so_far:
                    self._packet(bytes(self._packet_so_far))
                    self._inside = False
                else:
                    self._inside = True
                self._packet_so_far, self._escaped = bytearray(), False
            elif self._escaped:
                self._packet_so_far.append({0xDC: 0xC0, 0xDD: 0xDB}[byte])
                self._escaped = False
            elif byte == 0xDB:
                self._escaped = True
            elif self._inside:
                self._packet_so_far.append(byte)

    def _write(self, data: bytes) -> None:
        os.write(self._master, data)

    def _send(self, data: bytes) -> None:
        self._write(b"\xc0" + data.replace(b"\xdb", b"\xdb\xdd").replace(b"\xc0", b"\xdb\xdc") + b"\xc0")

    def _reply(self, command: int, value: int = 0, data: bytes = b"", status: bytes = _OK) -> None:
        status += b"" if self.stub else b"\0\0"  # the ROM pads its status
        self._send(struct.pack("<BBHI", 1, command, len(data) + len(status), value) + data + status)

    def _packet(self, packet: bytes) -> None:
        if len(packet) < 8 or packet[0] != 0:
            return
        _, command, size, checksum = struct.unpack_from("<BBHI", packet)
        body = packet[8 : 8 + size]
        self.commands.append(command)
        handler = getattr(self, f"_on_{command:02x}", None)
        if command == 0x08:
            if self._deaf:
                self._deaf -= 1
                return
            for _ in range(8):
                self._reply(command, 0 if self.stub else 0x20120707)
        elif handler is None:
            # What the ROM says to a command it does not know.
            self._reply(command, status=b"\x01\x05")
        else:
            if command in (0x03, 0x07, 0x11):
                self._left -= 1
                if self._left < 0:
                    return
                content = body[16:]
                expected = 0xEF
                for byte in content:
                    expected ^= byte
                if expected != checksum & 0xFF or struct.unpack_from("<I", body)[0] != len(content):
                    self._reply(command, status=_BAD_CHECKSUM)
                    return
                body = content
            handler(command, body)

    def _on_0a(self, command: int, body: bytes) -> None:  # READ_REG
        self._reply(command, self._registers.get(struct.unpack("<I", body)[0], 0))

    def _on_09(self, command: int, body: bytes) -> None:  # WRITE_REG
        address, value, mask, _ = struct.unpack("<IIII", body[:16])
        if address == self._spi and value & 1 << 18:  # a command to the flash chip: it is "read your id"
            offset = 0x80 if self.chip == "esp32" else 0x58
            self._registers[self._spi + offset] = _FLASH_ID
            value = 0
        self._registers[address] = self._registers.get(address, 0) & ~mask | value & mask
        self._reply(command)

    def _on_14(self, command: int, body: bytes) -> None:  # GET_SECURITY_INFO
        chip_id = CHIPS[self.chip]["chip_id"]
        if chip_id is None:
            self._reply(command, status=b"\x01\x05")
        else:
            self._reply(command, data=struct.pack("<IBBBBBBBBII", 0, 0, *bytes(7), chip_id, 0))

    def _on_05(self, command: int, body: bytes) -> None:  # MEM_BEGIN
        self._reply(command)

    def _on_07(self, command: int, body: bytes) -> None:  # MEM_DATA
        self.uploaded += body
        self._reply(command)

    def _on_06(self, command: int, body: bytes) -> None:  # MEM_END: the uploaded stub starts
        self._reply(command)
        self.stub = True
        self._send(b"OHAI")

    def _on_0f(self, command: int, body: bytes) -> None:  # CHANGE_BAUDRATE: a pseudo-terminal has none
        self._reply(command)

    _on_0b = _on_0d = _on_05  # SPI_SET_PARAMS, SPI_ATTACH

    def _on_d0(self, command: int, body: bytes) -> None:  # ERASE_FLASH
        self.flash[:] = b"\xff" * FLASH_BYTES
        self._reply(command)

    def _on_02(self, command: int, body: bytes) -> None:  # FLASH_BEGIN
        size, _, _, offset = struct.unpack_from("<IIII", body)
        self.flash[offset : offset + size] = b"\xff" * size
        self._write_at, self._inflate = offset, None
        self._reply(command)

    def _on_10(self, command: int, body: bytes) -> None:  # FLASH_DEFL_BEGIN
        self._on_02(command, body)
        self._inflate = zlib.decompressobj()

    def _on_03(self, command: int, body: bytes) -> None:  # FLASH_DATA, FLASH_DEFL_DATA
        content = self._inflate.decompress(body) if self._inflate else body
        end = self._write_at + len(content)
        self.flash[self._write_at : end] = content
        if self._flips is not None and self._write_at <= self._flips < end:
            self.flash[self._flips] ^= 1
        self._write_at = end
        self._reply(command)

    _on_11 = _on_03
    _on_04 = _on_12 = _on_05  # FLASH_END, FLASH_DEFL_END

    def _on_13(self, command: int, body: bytes) -> None:  # SPI_FLASH_MD5
        address, size = struct.unpack_from("<II", body)
        digest = hashlib.md5(self.flash[address : address + size])
        self._reply(command, data=digest.digest() if self.stub else digest.hexdigest().encode())


class NetworkedEspRom(EspRom):
    """The same chip behind RFC 2217, which carries the control lines: DTR pulls IO0 low, RTS pulls EN low.

    The chip runs its program (and is deaf) until EN rises while IO0 is low. `starts` tells what it did at each reset.
    """

    cts = dsr = ri = cd = False  # lines of the port that nothing drives

    def _open(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = f"rfc2217://127.0.0.1:{self._listener.getsockname()[1]}"
        self.starts: list[str] = []
        self.baudrate, self.bytesize, self.parity, self.stopbits = 115200, 8, "N", 1
        self.rtscts = self.xonxoff = False
        self.break_condition = False
        self._dtr = self._rts = False
        self._loader = False
        self._client: socket.socket | None = None

    def _close(self) -> None:
        self._listener.close()

    def reset_input_buffer(self) -> None:
        pass

    reset_output_buffer = reset_input_buffer

    @property
    def dtr(self) -> bool:
        return self._dtr

    @dtr.setter
    def dtr(self, value: bool) -> None:
        self._lines(value, self._rts)

    @property
    def rts(self) -> bool:
        return self._rts

    @rts.setter
    def rts(self, value: bool) -> None:
        self._lines(self._dtr, value)

    def _lines(self, dtr: bool, rts: bool) -> None:
        if self._rts and not rts:  # EN rises
            self._loader = dtr
            self.starts.append("loader" if dtr else "program")
        elif rts:
            self._loader = self.stub = False
        self._dtr, self._rts = dtr, rts

    def feed(self, data: bytes) -> None:
        if self._loader:
            super().feed(data)

    def write(self, data: bytes) -> None:
        """What PortManager and the chip send to the host."""
        if self._client is not None:
            self._client.sendall(data)

    def _write(self, data: bytes) -> None:
        self.write(b"".join(self._manager.escape(data)))

    def _run(self) -> None:
        self._listener.settimeout(0.1)
        while not self._stop.is_set():
            try:
                self._client, _ = self._listener.accept()
            except TimeoutError:
                continue
            self._manager = serial.rfc2217.PortManager(self, self)
            with self._client as client:
                client.settimeout(0.1)
                while not self._stop.is_set():
                    try:
                        data = client.recv(65536)
                    except TimeoutError:
                        continue
                    except OSError:
                        break
                    if not data:
                        break
                    self.feed(b"".join(self._manager.filter(data)))
            self._client = None
