"""ESP32 boards. Written from MicroPython's documentation, not run on a chip by our tests."""

import esp32
import machine

from . import hardware


def _partition(label):
    found = esp32.Partition.find(esp32.Partition.TYPE_DATA, label=label)
    return (found[0], found[0].ioctl(4, 0), 16) if found else None


class HAL(hardware.HAL):
    """An ESP32. On boards with a USB-to-serial chip the REPL is UART 0, so the terminal's port must be another."""

    uart_chunk = 64
    uart_rx_bytes = 4096  # the driver's own interrupts fill it, also while flash is written

    def raw_flash(self):
        """The partition labelled `sentill`, where the partition table has one."""
        return _partition("sentill")

    def file_flash(self):
        """The partition that MicroPython keeps its files in."""
        return _partition("vfs")

    def adc(self, pin: int):
        """The analogue input at `pin`, with the attenuation for the full 0..3.3 V or so."""
        return machine.ADC(machine.Pin(pin), atten=machine.ADC.ATTN_11DB)

    def time_box(self, ms: int) -> None:
        """By a watchdog that nobody feeds: here it may take as long as it likes, and outlives a soft reset."""
        machine.WDT(timeout=ms)

    def chip_temp(self):
        """From the sensor of newer chips in degrees, of the first ESP32 in Fahrenheit."""
        if hasattr(esp32, "mcu_temperature"):
            return int(esp32.mcu_temperature()) * 100
        return (esp32.raw_temperature() - 32) * 500 // 9
