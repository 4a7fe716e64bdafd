import micropython

micropython.kbd_intr(-1)  # before all else: the node knows whether Ctrl-C may stop it
try:
    import sentill_start

    sentill_start.run()  # the node of the slot it picks
except BaseException as error:
    # That file sees to its own failures; this one is damaged or missing. A locked board keeps its prompt to itself.
    import sys

    sys.print_exception(error)
    try:
        with open("/recovery.bin", "rb") as file:
            if file.read(4)[3]:
                __import__("machine").reset()
    except (OSError, IndexError):
        pass  # nobody has locked it
