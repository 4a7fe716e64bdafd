"""The virtual board: what is wired where. The health channels of board.toml are added when the node is deployed."""

ID = "SIM"
PORT = "sim"
UART = {"id": 1}
I2C = {"id": 0}
LIGHT = 25
