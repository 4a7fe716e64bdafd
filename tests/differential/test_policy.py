"""Limits count the same on every interpreter, in bytecode and in native code."""

import random
import struct
import zlib
from datetime import date

from hypothesis import given, settings
from hypothesis import strategies as st

from sentill_host.policy import compiler, source
from tests.host.test_policy_engine import a_profile, payments, row

TODAY = date(2026, 1, 1)
SINCE_S = (TODAY - date(2024, 1, 1)).days * 86_400 + 3 * 86_400


def a_run(seed: int) -> tuple[list[int], list[list]]:
    """The words of a random profile, and steps for it."""
    rng = random.Random(seed)
    compiled = compiler.compile_profile(source.parse(a_profile(rng)), TODAY)
    words = list(struct.unpack(f"<{len(compiled.data) // 4}i", compiled.data))
    steps: list[list] = []
    for p in payments(rng, SINCE_S, 40):
        steps.append([row(p), rng.random() < 0.9, p.card, p.group, rng.random() < 0.9])
        if rng.random() < 0.3:
            steps.append([rng.randrange(p.ref + 2), rng.randrange(5), rng.choice((0, 20, 5_000))])
        if rng.random() < 0.1:
            steps.append([rng.randrange(len(compiled.limits)), p.t + 500, p.card, p.group])
        if rng.random() < 0.02:
            steps.append([max(p.t - rng.choice((100, 90_000, 9_000_000)), 0)])
    return words, steps


values = st.one_of(st.integers(-2, 70), st.integers(-(2**31), 2**31 - 1))


@settings(max_examples=40)
@given(st.integers(0, 1 << 30))
def test_a_profile_at_work(same, seed):
    words, steps = a_run(seed)
    kind, value = same("_drive_policy:play", words, steps, 1_200)
    assert kind == "value", (kind, value)


@settings(max_examples=100)
@given(st.integers(0, 1 << 30), st.integers(0, 1 << 30), values)
def test_a_hostile_profile_is_refused_or_does_no_harm(same, seed, place, value):
    words, steps = a_run(seed)
    words[place % len(words)] = value
    crc = zlib.crc32(struct.pack(f"<{len(words) - 4}i", *words[4:]))
    words[2:4] = crc & 0xFFFF, crc >> 16
    kind, told = same("_drive_policy:refusal", words)
    assert kind == "value", (kind, told)
    if not told:
        kind, played = same("_drive_policy:play", words, steps[:20], 1_200)
        assert kind == "value" or played[0] == "PolicyError", (kind, played)
