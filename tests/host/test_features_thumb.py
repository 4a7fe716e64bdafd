"""The kernels of the features for ARM chips, against their twins in bytecode."""

import random
from array import array

import pytest

from sentill.risk import features_plain
from tests.thumb import Kernels

pytest.importorskip("rp2040py", reason="no Cortex-M0+ in software: pip install 'sentill[dev]'")


@pytest.fixture(scope="module")
def chip() -> Kernels:
    return Kernels("risk.features_thumb")


def test_features_of_the_own_history(chip: Kernels) -> None:
    dice = random.Random(1)
    hours = [-1, 0, 1, 3599, 3600, 3601, 7199, 7200, 32766 * 3600, 32767 * 3600 - 1, 32767 * 3600, 32768 * 3600 - 1]
    hours += [32768 * 3600, 32768 * 3600 + 1, (1 << 30) - 1]
    counts = [0, 1, 32766, 32767, 32768, 0x3FFFFFFF]
    for _ in range(300):
        now = dice.choice([0, (1 << 30) - 1, dice.randrange(1 << 30)])
        s = array("i", [now, 0, *dice.choices(counts, k=2)])
        for _ in range(3):
            ago = dice.choice([*hours, dice.randrange(1 << 30)])
            s.append(-1 if not 0 <= ago <= now else now - ago)
        if s[5] < 0 or s[4] < 0:
            s[4] = s[5] = -1
        s.extend([*dice.choices(counts, k=3), 0])
        x, want = array("h", [7] * 12), array("h", [7] * 12)
        chip.own(s, x)
        features_plain.own(s, want)
        assert x == want, s


def test_refs(chip: Kernels) -> None:
    dice = random.Random(2)
    some = [0, 1, 256, 1 << 24, 0x01010101, 0xFFFFFFFF, 0x7FFFFFFF, 1 << 31]
    for n in (1, 2, 16):
        for _ in range(60):
            words = dice.choices(some, k=n)
            refs = bytearray(b"".join(word.to_bytes(4, "little") for word in words) + bytes(4))
            flags = bytes(dice.choice((0, 3, 4, 7, 0xF0, 0xF7)) for _ in range(n))
            for ref in some:
                other = refs[:]
                got = chip.find(refs, flags, n, ref)
                assert got == features_plain.find(other, flags, n, ref), (words, flags, ref)
                assert refs == other
                slot = dice.randrange(n)
                chip.keep(refs, slot, n)
                features_plain.keep(other, slot, n)
                assert refs == other
