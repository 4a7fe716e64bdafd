"""The wire's kernels for ARM chips, against their twins in bytecode."""

import random
from array import array
from collections.abc import Iterator

import pytest

from sentill.wire import protocol, request_verdict
from sentill.wire import scan as wire
from sentill.wire import values as wire_values
from sentill.wire.reader import CRC_TABLE
from tests.thumb import Kernels

pytest.importorskip("rp2040py", reason="no Cortex-M0+ in software: pip install 'sentill[dev]'")

PAIRS = [("q", 7), ("ref", 4711), ("t", 89251200), ("amt", 12999), ("card", "c_9f31-B2")]
PAIRS += [("pm", 4210), ("pn", 17), ("ph", 2)]


@pytest.fixture(scope="module")
def chip() -> Kernels:
    return Kernels("wire.scan_thumb", "wire.values_thumb")


def mutants(line: bytes, noise: random.Random, n: int) -> Iterator[bytes]:
    """Lines near the given one."""
    for _ in range(n):
        data = bytearray(line)
        for _ in range(noise.choice((0, 1, 1, 2, 3))):
            at = noise.randrange(len(data))
            kind = noise.randrange(4)
            if kind == 0:
                data[at] = noise.choice(b'#*{}":, 0123456789azAZ_-\r\n\x00\xff' + bytes([noise.randrange(256)]))
            elif kind == 1:
                del data[at : at + noise.randint(1, 4)]
            elif kind == 2:
                data[at:at] = data[at : at + noise.randint(1, 9)]
            else:
                data[at:at] = noise.choice((b"#", b"#T {", b"*", b"0", b"9", b'"', b"\r\n", b"x" * 90))
        yield bytes(data)


def test_lines(chip: Kernels) -> None:
    """The same frames, counts and state, whatever comes in and in which portions."""
    noise = random.Random(1)
    good = protocol.encode("T", PAIRS)
    states = [array("i", bytes(44)), array("i", bytes(44))]
    buf = bytearray(8192)
    found = 0
    for data in mutants(good, noise, 260):
        data += noise.choice((b"", b"", good, b"\n\r\n", b"x" * 260 + b"\n"))
        while data:
            n = noise.randint(1, len(data))
            if states[0][2] + n > len(buf) - 8:
                low = states[0][0]
                for state in states:
                    state[0], state[1], state[2] = 0, state[1] - low, state[2] - low
                buf[: len(buf) - low] = buf[low:]
                buf = buf.ljust(8192, b"\0")
            high = states[0][2]
            buf[high : high + n] = data[:n]
            data = data[n:]
            kind = 1
            for state in states:
                state[2] += n
            while kind:
                kind = chip.next_frame(bytes(buf), states[0], CRC_TABLE)
                assert kind == wire.next_frame(buf, states[1], CRC_TABLE)
                assert states[0] == states[1]
                found += kind != 0
    assert min(states[0][7:]) > 0 and found == states[0][7], states[0]


def test_full_counts_stay(chip: Kernels) -> None:
    line = protocol.encode("T", PAIRS) + b"noise\n" + b"#T {xxxxxx*00000000\n" + b"x" * 241 + b"\n" + b"y" * 241
    for most in (0x3FFFFFFE, 0x3FFFFFFF):
        state = array("i", [0, 0, len(line), 0, 0, 0, 0, most, most, most, most])
        while chip.next_frame(line, state, CRC_TABLE):
            pass
        assert list(state[7:]) == [0x3FFFFFFF] * 4, state


def test_checksums(chip: Kernels) -> None:
    noise = random.Random(3)
    for n in range(4, 229, 3):
        data = bytes(noise.randrange(32, 127) for _ in range(n))
        buf = bytearray(data + bytes(11))
        assert chip.finish(buf, n, CRC_TABLE) == n + 11
        assert buf == data + b"*%08x\r\n" % protocol.crc32(data[1:])


NUMBERS = (0, 7, 9, 10, 99, 100, 101, 123456789, (1 << 30) - 1, 1 << 30, (1 << 31) - 1)
POSITIVE = (*NUMBERS, 1 << 31, (1 << 31) + 9, 3 << 30, (1 << 32) - 300, (1 << 32) - 6, (1 << 32) - 1)
SIGNED = (*NUMBERS[:-2], -1, -9, -10, -123456789, -(1 << 30))


def test_numbers(chip: Kernels) -> None:
    noise = random.Random(4)
    more = [noise.randrange(1 << noise.randint(1, 32)) for _ in range(300)]
    for form, cases in ((b"a\x01b\x07c\0", SIGNED), (b"a\x09b\x0fc\0", (*POSITIVE, *more))):
        for value in cases:
            values = array("i", bytes(28))
            values[0] = values[6] = (value + (1 << 31)) % (1 << 32) - (1 << 31)
            buf = bytearray(40)
            n = chip.fill(buf, 2, form, values)
            assert buf[2:n] == b"a%db%dc" % (value, value) and not any(buf[n:])


def test_copies(chip: Kernels) -> None:
    for n in range(6):
        buf = bytearray(b"0123456789")
        assert chip.put(buf, 3, b"abcdef", n) == 3 + n
        assert buf == b"012" + b"abcdef"[:n] + b"3456789"[n:]


def test_texts(chip: Kernels) -> None:
    noise = random.Random(5)
    for _ in range(300):
        text = "".join(noise.choice('ab"\\ ~') for _ in range(noise.choice((0, 1, 5, 90, 190, 215))))
        if noise.random() < 0.1:
            text += noise.choice(("\x7f", "\x1f", "\0", "\x80", "\n"))
        at, key, sign = noise.randint(4, 229), noise.choice(("q", "long_key")), noise.choice((1, -1))
        if not text:
            sign = 1
        buf, want = bytearray(b"." * 240), bytearray(b"." * 240)
        place = at + (sign * len(text) << 8)
        got = chip.put_text(buf, place, key.encode() + b"\0", text.encode("latin-1"))
        assert got == wire.put_text(want, place, key, text), (at, key, text)
        assert not got or buf == want, (at, key, text)


def scan(kernels: object, data: bytes) -> tuple[int, list[int]]:
    out = array("I", [9] * request_verdict.SLOTS)
    buf = b"." * 5 + data + bytes(8)
    got = kernels.scan_request(buf, 5, 5 + len(data), out)  # type: ignore[attr-defined]
    return got, list(out) if got else []


def test_requests(chip: Kernels) -> None:
    noise = random.Random(6)
    taken = 0
    limits = [0, 1, 9, 10, 255, 256, 65535, 65536, 99999999, 999999999, 1000000000, (1 << 30) - 1, 1 << 30, 1073741829]
    limits += [2000000000, 4294967289, (1 << 32) - 1, 1 << 32, 4294967299, 9999999999, 10000000000]
    for i in range(900):
        pairs = [(key, noise.choice(limits) if noise.random() < 0.1 and key != "card" else v) for key, v in PAIRS]
        if noise.random() < 0.2:
            token = noise.choice(("1" * 12, "1" * 13, "1_2-" * 8, "x" * 33, "", "aZ9z0A"))
            pairs = [(k, token if k == "card" else v) for k, v in pairs]
        if noise.random() < 0.3:
            noise.shuffle(pairs)
        if noise.random() < 0.2:
            del pairs[noise.randrange(len(pairs))]
        parts = [f'"{k}":' + (str(v) if isinstance(v, int) else f'"{v}"') for k, v in pairs]
        line = ("{" + ",".join(parts) + "}").encode()
        data = line if i % 2 else next(mutants(line, noise, 1))
        if not data.endswith(b"}"):
            continue
        got = scan(chip, data)
        assert got == scan(wire_values, data), data
        taken += got[0]
    assert taken > 200, taken
