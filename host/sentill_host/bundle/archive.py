"""The archive of a version: one file that holds all of a slot, the same for all boards of a kind.

It is a ROMFS image as MicroPython's documentation describes it, so firmware with ROMFS can read it in place, and what
reads ROMFS reads it; behind it stands the SHA-256 of it. Boards without ROMFS read it through device/sentill_start.py,
which counts on more than the format asks for:

| at | what |
|----|------|
| 0  | `d2 cd 31`, then the length of what follows in four bytes |
| 7  | padding of three bytes: the offset of the data record in this file |
| 12 | files and folders; in each folder files come first, and each file is a pointer into the data, its size and offset (from byte 7) in three bytes each |
| …  | the data record, its length in four bytes: the contents, `head.txt` first |
| end - 32 | SHA-256 of all before |

All numbers are ROMFS's: seven bits a byte, the highest first, bit 7 set in all but the last.
"""  # noqa: E501

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sentill_host.errors import VerifyError

MAGIC = b"\xd2\xcd\x31"
HEAD = "head.txt"
DIGEST_BYTES = 32
_PADDING, _DATA, _POINTER, _FOLDER, _FILE = 1, 2, 3, 4, 5
_BASE = 7  # offsets of pointers count from here
_INDEX = 12
_DATA_HEAD = 5
_MOST = 1 << 21  # what three bytes can say
_MOST_NAME = 100  # the length of a file's record is then one byte


@dataclass(frozen=True)
class Part:
    """A file of an image: its name without folders, and where its content lies in the image."""

    path: str
    at: int
    size: int


def build(head: str, files: Mapping[str, bytes]) -> bytes:
    """The image of `files` (content by path), `head` its first line of text. Raises VerifyError when it is too large.

    The same files give the same bytes, in whatever order they are given.
    """
    contents = {HEAD: (head + "\n").encode(), **{path: files[path] for path in sorted(files)}}
    places: dict[str, tuple[int, int]] = {}
    # The index is as long whatever the offsets are.
    length = len(_index(contents, dict.fromkeys(contents, (0, 0))))
    at = _INDEX + length + _DATA_HEAD - _BASE
    for path, content in contents.items():
        places[path] = (len(content), at)
        at += len(content)
    data = b"".join(contents.values())
    data += b"\0" * ((_BASE + at) % 2)  # the format asks for an even length
    index = _index(contents, places)
    body = _record(_PADDING, _number(_INDEX + length, 3)) + index + bytes([_DATA]) + _number(len(data), 4) + data
    image = MAGIC + _number(len(body), 4) + body
    return image + hashlib.sha256(image).digest()


def digest(image: bytes) -> bytes:
    """The SHA-256 that the image ends with."""
    return image[-DIGEST_BYTES:]


def parts(image: bytes) -> Iterator[Part]:
    """The files of an image that `build` made, in the order of its index. Raises VerifyError for anything else."""
    end = _value(image[9:12])
    if image[:3] != MAGIC or not _INDEX <= end < len(image):
        raise VerifyError("not the archive of a version")
    yield from _parts(image, _INDEX, end, "")


def _parts(image: bytes, at: int, end: int, folder: str) -> Iterator[Part]:
    while at < end:
        kind = image[at]
        at += 1
        size = 0
        while True:
            size = size << 7 | image[at] & 0x7F
            at += 1
            if image[at - 1] < 0x80:
                break
        name_end = at + 1 + image[at]
        path = folder + image[at + 1 : name_end].decode("ascii")
        if kind == _FOLDER:
            yield from _parts(image, name_end, at + size, path + "/")
        else:
            numbers = image[name_end + 2 : name_end + 8]
            yield Part(path, _value(numbers[3:]) + _BASE, _value(numbers[:3]))
        at += size


def _index(contents: Mapping[str, bytes], places: Mapping[str, tuple[int, int]], folder: str = "") -> bytes:
    inside = [path for path in contents if path.startswith(folder)]
    index = b""
    for path in inside:
        name = path[len(folder) :]
        if "/" not in name:
            size, at = places[path]
            pointer = _record(_POINTER, _number(size, 3) + _number(at, 3))
            index += _record(_FILE, _name(name) + pointer)
    for name in dict.fromkeys(path[len(folder) :].partition("/")[0] for path in inside if "/" in path[len(folder) :]):
        index += _record(_FOLDER, _name(name) + _index(contents, places, f"{folder}{name}/"))
    return index


def _name(name: str) -> bytes:
    data = name.encode("ascii")
    if not 0 < len(data) <= _MOST_NAME:
        raise VerifyError(f"{name!r} is no name for a file of a board")
    return bytes([len(data)]) + data


def _record(kind: int, payload: bytes) -> bytes:
    return bytes([kind]) + _number(len(payload)) + payload


def _number(value: int, length: int = 1) -> bytes:
    if value >= _MOST:
        raise VerifyError("the version is larger than an archive can be")
    digits = [value & 0x7F]
    while value := value >> 7:
        digits.append(value & 0x7F | 0x80)
    digits += [0x80] * (length - len(digits))
    return bytes(reversed(digits))


def _value(digits: bytes) -> int:
    value = 0
    for digit in digits:
        value = value << 7 | digit & 0x7F
    return value
