"""Virtual boards: MicroPython's own interpreter behind pseudo-terminals, with simulated hardware. Linux only."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sentill_host.virtual.api import Board, VirtualBoards

__all__ = ["Board", "VirtualBoards"]


def __getattr__(name: str) -> Any:
    # On demand: the supervisor imports its modules from here and stays small without the API.
    if name in __all__:
        from sentill_host.virtual import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
