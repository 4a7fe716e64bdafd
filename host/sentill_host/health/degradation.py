"""Trains the integer wear index of the device (device/sentill/health/degradation.py) from runs to failure.

The index is linear in the inputs, twice: once smoothed quickly and once slowly, fitted by least squares to the
remaining life, capped where wear does not show yet. A table of knots then maps the index to the life and to the band
that held 80 of 100 training samples. Weights become mantissas and exponents, so that the device computes with small
integers.
"""

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from sentill_host.errors import SentillHostError

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

MAX_MANTISSA = 8191
MAX_INPUT = 32767  # the device clips inputs to this around their offset
Q = 10  # the index counts life in 1/1024; knots in 1/64


class WearTrainingError(SentillHostError):
    """The runs given cannot train an index."""


@dataclass(frozen=True)
class WearSettings:
    """How to train: cap of the life in units, shifts of the quick and the slow mean, knots, seconds per unit."""

    cap: int = 125
    quick: int = 3
    slow: int = 5
    knots: int = 16
    unit_s: int = 86400


def smooth(values: Floats, shift: int) -> Floats:
    """Moving average of every column with weight 2^-shift, a plain mean at the beginning (as the device does it)."""
    mean = np.zeros(values.shape[1])
    out = np.empty_like(values)
    for i, row in enumerate(values):
        mean = mean + (row - mean) / min(1 << shift, i + 1)
        out[i] = mean
    return out


def train(runs: list[Ints], settings: WearSettings | None = None, names: Sequence[str] = ()) -> bytes:
    """The index file for `runs`, each an array (samples, inputs) of integers that ends with the failure.

    `names` are the health channels that deliver the inputs; a node needs them to use the file. Raises
    WearTrainingError when there are no runs, more than 16 inputs, or inputs that never change only.
    """
    settings = settings or WearSettings()
    if not runs or not 0 < runs[0].shape[1] <= 16:
        raise WearTrainingError("a wear index needs runs to failure with 1 to 16 inputs")
    everything = np.concatenate(runs)
    offset: Ints = np.asarray(np.round(np.median(everything, axis=0)), dtype=np.int64)
    moving = everything.std(axis=0) > 0
    if not moving.any():
        raise WearTrainingError("no input changes over the runs")
    clipped = [np.clip(run - offset, -MAX_INPUT, MAX_INPUT).astype(float) for run in runs]
    life = np.concatenate([np.minimum(np.arange(len(run))[::-1], settings.cap) for run in runs]).astype(float)
    quick = np.concatenate([smooth(run, settings.quick) for run in clipped])
    slow = np.concatenate([smooth(run, settings.slow) for run in clipped])
    design = np.hstack([quick, slow])
    centred = design - design.mean(axis=0)
    scale = np.where(design.std(axis=0) > 0, design.std(axis=0), 1.0)
    weights = np.linalg.lstsq(
        np.vstack([centred / scale, np.sqrt(1e-4 * len(design)) * np.eye(design.shape[1])]),
        np.concatenate([life - life.mean(), np.zeros(design.shape[1])]),
        rcond=None,
    )[0]
    weights = np.where(np.tile(moving, 2), weights / scale, 0.0) * (1 << Q)
    inputs = everything.shape[1]
    offsets: list[int] = offset.tolist()
    a = [_mantissa(w) for w in weights[:inputs]]
    b = [_mantissa(w) for w in weights[inputs:]]
    exact = np.array([m / (1 << e) for m, e in a + b])
    knots = _knots((design @ exact) / 16, life, settings.knots)
    head = struct.pack("<4sBBBBI", b"STW1", inputs, len(knots), settings.quick, settings.slow, settings.unit_s)
    body = b"".join(
        struct.pack("<ihhBB", o, ma, mb, ea, eb) for o, (ma, ea), (mb, eb) in zip(offsets, a, b, strict=True)
    )
    body += b"".join(struct.pack("<hhhh", *knot) for knot in knots)
    listed = ",".join(names).encode("ascii")
    if names and (len(names) != inputs or len(set(names)) != inputs or any(not n or "," in n for n in names)):
        raise WearTrainingError(f"{inputs} inputs need as many different names")
    body += struct.pack("<H", len(listed)) + listed
    return head + body + struct.pack("<I", zlib.crc32(head + body))


def _mantissa(weight: float) -> tuple[int, int]:
    """`weight` as (mantissa, exponent) with weight = mantissa / 2^exponent, the mantissa within ±8191."""
    exponent = 0
    while exponent < 26 and abs(weight) * (1 << (exponent + 1)) <= MAX_MANTISSA:
        exponent += 1
    mantissa = round(weight * (1 << exponent))
    return max(-MAX_MANTISSA, min(MAX_MANTISSA, mantissa)), exponent


def _knots(index: Floats, life: Floats, count: int) -> list[tuple[int, int, int, int]]:
    """Knots (index, life, low, high) at quantiles of the index; life does not fall with a rising index."""
    edges = np.quantile(index, np.linspace(0, 1, count + 1))
    rows: list[tuple[int, float, float, float]] = []
    for low, high in pairwise(edges):
        inside = (index >= low) & (index <= high)
        at = int(np.clip(np.round(np.median(index[inside])), -32767, 32767))
        if not rows or at > rows[-1][0]:
            lives = life[inside]
            rows.append((at, float(lives.mean()), float(np.quantile(lives, 0.1)), float(np.quantile(lives, 0.9))))
    columns = [np.maximum.accumulate([row[k] for row in rows]) for k in (1, 2, 3)]
    return [
        (row[0], round(mid), min(int(low), round(mid)), max(int(np.ceil(high)), round(mid)))
        for row, mid, low, high in zip(rows, *columns, strict=True)
    ]
