"""Who the node is: the I frame. Borrowed at the start and when somebody asks."""

from sentill import __version__
from sentill.compat import present
from sentill.keys.vault import PROFILES


def send(node, port) -> None:
    """Send an I frame on `port`."""
    port.send(
        "I",
        [
            ("t", node.hal.now_s()),
            ("sw", __version__),
            ("board", node.hal.board.ID),
            ("uid", node.hal.uid()),
            ("fw", node.hal.firmware()),
            ("mpy", node.hal.mpy()),
            ("cfg", node.config_id),
            ("rst", node.hal.reset_cause()),
            ("ulab", present("ulab", "numpy")),
            ("prof", PROFILES[node.vault.profile]),
            ("gen", node.vault.generation),
        ]
        + node.model_ids
        + ([("tamper", node.tampered)] if node.tampered else [])
        + ([("faults", ",".join(node.faults))] if node.faults else []),
    )
