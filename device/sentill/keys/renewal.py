"""The note of the last provisioning, which outlives the keys: what may replace them once they are erased."""

from struct import pack, unpack

from sentill.errors import SentillError

FILE = "recovery.bin"  # generation u16, policy u8, profile u8, SHA-256 of what lets erased keys be replaced
_FORMAT = "<HBB32s"


def load(node) -> tuple:
    """(generation, policy, profile, SHA-256); zeros without a note."""
    data = bytearray(36)
    try:
        node.store.load(FILE, lambda readinto, size: readinto(data) if size == len(data) else None)
    except SentillError as error:
        node.report("recovery", error)
    return unpack(_FORMAT, data)


def save(node, generation: int, policy: int, profile: int, seal) -> None:
    """Replace the note. Raises OSError."""
    data = pack(_FORMAT, generation, policy, profile, seal)
    node.store.save(FILE, lambda write: write(data))
