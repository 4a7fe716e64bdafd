"""What is wired where on a generic ESP32-S3 module: data only."""

ID = "ESP32_GENERIC_S3"
PORT = "esp32"

UART = {"id": 1, "tx": 17, "rx": 18}  # the terminal
I2C = {"id": 0, "sda": 8, "scl": 9}
