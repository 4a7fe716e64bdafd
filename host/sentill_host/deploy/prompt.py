"""At a board's prompt, with a dead man's switch: should this program or the cable fail, the board goes back to work.

A node that was asked to stand aside has armed one before the first Ctrl-C (sentill.node.actions.maintenance). A soft
reset ends the timers that feed the watchdog, which resets the board in 8 s unless `hold` has armed the switch anew.
"""

import contextlib

from sentill_host.board.link import Link
from sentill_host.deploy.session import Session
from sentill_host.errors import BoardError
from sentill_host.node import client

BOX_S = 45
"""What a board that is worked on at its prompt has until it restarts, unless the switch is armed anew."""

# What the agent takes over is kept where it finds it, and where no collection does. An ESP32's watchdog may take as
# long as it likes, and is not ended by a soft reset either.
HOLD = """\
import sys
sys.path[:] = ['.frozen']
import machine
def hold(s):
 for t in sys.modules.pop('hold', ()):
  t.deinit()
 if sys.platform == 'esp32':
  machine.WDT(timeout=s * 1000)
 elif hasattr(machine, 'WDT'):
  w, T = machine.WDT(timeout=8000), machine.Timer
  sys.modules['hold'] = (
   T(-1, period=1000, mode=T.PERIODIC, callback=lambda _: w.feed()),
   T(-1, period=s * 1000, mode=T.ONE_SHOT, callback=lambda _: machine.reset()))
hold({s})
"""
# The boot loader of a chip whose watchdog bites is left before anything is written to it: RP2040 data sheet 4.7.6,
# RP2350 12.9.7.
BOOT_LOADER = """\
import machine, sys
if sys.platform == 'rp2':
 machine.mem32[0x400DB000 if 'RP2350' in sys.implementation._machine else 0x4005B000] = 1 << 30
machine.bootloader()
"""


def hold(link: Link) -> None:
    """In the raw REPL: let the board restart in BOX_S, whatever becomes of us. Raises LinkError, PortGone."""
    with contextlib.suppress(BoardError):  # no such hardware, or no room for it
        link.exec(HOLD.format(s=BOX_S))


def fresh(link: Link) -> None:
    """In the raw REPL: a soft reset, since whatever ran has left its modules in the heap; held before and after.

    Raises LinkError, PortGone.
    """
    hold(link)
    link.soft_reset()
    hold(link)


def back(link: Link, session: Session | None) -> None:
    """Restart the board, by its agent where one was started. Raises LinkError, PortGone."""
    if session is not None:
        try:
            session.leave()
            return
        except BoardError:
            # The agent has ended; nothing runs that an interrupt could harm.
            link.enter_repl()
    client.restart(link)
