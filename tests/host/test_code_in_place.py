"""Functions that run where they lie in flash, on a memory made up here: what is moved, and what must stay."""

import builtins
import importlib.util
import random
import struct
import sys
from types import ModuleType, SimpleNamespace

import pytest

from sentill_host.board import catalogue
from tests.chip import files

RAM = 0x20000000
BLOCKS = 64
START = 0x10000000 + (2 << 20) - BLOCKS * 4096
FUNCTION_TYPE, GENERATOR_TYPE, OTHER_TYPE = 0x10003000, 0x10003040, 0x10003080


class Memory:
    """Flash with a file system at its end, and some RAM."""

    def __init__(self, image: bytes):
        self.image = image
        self.ram = bytearray(1 << 16)
        self.top = 0x100

    def read(self, address: int, size: int) -> bytearray:
        if address >= RAM:
            return self.ram[address - RAM : address - RAM + size]
        at = address - START
        return bytearray(self.image[at : at + size]) if 0 <= at < len(self.image) else bytearray(size)

    def put(self, data: bytes) -> int:
        at = self.top
        self.ram[at : at + len(data)] = data
        self.top = at + len(data) + 3 & ~3
        return RAM + at

    def __getitem__(self, address: int) -> int:
        return struct.unpack("<I", self.read(address, 4))[0]

    def __setitem__(self, address: int, value: int) -> None:
        struct.pack_into("<I", self.ram, address - RAM, value)


class _Bytes:
    """What viper's ptr8 gives."""

    def __init__(self, memory: Memory, address: int):
        self.memory = memory
        self.address = address

    def __getitem__(self, i: int) -> int:
        return self.memory.read(self.address + i, 1)[0]


@pytest.fixture
def code(monkeypatch):
    """port_rp2_code on a memory whose file system holds `image`: code(image) gives the module and the memory."""

    def load(image: bytes):
        memory = Memory(image)

        class Flash:
            def ioctl(self, what: int, argument: int) -> int:
                return BLOCKS

            def readblocks(self, number: int, buffer: bytearray, offset: int) -> None:
                buffer[:] = image[number * 4096 + offset : number * 4096 + offset + len(buffer)]

        stubs = {
            "machine": SimpleNamespace(mem32=memory),
            "rp2": SimpleNamespace(Flash=Flash),
            "uctypes": SimpleNamespace(bytearray_at=memory.read),
            "micropython": SimpleNamespace(viper=lambda function: function, const=lambda value: value),
        }
        for name, stub in stubs.items():
            monkeypatch.setitem(sys.modules, name, stub)
        path = catalogue.device_package() / "hal" / "port_rp2_code.py"
        spec = importlib.util.spec_from_file_location("sentill.hal.port_rp2_code", path)
        module = importlib.util.module_from_spec(spec)
        module.ids = {}
        module.id = lambda value: module.ids.get(builtins.id(value), 0x100)
        module.ptr8 = lambda address: _Bytes(memory, address)
        spec.loader.exec_module(module)
        module.ids[builtins.id(type(module.settle))] = FUNCTION_TYPE
        return module, memory

    return load


def scattered(content: bytes, rng: random.Random) -> bytes:
    """An image in which the blocks of the file `a.img` are not next to each other, and what is left of one like it."""
    image = files.make({f"f{i}": bytes(4096 * rng.randint(1, 2)) for i in range(12)}, BLOCKS)
    disk = files._mounted(image)
    for i in range(0, 12, 2):
        disk.remove(f"/f{i}")
    for name in rng.sample(("/b.img", "/a.img"), 2):
        with disk.open(name, "wb") as file:
            file.write(content)
    disk.remove("/b.img")
    return bytes(disk.context.buffer)


def last_block(image: bytes, content: bytes) -> int:
    """That of `a.img`: where its last bytes are changed, the file reads another way."""
    start, number = 0, 0
    while start + 4096 - head(number) < len(content):
        start += 4096 - head(number)
        number += 1
    at = -1
    while (at := image.find(content[start : start + 64], at + 1)) >= 0:
        if files.read(image[:at] + bytes(8) + image[at + 8 :])["a.img"] != content:
            return at // 4096
    raise AssertionError("the file is nowhere")


def head(number: int) -> int:
    """Bytes of numbers of other blocks that a file's block begins with."""
    return 4 * (number & -number).bit_length()


class _File:
    """An open file of the firmware, whose object has these words."""

    def __init__(self, content: bytes, module=None, memory=None):
        self.content = content
        self.at = 0
        if module:
            last = last_block(memory.image, content)
            words = struct.pack("<8I", OTHER_TYPE, RAM, 7, 1, last, len(content), 0, 0)
            module.ids[builtins.id(self)] = memory.put(words)

    def seek(self, at: int, whence: int = 0) -> int:
        self.at = at + len(self.content) if whence else at
        return self.at

    def readinto(self, buffer: bytearray) -> int:
        part = self.content[self.at : self.at + len(buffer)]
        buffer[: len(part)] = part
        return len(part)


@pytest.mark.parametrize("seed", range(6))
def test_the_places_are_where_the_file_is(code, seed):
    rng = random.Random(seed)
    content = rng.randbytes(rng.choice((5_000, 30_000, 70_000)))
    module, memory = code(scattered(content, rng))
    places = module.Places(_File(content, module, memory))
    for _ in range(40):
        at = rng.randrange(len(content) - 100)
        size = rng.randint(1, min(9_000, len(content) - at - 64))
        found = places.areas(at, size)
        assert found, "the file is there"
        assert b"".join(memory.read(found[i], found[i + 1]) for i in range(0, len(found), 2)) == content[at : at + size]


@pytest.mark.parametrize("seed", range(8))
def test_the_places_are_the_file_s_own_and_not_what_is_left_of_another(code, seed):
    rng = random.Random(seed)
    content = rng.randbytes(60_000)
    image = scattered(content, rng)
    assert image.count(content[4096:4400]) == 2, "of both files"
    module, memory = code(image)
    places = module.Places(_File(content, module, memory))
    for at in range(100, len(content) - 100, 3000):
        first = places.areas(at, 50)[0] - START
        changed = files.read(image[:first] + b"changed" + image[first + 7 :])["a.img"]
        assert changed[at : at + 7] == b"changed", at


def test_of_a_file_that_does_not_tell_its_last_block_there_are_no_places(code):
    content = random.Random(2).randbytes(30_000)
    module, memory = code(scattered(content, random.Random(2)))
    file = _File(content, module, memory)
    at = module.ids[builtins.id(file)] - RAM
    for word in (BLOCKS, 0, 0xFFFFFFFF):
        memory.ram[at + 16 : at + 20] = struct.pack("<I", word)
        assert module.Places(file).areas(0, 30_000) == []
    module.ids[builtins.id(file)] = memory.put(bytes(400))
    assert module.Places(file).areas(0, 30_000) == []


def test_without_the_file_system_in_memory_there_are_no_places(code):
    content = bytes(range(256)) * 40
    module, memory = code(files.make({"a.img": content}, BLOCKS))
    file = _File(content, module, memory)
    memory.image = bytes(len(memory.image))
    assert module.Places(file).areas(0, 5_000) == []


def number(size: int) -> bytes:
    """The number before a function's bytecode, as in a .mpy file."""
    value = size << 3
    data = [value & 0x7F]
    while value := value >> 7:
        data.insert(0, value & 0x7F | 0x80)
    return bytes(data)


def a_function(module, memory, context: int, source: int, kind: int = FUNCTION_TYPE):
    """A function object at some address, with these words; the function."""

    def function():
        pass

    module.ids[builtins.id(function)] = memory.put(struct.pack("<4I", kind, context, 0, source))
    return function


@pytest.fixture
def loaded(code, monkeypatch):
    """A module of the archive with functions of many sizes, all copied to RAM: (module under test, memory, the loaded
    module, the bytecode of each function by its name)."""
    rng = random.Random(5)
    # Bytecode ends with an opcode below 0x80, such as RETURN_VALUE.
    sizes = [2_100, *(rng.choice((9, 15, 16, 40, 130, 300)) for _ in range(40))]
    codes = {f"f{i}": rng.randbytes(size - 1) + b"\x63" for i, size in enumerate(sizes)}
    member = b"M\x06\x00\x1f" + rng.randbytes(50) + b"\0"
    for data in codes.values():
        member += number(len(data)) + data
    content = rng.randbytes(200) + member + rng.randbytes(500)
    module, memory = code(scattered(content, rng))
    file = _File(content, module, memory)
    module.open = lambda path: SimpleNamespace(span=lambda: (file, 200, len(member)))
    one = ModuleType("sentill.one")
    context = memory.put(bytes(16))
    module.ids[builtins.id(one)] = context
    for name, data in codes.items():
        setattr(one, name, a_function(module, memory, context, memory.put(data)))
    return module, memory, one, codes


def source_of(module, memory, function) -> int:
    return memory[module.ids[builtins.id(function)] + 12]


def test_functions_run_in_place(loaded):
    module, memory, one, codes = loaded
    total = module.settle({"sentill.one": one, "sys": sys})
    moved = 0
    for name, data in codes.items():
        source = source_of(module, memory, getattr(one, name))
        assert memory.read(source, len(data)) == data or source >= RAM, name
        if source < RAM:
            moved += len(data)
            assert memory.read(source, len(data)) == data, name
    assert total == moved
    # Only what lies over the end of a block stays.
    assert moved > 0.8 * sum(map(len, codes.values())), (moved, total)


def test_what_is_another_s_or_was_changed_stays(loaded):
    module, memory, one, codes = loaded
    changed = codes["f3"][:-1] + bytes((codes["f3"][-1] ^ 1,))
    one.changed = a_function(module, memory, module.ids[builtins.id(one)], memory.put(changed))
    one.foreign = a_function(module, memory, RAM + 0x40, memory.put(codes["f4"]))
    one.frozen = a_function(module, memory, module.ids[builtins.id(one)], 0x10020000)
    one.nowhere = a_function(module, memory, module.ids[builtins.id(one)], 0xFFFFFFF0)
    before = [source_of(module, memory, f) for f in (one.changed, one.foreign, one.frozen, one.nowhere)]
    module.settle({"sentill.one": one})
    assert [source_of(module, memory, f) for f in (one.changed, one.foreign, one.frozen, one.nowhere)] == before


def test_code_that_is_in_place_is_left_alone(loaded):
    module, memory, one, _ = loaded
    module.settle({"sentill.one": one})
    ram = bytes(memory.ram)
    assert module.settle({"sentill.one": one}) == 0
    assert bytes(memory.ram) == ram
