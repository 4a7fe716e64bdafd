"""The frame reader and the two frames of a decision, with the fuzzed lines of the wire."""

from array import array

from sentill import pan
from sentill.compat import native
from sentill.errors import FrameError
from sentill.wire import port, protocol, request_verdict
from sentill.wire import scan as wire
from sentill.wire import values as wire_values
from sentill.wire.reader import CRC_TABLE, FrameReader
from support import MICROPYTHON, SkipTest, no_alloc, raises

# On CPython the whole number; the other interpreters take a share.
LINES = 2000 if MICROPYTHON else 12000

PAIRS = [("q", 7), ("ref", 4711), ("t", 89251200), ("amt", 12999), ("card", "c_9f31-B2")]
PAIRS += [("pm", 4210), ("pn", 17), ("ph", 2)]


def feed(reader, data):
    """Types and objects of the frames in `data`."""
    found = []
    while data:
        window = reader.window()
        n = min(len(window), len(data))
        window[:n] = data[:n]
        data = data[n:]
        reader.received(n)
        kind = reader.next()
        while kind:
            found.append((chr(kind), reader.object()))
            kind = reader.next()
    return found


def counts(reader):
    return (reader.frames, reader.garbage, reader.bad_crc, reader.too_long)


def request(pairs, kernels=None):
    """The Request read from a frame of these pairs, with its reader."""
    reader = FrameReader()
    window = reader.window()
    line = protocol.encode("T", pairs)
    window[: len(line)] = line
    reader.received(len(line))
    assert reader.next() == ord("T")
    r = request_verdict.Request()
    if kernels:
        r._scan = kernels.scan_request
    return r, reader


def changed(key, value):
    return [(k, value if k == key else v) for k, v in PAIRS]


def test_reader_counts_everything():
    reader = FrameReader()
    line = protocol.encode("P", [("q", 1)])
    cases = (
        (line, 1, (1, 0, 0, 0)),
        (b"noise " + line, 1, (1, 0, 0, 0)),
        (line[:7] + line, 1, (1, 0, 0, 0)),
        (b"\r\n\n\r\n", 0, (0, 0, 0, 0)),
        (b"hello\n\x00\xff\n", 0, (0, 2, 0, 0)),
        (line.replace(b"1", b"2", 1), 0, (0, 0, 1, 0)),
        (b"x" * 241 + b"\n" + line, 1, (1, 0, 0, 1)),
        (b"x" * 5000 + b"\n" + line, 1, (1, 0, 0, 1)),
        (b"#" * 239 + b"\n" + line, 1, (1, 1, 0, 0)),
        (line[:10] + b"\n" + line[10:] + line, 1, (1, 2, 0, 0)),
        (line * 20, 20, (20, 0, 0, 0)),
    )
    total = (0, 0, 0, 0)
    for data, n, delta in cases:
        found = feed(reader, data)
        assert found == [("P", b'{"q":1}')] * n, (data, found)
        total = tuple([a + b for a, b in zip(total, delta)])
        assert counts(reader) == total, (data, counts(reader), total)


def test_reader_takes_bytes_one_by_one():
    reader = FrameReader()
    line = protocol.encode("T", PAIRS)
    found = []
    for byte in line * 5:
        found += feed(reader, bytes([byte]))
    assert [kind for kind, _ in found] == ["T"] * 5, found
    assert counts(reader) == (5, 0, 0, 0), counts(reader)


def test_an_answer_that_was_begun_stands_for_no_request():
    lately = request_verdict.Lately()
    r, reader = request(PAIRS)
    assert r.scan(reader) and lately.recall(r) is None
    answers = []
    for i in range(4):
        r, reader = request(changed("ref", i))
        assert r.scan(reader)
        assert lately.recall(r) is None
        answers.append(lately.next())
        lately.remember(r)
        assert lately.recall(r) is answers[i]
    assert lately.next() is answers[0]  # its judgement is under way, or has crashed
    r, reader = request(changed("ref", 0))
    assert r.scan(reader) and lately.recall(r) is None
    for other in PAIRS[2:]:
        changed_value = 5 if isinstance(other[1], int) else "c_9f31-B"
        r, reader = request([(k, changed_value if k == other[0] else v) for k, v in changed("ref", 1)])
        assert r.scan(reader) and lately.recall(r) is None, other
    r, reader = request([("q", 99)] + changed("ref", 1)[1:])
    assert r.scan(reader) and lately.recall(r) is answers[1], "its q counts on"


NUMBERS = (0, 7, 10, 99, 100, 123456789, (1 << 30) - 1, 1 << 30, (1 << 31) - 1)
POSITIVE = NUMBERS + (1 << 31, (1 << 31) + 9, 3 << 30, (1 << 32) - 300, (1 << 32) - 1)
SIGNED = NUMBERS[:-2] + (-1, -9, -10, -123456789, -(1 << 30))


def test_kernels_agree_on_numbers():
    viper = native("wire", "values_viper")
    for kernels in (wire_values, viper) if viper else (wire_values,):
        buf = bytearray(40)
        values = kernels.numbers(7)
        for form, cases in ((b"a\x01b\x07c\0", SIGNED), (b"a\x09b\x0fc\0", POSITIVE)):
            for value in cases:
                values[0] = values[6] = value
                n = kernels.fill(buf, 2, form, values)
                assert bytes(buf[2:n]) == b"a%db%dc" % (value, value), (kernels, value, bytes(buf[:n]))


def test_kernels_agree_on_checksums():
    viper = native("wire", "scan_viper")
    noise = Noise(3)
    for n in range(4, 229):
        data = bytes([32 + noise.below(95) for _ in range(n)])
        for kernels in (wire, viper) if viper else (wire,):
            buf = bytearray(data) + bytearray(11)
            assert kernels.finish(buf, n, CRC_TABLE) == n + 11
            assert buf == data + b"*%08x\r\n" % protocol.crc32(data[1:]), (kernels, bytes(buf))


def test_kernels_agree_on_lines():
    """The same frames, the same counts, the same state, whatever comes in and in which portions."""
    viper = native("wire", "scan_viper")
    if not viper:
        raise SkipTest("no viper emitter here")
    noise = Noise(4)
    good = protocol.encode("T", PAIRS)
    readers = [FrameReader(), FrameReader()]
    readers[0]._next = wire.next_frame
    for _ in range(LINES):
        data = mutate(noise, good[:-2]) + (b"x" * noise.below(300) if noise.below(20) == 0 else b"") + b"\r\n"
        data += good if noise.below(9) == 0 else b""
        while data:
            n = 1 + noise.below(len(data))
            found = [feed(reader, data[:n]) for reader in readers]
            assert found[0] == found[1], (data, found)
            assert list(readers[0].state) == list(readers[1].state), (data, readers[0].state, readers[1].state)
            data = data[n:]
    assert min(counts(readers[0])) > 0, counts(readers[0])


def scans():
    viper = native("wire", "values_viper")
    return (wire_values.scan_request, viper.scan_request) if viper else (wire_values.scan_request,)


def test_plain_requests_take_the_fast_path():
    for pairs in (
        PAIRS,
        PAIRS[:5],
        list(reversed(PAIRS)),
        changed("ref", (1 << 32) - 1),
        changed("t", (1 << 30) - 1),
        changed("amt", (1 << 30) - 1),
        changed("amt", 0),
        changed("pm", 65535),
        changed("pn", 255),
        changed("card", "x" * 32),
        changed("card", "123456789012a123456789012"),
    ):
        wanted = dict(pairs)
        for scan in scans():
            _, reader = request(pairs)
            out = array("I", [9] * request_verdict.SLOTS)
            assert scan(reader.buf, reader.start, reader.end, out) == 1, (scan, pairs)
            got = list(out[:7])
            assert got == [wanted.get(key, 0) for key in ("q", "ref", "t", "amt", "pm", "pn", "ph")], (pairs, got)
            card = bytes(reader.buf[out[7] : out[7] + out[8]]).decode()
            assert card == wanted["card"], (card, wanted["card"])


def test_requests_that_are_refused():
    for pairs, code in (
        (changed("amt", 1 << 30), "amount"),
        (changed("amt", (1 << 32) - 1), "amount"),
        (changed("amt", -1), "amount"),
        (changed("amt", True), "field"),
        (changed("amt", "12"), "field"),
        (changed("t", 1 << 30), "range"),
        (changed("t", -5), "range"),
        (changed("ref", -1), "range"),
        (changed("q", 1 << 30), "range"),
        (changed("pm", 65536), "range"),
        (changed("pn", 256), "range"),
        (changed("ph", 256), "range"),
        (changed("card", ""), "card"),
        (changed("card", "a b"), "card"),
        (changed("card", "x" * 33), "card"),
        (changed("card", 17), "field"),
        (changed("card", "4111111111111111"), "pan"),
        (changed("card", "4111-1111_1111-1111"), "pan"),
        (PAIRS + [("note", "card 4111 1111 1111 1111.")], "pan"),
        (PAIRS + [("note", '4111"1111"1111"1111'), ("x", "4111/1111/1111/1111")], "pan"),
        (PAIRS + [("a", "41111111"), ("b", "11111111")], "pan"),
        (PAIRS + [("a", 41111111), ("b", 11111111)], "pan"),
        (PAIRS + [("411111111111", 1), ("4111111111111111", 1)], "pan"),
        (PAIRS[1:], "field"),
        (PAIRS[:1] + PAIRS[2:], "field"),
        (PAIRS[:4], "field"),
        ([], "field"),
    ):
        r, reader = request(pairs)
        error = raises(FrameError, r.parse, reader, pan.looks_like_pan)
        assert error.code == code, (pairs, error.code, code)
        assert "4111" not in error.message, error.message
        given = dict(pairs)
        if code != "pan" and 0 <= given.get("ref", 0) and given.get("ref") is not None:
            assert r.fields[request_verdict.REF] == given["ref"], (pairs, r.fields[request_verdict.REF])


def test_slow_path_accepts_what_is_valid():
    for pairs in (PAIRS + [("extra", 1)], changed("card", "1234567890123"), PAIRS + [("note", "x")]):
        r, reader = request(pairs)
        r.parse(reader, pan.looks_like_pan)
        assert list(r.fields[:7]) == [7, 4711, 89251200, 12999, 4210, 17, 2], list(r.fields)
        assert bytes(r.token()).decode() == dict(pairs)["card"], bytes(r.token())


class Noise:
    """Pseudo-random numbers, the same on every interpreter (a linear congruential generator, Numerical Recipes)."""

    def __init__(self, seed):
        self.state = seed

    def below(self, n):
        self.state = (self.state * 1664525 + 1013904223) & 0xFFFFFFFF
        return (self.state >> 8) % n


ALPHABET = b'{}[]":,*#\\-+.0123456789TPCtruefalsnqamdp_ \r\x00\x7f\xff'


def mutate(noise, body):
    """`body` with one to four of its bytes changed, dropped, doubled or inserted."""
    data = bytearray(body)
    for _ in range(1 + noise.below(4)):
        at = noise.below(len(data)) if data else 0
        what = noise.below(4)
        if what == 0 and data:
            data[at] = ALPHABET[noise.below(len(ALPHABET))]
        elif what == 1 and data:
            data = data[:at] + data[at + 1 :]
        elif what == 2:
            data = data[:at] + data[at : at + 1 + noise.below(12)] + data[at:]
        else:
            data = data[:at] + bytes([ALPHABET[noise.below(len(ALPHABET))]]) + data[at:]
    return bytes(data).replace(b"\n", b" ")


def test_fuzzed_objects_with_right_checksums():
    """Both scanners agree with the slow path: what they accept it accepts with the same fields; it never crashes."""
    noise = Noise(1)
    body = protocol.encode("T", PAIRS)[1:-11]
    reader = FrameReader()
    slow = request_verdict.Request()
    slow._scan = lambda *args: 0
    scanners = scans()
    outs = [array("I", bytes(4 * request_verdict.SLOTS)) for _ in scanners]
    accepted = refused = 0
    for _ in range(LINES):
        text = mutate(noise, body)
        line = b"#" + text + b"*%08x\n" % protocol.crc32(text)
        window = reader.window()
        if len(line) > len(window):
            continue
        window[: len(line)] = line
        reader.received(len(line))
        if reader.next() != 84:
            continue
        fast = [scan(reader.buf, reader.start, reader.end, out) for scan, out in zip(scanners, outs)]
        assert min(fast) == max(fast), (line, fast)
        try:
            slow.parse(reader, pan.looks_like_pan)
        except FrameError as error:
            refused += 1
            assert not fast[0], (line, error)
        else:
            accepted += 1
            if fast[0]:
                for out in outs:
                    assert list(out[:7]) == list(slow.fields[:7]), (line, list(out), list(slow.fields))
                    assert bytes(reader.buf[out[7] : out[7] + out[8]]) == bytes(slow.token()), line
        reader.next()
    print("accepted", accepted, "refused", refused)
    assert accepted > LINES // 100 and refused > LINES // 3, (accepted, refused)


def test_fuzzed_lines_are_counted_once():
    """Each line is a frame, garbage, damaged or too long; the reader goes on with the next good one."""
    noise = Noise(2)
    good = protocol.encode("T", PAIRS)
    reader = FrameReader()
    before = counts(reader)
    for i in range(LINES):
        line = mutate(noise, good[:-2]) + (b"x" * 200 if noise.below(20) == 0 else b"") + b"\r\n"
        found = feed(reader, line)
        after = counts(reader)
        empty = line.strip(b"\r\n") == b"" or line == b"\r\r\n"
        assert sum(after) == sum(before) + (0 if empty else 1), (line, before, after)
        assert len(found) == after[0] - before[0], (line, found)
        before = after
        if i % 64 == 0:
            assert [kind for kind, _ in feed(reader, good)] == ["T"], line
            before = counts(reader)
    print("frames, garbage, bad CRC, too long:", counts(reader))
    assert reader.bad_crc > LINES // 3 and reader.garbage > LINES // 50 and reader.too_long, counts(reader)


def answer(code, model, reasons, score=-300, review=-(1 << 30), decline=(1 << 30) - 1):
    a = request_verdict.Answer()
    a.score, a.review, a.decline, a.code, a.model, a.reasons, a.n = (
        score,
        review,
        decline,
        code,
        model,
        reasons,
        len(reasons),
    )
    return a


def write_verdict(v):
    v.open(9, 4294967295, answer(2, b"a1b2c3d4", [b"F_runf", b"L_amt"]))
    return v.close(1234)


def test_verdict_frame():
    v = request_verdict.Verdict()
    n = write_verdict(v)
    line = bytes(v.view[:n])
    wanted = [("q", 9), ("ref", 4294967295), ("v", "decline"), ("s", -300), ("tr", -(1 << 30)), ("td", (1 << 30) - 1)]
    wanted += [("m", "a1b2c3d4"), ("why", "F_runf,L_amt"), ("us", 1234)]
    assert line == protocol.encode("T", wanted), line


def test_longest_verdict_fits():
    v = request_verdict.Verdict()
    least = -(1 << 30)
    v.open((1 << 30) - 1, 4294967295, answer(0, b"x" * 16, [b"F_hfirst"] * 40, least, least, least))
    n = v.close((1 << 30) - 1)
    kind, fields = protocol.decode(bytes(v.view[:n]))
    assert n <= protocol.MAX and kind == "T" and len(fields["why"].split(",")) == 8, (n, fields)


def test_verdict_from_either_kernel():
    viper = native("wire", "values_viper")
    if not viper:
        raise SkipTest("no viper emitter here")
    lines = []
    for kernels, line in ((wire_values, wire), (viper, native("wire", "scan_viper"))):
        v = request_verdict.Verdict()
        v._fill, v._copy, v._finish, v._numbers = kernels.fill, kernels.put, line.finish, kernels.numbers(7)
        lines.append(bytes(v.view[: write_verdict(v)]))
    assert lines[0] == lines[1], lines


def test_fast_path_allocates_little():
    if not native("wire", "scan_viper"):
        raise SkipTest("no viper emitter here")
    r, reader = request(PAIRS)
    no_alloc(lambda: r.parse(reader, pan.looks_like_pan))
    v = request_verdict.Verdict()
    given = answer(1, b"a1b2c3d4", [b"L_amt"], 5, 10, 20)
    no_alloc(lambda: v.open(9, 77, given))
    no_alloc(lambda: v.close(1234, 5))


class Asked:
    """A port with one frame of these pairs, for port.parse."""

    def __init__(self, line):
        self._data = line[3:-11]
        self.reader = self
        self.sequence = protocol.Sequence()

    def object(self):
        return self._data


def test_commands_and_feedback_are_looked_at_after_decoding():
    slashes = protocol.encode("C", [("q", 1), ("cmd", "count"), ("name", "a/b")])
    slashes = slashes.replace(b"a/b", b"4111\\/1111\\/1111\\/1111")  # a slash may be spelled with its escape
    for line in (
        slashes,
        protocol.encode("C", [("q", 1), ("cmd", "count"), ("a", "4111111111"), ("b", "111111")]),
        protocol.encode("P", [("q", 1), ("ref", 7), ("fraud", 1), ("a", 411111), ("b", 1111111111)]),
    ):
        error = raises(FrameError, port.parse, Asked(line), pan.looks_like_pan)
        assert error.code == "pan", (line, error.code)
    pairs = [("q", 1), ("ref", 4294967295), ("fraud", 1), ("c", 1073741823), ("mac", "A" * 24)]
    assert port.parse(Asked(protocol.encode("P", pairs)), pan.looks_like_pan)["ref"] == 4294967295
