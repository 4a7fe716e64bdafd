"""A port: frames written as protocol.encode writes them, and a queue that never waits."""

from sentill.compat import native
from sentill.wire import protocol, scan
from sentill.wire.port import Port
from support import no_alloc


class Line:
    """A stream that takes `room` bytes, and no more until it is given more room."""

    rx = None
    came_us = 0

    def __init__(self, room=1 << 20):
        self.room = room
        self.out = bytearray()

    def write(self, view, at, end):
        n = min(end - at, self.room)
        self.room -= n
        self.out.extend(bytes(view[at : at + n]))
        return n


def ports(direct=True, room=1 << 20):
    """A port on each kind of kernels."""
    viper = native("wire", "scan_viper")
    for kernels in (scan, viper) if viper else (scan,):
        port = Port("uart", Line(room), 720, direct, lambda: None)
        port._text, port._finish = kernels.put_text, kernels.finish
        yield port


NUMBERS = (0, 9, 10, -1, -10, 12345, (1 << 30) - 1, -(1 << 30) + 1, 1 << 30, -(1 << 30), (1 << 32) - 1, -(1 << 32) + 1)
TEXTS = ("", "a", 'quoted "x" \\ y', "~ !", "x" * 100)


def test_frames_are_those_of_the_protocol():
    frames = [("H", [("key%d" % i, NUMBERS[i])]) for i in range(len(NUMBERS))]
    frames += [("E", [("text", text), ("n", 1)]) for text in TEXTS]
    frames += [("R", [("ok", True), ("no", False)]), ("A", [])]
    for port in ports():
        wanted = b""
        for kind, pairs in frames:
            assert port.send(kind, pairs), pairs
            wanted += protocol.encode(kind, [("q", port.q)] + pairs)
        assert bytes(port.stream.out) == wanted, (bytes(port.stream.out), wanted)


def test_frames_of_every_length_are_cut_alike():
    for last in ("s", 7, -7):
        for n in range(150, 240):
            pairs = [("a", "x" * n), ("b", '"' if last == "s" else last)]
            for port in ports():
                port.send("E", pairs)
                wanted = protocol.fit("E", [("q", 1)] + pairs)
                assert bytes(port.stream.out) == wanted, (n, last, bytes(port.stream.out), wanted)


def test_what_cannot_travel_raises_as_in_the_protocol():
    for value in ("a\tb", "\x7f", "a\0b", 1 << 32, None):
        for port in ports():
            try:
                port.send("E", [("a", value)])
            except protocol.FrameError as error:
                assert error.code in ("json", "value"), (value, error.code)
            else:
                raise AssertionError("sent " + repr(value))


def test_a_frame_is_queued_whole_or_dropped_whole():
    for port in ports(direct=True, room=100):
        frames = [protocol.encode("E", [("q", i + 1), ("text", "x" * 150)]) for i in range(5)]
        sent = [port.send("E", [("text", "x" * 150)]) for _ in range(5)]
        assert sent == [True, True, True, True, False] and port.dropped == 1, sent
        while port.pending():
            port.stream.room = 64
            assert port.pump() <= 64
        assert bytes(port.stream.out) == b"".join(frames[:4]), bytes(port.stream.out)


def test_a_port_that_waits_calls_and_pumps():
    woken = []
    port = Port("usb", Line(), 720, False, lambda: woken.append(1))
    assert port.send("E", [("ev", "x")]) and woken == [1] and not port.stream.out
    assert port.pump() == port.pump() + len(port.stream.out) and not port.pending()


def test_sending_leaves_little_garbage():
    pairs = [("t", 12345), ("name", "paper_out"), ("ok", True)]
    for port in ports():
        if port._text is not scan.put_text:
            line = port._line
            no_alloc(lambda: port._text(line, 4 + (9 << 8), "name", "paper_out"))
            assert port.send("H", pairs)
