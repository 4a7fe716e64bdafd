"""Kernels for ARM chips: the code that mpy-cross makes of a device module, run by a Cortex-M0+ in software."""

import ast
from array import array
from typing import Any

from sentill_host.bundle.build import compile_file
from tests.interpreters import DEVICE

_RAM = 0x2000_0000
_CODE, _DATA, _STACK = 0x400, 0x4000, 0x3F000
_BACK = _RAM + 0x80  # where a kernel returns to
_ENTRY, _EXIT = b"\xf2\xb5", b"\xf2\xbd"  # push {r1, r4-r7, lr} .. pop {r1, r4-r7, pc}
_GUARD = 16
_MOST = 2_000_000  # instructions of one call

Argument = int | bytes | bytearray | array


class Kernels:
    """The functions in ARM instructions of device modules `sentill.NAME`; they are attributes, and called like there.

    A buffer lies in RAM for the time of a call, between bytes that must not change; one that can be written to is what
    the kernel left. All that a kernel must leave to its caller is looked at.
    """

    def __init__(self, *modules: str) -> None:
        from rp2040py.simulator import Simulator

        self._mcu: Any = Simulator().rp2040
        self._at: dict[str, int] = {}
        self._free = _CODE
        self.instructions = 0  # of the latest call
        for name in modules:
            self._load(name)

    def _load(self, name: str) -> None:
        source = (DEVICE / "sentill" / f"{name.replace('.', '/')}.py").read_bytes()
        names = [
            node.name
            for node in ast.parse(source).body
            if isinstance(node, ast.FunctionDef) and any("asm_thumb" in ast.unparse(by) for by in node.decorator_list)
        ]
        code = compile_file(f"sentill/{name}.py", source, "armv6m")
        end = 0
        for function in names:
            start = code.index(_ENTRY, end)
            end = code.index(_EXIT, start) + 2
            self._mcu.sram[self._free : self._free + end - start] = code[start:end]
            self._at[function] = self._free
            self._free = self._free + end - start + 15 & -16
        if _ENTRY in code[end:]:
            raise ValueError(f"{name}: more kernels than were found")

    def __getattr__(self, function: str) -> Any:
        if function.startswith("_") or function not in self._at:
            raise AttributeError(function)
        return lambda *args: self._call(self._at[function], args)

    def address(self, offset: int) -> int:
        """Of a place for data that lasts from call to call."""
        return _RAM + 0x20000 + offset

    def memory(self) -> memoryview:
        """What lies at `address(0)`."""
        return memoryview(self._mcu.sram)[0x20000:0x30000]

    def _call(self, entry: int, args: tuple[Argument, ...]) -> int:
        core, ram = self._mcu.core, self._mcu.sram
        at, placed = _DATA, []
        for i, value in enumerate(args):
            if isinstance(value, int):
                core.registers[i] = value & 0xFFFFFFFF
                continue
            data = bytes(value)
            ram[at : at + len(data) + 2 * _GUARD] = b"\xaa" * _GUARD + data + b"\xaa" * _GUARD
            placed.append((at, value, len(data)))
            core.registers[i] = _RAM + at + _GUARD
            at += len(data) + 2 * _GUARD + 15 & -16
        kept = [7 * i + 1 for i in range(8)]
        for i, word in enumerate(kept):
            core.registers[4 + i] = word
        core.registers[13], core.registers[14] = _RAM + _STACK, _BACK | 1
        core.pc = _RAM + entry
        for self.instructions in range(_MOST):
            core.execute_instruction()
            if core.pc == _BACK:
                break
        else:
            raise AssertionError("it does not return")
        assert [core.registers[4 + i] for i in range(8)] == kept and core.registers[13] == _RAM + _STACK
        for at, value, size in placed:
            guard = b"\xaa" * _GUARD
            assert bytes(ram[at : at + _GUARD]) == guard == bytes(ram[at + _GUARD + size : at + 2 * _GUARD + size])
            left = bytes(ram[at + _GUARD : at + _GUARD + size])
            if isinstance(value, bytearray):
                value[:] = left
            elif isinstance(value, array):
                value[:] = array(value.typecode, left)
            else:
                assert value == left, "it writes to what it must not"
        return int.from_bytes(core.registers[0].to_bytes(4, "little"), "little", signed=True)
