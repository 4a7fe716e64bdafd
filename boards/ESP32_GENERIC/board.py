"""What is wired where on a generic ESP32 module: data only."""

ID = "ESP32_GENERIC"
PORT = "esp32"

UART = {"id": 2, "tx": 17, "rx": 16}  # the terminal; UART 0 is the USB-to-serial chip
I2C = {"id": 0, "sda": 21, "scl": 22}
LIGHT = 2  # on most development boards
