"""Journal: flash wear per record, boot scan, cost of an append, power cuts; on the real littlefs of the Unix port.

Records of 64 bytes, 6,000 of them with 5,120 retained; wear counts everything, the key store included. "window" is how
many records are kept together: one is acknowledged only when all of them are on flash. "key" is after how many records
the key on flash moves on. "bytes" are those handed to the flash, whole programs; "not FF" leaves out the bytes that
fill a program up and change no cell. "µs" and "heap" (bytes) are those of an append, without the model of NOR flash,
which is written in Python; "chain" is the part of them that no store has to do with.
"""

import json
import subprocess
import sys
from typing import Any

from rich.console import Console
from rich.table import Table

from _data import ROOT, about, parser, write_results
from tests.interpreters import unix_command

# Label, store, program size, window, records per key; what is allowed: bytes (0: not limited) and erases a record.
RUNS = [
    ("littlefs, durable", "files", 32, 1, 10, 80, 0.03),
    ("littlefs, durable", "files", 256, 1, 10, 0, 0.03),
    ("littlefs, batched", "files", 32, 8, 10, 80, 0.03),
    ("littlefs, batched", "files", 256, 7, 10, 200, 0.03),
    ("raw, durable", "raw", 32, 1, 10, 80, 0.03),
    ("raw, durable", "raw", 256, 1, 10, 0, 0.03),
    ("raw, batched", "raw", 256, 23, 46, 100, 0.03),
    ("raw, as the node on ESP32", "raw", 16, 4, 10, 80, 0.03),
    ("raw, as the node", "raw", 256, 4, 10, 0, 0.03),
    ("littlefs, as the node", "files", 256, 4, 10, 0, 0.03),
]
SCAN_MS = 1000
# As in tests/power/test_power.py, nothing left out: store, program size, window, records of mixed sizes.
SWEEPS = [
    ("files", 32, 1, False), ("files", 32, 8, True), ("files", 256, 1, False), ("files", 256, 4, True),
    ("raw", 32, 1, False), ("raw", 256, 1, False), ("raw", 256, 4, True),
]  # fmt: skip


def child(script: str, heap: str, options: dict[str, Any]) -> dict[str, Any]:
    """The JSON line that a script of tests/power prints in the Unix port."""
    folders = [str(ROOT / "device"), str(ROOT / "tests" / "device")]
    path = str(ROOT / "tests" / "power" / script)
    command = [*unix_command(), "-X", f"heapsize={heap}", path, *folders, json.dumps(options)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--no-cuts", action="store_true", help="leave out the power cuts")
    asked = arguments.parse_args()
    keep, records = (128, 200) if asked.short else (5120, 6000)
    console = Console(width=110)
    columns = ("store", "program", "window", "key", "bytes", "not FF", "erases", "µs", "heap", "held", "scan ms")
    table = Table(*columns, title="per record")
    wear = {}
    above = []
    for label, store, prog, window, key_every, most_bytes, most_erases in RUNS:
        options = {"raw": store == "raw", "prog": prog, "window": window, "keep": keep, "records": records}
        row = child("wear.py", "32M", options | {"key_every": key_every})
        wear[store, prog, window] = row
        numbers = [f"{row['bytes']:.0f}", f"{row['set']:.0f}", f"{row['erases']:.3f}", f"{row['append_us']:.0f}"]
        numbers += [f"{row['alloc_bytes']:.0f}", str(row["held"]), f"{row['scan_ms']:.1f}"]
        table.add_row(label, str(prog), str(window), str(key_every), *numbers)
        if (most_bytes and row["bytes"] > most_bytes) or row["erases"] > most_erases or row["scan_ms"] > SCAN_MS:
            above.append(f"{label}, programs of {prog} bytes")
    console.print(table)
    console.print("above the limits: " + ("; ".join(above) or "none"))
    durable, batched, raw = wear["files", 32, 1], wear["files", 32, 8], wear["raw", 32, 1]
    console.print(
        f"chain alone: {durable['chain_us']:.0f} µs and {durable['chain_alloc_bytes']:.0f} bytes of heap a record"
    )
    tried = lost = 0
    if not asked.no_cuts:
        for store, prog, window, mixed in SWEEPS:
            options = {"raw": store == "raw", "prog": prog, "window": window, "mixed": mixed}
            cuts = child("sweep.py", "64M", options | {"share": [0, 100 if asked.short else 1]})
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
        "esp32_raw_bytes_per_record": wear["raw", 16, 4]["bytes"],
        "prog256_bytes_per_record": wear["files", 256, 1]["bytes"],
        "prog256_erases_per_record": wear["files", 256, 1]["erases"],
        "prog256_batched_bytes_per_record": wear["files", 256, 7]["bytes"],
        "prog256_batched_erases_per_record": wear["files", 256, 7]["erases"],
        "prog256_raw_bytes_per_record": wear["raw", 256, 1]["bytes"],
        "prog256_raw_batched_bytes_per_record": wear["raw", 256, 23]["bytes"],
        "append_us": durable["append_us"],
        "append_alloc_bytes": durable["alloc_bytes"],
        "chain_us": durable["chain_us"],
        "chain_alloc_bytes": durable["chain_alloc_bytes"],
        "scan_ms": max(row["scan_ms"] for row in wear.values()),
        "retained": min(row["held"] for row in wear.values()),
        "cuts_tried": tried,
        "cuts_lost": lost,
    }
    console.print(
        f"on {about()} and its MicroPython Unix port; kept as {write_results('journal', results, asked.short)}"
    )
    if lost or (above and not asked.short):  # a nearly empty journal wears more
        sys.exit(1)


if __name__ == "__main__":
    main()
