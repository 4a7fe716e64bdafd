"""The conversation with the agent on a board, where a line of bytes stands for the board."""

import json
import zlib

import pytest

from sentill_host.errors import LinkError
from sentill_host.session import Session


class Line:
    """A link whose board says `first`, and after the next request `then`."""

    port = "port"

    def __init__(self, then: bytes):
        self.written: list[bytes] = []
        about = json.dumps({"re": 0})
        self._said = [b"@%s*%08x\n" % (about.encode(), zlib.crc32(about.encode()))]
        self._then = [then]

    def launch(self, code: bytes) -> None:
        self.launched = code

    def read(self, timeout_s: float) -> bytes:
        return self._said.pop(0) if self._said else b""

    def write(self, data: bytes, timeout_s: float) -> None:
        self.written.append(data)
        self._said += self._then
        self._then = []


FRAME = b'#I {"q":1,"t":0,"sw":"0.1.0"}*00000000\n'


def test_a_node_that_starts_quickly_has_been_left() -> None:
    line = Line(FRAME)
    session = Session(line)  # type: ignore[arg-type]
    session.leave()
    assert len(line.written) == 1


def test_a_node_that_answers_in_place_of_the_agent_is_an_error() -> None:
    session = Session(Line(FRAME))  # type: ignore[arg-type]
    with pytest.raises(LinkError, match="reset meanwhile"):
        session.call("check", slot="a")


def test_a_reset_that_arrived_damaged_is_sent_again() -> None:
    nack = json.dumps({"nack": 1}).encode()
    line = Line(b"@%s*%08x\n" % (nack, zlib.crc32(nack)))
    session = Session(line)  # type: ignore[arg-type]
    session.leave()
    assert len(line.written) == 2
