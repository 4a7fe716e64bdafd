"""Started by MicroPython at power-on: joins the board's hardware to the node and runs it."""

import board

from sentill import hal, node

node.start(hal.make(board))
