"""The deploy agent on a board whose firmware has ROMFS, inside the Unix port, for test_image.py.

    micropython rom_drive.py TESTS AGENT ARCHIVE KIND

KIND is what vfs.rom_ioctl gives: "memory" that is written through it, an object with "blocks", one that is too "small",
or an error ("none"). Prints one line of JSON. The root is a littlefs in RAM.
"""

import json
import select  # noqa: F401  (the agent's; no module can be imported once the root is the board's)
import sys

sys.path.insert(0, sys.argv[1])

import vfs

from flash_model import Nor

KIND = sys.argv[4]


class Machine:
    """The module `machine`, as far as the agent wants it here."""


class Memory:
    """The module `vfs` of a port with memory-mapped ROM."""

    def __init__(self):
        self.content = bytearray(b"\xff" * 65536)
        self.writes = 0
        self.room = 0

    def rom_ioctl(self, operation, *arguments):
        if KIND == "none":
            return -22
        if operation == 2:
            return self if KIND == "blocks" else memoryview(self.content)[: 5000 if KIND == "small" else 65536]
        if operation == 3:
            self.room = arguments[1]
            return 16
        if operation == 4:
            _, at, data = arguments
            assert at % 16 == len(data) % 16 == 0 and at < self.room
            self.content[at : at + len(data)] = data
            self.writes += 1
        return 0


class Blocks(bytearray):
    """ROM as a block device that is memory, too."""

    def ioctl(self, operation, argument):
        return {4: 16, 5: 4096}[operation]

    def writeblocks(self, block, data):
        assert len(data) == 4096
        self[block * 4096 : block * 4096 + 4096] = data
        stand_in.writes += 1


stand_in = Memory()
if KIND == "blocks":
    blocks = Blocks(b"\xff" * 65536)
    stand_in.rom_ioctl = lambda operation, *arguments: blocks
    stand_in.content = blocks
with open(sys.argv[3], "rb") as file:
    archive = file.read()
with open(sys.argv[2]) as file:
    text = file.read()
sys.modules["machine"] = Machine
sys.modules["vfs"] = stand_in
names = {"_say": print}
exec(text[: text.index("\n_watch()\n_session()")], names)
names["_say"] = lambda value: None
flash = Nor(40)
vfs.umount("/")
vfs.VfsLfs2.mkfs(flash)
vfs.mount(vfs.VfsLfs2(flash), "/")
with open("/slot_a.img", "wb") as file:
    file.write(archive)
names["do_point"]({"text": "a"}, b"")
writes = stand_in.writes
names["do_point"]({"text": "a"}, b"")
with open("/main.py") as file:
    root = file.read()
with open("/slot") as file:
    pointer = file.read()
same = bytes(stand_in.content[: len(archive)]) == archive
print(json.dumps({"same": same, "writes": writes, "again": stand_in.writes - writes, "root": root, "pointer": pointer}))
