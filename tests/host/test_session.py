"""The conversation with the agent on a board, where a line of bytes stands for the board."""

import json
import zlib

import pytest

from sentill_host.bundle import agent
from sentill_host.deploy.session import Session
from sentill_host.errors import BoardError, LinkError


def answer(**fields: int) -> bytes:
    body = json.dumps(fields).encode()
    return b"@%s*%08x\n" % (body, zlib.crc32(body))


class Line:
    """A link whose board says who it is, and after each request the next of `then`."""

    port = "port"

    def __init__(self, *then: bytes, found: bytes | Exception = b""):
        self.found = found
        self.written: list[bytes] = []
        self._said = [answer(re=0)]
        self._then = list(then)

    def launch(self, code: str) -> None:
        self.launched = code

    def exec(self, code: str) -> bytes:
        if isinstance(self.found, Exception):
            raise self.found
        return self.found

    def read(self, timeout_s: float) -> bytes:
        return self._said.pop(0) if self._said else b""

    def write(self, data: bytes, timeout_s: float) -> None:
        self.written.append(data)
        self._said += self._then[:1]
        del self._then[:1]


@pytest.mark.parametrize(
    "found",
    [b"", b"/slot_", b"/slot_a.img", b"\xff", b"/slot_a.img 1 2\r\n/slot_b.img 3 4\r\n", BoardError("SyntaxError")],
)
def test_an_agent_is_sent_where_none_is_found(found: bytes | Exception) -> None:
    line = Line(found=found)
    Session(line, b"agent")  # type: ignore[arg-type]
    assert line.launched == agent.packed("agent")


def test_the_agent_in_a_slot_is_taken_when_there_is_the_same() -> None:
    line = Line(found=b"/slot_b.img 4711 5882\r\n")
    Session(line, b"agent")  # type: ignore[arg-type]
    assert line.launched == agent.starter("/slot_b.img 4711 5882")


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
    line = Line(answer(nack=1), answer(re=1))
    session = Session(line)  # type: ignore[arg-type]
    session.leave()
    assert len(line.written) == 2


def test_a_reset_that_is_not_confirmed_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sentill_host.deploy.session._RESET_S", 0.01)
    line = Line()
    session = Session(line)  # type: ignore[arg-type]
    with pytest.raises(LinkError, match="does not say that it resets"):
        session.leave()
    assert len(line.written) == 3


def test_an_agent_that_has_ended_is_told_apart() -> None:
    session = Session(Line(b"MemoryError: \n\x04>"))  # type: ignore[arg-type]
    with pytest.raises(BoardError, match="ended: MemoryError"):
        session.leave()


def test_an_answer_that_came_in_time_counts_however_late_one_looks() -> None:
    line = Line(answer(at=1, of=2) + answer(re=1))
    session = Session(line)  # type: ignore[arg-type]
    assert session.call("check", limit_s=0.0, slot="a") == {"re": 1}
