"""Records on their way to a host: frame by frame, at the largest numbers a frame can carry."""

from binascii import a2b_base64
from struct import pack

from sentill.errors import StorageError
from sentill.journal import pull as audit_pull
from sentill.wire import protocol
from sentill.wire.port import Port
from support import raises

LAST = 0xFFFFFFFF


class Lines:
    """A stream that takes everything; `frames` are the lines, decoded."""

    def __init__(self):
        self.data = bytearray()

    def write(self, view, at, end):
        self.data.extend(view[at:end])
        return end - at

    def frames(self):
        return [protocol.decode(line + b"\n") for line in bytes(self.data).split(b"\n")[:-1]]


class Store:
    """Records of these sizes, the first of them number `first`; those numbered in `gone` are missing."""

    def __init__(self, first, sizes, gone=()):
        self.first = first
        self.next = first + len(sizes)
        self.held = []
        for i in range(len(sizes)):
            if first + i not in gone:
                body = pack("<HBI", sizes[i], 3, first + i) + bytes([i * 7 + k & 255 for k in range(sizes[i] - 7)])
                self.held.append((first + i, body))

    def reader(self, at):
        return Reader([item for item in self.held if item[0] >= at])

    def head(self):
        return b"head"

    def tag_before(self, sequence):
        return b"tag"


class Reader:
    def __init__(self, held):
        self.held = held
        self.sequence = 0

    def step(self):
        if not self.held:
            return False
        self.sequence, self.found = self.held.pop(0)
        return True

    def record(self):
        return bytearray(self.found)


def pulled(store, q=0):
    """(records by number, A frames) that reach a host, the first frame as number `q` + 1 of its port."""
    stream = Lines()
    port = Port("usb", stream, 2048, False, lambda: None)
    port.q = q
    pull = audit_pull.start(store, port, store.first)
    while pull.pump():
        while port.pump():
            pass
    while port.pump():
        pass
    frames = stream.frames()
    assert not port.dropped and frames[-1][1]["end"] is True and frames[-1][1]["n"] == store.next, frames[-1]
    found = {}
    part = b""
    for kind, fields in frames[:-1]:
        assert kind == "A"
        data = a2b_base64(fields["d"])
        if "of" in fields:
            assert fields["at"] == len(part), fields
            part += data
            if len(part) < fields["of"]:
                continue
            data, part = part, b""
        number = fields["n"]
        while data:
            size = data[0] | data[1] << 8
            found[number] = data[:size]
            data = data[size:]
            number += 1
    assert not part, "a record without its end"
    return found, frames


def test_records_of_every_size_come_whole_at_the_largest_numbers():
    # q has as many digits as it can, then n: a frame that is cut is a record that never arrives.
    sizes = [27, 64, 114, 126, 127, 141, 142, 143, 226, 227]
    for first, q in ((0, 0), (95, 95), (LAST - len(sizes), 0x3FFFFFFF - 40)):
        store = Store(first, sizes)
        found, _ = pulled(store, q)
        assert found == dict(store.held), [n for n, body in store.held if found.get(n) != body][:3]


def test_the_longest_record_fills_its_frames():
    _, frames = pulled(Store(LAST - 1, [227]), 0x3FFFFFFC)
    parts = [len(a2b_base64(fields["d"])) for _, fields in frames[:-1]]
    assert parts == [126, 101], parts
    assert len(protocol.encode(*(frames[0][0], list(frames[0][1].items())))) > 230
    assert frames[0][1]["q"] == 0x3FFFFFFD


def test_short_records_share_a_frame():
    found, frames = pulled(Store(5, [27] * 11))
    assert len(found) == 11 and len(frames) == 4, len(frames)  # five to a frame, and the end


def test_a_gap_ends_a_frame():
    found, frames = pulled(Store(5, [27] * 6, gone=(7, 8)))
    assert sorted(found) == [5, 6, 9, 10]
    assert [fields["n"] for _, fields in frames] == [5, 9, 11]


def test_without_a_journal():
    assert raises(StorageError, audit_pull.start, None, None, 0).code == "state"
