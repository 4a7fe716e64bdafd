"""The file of a wear index: its format, and the check every file passes. Borrowed once per start.

Little-endian: magic `STW1`; u8 inputs, u8 knots, u8 quick shift, u8 slow shift; u32 seconds per unit of life; per
input i32 offset, i16 quick mantissa, i16 slow mantissa, u8 quick exponent, u8 slow exponent; per knot i16 index, i16
life, i16 low, i16 high; u16 length of the names, then the names of the channels that are the inputs, in ASCII with
commas between, perhaps none; CRC-32 of all before it.
"""

import struct
from array import array

from sentill.compat import const, crc32
from sentill.errors import ModelError

MAX_INPUTS = 16
_MAGIC = b"STW1"
_HEAD = const(12)
_INPUT = const(10)
_KNOT = const(8)
_MAX_BYTES = const(4096)
_MANTISSA = const(0x1FFF)


def parse(index, data) -> None:
    """Set on `index`, a wear.WearIndex, what the bytes `data` say; raises ModelError as it says."""
    size = len(data)
    if not _HEAD + 6 <= size <= _MAX_BYTES or data[:4] != _MAGIC or crc32(data[:-4]) != _u32(data, size - 4):
        raise ModelError("wear", "not an undamaged wear index")
    inputs, knots, index._quick, index._slow = data[4], data[5], data[6], data[7]
    index.unit_s = _u32(data, 8)
    index.id = _u32(data, size - 4)
    table = _HEAD + inputs * _INPUT
    at = table + knots * _KNOT
    if not 0 < inputs <= MAX_INPUTS or knots < 2 or at + 6 > size:
        raise ModelError("wear", "wear index of a wrong size")
    if at + 6 + (data[at] | data[at + 1] << 8) != size:
        raise ModelError("wear", "wear index of a wrong size")
    if index._quick > 12 or index._slow > 12 or not 0 < index.unit_s <= 0x3FFFFFF:
        raise ModelError("wear", "wear index out of range")
    index.inputs = inputs
    index._offset = array("i", [0] * inputs)
    index._a = array("h", [0] * inputs)
    index._b = array("h", [0] * inputs)
    index._shift = bytearray(2 * inputs)
    for k in range(inputs):
        offset, a, b, shift_a, shift_b = struct.unpack_from("<ihhBB", data, _HEAD + k * _INPUT)
        if abs(a) > _MANTISSA or abs(b) > _MANTISSA or shift_a > 26 or shift_b > 26 or abs(offset) >= 1 << 29:
            raise ModelError("wear", "weight %d of the wear index is out of range" % k)
        index._offset[k], index._a[k], index._b[k] = offset, a, b
        index._shift[2 * k], index._shift[2 * k + 1] = shift_a, shift_b
    index._knots = array("h", [0] * (4 * knots))
    for k in range(knots):
        index._knots[4 * k : 4 * k + 4] = array("h", struct.unpack_from("<hhhh", data, table + k * _KNOT))
        if k and index._knots[4 * k] <= index._knots[4 * k - 4]:
            raise ModelError("wear", "knots of the wear index do not rise")
        _, life, low, high = index._knots[4 * k : 4 * k + 4]
        if not 0 <= low <= life <= high or high * index.unit_s > 0x3FFFFFFF:
            raise ModelError("wear", "knot %d of the wear index is out of range" % k)
    index.names = _names(data[at + 2 : size - 4])
    if index.names and len(index.names) != inputs:
        raise ModelError("wear", "wear index with %d inputs and %d names" % (inputs, len(index.names)))


def _names(data):
    try:
        text = str(data, "ascii")
    except UnicodeError:
        raise ModelError("wear", "names of the wear index are not ASCII")
    return tuple(text.split(",")) if text else ()


def _u32(data, at):
    return int.from_bytes(data[at : at + 4], "little")
