"""Runs on the board: one round trip that says what the board is and what lies on it.

Prints one JSON value per line: first a dict about the board, then [path, bytes, SHA-256] for every file that belongs to
a deployment, half-written ones (`.new`) included, then the manifest or null.
"""


def _survey():
    import binascii
    import gc
    import hashlib
    import json
    import os
    import sys

    def hash_file(path):
        digest = hashlib.sha256()
        block = bytearray(512)
        size = 0
        with open(path, "rb") as f:
            while True:
                n = f.readinto(block)
                if not n:
                    break
                size += n
                digest.update(block if n == 512 else bytes(memoryview(block)[:n]))
        print(json.dumps([path, size, str(binascii.hexlify(digest.digest()), "ascii")]))

    def walk(folder):
        try:
            entries = list(os.ilistdir(folder))
        except OSError:
            return
        for entry in entries:
            path = folder + "/" + entry[0]
            if entry[1] == 0x4000:
                walk(path)
            else:
                hash_file(path)

    # The interpreter of a virtual board can run on the computer's own files: there the root is not ours to touch.
    implementation = sys.implementation
    stat = os.statvfs("/")
    try:
        import machine

        uid = str(binascii.hexlify(machine.unique_id()), "ascii")
    except (ImportError, AttributeError):
        uid = ""
    try:
        import deflate

        inflate = hasattr(deflate, "DeflateIO")
    except ImportError:
        inflate = False
    gc.collect()
    about = {
        "version": list(implementation.version[:3]),
        "mpy": getattr(implementation, "_mpy", 0),
        "machine": getattr(implementation, "_machine", ""),
        "build": getattr(implementation, "_build", ""),
        "platform": sys.platform,
        "uid": uid,
        "block": stat[0],
        "flash_bytes": stat[1] * stat[2],
        "flash_free": stat[0] * stat[3],
        "heap_free": gc.mem_free(),
        "inflate": inflate,
    }
    print(json.dumps(about))
    ours = ("main.py", "board.py", "board.mpy", "channels.jsonl", "config.json", "manifest.json")
    for entry in os.ilistdir("/"):
        name = entry[0]
        plain = name[:-4] if name.endswith(".new") else name
        if entry[1] != 0x4000 and plain in ours:
            hash_file("/" + name)
    walk("/sentill")
    walk("/models")
    try:
        with open("/manifest.json") as f:
            # It is one line of JSON itself; in pieces, for a heap in pieces.
            while True:
                piece = f.read(256)
                if not piece:
                    break
                sys.stdout.write(piece)
        print()
    except OSError:
        print("null")


_survey()
del _survey
