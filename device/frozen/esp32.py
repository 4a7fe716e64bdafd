# For MicroPython's build of an ESP32 board: the frozen start beside what the port freezes itself.
# make -C ports/esp32 BOARD=ESP32_GENERIC FROZEN_MANIFEST=.../device/frozen/esp32.py
# mypy: ignore-errors
freeze("$(PORT_DIR)/modules", ("espnow.py", "flashbdev.py", "inisetup.py", "machine.py"))  # noqa: F821
include("$(MPY_DIR)/extmod/asyncio")  # noqa: F821
module("_boot.py", base_path=".", opt=2)  # noqa: F821
module("sentill_start.py", base_path="..", opt=2)  # noqa: F821
