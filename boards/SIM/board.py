"""The virtual board: what is wired where. The health channels of board.toml are added when the node is deployed."""

ID = "SIM"
PORT = "sim"
UART = {"id": 1}
I2C = {"id": 0}
LIGHT = 25
TAMPER = (  # name, source, low, high, readings in a row outside, at two per second
    ("case", "pin:5", 0, 0, 2),
    ("light", "adc:6", 0, 48_000, 3),
    ("shock", "adc:5", 0, 60_000, 1),
    ("supply", "adc:1", 20_000, 45_000, 6),
    ("cold_hot", "chip_temp", -2_500, 9_500, 6),
)
