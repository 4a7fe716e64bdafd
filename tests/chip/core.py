"""The fast path: plain instructions run natively (core.c) between what needs the emulator.

Compiled into build/chip/ when a C compiler is there; without one everything still runs, some twenty times slower and
with the same cycle counts.
"""

import ctypes
import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).with_name("core.c")
_HELD = ("flash", "sram", "rom")


class _Machine(ctypes.Structure):
    """`struct machine` of core.c."""

    _fields_ = [  # noqa: RUF012
        ("r", ctypes.POINTER(ctypes.c_uint32)),
        ("time_ns", ctypes.c_double),
        *((name, ctypes.c_uint32) for name in ("n", "z", "c", "v", "masked", "alert", "event", "spin_locks")),
        *((name, ctypes.c_void_p) for name in _HELD),
        *((name + "_size", ctypes.c_uint32) for name in _HELD),
        *((name, ctypes.c_uint32) for name in ("dividend", "divisor", "quotient", "remainder", "signed", "dirty")),
    ]


def library(folder: Path) -> ctypes.CDLL | None:
    """The compiled core.c, from `folder`, where it is compiled when it is not there yet; None without a compiler."""
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        return None
    digest = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]
    made = folder / f"core-{digest}.so"
    if not made.exists():
        folder.mkdir(parents=True, exist_ok=True)
        fresh = made.with_suffix(f".{os.getpid()}")
        flags = ["-O3", "-fno-strict-aliasing", "-fwrapv", "-shared", "-fPIC"]
        command = [compiler, *flags, "-o", str(fresh), str(SOURCE)]
        subprocess.run(command, check=True, timeout=120)
        fresh.replace(made)
    loaded = ctypes.CDLL(str(made))
    loaded.run.restype = ctypes.c_int64
    loaded.run.argtypes = [ctypes.POINTER(_Machine), ctypes.c_int64]
    return loaded


def runner(rp2040: Any, native: ctypes.CDLL) -> tuple[Callable[[int], int], Any]:
    """A function that runs `rp2040` natively for at most about so many cycles and returns those used; its machine."""
    core = rp2040.core
    machine = _Machine()
    memory = {"flash": rp2040.flash, "sram": rp2040.sram, "rom": memoryview(rp2040.bootrom).cast("B")}
    for name, view in memory.items():
        setattr(machine, name, ctypes.addressof((ctypes.c_ubyte * len(view)).from_buffer(view)))
        setattr(machine, name + "_size", len(view))
    registers = core.registers
    array = (ctypes.c_uint32 * 16).from_buffer(getattr(registers, "obj", registers))
    machine.r = array
    pointer = ctypes.pointer(machine)
    clock, timer = rp2040.clock, rp2040.timer
    # The addresses above are of memory that these keep alive.
    keep = (array, memory, native)

    def run(budget: int, _keep: Any = keep) -> int:
        machine.n, machine.z, machine.c, machine.v, machine.masked = core.n, core.z, core.c, core.v, core.pm
        machine.alert = bool(
            core.pending_interrupts & core.enabled_interrupts
            or core.pending_nmi or core.pending_pend_sv or core.pending_svcall or core.pending_systick
        )  # fmt: skip
        machine.time_ns = clock.nanos - timer._epoch_nanos
        cycles: int = native.run(pointer, budget)
        core.n, core.z, core.c, core.v, core.pm = machine.n, machine.z, machine.c, machine.v, machine.masked
        if machine.event:
            machine.event = 0
            core.event_registered = True
        core.cycles += cycles
        return cycles

    return run, machine
