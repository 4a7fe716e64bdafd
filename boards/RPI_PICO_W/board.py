"""What is wired where on a Raspberry Pi Pico W: data only."""

ID = "RPI_PICO_W"
PORT = "rp2"

UART = {"id": 0, "tx": 0, "rx": 1}  # the terminal
I2C = {"id": 0, "sda": 4, "scl": 5}
LIGHT = "LED"  # behind the radio chip
