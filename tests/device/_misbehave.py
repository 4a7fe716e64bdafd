"""Functions that crash, hang or exhaust an interpreter, for tests/test_interpreters.py."""

from sentill.errors import FrameError


def echo(value):
    return value


def say(text):
    print(text)
    return len(text)


def refuse():
    raise FrameError("crc", "planted")


def crash():
    from uctypes import bytearray_at

    print("about to crash")
    bytearray_at(0, 1)[0] = 1


def hang():
    print("about to hang")
    while True:
        pass


def use_up_the_heap():
    kept = []
    while True:
        kept.append(bytearray(4096))
