"""Runs on the board for the length of a deploy: answers requests on stdin, and resets the board when the host is gone.

A request is `=SEQ BYTES JSON-BYTES CRC-32` on a line, then that many bytes: a JSON object with `op`, then what the
operation works on. The bytes 0x03 (it would interrupt) and 0x1b travel as 0x1b "C" and 0x1b "E"; BYTES and the checksum
are of what travels, JSON-BYTES of what is meant. An answer is a line
`@JSON*CRC-32` with `re`, the request it answers; `nack` asks for the request once more, `at` tells progress. A request
that comes twice is carried out once.

Files go to the slot that is not the proven one. Its manifest is taken away before the first change and put in place at
the end: what lies there meanwhile is no version, and never runs.
"""

import gc
import json
import os
import select
import sys
import time
from binascii import b2a_base64, crc32, hexlify
from hashlib import sha256
from io import BytesIO

import machine

_MOST = 12288
_SILENCE_MS = 60000
_in = sys.stdin.buffer
_poll = select.poll()
_poll.register(sys.stdin, select.POLLIN)
_buffer = bytearray(0)
_todo = iter(())
_open = 0
_target = None
_file = None
_left = 0
_bad = []
_told = 0


def _say(value):
    text = json.dumps(value)
    sys.stdout.write("@%s*%08x\n" % (text, crc32(text.encode())))


def _tell(at, of):
    # Progress, now and then: the host waits as long as something moves.
    global _told
    if time.ticks_diff(time.ticks_ms(), _told) > 700:
        _told = time.ticks_ms()
        _say({"at": at, "of": of})


def _calm():
    # A watchdog that the interrupted program has left armed would reset the board in the middle of the work.
    if sys.platform == "rp2":
        machine.mem32[(0x400D8000 if "RP2350" in sys.implementation._machine else 0x40058000) + 0x3000] = 1 << 30
    elif hasattr(machine, "WDT"):
        # It cannot be asked whether it runs; ten minutes are longer than any deploy.
        wdt = machine.WDT(timeout=600000)
        if hasattr(wdt, "deinit"):
            wdt.deinit()


def _receive():
    # The number of a request, its JSON object, and a view of the rest; None when it arrived damaged.
    global _buffer
    head = b""
    while not head.endswith(b"\n"):
        if not _poll.poll(_SILENCE_MS):
            do_reset(None, b"")
        head += _in.read(1)
        if head == b"\n":
            head = b""
        if len(head) > 40:
            return None
    try:
        seq, size, words, crc = head[1:].split()
        seq, size, words, crc = int(seq), int(size), int(words), int(crc, 16)
    except ValueError:
        return None
    if size > _MOST or words > size:
        return None
    if size > len(_buffer):
        _buffer = None
        gc.collect()
        _buffer = bytearray(size)
    data = _buffer
    view = memoryview(data)
    got = 0
    while got < size:
        if not _poll.poll(2000):
            return None
        got += _in.readinto(view[got:size])
    if crc32(view[:size]) != crc:
        return None
    # In place: a small heap has no room for another copy.
    at = to = data.find(b"\x1b", 0, size)
    while 0 <= at < size:
        data[to] = 3 if data[at + 1] == 67 else 27
        end = data.find(b"\x1b", at + 2, size)
        if end < 0:
            end = size
        view[to + 1 : to + end - at - 1] = view[at + 2 : end]
        to += end - at - 1
        at = end
    if to >= 0:
        size = to
    return seq, json.loads(bytes(view[:words])), view[words:size]


def _hash(path):
    digest = sha256()
    block = bytearray(512)
    view = memoryview(block)
    size = 0
    try:
        with open(path, "rb") as f:
            while True:
                n = f.readinto(block)
                if not n:
                    return size, str(hexlify(digest.digest()), "ascii")
                size += n
                digest.update(view[:n])
    except OSError:
        return -1, ""


def _same(path, size, digest):
    try:
        return os.stat(path)[6] == size and _hash(path)[1] == digest
    except OSError:
        return False


def _files(folder, name="manifest"):
    # [path, bytes, SHA-256] for each file that the manifest lists.
    try:
        with open(folder + "/" + name) as f:
            for line in f:
                words = line.split()
                if len(words) == 3 and len(words[0]) == 64:
                    yield words[2], int(words[1]), words[0]
    except (OSError, ValueError):
        return


def _walk(folder, base=""):
    # Path, relative to the folder, and bytes of each file below it.
    try:
        entries = list(os.ilistdir(folder + "/" + base if base else folder))
    except OSError:
        return
    for entry in entries:
        path = base + "/" + entry[0] if base else entry[0]
        if entry[1] == 0x4000:
            for inner in _walk(folder, path):
                yield inner
        else:
            yield path, entry[3]


def _fault(folder):
    # The first file that is not what the manifest says, or not in it; "" when the slot is whole.
    listed = 0
    for path, size, digest in _files(folder):
        _tell(listed, 0)
        listed += 1
        if not _same(folder + "/" + path, size, digest):
            return path
    if not listed:
        return "manifest"
    return "" if sum(1 for _ in _walk(folder)) == listed + 1 else "more than the manifest says"


def _read(path):
    try:
        with open(path) as f:
            return f.read(64)
    except OSError:
        return ""


def _remove(path):
    try:
        os.remove(path)
    except OSError:
        # It is gone already: an earlier deploy was cut here.
        pass


def _replace(path):
    try:
        os.rename(path + ".new", path)
    except OSError:
        # FAT does not rename over an existing file.
        os.remove(path)
        os.rename(path + ".new", path)


def _copied(source, target, size, digest):
    # Whether the target is now a file of that content; the source is hashed on the way, the target read back.
    try:
        if os.stat(source)[6] != size:
            return False
        f = open(source, "rb")
    except OSError:
        return False
    block = bytearray(1024)
    view = memoryview(block)
    told = sha256()
    _make_folder(target)
    with f, open(target, "wb") as g:
        while True:
            try:
                n = f.readinto(block)
            except OSError:
                return False
            if not n:
                break
            told.update(view[:n])
            g.write(view[:n])
    return str(hexlify(told.digest()), "ascii") == digest and _same(target, size, digest)


def _make_folder(path):
    parts = path.split("/")
    for i in range(2, len(parts)):
        try:
            os.mkdir("/".join(parts[:i]))
        except OSError:
            # It is there already; if not, opening the file says so.
            pass


def _lines(path):
    # The CRC-32 of each line of a file, four bytes each, the lowest first; in base64.
    known = b""
    try:
        with open(path, "rb") as f:
            known = b"".join([crc32(line).to_bytes(4, "little") for line in f])
    except OSError:
        pass
    return str(b2a_base64(known), "ascii").strip()


def do_about(a, body):
    stat = os.statvfs("/")
    pointer = _read("/slot")
    slots = {}
    config = None
    for name in "ba" if pointer[:1] == "b" else "ab":
        folder = "/slot_" + name
        manifest = folder + "/manifest"
        try:
            with open(manifest) as f:
                head = f.readline()
        except OSError:
            head = ""
        blocks = sum(-(-size // stat[0]) for _, size in _walk(folder))
        slots[name] = {"head": head.strip(), "sha": _hash(manifest)[1], "bytes": blocks * stat[0]}
        if name == pointer[-1:]:
            slots[name]["lines"] = _lines(manifest)
        for path, size, digest in _files(folder):
            if path == "config.json" and not config and _same(folder + "/" + path, size, digest):
                config = [size, digest]
    if not config and _hash("/config.json")[1]:
        config = _hash("/config.json")
    try:
        import deflate

        inflate = hasattr(deflate, "DeflateIO")
    except ImportError:
        inflate = False
    gc.collect()
    implementation = sys.implementation
    return {
        "version": list(implementation.version[:3]),
        "mpy": getattr(implementation, "_mpy", 0),
        "machine": getattr(implementation, "_machine", ""),
        "build": getattr(implementation, "_build", ""),
        "platform": sys.platform,
        "uid": str(hexlify(machine.unique_id()), "ascii"),
        "block": stat[0],
        "flash_free": stat[0] * stat[3] if 0 <= stat[3] <= stat[2] else 0,  # on a full littlefs it wraps
        "heap_free": gc.mem_free(),
        "inflate": inflate,
        "pointer": pointer,
        "note": _read("/slot.note"),
        "slots": slots,
        "config": config,
        "main": _hash("/main.py")[1],
    }


def _inflated(a, body):
    if not a.get("z"):
        return BytesIO(body)
    from deflate import RAW, DeflateIO

    return DeflateIO(BytesIO(body), RAW, 12)


def _line_up(stream, old, new):
    # The lines of the new manifest: as they come, "+N" for the next N of the old one, "-N" to pass over N of those.
    while True:
        line = stream.readline()
        if not line:
            break
        if line[:1] in b"+-":
            for _ in range(int(line[1:])):
                kept = old.readline()
                if line[:1] == b"+":
                    new.write(kept)
        else:
            new.write(line)


def _pending(folder, missing):
    # The files to come, one at a time, from the manifest: the list of them would take a third of a small heap.
    at = 0
    for path, size, digest in _files(folder, "manifest.new"):
        if at in missing:
            yield folder + "/" + path, size, digest
        at += 1


def do_diff(a, body):
    # Take the manifest, remove what it does not name, copy from elsewhere on the board what is there, list the rest.
    global _todo, _open, _target, _file, _bad
    slot = a["slot"]
    folder = "/slot_" + slot
    other = "/slot_b" if slot == "a" else "/slot_a"
    if _read("/slot")[-1:] == slot:
        raise ValueError("that is the proven slot")
    if _file:
        _file.close()
        _file = None
    _target = None
    _bad = []
    _make_folder(folder + "/x")
    _remove(folder + "/manifest")
    try:
        old = open(other + "/manifest", "rb")
    except OSError:
        old = BytesIO(b"")
    with old, open(folder + "/manifest.new", "wb") as f:
        _line_up(_inflated(a, body), old, f)
    wanted = {path for path, _, _ in _files(folder, "manifest.new")}
    wanted.add("manifest.new")
    removed = []
    for path, _ in _walk(folder):
        if path not in wanted:
            removed.append(path)
    for path in removed:
        os.remove(folder + "/" + path)
    missing = []
    copied = kept = at = 0
    for path, size, digest in _files(folder, "manifest.new"):
        _tell(at, len(wanted))
        target = folder + "/" + path
        if _same(target, size, digest):
            kept += 1
        else:
            if _copied(other + "/" + path, target, size, digest) or _copied("/" + path, target, size, digest):
                copied += 1
            else:
                missing.append(at)
        at += 1
    _open = len(missing)
    _todo = _pending(folder, missing)
    return {
        "miss": missing,
        "kept": kept,
        "copied": copied,
        "removed": removed,
        "sha": _hash(folder + "/manifest.new")[1],
    }


def do_data(a, body):
    # The next piece of all missing files laid end to end.
    global _target, _open, _file, _left
    stream = _inflated(a, body)
    block = bytearray(512)
    view = memoryview(block)
    done = 0
    while True:
        if not _file:
            _target = None
            for _target in _todo:
                break
            if not _target:
                break
            _make_folder(_target[0])
            _file = open(_target[0], "wb")
            _left = _target[1]
        n = stream.readinto(view[: min(_left, 512)]) if _left else 0
        if n:
            _file.write(view[:n])
            _left -= n
        if not _left:
            _file.close()
            _file = None
            if not _same(*_target):
                _bad.append(_target[0])
            done += 1
            _open -= 1
            _tell(done, 0)
        elif not n:
            break
    return {"done": done, "left": _open, "bad": _bad}


def do_seal(a, body):
    folder = "/slot_" + a["slot"]
    if _open or _bad or _hash(folder + "/manifest.new")[1] != a["sha"]:
        raise ValueError("the slot is not complete")
    _replace(folder + "/manifest")
    return {"sha": _hash(folder + "/manifest")[1]}


def do_check(a, body):
    return {"fault": _fault("/slot_" + a["slot"])}


def do_point(a, body):
    # main.py comes with the version, too; then the pointer.
    main = "/slot_" + a["text"][:1] + "/main.py"
    size, digest = _hash(main)
    if not _same("/main.py", size, digest):
        if not _copied(main, "/main.py.new", size, digest):
            raise ValueError("main.py is not what was written")
        _replace("/main.py")
    with open("/slot.new", "w") as f:
        f.write(a["text"])
    _replace("/slot")
    _remove("/slot.note")
    return {"pointer": _read("/slot")}


def do_tidy(a, body):
    # What a cut left behind, and the files of versions that knew no slots (they had a manifest.json).
    names = os.listdir("/")
    stale = [name for name in names if name.endswith(".new")]
    if "manifest.json" in names:
        flat = ("board.mpy", "board.py", "channels.jsonl", "config.json", "manifest.json")
        stale += [name for name in names if name in flat]
        for folder in ("sentill", "models"):
            stale += [folder + "/" + path for path, _ in _walk("/" + folder)]
    for path in stale:
        _tell(0, 0)
        _remove("/" + path)
    return {"removed": stale}


def do_reset(a, body):
    # A start interrupted before the node took its flag would make the next one stand aside, too.
    _remove("/maintenance")
    time.sleep_ms(50)  # what the last words need on the wire
    machine.reset()


def _serve(a, body):
    try:
        return globals()["do_" + a["op"]](a, body)
    except Exception as error:
        return {"err": repr(error)}


def _session():
    last = 0
    answer = do_about(None, b"")
    answer["re"] = 0
    _say(answer)
    while True:
        gc.collect()
        request = _receive()
        if request is None:
            while _poll.poll(100):
                _in.read(1)
            _say({"nack": 1})
            continue
        if request[0] != last:
            last = request[0]
            if request[1].get("op") == "reset":
                _say({"re": last})
            answer = _serve(request[1], request[2])
            answer["re"] = last
        _say(answer)


_calm()
_session()
