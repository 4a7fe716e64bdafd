"""Looks at an archive inside the Unix port, for test_image.py: `archive_drive.py DEVICE WHAT ARCHIVE [ARGUMENTS]`.

Prints one line of JSON. The computer's files are only read.
"""

import json
import os
import sys
from binascii import hexlify
from hashlib import sha256

import vfs

sys.path[:] = [sys.argv[1], ".frozen"]
import sentill_start  # noqa: E402

WHAT, PATH = sys.argv[2:4]
APP = "/app"


def files(folder, base=""):
    for entry in os.ilistdir(folder):
        path = folder + "/" + entry[0]
        if entry[1] == 0x4000:
            yield from files(path, base + entry[0] + "/")
        else:
            yield base + entry[0], path, entry[3]


def hashes():
    found = {}
    for name, path, size in files(APP):
        assert os.stat(path)[6] == size, path
        with open(path, "rb") as file:
            found[name] = hexlify(sha256(file.read(size)).digest()).decode()
    return found


def bounds():
    with open(APP + "/a.txt", "rb") as file:
        assert file.read() == b"one\ntwo\nthree" and file.read() == b"" and file.read(5) == b""
        assert file.seek(0, 2) == 13 and file.seek(-5, 2) == 8 and file.read(99) == b"three"
        assert file.seek(4) == 4 and file.readline() == b"two\n" and file.readline() == b"three"
        assert file.readline() == b""
        file.seek(8)
        block = bytearray(20)
        assert file.readinto(block) == 5 and block == b"three" + bytes(15) and file.readinto(block) == 0
        file.seek(99)
        assert file.read() == b""
    block = bytearray(20)
    # Code is read in place: two files at a time, by as much as is wanted.
    one, two = open(APP + "/a.mpy", "rb"), open(APP + "/b.mpy", "rb")
    with one, two:
        assert one.read(3) == b"AAA" and two.read(2) == b"BB" and one.readinto(block) == 7
        assert block[:7] == b"AAAAAAA" and block[7:] == bytes(13), block
        assert one.readinto(block) == 0 and one.read(5) == b"" and one.read() == b""
        assert two.read() == b"B" * 8 and two.read(1) == b""
    with open(APP + "/a.txt") as file:
        assert [file.readline() for _ in range(4)] == ["one\n", "two\n", "three", ""]
    for path, mode in (("/a.txt", "w"), ("/a.txt", "ab"), ("/c.txt", "rb"), ("/", "rb")):
        try:
            open(APP + path, mode)
        except OSError:
            continue
        raise AssertionError((path, mode))
    return {}


def stats():
    found = {}
    for path in sys.argv[4:]:
        try:
            told = os.stat(APP + path)
            found[path] = [told[0], told[6]]
        except OSError:
            found[path] = None
    return found


def imports():
    return {name: _import(name).__file__ for name in sys.argv[4:]}


def _import(name):
    module = __import__(name)
    for part in name.split(".")[1:]:
        module = getattr(module, part)
    return module


class Rom:
    """The module `vfs` of firmware with ROMFS, whose memory holds `content`."""

    VfsRom = vfs.VfsRom

    def __init__(self, content):
        self.content = content
        self.mounted = None

    def rom_ioctl(self, operation, segment):
        assert (operation, segment) == (2, 0)
        return self.content

    def mount(self, what, where):
        self.mounted = type(what).__name__
        vfs.mount(what, where)


def rom():
    # What is mounted, and what is in it, where ROM holds the archive, another, a damaged one, none.
    sentill_start._IMAGE = PATH.replace("slot", "%s")
    with open(PATH, "rb") as file:
        whole = file.read()
    found = {}
    for name, content in (
        ("same", whole + bytes(1000)),
        ("damaged", whole[:500] + b"?" + whole[501:] + bytes(1000)),
        ("short", whole[:-1]),
        ("blank", b"\xff" * 500_000),
        ("none", -22),
    ):
        sentill_start.vfs = stand_in = Rom(content)
        slots = sentill_start._Slots()
        assert slots._digest("slot") == whole[-32:], name
        slots._mount("slot")
        found[name] = [stand_in.mounted, hashes()]
        sys.path.remove(APP)
        vfs.umount(APP)
    return found


class Reset(Exception):
    """The board was reset."""


class Machine:
    """The module `machine`, as far as the start code wants it."""

    @staticmethod
    def reset():
        raise Reset


def run():
    # The start of a locked board, whose node ends as the archive's own says.
    sys.modules["machine"] = Machine
    sentill_start._IMAGE = PATH.rsplit("/", 1)[0] + "/%s.img"
    sentill_start.locked = lambda: True
    try:
        sentill_start.run()
    except Reset:
        return {"reset": True}
    return {"reset": False, "path": sys.path}


if WHAT in ("run", "rom"):
    pass
elif WHAT == "romfs":
    with open(PATH, "rb") as file:
        vfs.mount(vfs.VfsRom(file.read()), APP)
else:
    sentill_start._IMAGE = PATH.replace("slot", "%s")
    slots = sentill_start._Slots()
    assert slots._digest("slot")
    sys.path[:] = [".frozen"]
    slots._mount("slot")
    assert sys.path == [APP, ".frozen"]
FUNCTIONS = {
    "romfs": hashes,
    "archive": hashes,
    "bounds": bounds,
    "stat": stats,
    "import": imports,
    "run": run,
    "rom": rom,
}
print(json.dumps(FUNCTIONS[WHAT]()))
