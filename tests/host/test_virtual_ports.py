"""The virtual board's ports: what becomes of bytes that nobody reads."""

import os
import time

from sentill_host.virtual.loop import Loop
from sentill_host.virtual.ports import STALL_S, Numbers, Openings, Port


def serve(loop: Loop, seconds: float) -> None:
    """Let the loop run for so long."""
    loop._running = True
    loop.after(seconds, loop.stop)
    loop.run()


def test_who_does_not_read_loses_bytes_but_not_for_the_time_the_computer_stood_still(tmp_path):
    loop = Loop()
    port = Port(loop, Openings(loop), Numbers(), tmp_path / "usb", lambda data: None, lambda: None)
    port.plug()
    reader = os.open(port.path, os.O_RDWR | os.O_NOCTTY)
    try:
        serve(loop, 0.05)
        port.write(b"x" * 40_000)
        serve(loop, STALL_S / 2)
        assert port.full
        time.sleep(2 * STALL_S)  # nobody runs, the reader neither
        serve(loop, STALL_S / 2)
        assert port.full and not port.lost
        serve(loop, 2 * STALL_S)
        assert port.lost > 20_000
    finally:
        os.close(reader)
        port.unplug()
