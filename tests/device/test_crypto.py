"""HMAC-SHA256 and HKDF against the published vectors (RFC 4231, RFC 5869), comparison, overwriting."""

from binascii import hexlify, unhexlify

from sentill import crypto, mac_plain
from sentill.compat import ticks_diff, ticks_us
from support import raises

# RFC 4231, section 4: key, data, HMAC-SHA-256 (case 5 gives 128 bits only).
HMAC = (
    (b"\x0b" * 20, b"Hi There", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"),
    (
        b"Jefe",
        b"what do ya want for nothing?",
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
    ),
    (b"\xaa" * 20, b"\xdd" * 50, "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"),
    (bytes(range(1, 26)), b"\xcd" * 50, "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b"),
    (b"\x0c" * 20, b"Test With Truncation", "a3b6167473100ee06e0c796c2955552b"),
    (
        b"\xaa" * 131,
        b"Test Using Larger Than Block-Size Key - Hash Key First",
        "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
    ),
    (
        b"\xaa" * 131,
        b"This is a test using a larger than block-size key and a larger than block-size data. The key needs to be "
        b"hashed before being used by the HMAC algorithm.",
        "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2",
    ),
)

# RFC 5869, appendix A: input key, salt, info, output.
HKDF = (
    (
        b"\x0b" * 22,
        bytes(range(13)),
        bytes(range(0xF0, 0xFA)),
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
    ),
    (
        bytes(range(0x50)),
        bytes(range(0x60, 0xB0)),
        bytes(range(0xB0, 0x100)),
        "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09"
        "da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87",
    ),
    (
        b"\x0b" * 22,
        b"",
        b"",
        "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
    ),
)


def test_hmac_vectors():
    for make in (mac_plain.MAC, crypto.mac):  # that of most boards, and the best of this one
        for key, data, expected in HMAC:
            got = hexlify(make(key).tag(data)).decode()[: len(expected)]
            assert got == expected, (make, data, got, expected)


def test_hmac_of_every_length_and_in_parts():
    plain = mac_plain.MAC(b"the key")
    best = crypto.mac(b"the key")
    data = bytes([i * 7 & 255 for i in range(700)])
    for n in list(range(0, 150)) + [255, 256, 257, 311, 312, 320, 700]:
        want = plain.tag(data[:n])
        assert best.tag(data[:n]) == want, n
        assert best.tag(data[: n // 3], memoryview(data)[n // 3 : n // 2], data[n // 2 : n]) == want, n
        key = data[:n]
        assert crypto.mac(key).tag(b"x") == mac_plain.MAC(key).tag(b"x"), n


def test_a_chain_of_tags_under_keys_that_move_on():
    for make in (mac_plain.MAC, crypto.mac):
        key = bytearray(range(32))
        tag = bytearray(16)
        mac = make(key)
        buf = bytearray([i & 255 for i in range(300)])
        for n in (2, 11, 36, 47, 48, 100, 211):
            old = bytes(key)
            buf[7:9] = bytes((n + 16, 0))
            want = mac_plain.MAC(old).tag(bytes(tag) + bytes(buf[7 : 7 + n]))[:16]
            rest = bytes(buf[7 + n + 16 :])
            mac.chain(key, tag, buf, 7)
            assert bytes(tag) == bytes(buf[7 + n : 7 + n + 16]) == want, (make, n)
            assert bytes(key) == crypto.next_key(old) and bytes(buf[7 + n + 16 :]) == rest
        assert mac.tag(b"") == crypto.mac(key).tag(b"")
        mac.wipe()
        assert mac.tag(b"") != crypto.mac(key).tag(b"")


def test_a_tag_of_a_part_of_a_buffer():
    data = b"noise, and in it the message, and noise"
    for buf in (data, bytearray(data)):
        for make in (mac_plain.MAC, crypto.mac):
            assert bytes(make(b"key").tag_of(buf, 14, 15)) == crypto.mac(b"key").tag(data[14:29])


def test_hmac_of_parts_is_that_of_the_whole():
    mac = crypto.mac(b"key")
    whole = mac.tag(b"one, two, three")
    assert mac.tag(b"one, ", b"two, ", b"three") == whole
    assert mac.tag(memoryview(b"one, two, three")) == whole


def test_rekey_leaves_nothing_of_the_former_key():
    mac = mac_plain.MAC(b"a much longer key than the next one")
    mac.rekey(b"Jefe")
    got = hexlify(mac.tag(HMAC[1][1])).decode()
    assert got == HMAC[1][2], (got, HMAC[1][2])
    mac.wipe()
    assert mac._inner == bytes(64) == mac._outer


def test_hkdf_vectors():
    for key, salt, info, expected in HKDF:
        okm = unhexlify(expected)
        got = crypto.hkdf(key, info, len(okm), salt)
        assert got == okm, (hexlify(got), expected)
    for length in (0, 8161):
        raises(ValueError, crypto.hkdf, b"k", b"i", length)


def test_equal():
    tag = bytes(range(32))
    assert crypto.equal(tag, bytearray(tag))
    assert not crypto.equal(tag, tag[:31])
    for i in range(32):
        other = bytearray(tag)
        other[i] ^= 1 << (i & 7)
        assert not crypto.equal(tag, other), i


class Counting:
    """Bytes that count how often they are looked at."""

    def __init__(self, data):
        self.data = data
        self.reads = 0

    def __len__(self):
        return len(self.data)

    def __getitem__(self, i):
        self.reads += 1
        return self.data[i]


def test_equal_looks_at_every_byte_wherever_the_difference_is():
    tag = bytes(16)
    for i in range(16):
        other = bytearray(16)
        other[i] = 255
        a = Counting(tag)
        b = Counting(other)
        assert not crypto.equal(a, b)
        assert (a.reads, b.reads) == (16, 16), (i, a.reads, b.reads)


def test_equal_timing_is_printed():
    # Not judged here: timings on a shared computer decide nothing. The count of looks above does.
    tag = bytes(32)
    first = b"\x01" + bytes(31)
    last = bytes(31) + b"\x01"
    for name, other in (("first", first), ("last", last)):
        start = ticks_us()
        for _ in range(100):
            crypto.equal(tag, other)
        print("difference in the", name, "byte:", ticks_diff(ticks_us(), start) // 100, "us")


def test_wipe():
    secret = bytearray(b"secret")
    crypto.wipe(secret)
    assert secret == bytes(6)
