"""Journal: flash wear per record, boot scan, cost of an append, power cuts; on the real littlefs of the Unix port.

Records of 64 bytes, 6,000 of them with 5,120 retained; wear counts everything, the key store included. "durable" keeps
every record at once; "not FF" leaves out the bytes that fill a program up and change nothing. The time of an append
includes a model of NOR flash in Python; "chain" is the part without flash.
"""

import json
import subprocess
import sys
from typing import Any

from rich.console import Console
from rich.table import Table

from _data import ROOT, about, write_results
from tests.interpreters import unix_command

# Label, store, program size, window: records kept together.
RUNS = [
    ("littlefs, durable", "files", 32, 1),
    ("littlefs, durable", "files", 256, 1),
    ("littlefs, batched", "files", 32, 8),
    ("littlefs, batched", "files", 256, 7),
    ("raw, durable", "raw", 32, 1),
    ("raw, durable", "raw", 256, 1),
    ("raw, batched", "raw", 256, 31),
]
# As in tests/power/test_power.py, nothing left out.
SWEEPS = [("files", 32, 1), ("files", 256, 1), ("files", 256, 8), ("files", 32, 8), ("raw", 32, 1), ("raw", 256, 8)]


def child(script: str, heap: str, options: dict[str, Any]) -> dict[str, Any]:
    """The JSON line that a script of tests/power prints in the Unix port."""
    folders = [str(ROOT / "device"), str(ROOT / "tests" / "device")]
    path = str(ROOT / "tests" / "power" / script)
    command = [*unix_command(), "-X", f"heapsize={heap}", path, *folders, json.dumps(options)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    console = Console(width=110)
    columns = ("store", "program", "window", "bytes", "not FF", "erases", "append µs", "held", "scan ms")
    table = Table(*columns, title="per record")
    wear = {}
    for label, store, prog, window in RUNS:
        options = {"raw": store == "raw", "prog": prog, "window": window, "keep": 5120, "records": 6000}
        row = child("wear.py", "32M", options | {"key_every": max(10, window)})
        wear[store, prog, window] = row
        numbers = [f"{row['bytes']:.0f}", f"{row['set']:.0f}", f"{row['erases']:.3f}", f"{row['append_us']:.0f}"]
        table.add_row(label, str(prog), str(window), *numbers, str(row["held"]), f"{row['scan_ms']:.1f}")
    console.print(table)
    durable, batched, raw = wear["files", 32, 1], wear["files", 32, 8], wear["raw", 32, 1]
    console.print(
        f"chain alone: {durable['chain_us']:.0f} µs and {durable['chain_alloc_bytes']:.0f} bytes of heap a record"
    )
    tried = lost = 0
    if "--no-cuts" not in sys.argv:
        for store, prog, window in SWEEPS:
            cuts = child("sweep.py", "64M", {"raw": store == "raw", "prog": prog, "window": window})
            tried += cuts["cuts"]
            lost += cuts["faults"]
            console.print(
                f"power cuts, {store}, program {prog}, window {window}: {cuts['cuts']}, faults {cuts['faults']}"
            )
    results = {
        "bytes_per_record": durable["bytes"],
        "erases_per_record": durable["erases"],
        "batched_bytes_per_record": batched["bytes"],
        "batched_erases_per_record": batched["erases"],
        "raw_bytes_per_record": raw["bytes"],
        "raw_erases_per_record": raw["erases"],
        "prog256_bytes_per_record": wear["files", 256, 1]["bytes"],
        "prog256_erases_per_record": wear["files", 256, 1]["erases"],
        "prog256_batched_bytes_per_record": wear["files", 256, 7]["bytes"],
        "prog256_batched_erases_per_record": wear["files", 256, 7]["erases"],
        "prog256_raw_bytes_per_record": wear["raw", 256, 1]["bytes"],
        "prog256_raw_batched_bytes_per_record": wear["raw", 256, 31]["bytes"],
        "append_us": durable["append_us"],
        "chain_us": durable["chain_us"],
        "chain_alloc_bytes": durable["chain_alloc_bytes"],
        "scan_ms": max(row["scan_ms"] for row in wear.values()),
        "retained": min(row["held"] for row in wear.values()),
        "cuts_tried": tried,
        "cuts_lost": lost,
    }
    console.print(f"on {about()} and its MicroPython Unix port; kept as {write_results('journal', results)}")


if __name__ == "__main__":
    main()
