# For MicroPython's build of an RP2 board: the frozen start beside what the port freezes itself.
# make -C ports/rp2 BOARD=RPI_PICO FROZEN_MANIFEST=.../device/frozen/rp2.py
# mypy: ignore-errors
freeze("$(PORT_DIR)/modules", "rp2.py")  # noqa: F821
include("$(MPY_DIR)/extmod/asyncio")  # noqa: F821
module("_boot.py", base_path=".", opt=2)  # noqa: F821
module("sentill_start.py", base_path="..", opt=2)  # noqa: F821
