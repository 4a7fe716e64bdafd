"""UF2 files: what Microsoft's converter writes is taken, and nothing that a chip would silently ignore."""

import os
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentill_host.errors import UsageError
from sentill_host.flash import uf2
from tests.host.boot_drive import FLASH_START, RP2040, RP2350, make_uf2, read_uf2

CONTENT = os.urandom(256 * 40)


@pytest.mark.parametrize(("chip", "family"), [("rp2040", RP2040), ("rp2350", RP2350)])
def test_a_whole_file_is_taken(chip, family):
    data = make_uf2(CONTENT, family)
    layout = uf2.check(data, chip)
    assert (layout.start, layout.end, layout.blocks) == (FLASH_START, FLASH_START + len(CONTENT), 40)
    assert layout.families == {family}
    assert read_uf2(data) == (FLASH_START, CONTENT)


def test_the_errata_block_of_the_rp2350_is_no_offence():
    flags, size = 0x2000, 256
    block = struct.pack("<8I", 0x0A324655, 0x9E5D5157, flags, 0x10FFFF00, size, 0, 2, uf2.ABSOLUTE)
    block += bytes(476) + struct.pack("<I", 0x0AB16F30)
    assert uf2.check(block + make_uf2(CONTENT, RP2350), "rp2350").blocks == 40
    with pytest.raises(UsageError):
        uf2.check(block + make_uf2(CONTENT, RP2040), "rp2040")


def changed(number: int, word: int, value: int) -> bytes:
    data = bytearray(make_uf2(CONTENT))
    struct.pack_into("<I", data, number * 512 + word * 4, value)
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "no whole UF2 file"),
        (CONTENT, "no UF2 block"),
        (make_uf2(CONTENT)[:-1], "no whole UF2 file"),
        (make_uf2(CONTENT)[:-512], "lacks 1"),
        (make_uf2(CONTENT)[512:], "lacks 1"),
        (make_uf2(CONTENT, RP2350), "is for RP2350 \\(ARM\\), this board has an RP2040"),
        (make_uf2(CONTENT, 0x12345678), "is for family 0x12345678"),
        (make_uf2(CONTENT, 0), "is for no stated chip"),
        (make_uf2(CONTENT, RP2040, 0x20000000), "outside the flash, at 0x20000000"),
        (make_uf2(CONTENT, RP2040, FLASH_START + (16 << 20) - 512), "outside the flash"),
        (make_uf2(CONTENT) + make_uf2(CONTENT)[:512], "comes twice"),
        (changed(3, 0, 0), "block 3 is no UF2 block"),
        (changed(3, 127, 0), "block 3 is no UF2 block"),
        (changed(3, 3, FLASH_START + 3), "block 3 writes 256 bytes at 0x10000003, not a page"),
        (changed(3, 3, FLASH_START), "block 3 comes twice"),
        (changed(3, 4, 128), "block 3 writes 128 bytes"),
        (changed(3, 5, 77), "block 3 is numbered 77 of 40"),
        (changed(3, 6, 41), "block 3 is numbered 3 of 41"),
        (changed(3, 2, 0x2001), "lacks 1"),
    ],
)  # fmt: skip
def test_anything_else_is_refused_with_the_reason(data, words):
    with pytest.raises(UsageError, match=words) as caught:
        uf2.check(data, "rp2040", "fw.uf2")
    assert caught.value.hint


@given(st.integers(0, 40 * 512 - 1), st.integers(1, 255))
def test_a_flipped_byte_never_passes_unless_it_is_payload(at, flip):
    data = bytearray(make_uf2(CONTENT))
    data[at] ^= flip
    within = at % 512
    try:
        uf2.check(bytes(data), "rp2040")
    except UsageError:
        return
    # Payload and padding carry no check in this format; flags may gain bits that mean nothing.
    assert 32 <= within < 508 or 8 <= within < 12, within
