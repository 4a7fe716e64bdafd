"""For the differential tests: frames read and written, with results that JSON carries without loss."""

from sentill.errors import FrameError
from sentill.pan import looks_like_pan
from sentill.wire import protocol
from sentill.wire.reader import FrameReader
from sentill.wire.request_verdict import Answer, Request, Verdict


def _typed(fields):
    """Fields as sorted [key, type, value]: a dict has no order on MicroPython, and JSON readers blur 1 and true."""
    return sorted([[key, type(fields[key]).__name__, fields[key]] for key in fields])


def decode(line):
    """Type and fields of one line, or the error's code."""
    try:
        kind, fields = protocol.decode(line)
    except FrameError as error:
        return error.code
    return [kind, _typed(fields)]


def encode(kind, pairs):
    """The line of a frame, or the error's code."""
    try:
        return protocol.encode(kind, pairs)
    except FrameError as error:
        return error.code


def stream(chunks):
    """Feed `chunks` to a reader: every frame found, transaction requests parsed, and the counters."""
    reader = FrameReader()
    request = Request()
    found = []
    for chunk in chunks:
        at = 0
        while at < len(chunk):
            window = reader.window()
            n = min(len(window), len(chunk) - at)
            window[:n] = chunk[at : at + n]
            at += n
            reader.received(n)
            while True:
                kind = reader.next()
                if not kind:
                    break
                found.append([kind, reader.object(), _request(request, reader) if kind == ord("T") else None])
    return found, [reader.frames, reader.garbage, reader.bad_crc, reader.too_long, reader.waiting()]


def _request(request, reader):
    try:
        request.parse(reader, looks_like_pan)
    except FrameError as error:
        return error.code
    return [list(request.fields)[:7], request.token()]


def verdict(q, ref, code, score, review, decline, reasons, us):
    """One verdict frame."""
    v = Verdict()
    answer = Answer()
    answer.score = score
    answer.review = review
    answer.decline = decline
    answer.code = code
    answer.model = b"0123abcd"
    answer.reasons = [reason.encode() for reason in reasons]
    answer.n = len(reasons)
    v.open(q, ref, answer)
    n = v.close(us)
    return bytes(v.view[:n])
