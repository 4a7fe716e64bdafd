"""The time during which a locked device lets people at its REPL."""


class Session:
    """None is open at first. While one is, Ctrl-C ends the node as on a device without keys."""

    def __init__(self, hal):
        self._hal = hal
        self._until_s = 0

    def start(self, seconds: int) -> None:
        """Open, from now on for so long."""
        self._until_s = self._hal.uptime_s() + seconds
        self._hal.hold_ctrl_c(False)

    def left_s(self) -> int:
        """Seconds left, 0 when none is open."""
        return max(0, self._until_s - self._hal.uptime_s()) if self._until_s else 0

    def end(self) -> None:
        """Shut the REPL."""
        self._until_s = 0
        self._hal.hold_ctrl_c(True)

    def expired(self) -> bool:
        """Whether it has just run out; it is ended then."""
        if self._until_s and not self.left_s():
            self.end()
            return True
        return False
