"""What is wired where on a Raspberry Pi Pico 2: data only."""

ID = "RPI_PICO2"
PORT = "rp2"

UART = {"id": 0, "tx": 0, "rx": 1}  # the terminal
I2C = {"id": 0, "sda": 4, "scl": 5}
LIGHT = 25
