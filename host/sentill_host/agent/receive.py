"""Runs on the board: takes files in pieces, beside the ones in use, and puts them in place at the end.

`_open(path)`, then `_raw(base64)` or `_packed(base64)` per piece, then `_done()`, which prints [path, bytes, SHA-256]
as read back from the flash. `_place(paths, stale)` puts all of them in place; main.py is gone while it works, so that a
board that loses power in the middle stops at its prompt instead of running a mixture.
"""

import os
from binascii import a2b_base64, hexlify

_file = None
_path = ""


def _open(path):
    global _file, _path
    if _file:
        _file.close()
    parts = path.split("/")
    for i in range(2, len(parts)):
        try:
            os.mkdir("/".join(parts[:i]))
        except OSError:
            # It is there already; if not, the open below says so.
            pass
    _path = path + ".new"
    _file = open(_path, "wb")


def _raw(text):
    _file.write(a2b_base64(text))


def _packed(text):
    from io import BytesIO

    from deflate import RAW, DeflateIO

    _file.write(DeflateIO(BytesIO(a2b_base64(text)), RAW, 12).read())


def _done():
    global _file
    import hashlib
    import json

    _file.close()
    _file = None
    digest = hashlib.sha256()
    size = 0
    with open(_path, "rb") as f:
        while True:
            block = f.read(512)
            if not block:
                break
            size += len(block)
            digest.update(block)
    print(json.dumps([_path, size, str(hexlify(digest.digest()), "ascii")]))


def _remove(path):
    try:
        os.remove(path)
    except OSError:
        # It is gone already: an earlier deploy was cut here.
        pass


def _place(paths, stale):
    _remove("/main.py")
    for path in stale:
        _remove(path)
    for path in paths:
        try:
            os.rename(path + ".new", path)
        except OSError:
            # FAT does not rename over an existing file.
            os.remove(path)
            os.rename(path + ".new", path)
    print("placed")
