"""Runs on the board for the length of a deploy: answers requests on stdin, and resets the board when the host is gone.

A request is `=SEQ BYTES JSON-BYTES CRC-32` on a line, then that many bytes: a JSON object with `op`, then what the
operation works on. The bytes 0x03 (it would interrupt) and 0x1b travel as 0x1b "C" and 0x1b "E"; BYTES and the checksum
are of what travels, JSON-BYTES of what is meant. An answer is a line
`@JSON*CRC-32` with `re`, the request it answers; `nack` asks for the request once more, `at` tells progress. A request
that comes twice is carried out once.

An archive is made for the slot that is not the proven one, of what comes and of what the proven one has. What that slot
held is removed first; the new one gets its name when it was read back whole.
"""

import gc
import json
import os
import select
import struct
import sys
import time
from binascii import b2a_base64, crc32, hexlify
from hashlib import sha256
from io import BytesIO

import machine

_MOST = 12288
_SILENCE_MS = 40000
_SLICE_MS = 2000
_BITE_MS = 8000
_in = sys.stdin.buffer
_poll = select.poll()
_poll.register(sys.stdin, select.POLLIN)
_buffer = bytearray(0)
_todo = iter(())
_new = None
_old = None
_left = 0
_slot = ""
_told = 0
_heard = time.ticks_ms()
_wdt = None


def _say(value):
    text = json.dumps(value)
    sys.stdout.write("@%s*%08x\n" % (text, crc32(text.encode())))


def _tell(at, of):
    # Progress, now and then: the host waits as long as something moves.
    global _told
    _feed()
    if time.ticks_diff(time.ticks_ms(), _told) > 700:
        _told = time.ticks_ms()
        _say({"at": at, "of": of})


def _watch():
    # From here on the board resets unless this is at work; then what has kept it until now, see deploy/prompt.py, may
    # end.
    global _wdt
    if hasattr(machine, "WDT"):
        _wdt = machine.WDT(timeout=_BITE_MS)
    for timer in sys.modules.pop("hold", ()):
        timer.deinit()


def _mind():
    _feed()
    if time.ticks_diff(time.ticks_ms(), _heard) > _SILENCE_MS:
        do_reset(None, b"")


def _feed():
    if _wdt:
        _wdt.feed()


def _receive():
    # Waits as long as the host has not been silent for too long; what others say does not count. The number of a
    # request, its JSON object, and a view of the rest; None when it arrived damaged.
    global _buffer
    head = b""
    while not head.endswith(b"\n"):
        while not _poll.poll(_SLICE_MS):
            _mind()
        _mind()
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
        _feed()
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
    block = memoryview(bytearray(1024))
    size = 0
    try:
        with open(path, "rb") as f:
            while True:
                n = f.readinto(block)
                if not n:
                    return size, str(hexlify(digest.digest()), "ascii")
                _feed()
                size += n
                digest.update(block[:n])
    except OSError:
        return -1, ""


def _number(data, at):
    # Of three bytes, as an archive writes it.
    return (data[at] & 127) << 14 | (data[at + 1] & 127) << 7 | data[at + 2]


def _image(slot):
    return "/slot_%s.img" % slot


def _end(path):
    # The SHA-256 that the archive ends with, whether it is true or not; "" when there is none.
    try:
        with open(path, "rb") as f:
            f.seek(-32, 2)
            return str(hexlify(f.read(32)), "ascii")
    except OSError:
        return ""


def _head(path):
    # The first line of an archive; "" for what is none.
    try:
        with open(path, "rb") as f:
            data = f.read(12)
            if data[:3] == b"\xd2\xcd\x31" and len(data) == 12:
                f.seek(_number(data, 9) + 5)
                line = f.readline(200)
                if line.startswith(b"sentill 2 "):
                    return str(line, "ascii").strip()
    except (OSError, UnicodeError):
        pass
    return ""


def _parts(path):
    # Name without folders, place and size of each file of an archive.
    try:
        with open(path, "rb") as f:
            data = f.read(12)
            end = _number(data, 9) - 12
            data = f.read(min(end, 8192)) if data[:3] == b"\xd2\xcd\x31" else b""
    except (OSError, IndexError):
        return
    at = 0
    try:
        while at < len(data):
            kind = data[at]
            while data[at + 1] & 128:
                at += 1
            name = at + 3
            at = name + data[at + 2]
            if kind == 5:
                yield str(data[name:at], "ascii"), _number(data, at + 5) + 7, _number(data, at + 2)
                at += 8
    except (IndexError, ValueError):
        # It is damaged.
        return


def _part(path, name):
    # Place and size of the first file of that name.
    for found, at, size in _parts(path):
        if found == name:
            return at, size
    return 0, 0


def _pieces(f, at, size):
    # Views of a part of a file, one after the other.
    block = memoryview(bytearray(1024))
    f.seek(at)
    while size > 0:
        n = f.readinto(block, size)
        if not n:
            break
        size -= n
        _feed()
        yield block[:n]


def _whole(path):
    # The SHA-256 of an archive, in hex, when it ends with it; "" else.
    digest = sha256()
    try:
        with open(path, "rb") as f:
            size = f.seek(0, 2) - 32
            done = 0
            for piece in _pieces(f, 0, size):
                digest.update(piece)
                done += len(piece)
                _tell(done, size)
            told = digest.digest()
            return str(hexlify(told), "ascii") if f.read(32) == told else ""
    except OSError:
        return ""


def _walk(folder, base=""):
    # Path, relative to the folder, and bytes of each file below it, then the folders.
    try:
        entries = list(os.ilistdir(folder + "/" + base if base else folder))
    except (OSError, AttributeError):
        # The agent's own place lists nothing.
        return
    for entry in entries:
        path = base + "/" + entry[0] if base else entry[0]
        if entry[1] == 0x4000:
            for inner in _walk(folder, path):
                yield inner
            yield path, 0
        else:
            yield path, entry[3]


def _read(path, most=64):
    try:
        with open(path) as f:
            return f.read(most)
    except (OSError, UnicodeError):
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


def _clear(folder):
    # Remove a folder with all that is in it: a slot of older versions was one. What was removed.
    gone = [folder + "/" + path for path, _ in _walk(folder)]
    if gone:
        gone.append(folder)
    for path in gone:
        _tell(0, 0)
        try:
            os.remove(path)
        except OSError:
            os.rmdir(path)
    return gone


def _config(proven):
    # The configuration of the proven version, base64, "" when there is none.
    image = _image(proven)
    at, size = _part(image, "config.json")
    path = image if at else "/slot_%s/config.json" % proven
    try:
        with open(path, "rb") as f:
            f.seek(at)
            return str(b2a_base64(f.read(size if at else 8193)), "ascii").strip()
    except OSError:
        return ""


def _root(slot):
    # Of the files that a version has for the root, those that are not there as it has them: name, place and size. A
    # place of 0 says that there must be none.
    image = _image(slot)
    for name in ("sentill_start.mpy", "sentill_start.py", "main.py"):
        at, size = _part(image, name)
        if not at:
            if name in os.listdir("/"):
                yield name, 0, 0
        else:
            digest = sha256()
            with open(image, "rb") as f:
                for piece in _pieces(f, at, size):
                    digest.update(piece)
            if _hash("/" + name) != (size, str(hexlify(digest.digest()), "ascii")):
                yield name, at, size


def _says(path):
    # Whether a file holds more than comments, as the boot.py that some firmware comes with does not.
    if path.endswith(".mpy"):
        return True
    try:
        with open(path, "rb") as f:
            lines = f.read(1025)
    except OSError:
        return True
    lines = lines.replace(b"\r", b"\n").split(b"\n") if len(lines) < 1025 else [b"x"]
    return any([line.strip() and not line.strip().startswith(b"#") for line in lines])


def _foreign():
    # Code that is not the node's (sentill.node.foreign_code), without what older versions had, which do_tidy removes.
    names = os.listdir("/")
    own = ("main.py", "sentill_start.mpy" if "sentill_start.mpy" in names else "sentill_start.py")
    stale = ("slot_a", "slot_b", "agent", "rom")  # the last two are where this file and ROMFS may be mounted
    if "manifest.json" in names and not any([_image(slot)[1:] in names for slot in "ab"]):
        stale += ("sentill", "models", "board.mpy", "board.py")
    found = []
    for path, _ in _walk(""):
        code = path[path.rfind(".") :].lower() in (".py", ".mpy")
        if code and path not in own and path.split("/")[0] not in stale and _says("/" + path):
            found.append("/" + path)
            if len(found) == 40:
                break
    return found


def do_remove(a, body):
    # Files, and the folders that are empty then.
    removed = []
    for path in a["paths"]:
        _tell(0, 0)
        try:
            os.remove(path)
        except OSError:
            removed += _clear(path)
        removed.append(path)
        while path.rfind("/") > 0:
            path = path[: path.rfind("/")]
            if os.listdir(path):
                break
            os.rmdir(path)
    return {"removed": removed}


def do_about(a, body):
    stat = os.statvfs("/")
    pointer = _read("/slot").strip()
    proven = pointer[-1:] if pointer[-1:] in ("a", "b") else "a"
    slots = {}
    names = os.listdir("/")
    for name in "ab":
        image = _image(name)
        blocks = sum(-(-size // stat[0]) for _, size in _walk("/slot_" + name))
        for path in (image, image + ".new"):
            blocks += -(-os.stat(path)[6] // stat[0]) if path[1:] in names else 0
        slots[name] = {
            "head": _head(image),
            "sha": _end(image),
            "sig": _read("/slot_%s.sig" % name, 400),
            "bytes": blocks * stat[0],
        }
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
        "config": _config(proven),
        "foreign": _foreign(),
    }


def _inflated(a, body):
    if not a.get("z"):
        return BytesIO(body)
    from deflate import RAW, DeflateIO

    return DeflateIO(BytesIO(body), RAW, 12)


def do_stay(a, body):
    # The host has something else to do, and is there.
    return {}


def do_parts(a, body):
    # For each file of a slot the beginning of its SHA-256, its place and its size; in base64.
    image = _image(a["slot"])
    told = b""
    try:
        with open(image, "rb") as f:
            for _, at, size in _parts(image):
                digest = sha256()
                for piece in _pieces(f, at, size):
                    digest.update(piece)
                told += struct.pack("<8sII", digest.digest()[:8], at, size)
                _tell(at, 0)
    except OSError:
        pass
    return {"parts": str(b2a_base64(told), "ascii").strip()}


def _close():
    global _new, _old
    for f in (_new, _old):
        if f:
            f.close()
    _new = _old = None


def _advance():
    # Carry out the steps of the plan up to the next that needs what is sent.
    global _left
    while not _left:
        step = next(_todo, None)
        if step is None:
            break
        if step[0]:
            for piece in _pieces(_old, *step):
                _new.write(piece)
                _tell(step[0], 0)
        else:
            _left = step[1]


def do_build(a, body):
    # Begin an archive: its plan are place and size of what is copied from the other slot, or 0 and what is to be sent.
    global _todo, _new, _old, _left, _slot
    slot = a["slot"]
    if _read("/slot").strip()[-1:] == slot:
        raise ValueError("that is the proven slot")
    _close()
    image = _image(slot)
    _remove(image)
    _remove("/slot_%s.sig" % slot)
    removed = _clear("/slot_" + slot)
    plan = _inflated(a, body).read()
    _todo = iter([struct.unpack_from("<II", plan, i) for i in range(0, len(plan), 8)])
    _left = 0
    _slot = slot
    try:
        _old = open(_image("b" if slot == "a" else "a"), "rb")
    except OSError:
        _old = None
    _new = open(image + ".new", "wb")
    _advance()
    return {"left": _left, "removed": removed}


def do_data(a, body):
    # The next of what is to be sent.
    global _left
    stream = _inflated(a, body)
    block = memoryview(bytearray(1024))
    while _left:
        n = stream.readinto(block[: min(_left, 1024)])
        if not n:
            break
        _new.write(block[:n])
        _left -= n
        _tell(_left, 0)
        _advance()
    return {"left": _left}


def do_seal(a, body):
    # Give the archive its name when what is read back of it is what was meant; then its signature.
    if not _new or _left:
        raise ValueError("the archive is not complete")
    _close()
    image = _image(_slot)
    found = _whole(image + ".new")
    if found == a["sha"]:
        if a["sig"]:
            seal = "/slot_%s.sig" % _slot
            with open(seal + ".new", "w") as f:
                f.write(a["sig"])
            _replace(seal)
        _replace(image)
    return {"sha": found}


def do_check(a, body):
    # What is wrong with a slot, and with what it has for the root; "" when nothing is.
    image = _image(a["slot"])
    if not _whole(image):
        return {"fault": "the archive is damaged"}
    for name, _, _ in _root(a["slot"]):
        return {"fault": "/" + name + " is another"}
    return {"fault": ""}


def _put_in_rom(path):
    # Firmware with ROMFS runs code in place: it gets a copy. Cut short it does not end with its SHA-256, and the start
    # takes the file.
    import vfs

    rom = vfs.rom_ioctl(2, 0) if hasattr(vfs, "rom_ioctl") else -1
    if isinstance(rom, int):
        return
    view = memoryview(rom)
    size = os.stat(path)[6]
    if size > len(view) or hexlify(view[size - 32 : size]) == _end(path).encode():
        return
    blocks = hasattr(rom, "ioctl")
    step = rom.ioctl(5, 0) if blocks else 4096
    _feed()
    least = 1 if blocks else vfs.rom_ioctl(3, 0, size)
    if least < 0:
        return
    piece = memoryview(bytearray(step))
    with open(path, "rb") as f:
        for at in range(0, size, step):
            n = f.readinto(piece)
            if blocks:
                rom.writeblocks(at // step, piece)
            else:
                vfs.rom_ioctl(4, 0, at, piece[: -(-n // least) * least])
            _tell(at, size)
    if not blocks:
        vfs.rom_ioctl(5, 0)


def do_point(a, body):
    # What a version has for the root comes with it, and a copy of it in ROM where there is some; then the pointer.
    slot = a["text"][:1]
    try:
        _put_in_rom(_image(slot))
    except OSError:
        # It can do without.
        pass
    for name, at, size in _root(slot):
        path = "/" + name
        if not at:
            os.remove(path)
            continue
        with open(_image(slot), "rb") as f, open(path + ".new", "wb") as g:
            for piece in _pieces(f, at, size):
                g.write(piece)
        with open(_image(slot), "rb") as f, open(path + ".new", "rb") as g:
            for piece in _pieces(f, at, size):
                if g.read(len(piece)) != piece:
                    raise ValueError(path + " is not what was written")
        _replace(path)
    with open("/slot.new", "w") as f:
        f.write(a["text"])
    _replace("/slot")
    _remove("/slot.note")
    return {"pointer": _read("/slot")}


def do_tidy(a, body):
    # What a cut left behind, and what older versions had: folders for slots, before that no slots at all.
    names = os.listdir("/")
    stale = ["/" + name for name in names if name.endswith(".new")]
    if "manifest.json" in names:
        flat = ("board.mpy", "board.py", "channels.jsonl", "config.json", "manifest.json")
        stale += ["/" + name for name in names if name in flat]
    for path in stale:
        _tell(0, 0)
        _remove(path)
    for name in ("slot_a", "slot_b") + (("sentill", "models") if "manifest.json" in names else ()):
        if name in names:
            stale += _clear("/" + name)
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
    global _heard
    last = 0
    answer = do_about(None, b"")
    answer["re"] = 0
    _say(answer)
    _heard = time.ticks_ms()
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
        _heard = time.ticks_ms()
        _say(answer)


_watch()
_session()
