"""What a device answers to a challenge: it fits a line, and shows its keys to whoever asks with a number."""

from binascii import a2b_base64

from sentill import crypto
from sentill.keys import challenge
from sentill.keys.session import Session
from sentill.keys.vault import Vault
from sentill.wire import protocol

MOST = 0x3FFFFFFF
KEY = b"key of frames"
NONCE = "A" * 24


class Stub:
    """As much of a node, its hardware and its files as a challenge looks at."""

    tampered = ""
    nonce = b""
    failed_s = 0
    name = "usb"

    def __init__(self, generation):
        self.vault = Vault(None)
        self.vault.generation = generation
        self.vault.profile = 1
        self.vault.frame = crypto.mac(KEY)
        self.hal = self.store = self.console = self
        self.session = Session(self)

    def uptime_s(self):
        return 5

    def urandom(self, n):
        return bytes(n)

    def hold_ctrl_c(self, on):
        pass

    def load(self, name, restore):
        return False


def ask(node, fields, port=None):
    return dict(challenge.challenge(node, port or node, fields))


def test_the_proof_is_of_the_number_and_the_keys():
    told = ask(Stub(3), {"nonce": NONCE})
    assert a2b_base64(told["sig"]) == crypto.mac(KEY).tag(b"challenge " + NONCE.encode())[:12], told
    assert ask(Stub(3), {"nonce": 7})["sig"] != told["sig"]
    assert "sig" not in ask(Stub(3), {}), "nobody asked for it"
    assert "sig" not in ask(Stub(0), {"nonce": NONCE}), "without keys"
    assert "sig" not in ask(Stub(3), {"nonce": NONCE}, _uart()), "the terminal's line"
    node = Stub(3)
    node.tampered = "case"
    assert "sig" not in ask(node, {"nonce": NONCE}), "tampered"


def _uart():
    port = Stub(3)
    port.name = "uart"
    return port


def test_the_longest_answer_fits_a_line():
    for tampered in ("", "sixteen letters!"):
        node = Stub(0xFFFF)
        node.tampered = tampered
        node.vault.profile = 1
        node.vault.counters = [MOST + 1] * 4
        node.vault.failed = 12
        node.session.start(480 * 60)
        told = challenge.challenge(node, node, {"nonce": NONCE})
        assert ("sig" in dict(told)) != bool(tampered), told
        line = protocol.encode("R", [("q", MOST), ("re", MOST), ("ok", True)] + told)
        assert len(line) <= protocol.MAX, line
