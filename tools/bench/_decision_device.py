"""Worker of decision.py, on MicroPython: times the whole decision and its parts. Arguments: device folder, rounds.

Prints one JSON object: microseconds and bytes taken from the heap per call, by name.
"""

import gc
import json
import sys
from array import array
from time import ticks_diff, ticks_us

sys.path.insert(0, sys.argv[1])
ROUNDS = int(sys.argv[2])

from micropython import mem_total  # noqa: E402

from sentill.compat import crc32  # noqa: E402
from sentill.crypto import LAB_ROOT, hkdf, mac  # noqa: E402
from sentill.node.terminal import Terminal  # noqa: E402
from sentill.pan import looks_like_pan  # noqa: E402
from sentill.risk import assess, features  # noqa: E402
from sentill.risk import model as tree  # noqa: E402
from sentill.wire import protocol  # noqa: E402
from sentill.wire.port import Port  # noqa: E402

COUNT = 50  # a round must fit between two other processes of a busy computer
START = 90_000_000


class Sink:
    """A stream that takes everything at once."""

    came_us = 0

    def write(self, view, at, end):
        return end - at


def model(name):
    return tree.Model.load(sys.argv[1] + "/models/" + name, features.SCHEMA_ID)


def request(i):
    """A typical request: every amount another, and a card profile."""
    pairs = [("q", i + 1), ("ref", 70_000 + i), ("t", START + 60 * i), ("amt", 500 + 37 * i), ("card", "c_9f31-B2e4d")]
    return protocol.encode("T", pairs + [("pm", 4210), ("pn", 17), ("ph", 2)])


def nothing(i):
    pass


def nothing_first():
    pass


class Audit:
    """A journal on a medium that costs nothing, of a node whose clock is not set."""

    class node:
        class hal:
            clock_set = False

    def next(self):
        return 70_000

    def verdict(self, payload):
        pass

    def count(self, kind):
        raise RuntimeError("a record was lost")


class Vault:
    """Keys of a board in the lab."""

    card = mac(hkdf(LAB_ROOT, b"sentill token"))
    generation = 0


class Tamper:
    """Nobody has touched the board."""

    refusing = False


class Judge(Terminal):
    """Answers, and leaves out what follows the answer."""

    def _record(self, answer, f):
        pass


def node(kind=Judge):
    history = features.History(512)
    assessor = assess.Assessor(history, model("profile.stm"), model("local.stm"))
    terminal = kind(assessor, looks_like_pan, Audit(), Vault(), Tamper())
    return terminal, Port("uart", Sink(), 720, True, gc.collect)


def best(function, prepare, rounds=ROUNDS):
    """Microseconds and bytes per call of `function(i)`, in the fastest of `rounds` rounds of COUNT calls."""
    fastest = least = None
    for _ in range(rounds):
        prepare()
        gc.collect()
        total = mem_total()
        start = ticks_us()
        for i in range(COUNT):
            function(i)
        us = ticks_diff(ticks_us(), start)
        total = mem_total() - total
        fastest = us if fastest is None or us < fastest else fastest
        least = total if least is None or total < least else least
    return fastest, least


def main():
    lines = [request(i) for i in range(COUNT)]
    state = list(node())
    out = {}

    def fresh():
        state[:] = node()

    def receive(i):
        reader = state[1].reader
        line = lines[i]
        window = reader.window()
        window[: len(line)] = line
        reader.received(len(line))

    def whole(i):
        receive(i)
        state[1].reader.next()
        state[0].judge(state[1])

    def read(i):
        receive(i)
        state[1].reader.next()

    out["loop"] = best(nothing, nothing_first)
    out["whole"] = best(whole, fresh)
    out["read"] = best(read, fresh)
    # Each part alone, on the state the whole decision leaves.
    terminal, port = node()
    state[:] = [terminal, port]
    whole(0)
    reader = port.reader
    scan = terminal._request.scan
    fields = terminal._request.fields
    assessor = terminal.assessor
    history = assessor.history
    verdict = terminal._verdict
    answer = terminal._lately._answers[0]
    view = memoryview(lines[0])[1:-11]
    profile = assessor._profile
    x = assessor._x
    scratch = array("h", bytes(32))

    def reply(i):
        verdict.open(port.next_q(), fields[1], answer)
        verdict.close(123, 70_000)

    def remember(i):
        history.own(scratch, START + 60 * i)
        history.put(200_000 + i, False)

    def reasons(i):
        profile.model.explain(x)
        while profile.model.next_reason() >= 0:
            pass

    def clear():
        history.clear()

    keeper = node(Terminal)[0]
    keeper._request.scan(reader)

    n = verdict.close(123, 70_000)
    for name, function, prepare in (
        ("crc", lambda i: crc32(view), nothing_first),
        ("parse", lambda i: scan(reader), nothing_first),
        ("history", remember, clear),
        ("tree", lambda i: profile.model.score(x), nothing_first),
        ("reasons", reasons, nothing_first),
        ("reply", reply, nothing_first),
        ("send", lambda i: port.put(verdict.view, n), nothing_first),
        ("record", lambda i: keeper._record(answer, fields), nothing_first),
    ):
        out[name] = best(function, prepare)
    print(json.dumps({"count": COUNT, "parts": out, "request": len(lines[0]), "verdict": n}))


main()
