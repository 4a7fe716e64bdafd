"""Puts MicroPython on a board: which board it is, which firmware it gets, and the tool that writes its chip.

`procedure.flash` joins the parts. A tool is a `backend.Backend`: esptool for ESP32 (`esp32`), a copy to the boot drive
or picotool for RP2040 and RP2350 (`rp2`).
"""
