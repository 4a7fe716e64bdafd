"""What is wired where on a Raspberry Pi Pico: data only."""

ID = "RPI_PICO"
PORT = "rp2"

UART = {"id": 0, "tx": 0, "rx": 1}  # the terminal
I2C = {"id": 0, "sda": 4, "scl": 5}
LIGHT = 25
