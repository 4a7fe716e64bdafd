"""The ROM loader of an ESP32 behind a pseudo-terminal, as far as esptool talks to it.

Follows Espressif's "Serial Protocol" page: SLIP packets, commands with checksums, and the flash they write. The flasher
stub that esptool uploads is not run (it is code for the chip): its bytes are taken, checked for their checksums, and
from its start on the loader answers as the stub does.
"""

import hashlib
import os
import pty
import select
import struct
import threading
import tty
import zlib

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
        self._master, self._slave = pty.openpty()
        tty.setraw(self._slave)
        self.port = os.ttyname(self._slave)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join(5)
        os.close(self._master)
        os.close(self._slave)

    def _run(self) -> None:
        packet, escaped, inside = bytearray(), False, False
        while not self._stop.is_set():
            if not select.select([self._master], [], [], 0.05)[0]:
                continue
            for byte in os.read(self._master, 65536):
                if byte == 0xC0:
                    if inside and packet:
                        self._packet(bytes(packet))
                    packet, inside, escaped = bytearray(), not (inside and packet), False
                elif escaped:
                    packet.append({0xDC: 0xC0, 0xDD: 0xDB}[byte])
                    escaped = False
                elif byte == 0xDB:
                    escaped = True
                elif inside:
                    packet.append(byte)

    def _send(self, data: bytes) -> None:
        os.write(self._master, b"\xc0" + data.replace(b"\xdb", b"\xdb\xdd").replace(b"\xc0", b"\xdb\xdc") + b"\xc0")

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
