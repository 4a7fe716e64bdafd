"""Blinks the board's light, so that a person finds the board among many. Loaded when it is asked for."""

import asyncio

from .errors import SentillError

_HALF_MS = 250


def start(hal, times: int) -> None:
    """Blink `times` beside whatever else runs, twice a second. Raises SentillError on a board without a light."""
    light = hal.light()
    if light is None:
        raise SentillError("light", "this board has no light")
    asyncio.create_task(_blink(light, times))


async def _blink(light, times):
    for i in range(2 * times):
        light.value(1 - i % 2)
        await asyncio.sleep_ms(_HALF_MS)
