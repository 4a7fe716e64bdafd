"""Errors of the node: one root, one leaf per kind of bad input.

Every error carries `code`, a short machine-readable word that travels in reply frames, and a message for people.
Neither may contain card data or keys.
"""


class SentillError(Exception):
    """Root of all errors raised by the node. `code` is a short ASCII word, `args[1]` the message for people."""

    def __init__(self, code: str, message: str = ""):
        super().__init__(code, message)

    @property
    def code(self) -> str:
        return self.args[0]

    @property
    def message(self) -> str:
        return self.args[1]


class FrameError(SentillError):
    """A frame on the wire is malformed or its fields are out of range."""


class ModelError(SentillError):
    """A model file is corrupt, hostile, or made for other features."""


class PolicyError(SentillError):
    """A profile of limits, or what is kept of them, is corrupt or hostile."""


class ConfigError(SentillError):
    """A configuration value is missing, of the wrong type, or out of range."""


class StorageError(SentillError):
    """Stored state is damaged or cannot be written."""


class LimitError(SentillError):
    """A well-formed request exceeds a limit of this node (amount cap, ring full)."""
