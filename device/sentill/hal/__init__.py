"""The hardware, behind one interface: hardware.HAL, with what differs in port_esp32, port_rp2 and port_sim."""


def make(board):
    """The HAL of a board. `board` is its board.py: PORT names the port, the rest says what is wired where."""
    name = "port_" + board.PORT
    return getattr(__import__("sentill.hal." + name).hal, name).HAL(board)
