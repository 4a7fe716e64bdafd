"""A person's end of the USB cable, in the chip's time: frames that the node sends, commands and their replies."""

from collections import deque
from typing import Any

from sentill.wire import protocol
from sentill_host.node.frames import Decoder, Frame
from tests.chip.chip import Chip

_ANSWER_S = 5.0


class People:
    """Listens at `chip`'s USB console from now on."""

    def __init__(self, chip: Chip):
        self.chip = chip
        self.frames: deque[tuple[float, Frame]] = deque(maxlen=10_000)
        self._decoder = Decoder()
        self._q = 0
        chip.on_console = self._on_console

    def _on_console(self, data: bytes) -> None:
        for item in self._decoder.feed(data):
            if isinstance(item, Frame):
                self.frames.append((self.chip.ns, item))

    def ask(self, command: str, **arguments: int | str) -> dict[str, Any]:
        """The reply's fields to a command. Raises Stuck, RuntimeError when it is refused."""
        self._q = protocol.next_q(self._q)
        self.chip.usb.write(protocol.encode("C", [("q", self._q), ("cmd", command), *arguments.items()]))
        found: list[dict[str, Any]] = []

        def answered() -> bool:
            found[:] = [f.fields for _, f in self.frames if f.kind == "R" and f.fields.get("re") == self._q]
            return bool(found)

        self.chip.run_until(answered, _ANSWER_S, f"answer to {command}")
        if not found[0].get("ok"):
            raise RuntimeError(f"{command}: {found[0]}")
        return found[0]

    def run(self, seconds: float) -> None:
        """Let the chip's time pass."""
        end = self.chip.ns + seconds * 1e9
        while self.chip.ns < end:
            self.chip.run((end - self.chip.ns) / 1e9)
