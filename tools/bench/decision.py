"""Benchmark of a whole decision: a request's last byte in, the verdict's last byte out, and the parts it is made of.

On the Unix port with a stream that takes everything: reader, features, score, reasons, reply; the UART itself and
asyncio are left out. A part is called on its own, so the parts do not add up to the whole: the rest is the calls
between them. Bytes are what a call takes from the heap on 64 bits, frames of functions given back at once included.
Prints a table with ratios to the tree kernel and writes build/bench/decision.json.
"""

import json
import subprocess
from pathlib import Path

from rich.console import Console
from rich.table import Table

from _data import about, parser, write_results
from tests.interpreters import DEVICE, unix_command

WORKER = Path(__file__).with_name("_decision_device.py")
PARTS = {
    "read": "bytes into the reader, line and checksum found right",
    "crc": "of that, the checksum",
    "parse": "fields of the request",
    "history": "features of the terminal, request remembered",
    "tree": "score of the shipped model, the kernel alone",
    "reasons": "what moved the score most",
    "reply": "the verdict as a frame, checksum included",
    "send": "to a stream that takes it",
    "record": "made for the journal behind the verdict; not in the decision, and without flash",
}


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--rounds", type=int, default=40, help="timed rounds; the fastest counts")
    options = arguments.parse_args()
    rounds = 3 if options.short else options.rounds
    command = [*unix_command(), "-X", "heapsize=1M", str(WORKER), str(DEVICE), str(rounds)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if done.returncode or not done.stdout.startswith("{"):
        raise SystemExit(f"the worker failed:\n{done.stdout}{done.stderr}")
    got = json.loads(done.stdout)
    count, loop_us = got["count"], got["parts"]["loop"][0]

    def per_call(name: str) -> tuple[float, float]:
        us, taken = got["parts"][name]
        return (us - loop_us) / count, taken / count

    out = Console()
    out.print(f"host {about()}; timed on the MicroPython Unix port with native kernels")
    out.print(f"request of {got['request']} bytes, verdict of {got['verdict']} bytes, best of {rounds} x {count} calls")
    table = Table("part", "µs", "times the tree", "heap bytes", "what it is")
    tree_us = per_call("tree")[0]
    us, taken = per_call("whole")
    results = {"us": us, "alloc_bytes": taken, "vs_tree": us / tree_us}
    table.add_row("decision", f"{us:.2f}", f"{us / tree_us:.1f}", f"{taken:.0f}", "frame in, verdict out")
    for name, meaning in PARTS.items():
        us, taken = per_call(name)
        results |= {f"part_{name}_us": us, f"part_{name}_alloc_bytes": taken, f"part_{name}_vs_tree": us / tree_us}
        table.add_row(name, f"{us:.2f}", f"{us / tree_us:.1f}", f"{taken:.0f}", meaning)
    out.print(table)
    out.print(f"kept in {write_results('decision', results, options.short)}")


if __name__ == "__main__":
    main()
