"""The dead man's switch: a board that was taken to its prompt for a limited time goes back to work by itself."""

from sentill.wire import protocol
from sentill_host.deploy import prompt
from tests.chip.chip import Chip
from tests.chip.run import Bench, Numbers
from tests.chip.terminal import Terminal

_START_S = 30.0
_BOX_S = 20
_LATE_S = 1.0  # of a limit: a reset and what the watchdog counts


def _aside(bench: Bench) -> Chip:
    # A board whose node was asked to stand aside, at its raw prompt, with less than _BOX_S left.
    chip = Chip(bench.firmware, bench.image("deployed"))
    Terminal(chip).wait_for("I", _START_S)
    chip.run_until(lambda: chip.connected, _START_S, "USB connection")
    chip.usb.write(protocol.encode("C", [("q", 1), ("cmd", "maintenance"), ("box", _BOX_S)]))
    chip.run_until(lambda: b"sentill: maintenance" in chip.console, _START_S, "word that the node stands aside")
    chip.enter_repl()
    # What nothing refers to may be collected, and a timer with it.
    chip.exec("import gc\nfor _ in range(9): gc.collect(); bytearray(2000)")
    return chip


def _back_s(chip: Chip, limit_s: float, what: str) -> float:
    # Until the board has reset itself, and works again.
    began, resets = chip.ns, chip.resets
    chip.run_until(lambda: chip.resets > resets, limit_s + _LATE_S, f"reset: {what}")
    took_s = (chip.ns - began) / 1e9
    Terminal(chip).wait_for("I", _START_S)
    return took_s


def box(bench: Bench) -> Numbers:
    """Left at the prompt; after a soft reset; after one with the switch armed anew: the seconds until it resets."""
    at_prompt_s = _back_s(_aside(bench), _BOX_S, "at the prompt")
    chip = _aside(bench)
    chip.usb.write(b"\x04")
    after_soft_reset_s = _back_s(chip, 8.4, "after a soft reset")
    chip = _aside(bench)
    chip.console.clear()
    chip.usb.write(b"\x04")
    chip.run_until(lambda: bytes(chip.console).endswith(b"CTRL-B to exit\r\n>"), _START_S, "prompt after a soft reset")
    chip.exec(prompt.HOLD.format(s=prompt.BOX_S) + "import gc\nfor _ in range(9): gc.collect(); bytearray(2000)")
    held_s = _back_s(chip, prompt.BOX_S, "held")
    if after_soft_reset_s > 8.4 or held_s < prompt.BOX_S - 5:
        raise RuntimeError(f"{after_soft_reset_s:.1f} s after a soft reset, {held_s:.1f} s held")
    return {"box_prompt_s": at_prompt_s, "box_soft_reset_s": after_soft_reset_s, "box_held_s": held_s}
