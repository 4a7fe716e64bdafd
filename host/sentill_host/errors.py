"""Errors of the host package: one root; the command line turns them into a message, a hint and an exit code."""

from typing import Any


class SentillHostError(Exception):
    """Root of all expected failures. `hint` says what to do next; `exit_code` is what the command returns."""

    exit_code = 1

    def __init__(self, message: str, hint: str = ""):
        super().__init__(message)
        self.hint = hint

    def told(self) -> dict[str, Any]:
        """As a report tells it: `error`, `hint` and `exit_code`."""
        return {"error": str(self), "hint": self.hint, "exit_code": self.exit_code}


class UsageError(SentillHostError):
    """The request itself cannot be carried out as asked (wrong file, wrong option, unknown board)."""

    exit_code = 2


class LinkError(SentillHostError):
    """The board cannot be reached, does not answer in time, or the cable misbehaves."""

    exit_code = 3


class RefusedError(LinkError):
    """The node answers that it will not; `code` is the reason on the wire, such as "mac" for want of a signature."""

    def __init__(self, message: str, code: str):
        super().__init__(message)
        self.code = code


class PortGone(LinkError):
    """The port disappeared while in use: cable pulled, board reset or without power."""


class BoardError(SentillHostError):
    """Code run on the board raised an exception; `args[0]` names its last line, `traceback` holds all of it."""

    def __init__(self, message: str, hint: str = "", traceback: str = ""):
        super().__init__(message, hint)
        self.traceback = traceback


class VerifyError(SentillHostError):
    """What is on the board is not what was sent, or does not come up as it should."""

    exit_code = 4


class PlatformError(SentillHostError):
    """This computer lacks something the request needs (interpreter, operating system feature)."""

    exit_code = 5
