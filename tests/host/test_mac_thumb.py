"""Tags made in ARM instructions, against those of Python's own hashes."""

import hashlib
import hmac
import random
from array import array
from collections.abc import Iterator

import pytest

from sentill import mac_plain
from tests.thumb import Kernels

pytest.importorskip("rp2040py", reason="no Cortex-M0+ in software: pip install 'sentill[dev]'")

SPACE = 484
DIGEST = 452


class Mac:
    """The MAC of mac_thumb.py, without its Python."""

    def __init__(self, kernels: Kernels, key: bytes) -> None:
        self.kernels = kernels
        self.states = array("I", bytes(72))
        self.states[16] = kernels.address(0)
        self.states[17] = kernels.block()
        kernels.work(self.states, key, len(key), 1)

    def tag(self, data: bytes) -> bytes:
        self.kernels.work(self.states, data, len(data), 0)
        return bytes(self.kernels.memory()[DIGEST : DIGEST + 32])


@pytest.fixture(scope="module")
def kernels() -> Iterator[Kernels]:
    made = Kernels("sha_thumb", "mac_thumb")
    made.memory()[:] = b"\xaa" * len(made.memory())
    yield made
    assert bytes(made.memory()[SPACE:]) == b"\xaa" * (len(made.memory()) - SPACE), "it leaves its work space"


def test_tags_of_every_length(kernels: Kernels) -> None:
    noise = random.Random(1)
    for n in [*range(132), 255, 256, 300, 4095]:
        key, data = noise.randbytes(n % 65), noise.randbytes(n)
        assert Mac(kernels, key).tag(data) == hmac.digest(key, data, "sha256"), n


def test_keys_of_every_length(kernels: Kernels) -> None:
    for n in range(65):
        key = bytes(range(1, n + 1))
        mac = Mac(kernels, key)
        assert mac.tag(b"") == hmac.digest(key, b"", "sha256"), n


def test_a_chain_of_tags(kernels: Kernels) -> None:
    noise = random.Random(2)
    key, tag = bytearray(noise.randbytes(32)), bytearray(noise.randbytes(16))
    mac, plain = Mac(kernels, bytes(key)), mac_plain.MAC(key)
    for n in [*range(27, 140), 200, 227]:
        record = bytearray(n.to_bytes(2, "little") + noise.randbytes(n - 2))
        want, want_key, want_tag = bytearray(record), bytearray(key), bytearray(tag)
        plain.chain(want_key, want_tag, want, 0)
        before = hashlib.sha256(b"next" + key).digest()
        kernels.work(mac.states, key, tag, record)
        assert (record, key, tag) == (want, want_key, want_tag), n
        assert key == before
        assert not any(kernels.memory()[:256]), "words of the key are left"
