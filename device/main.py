"""Started by MicroPython at power-on: picks the slot to run, joins the board's hardware to the node and runs it."""

import gc
import sys

import micropython

micropython.kbd_intr(-1)  # the node knows whether Ctrl-C may stop it


def pick():
    # The proven slot's own code decides (sentill.update tells how), or the other's when that one cannot.
    names = "ab"
    try:
        with open("/slot", "rb") as file:
            names = "ba" if file.read(16).strip()[-1:] == b"b" else "ab"
    except OSError:
        pass
    refusal = None
    for name in names:
        sys.path.insert(0, "/slot_" + name)
        try:
            import board

            from sentill import hal, update, update_verifier

            return update.pick("/", update_verifier.verifier(hal.make(board)))
        except Exception as error:
            sys.print_exception(error)
            refusal = refusal if isinstance(error, ImportError) else error
        finally:
            sys.path.pop(0)
            for module in [name for name in sys.modules if name == "board" or name.startswith("sentill")]:
                del sys.modules[module]
    if refusal:
        raise refusal  # what lies beside the slots is no version
    return "", False


def locked():
    # Whether the board was given keys and a profile that shuts the REPL (sentill.recovery.FILE).
    try:
        with open("/recovery.bin", "rb") as file:
            return file.read(4)[3] > 0
    except (OSError, IndexError):
        return False


trial = False
try:
    # Collecting during the start keeps what stays together: else the rest of a small heap ends up in small pieces.
    gc.threshold(2048)
    slot, trial = pick()
    if slot:
        sys.path.insert(0, slot)
    del pick
    gc.collect()
    if trial:
        from machine import WDT

        WDT(timeout=8000)  # ends a boot that hangs before the node arms its own
    import board

    from sentill import hal, node

    hardware = hal.make(board)
    if trial:
        hardware.wdt_start(8000)
    node.start(hardware)
except BaseException as error:
    sys.print_exception(error)
    if trial:
        try:
            with open("/slot.note", "w") as file:
                file.write(repr(error)[:100])
        except OSError:
            pass  # it need not be known
    if trial or locked():
        from time import sleep_ms

        from machine import reset

        sleep_ms(300)  # what the last words need on the wire
        reset()
    micropython.kbd_intr(3)
