"""Runs the node on the bare Unix port, for tests/e2e/bare.py: USB on stdin and stdout, the line on an open file.

Arguments: device folder, folder for the node's files, file descriptor of the line. $FIRST: Python to run first.
"""

import gc
import os
import sys

device, root, line = sys.argv[1:4]
sys.path.insert(0, device)
gc.threshold(2048)  # as main.py
exec(os.getenv("FIRST"))  # an argument may not exceed 255 characters

from sentill.hal import hardware, stream  # noqa: E402
from sentill.health import sources  # noqa: E402
from sentill.node import node  # noqa: E402


class Board:
    ID = "SIM"
    PORT = "sim"
    UART = None


class Raw:
    # Flash beside the file system: a file whose bits are only cleared by programming, until they are erased.
    def __init__(self, path, blocks):
        self.file = open(path, "r+b")
        self.blocks = blocks

    def readblocks(self, block, buffer, offset=0):
        self.file.seek(block * 4096 + offset)
        self.file.readinto(buffer)

    def writeblocks(self, block, data, offset=0):
        there = bytearray(len(data))
        self.readblocks(block, there, offset)
        both = int.from_bytes(there, "little") & int.from_bytes(data, "little")
        self.file.seek(block * 4096 + offset)
        self.file.write(both.to_bytes(len(data), "little"))

    def ioctl(self, operation, argument):
        if operation == 6:
            self.file.seek(argument * 4096)
            for _ in range(16):
                self.file.write(b"\xff" * 256)
        return self.blocks if operation == 4 else 0


class HAL(hardware.HAL):
    root = root
    usb_chunk = 240
    fed = 0

    def open_uart(self, baud):
        port = open(int(line), "r+b")
        return stream.Stream(port, port, 240, True)

    def raw_flash(self):
        blocks = os.stat(root + "raw.img")[6] // 4096
        return Raw(root + "raw.img", blocks), blocks, 256

    def uid(self):
        return "0123456789abcdef"

    def reset_cause(self):
        return "power"

    def reset(self):
        os.system("kill -KILL $PPID")  # with -i, an exit would lead to the REPL

    def wdt_start(self, ms):
        self._wdt = self

    def feed(self):
        self.fed += 1

    def wdt_release(self):
        pass

    def adc(self, pin):
        return self

    def read(self, source):
        return 3300 if source == "adc:1" else None


_summary = sources.Vitals.summary


def summary(self):
    # What is in use, not what waits for collection.
    gc.collect()
    return _summary(self) + [("used", gc.mem_alloc()), ("fed", self.node.hal.fed)]


sources.Vitals.summary = summary
node.start(HAL(Board))
