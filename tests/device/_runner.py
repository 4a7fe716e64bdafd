"""Runs device tests and evaluates device functions inside one interpreter, at the request of tests/interpreters.py.

Started as a script with the folders to work with: `_runner.py DEVICE TESTS SCRATCH [no-gc]`. Each request is one line
of JSON on stdin, each reply one line of JSON on stdout after a record separator, so that a test's prints stay apart:

    {"run": "test_x", "fn": "test_y"}           -> {"ok": true} or {"skip": reason}
    {"call": "package.module:name", "args": []} -> {"ok": true, "val": value}
                                                or {"err": type, "msg": text, "tb": traceback}

`args` and `val` are JSON; byte strings travel as {"hex": "..."}. On a real board the host calls `handle` itself.
This file runs on every interpreter of the tests, so it uses only what MicroPython has.
"""

import gc
import sys
from binascii import hexlify, unhexlify
from io import StringIO
from json import dumps, loads

import support

if support.COUNTS:
    from micropython import mem_current
else:  # CPython, and firmware for boards

    def mem_current():
        return 0


_collect = gc.collect
_resident = ()  # names of the modules that stay loaded from one test file to the next
_file = ""
_functions = {}


class _NoGC:
    """Stands in for `gc` where a collection would free live objects: everything answers, nothing collects."""

    def __init__(self):
        self.mem_free = gc.mem_free
        self.mem_alloc = gc.mem_alloc

    def collect(self):
        return 0

    def threshold(self, *args):
        return -1

    def enable(self):
        pass

    def disable(self):
        pass

    def isenabled(self):
        return False


def _without_gc():
    global _collect
    gc.disable()
    stand_in = _NoGC()
    _collect = stand_in.collect
    sys.modules["gc"] = stand_in


def _send(reply):
    sys.stdout.write("\x1e" + dumps(reply) + "\n")
    if not support.MICROPYTHON:  # MicroPython does not buffer, and flushing a pipe fails there
        sys.stdout.flush()


def _traceback(error):
    text = StringIO()
    if hasattr(sys, "print_exception"):
        sys.print_exception(error, text)
    else:
        import traceback

        traceback.print_exception(error, file=text)
    return text.getvalue()


def _decode(value):
    if isinstance(value, dict) and "hex" in value:
        return unhexlify(value["hex"])
    if isinstance(value, list):
        return [_decode(item) for item in value]
    return value


def _encode(value):
    if isinstance(value, (bytes, bytearray, memoryview)):
        return {"hex": hexlify(value).decode()}
    if isinstance(value, dict):
        return {key: _encode(item) for key, item in value.items()}
    if isinstance(value, (str, int, bool)) or value is None:  # MicroPython: a bool is no int
        return value
    return [_encode(item) for item in value]


def _forget():
    """Unload all that the last test file brought in, so that each file starts with fresh modules."""
    for name in list(sys.modules):
        if name not in _resident:
            del sys.modules[name]
    _functions.clear()
    _collect()


def _run(name, function):
    global _file
    if name != _file:
        _forget()
        _file = name
    getattr(__import__(name), function)()
    return {"ok": True}


def _call(target, args):
    function = _functions.get(target)
    if function is None:
        module, path = target.split(":")
        __import__(module)
        function = sys.modules[module]
        for part in path.split("."):
            function = getattr(function, part)
        _functions[target] = function
    return {"ok": True, "val": _encode(function(*[_decode(item) for item in args]))}


def handle(line):
    """Carry out one request (a line of JSON) and write its reply to stdout."""
    try:
        request = loads(line)
        if "run" in request:
            reply = _run(request["run"], request["fn"])
        else:
            reply = _call(request["call"], request["args"])
    except support.SkipTest as error:
        reply = {"skip": str(error)}
    except Exception as error:
        reply = {"err": type(error).__name__, "msg": str(error), "tb": _traceback(error)}
    reply["mem"] = mem_current()
    _send(reply)


def prepare(device, tests, scratch):
    """Put the folders on the import path, remember what is loaded, and say which interpreter this is."""
    global _resident
    for folder in (tests, device):
        if folder not in sys.path:
            sys.path.insert(0, folder)
    support.set_folders(device, tests, scratch)
    _resident = tuple(sys.modules)
    version = ".".join([str(part) for part in sys.implementation.version[:3]])
    _send({"ok": True, "val": {"name": sys.implementation.name, "version": version, "bits": support.WORD_BITS}})


def main():
    """Serve requests from stdin until it closes."""
    if "no-gc" in sys.argv:
        _without_gc()
    prepare(*sys.argv[1:4])
    while True:
        line = sys.stdin.readline()
        if not line:
            return
        handle(line)


if __name__ == "__main__":
    main()
