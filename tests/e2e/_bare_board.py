"""Runs the node on the bare Unix port, for tests/e2e/bare.py: USB on stdin and stdout, the line on an open file.

Arguments: device folder, folder for the node's files, file descriptor of the line. $FIRST: Python to run first.
"""

import gc
import os
import sys

device, root, line = sys.argv[1:4]
sys.path.insert(0, device)
exec(os.getenv("FIRST"))  # an argument may not exceed 255 characters

from sentill import node, vitals  # noqa: E402
from sentill.hal import base, stream  # noqa: E402


class Board:
    ID = "SIM"
    PORT = "sim"
    UART = None


class HAL(base.HAL):
    root = root
    usb_chunk = 240
    fed = 0

    def open_uart(self, baud):
        port = open(int(line), "r+b")
        return stream.Stream(port, port, 240, True)

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


_summary = vitals.Vitals.summary


def summary(self):
    # What is in use, not what waits for collection.
    gc.collect()
    return _summary(self) + [("used", gc.mem_alloc()), ("fed", self._node.hal.fed)]


vitals.Vitals.summary = summary
node.start(HAL(Board))
