"""Runs inside MicroPython for tools/bench/tree.py: times one model every way, prints one line of JSON.

    _tree_device.py DEVICE FOLDER NAME ROUNDS [no-gc]

FOLDER holds NAME_*.stm, rows.bin (int16), and the generated modules that NAME.json lists.
"""

import gc
import json
import sys
from array import array
from time import ticks_diff, ticks_us

from micropython import mem_total

sys.path.insert(0, sys.argv[1])
sys.path.insert(0, sys.argv[2])

from sentill.compat import native
from sentill.risk import tree_plain
from sentill.risk.model import Model
from sentill.risk.model_file import read_words

BATCH_US = 2_000  # calls timed together take about so long: far above the clock's microsecond
collect = gc.collect


def microseconds(function, x, rows, rounds):
    """Time of one call: the mean over all rows of the least of so many rounds; the loop around it included."""
    total = 0
    n = len(x)
    calls = 20
    while True:
        us = loop(function, x, calls)
        if us > BATCH_US // 4:
            break
        calls *= 2
    calls = max(1, calls * BATCH_US // us)
    for start in range(0, len(rows), n):
        for i in range(n):
            x[i] = rows[start + i]
        best = 1 << 29
        for _ in range(rounds):
            collect()
            best = min(best, loop(function, x, calls))
        total += best
    return total / calls / (len(rows) // n)


def loop(function, x, calls):
    """Microseconds that so many calls take."""
    begin = ticks_us()
    for _ in range(calls):
        function(x)
    return ticks_diff(ticks_us(), begin)


def allocated(function, x):
    """Heap bytes one call takes, given back or not."""
    function(x)
    before = mem_total()
    function(x)
    return mem_total() - before


def answers(function, x, rows):
    """Results for all rows."""
    found = []
    n = len(x)
    for start in range(0, len(rows), n):
        for i in range(n):
            x[i] = rows[start + i]
        found.append(function(x))
    return found


def main():
    global collect
    if "no-gc" in sys.argv:  # this interpreter's collector frees live objects
        gc.disable()
        collect = gc.mem_free
    folder, name, rounds = sys.argv[2], sys.argv[3], int(sys.argv[4])
    with open(folder + "/rows.bin", "rb") as file:
        rows = array("h", file.read())
    with open(folder + "/" + name + ".json") as file:
        wanted = json.load(file)
    x = array("h", bytes(24))
    result = {}
    contenders = []
    for layout in wanted["layouts"]:
        path = folder + "/" + name + "_" + layout + ".stm"
        if native("risk", "tree_viper"):
            contenders.append((layout, Model.load(path).score))
        contenders.append((layout + "_plain", Model(read_words(path), tree_plain).score))
    for other in wanted["others"]:
        module = __import__(name + "_" + other)
        contenders.append((other, module.predict if hasattr(module, "predict") else module.score))
    for kind, function in contenders:
        result[kind + "_us"] = microseconds(function, x, rows, rounds)
        result[kind + "_alloc_bytes"] = allocated(function, x)
        if kind not in wanted["others"]:
            result[kind + "_answers"] = answers(function, x, rows)
    print(json.dumps(result))


main()
