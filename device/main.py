"""Started by MicroPython at power-on: joins the board's hardware to the node and runs it."""

import gc

# Collecting during the start keeps what stays together: else the rest of a small heap ends up in small pieces.
gc.threshold(2048)

import board  # noqa: E402

from sentill import hal, node  # noqa: E402

node.start(hal.make(board))
