"""Started by main.py: picks the slot to run, and runs the node in it.

A slot is one file, `/slot_a.img`: an archive as host/sentill_host/bundle/archive.py describes it, which is mounted at
`/app`. The code of the proven slot decides which one runs (sentill.update.slots tells how), or the other's when that
one cannot: no single copy of anything but this file and main.py has to be whole. Nothing else is imported before, so
that no file beside the slots runs in its place.

What this file asks of the code in a slot must not change: the other slot may be older or newer than this.
"""

import sys

path = sys.path[:]  # where anything may be imported from, on a board that is not locked
frozen = False  # whether the firmware's own `_boot.py` has loaded this (device/frozen)
sys.path[:] = [".frozen"]

import gc  # noqa: E402
from hashlib import sha256  # noqa: E402
from io import BytesIO, IOBase, StringIO  # noqa: E402

import micropython  # noqa: E402
import vfs  # noqa: E402
from micropython import const  # noqa: E402

_APP = "/app"
_IMAGE = "/slot_%s.img"
_BASE = const(7)
_INDEX = const(12)
_DIGEST = const(32)
_FOLDER = const(4)
_BLOCK = const(4096)
_WINDOW = const(512)  # of the index at a time; a record is not longer than what two of them share
_OVERLAP = const(128)
_NOTHING = (0, 0, False)
_ENOENT = const(2)
_EROFS = const(30)
_ROM_SEGMENT = const(2)  # of vfs.rom_ioctl
_BUFFER_SIZE = const(11)  # of a stream's ioctl
_READ = const(255)  # the most that an import reads at a time
_WDT_MS = const(8000)
_ran = False


def _number(data, at):
    # Of three bytes.
    return (data[at] & 0x7F) << 14 | (data[at + 1] & 0x7F) << 7 | data[at + 2]


class _Archive:
    """A file system of the files in an archive, read-only. The archive stays open, and its index in flash. `open` gives
    .mpy files in place, of anything else the content."""

    def __init__(self, path: str):
        self._file = open(path, "rb")
        self._folders: dict = {}  # where the records of each folder's files are, and whether a source is among them
        self.held: dict = {}  # records of folders, while many files are looked for
        # Found last: an import asks for a file before it opens it.
        self._last = b""
        self._at = self._size = 0

    def _find(self, path):
        # Note where a file lies in the archive. In bytes: each new str is looked for among all names there are.
        path = path.encode()
        if path == self._last:
            return
        at = path.rfind(b"/") + 1
        first, end, source = self._folders.get(path[:at], _NOTHING)
        if not source and path.endswith(b".py"):
            end = first
        folder = path[:at]
        name = bytes((len(path) - at,)) + path[at:] + b"\x03\x06"
        while first < end:
            data = self.held.get(folder) or self._read(first, min(_WINDOW, end - first))
            at = data.find(name)
            if 0 <= at <= len(data) - len(name) - 6:
                at += len(name)
                self._size = _number(data, at)
                self._at = _number(data, at + 3) + _BASE
                self._last = path
                return
            if folder in self.held:
                break
            first += _WINDOW - _OVERLAP
        raise OSError(_ENOENT)

    def _read(self, at, size):
        self._file.seek(at)
        return self._file.read(size)

    def hold(self, folder: bytes) -> None:
        """Keep the records of a folder, such as b"/sentill/", in memory until `held` is cleared."""
        first, end, _ = self._folders.get(folder, _NOTHING)
        self.held[folder] = self._read(first, end - first)

    def mount(self, readonly, mkfs) -> None:
        """MicroPython's word that it begins; nothing is to be done."""

    def umount(self) -> None:
        """MicroPython's word that it ends."""
        self._file.close()

    def stat(self, path: str) -> tuple:
        """As os.stat. An import asks for a folder of that name first, then for a .py file, then for a .mpy file: what
        has no dot is no file."""
        if "." in path:
            self._find(path)
            return (0x8000, 0, 0, 0, 0, 0, self._size, 0, 0, 0)
        if path == "/" or path.encode() + b"/" in self._folders:
            return (0x4000, 0, 0, 0, 0, 0, 0, 0, 0, 0)
        raise OSError(_ENOENT)

    def ilistdir(self, path: str):
        """As os.ilistdir."""
        folder = path.rstrip("/").encode() + b"/"
        first, end, _ = self._folders[folder]
        for name in self._folders:
            if name != b"/" and name[: name.rfind(b"/", 0, -1) + 1] == folder:
                yield str(name[len(folder) : -1], "ascii"), 0x4000, 0, 0
        data = self._read(first, end - first)
        at = 0
        while at < len(data):
            name = at + 3
            at = name + data[at + 2]
            yield str(data[name:at], "ascii"), 0x8000, 0, _number(data, at + 2)
            at += 8

    def open(self, path: str, mode: str):
        """As open, for reading."""
        if mode not in ("r", "rb", "rt"):
            raise OSError(_EROFS)
        self._find(path)
        if path.endswith(".mpy"):
            return _Code(self._file, self._at, self._size)
        data = self._read(self._at, self._size)
        return BytesIO(data) if "b" in mode else StringIO(str(data, "utf-8"))


class _Code(IOBase):
    """A part of an open file as a file: nothing behind its end can be read."""

    def __init__(self, file, at: int, size: int):
        self._file = file
        self._at = at
        self._left = size

    def span(self) -> tuple:
        """The file of the archive, where this part of it goes on, and how many bytes are left of it."""
        return self._file, self._at, self._left

    def readinto(self, buffer) -> int:
        """Fill `buffer` with what comes next; the number of bytes."""
        self._file.seek(self._at)
        n = self._file.readinto(buffer, self._left)
        self._at += n
        self._left -= n
        return n

    def read(self, n: int = -1) -> bytes:
        """Up to `n` bytes, all that is left when it is negative."""
        data = bytearray(self._left if n < 0 or n > self._left else n)
        self.readinto(data)
        return bytes(data)

    def ioctl(self, request: int, argument: int) -> int:
        """What an import asks of a file: how much of it to read at a time."""
        return _READ if request == _BUFFER_SIZE else 0

    def close(self, *error) -> None:
        """Nothing is to be done: the archive stays open."""

    def __enter__(self):
        return self

    __exit__ = close


def _walk(folders, data, folder, at, end):
    # Fill the `folders` of an archive by its beginning, `data`: this one, then those in it.
    first = at
    while at < end:
        start = at
        size = data[at + 1] & 0x7F
        while data[at + 1] & 0x80:
            at += 1
            size = size << 7 | data[at + 1] & 0x7F
        at += 2
        if data[start] == _FOLDER:
            if folder not in folders:
                folders[folder] = (first, start, data.find(b".py\x03\x06", first, start) >= 0)
            name = at + 1 + data[at]
            _walk(folders, data, folder + data[at + 1 : name] + b"/", name, at + size)
        at += size
    if folder not in folders:
        folders[folder] = (first, end, data.find(b".py\x03\x06", first, end) >= 0)


class _Slots:
    """The slots of the board: what they hold, and which is mounted. Each is hashed once at most.

    Firmware with ROMFS runs code where it lies in flash. Where that memory holds the same archive as a slot, it is
    hashed and mounted in place of the file.
    """

    def __init__(self):
        self._known: dict = {}
        self._rom = vfs.rom_ioctl(_ROM_SEGMENT, 0) if hasattr(vfs, "rom_ioctl") else None
        if isinstance(self._rom, int):  # an error's number
            self._rom = None
        self.archive = None  # that is mounted, where it is not in ROM
        self._in_rom = ""  # the slot whose archive that is

    def _digest(self, slot: str) -> bytes:
        """The SHA-256 of the archive in `slot`; b"" where there is none, or it does not end with this."""
        if slot not in self._known:
            try:
                self._known[slot] = self._hash_rom(slot) or _hash(_IMAGE % slot)
            except OSError:
                self._known[slot] = b""
        return self._known[slot]

    def _hash_rom(self, slot):
        if self._rom:
            rom = memoryview(self._rom)
            with open(_IMAGE % slot, "rb") as file:
                end = file.seek(-_DIGEST, 2)
                last = file.read(_DIGEST)
            if rom[end : end + _DIGEST] == last and sha256(rom[:end]).digest() == last:
                self._in_rom = slot
                return last
        return b""

    def _mount(self, slot: str) -> None:
        """Let the code in `slot` be imported."""
        if slot == self._in_rom:
            archive = vfs.VfsRom(self._rom)
        else:
            archive = _Archive(_IMAGE % slot)
            end = _number(archive._file.read(_INDEX), 9)
            _walk(archive._folders, archive._read(0, end), b"/", _INDEX, end)
            for folder in archive._folders:
                if folder.startswith(b"/sentill/"):
                    archive.hold(folder)
            self.archive = archive
        vfs.mount(archive, _APP)
        sys.path.insert(0, _APP)

    def _umount(self) -> None:
        """Forget all code that came from the slot that is mounted."""
        if _APP in sys.path:
            sys.path.remove(_APP)
            vfs.umount(_APP)
        for module in [name for name in sys.modules if name == "board" or name.startswith("sentill.")]:
            del sys.modules[module]
        sys.modules.pop("sentill", None)

    def _pick(self) -> tuple:
        """Mount the slot to run: its letter, whether it is on trial, whether there are keys, and its HAL or None."""
        names = "ab"
        try:
            with open("/slot", "rb") as file:
                names = "ba" if file.read(16).strip()[-1:] == b"b" else "ab"
        except OSError:
            pass
        refusal = None
        for name in names:
            if not self._digest(name):
                continue
            try:
                self._mount(name)
                import board

                from sentill import hal
                from sentill.compat import borrow

                hardware = hal.make(board)
                verifier = borrow("update", "verifier").verifier(hardware)
                slot, trial = borrow("update", "slots").pick("/", verifier, self._digest)
                if slot != name:
                    self._umount()
                    self._mount(slot)
                    hardware = None
                return slot, trial, verifier is not None, hardware
            except Exception as error:
                sys.print_exception(error)
                refusal = refusal if isinstance(error, ImportError) else error
                self._umount()
        if refusal:
            raise refusal  # what lies beside the slots is no version
        return "", False, False, None


def _hash(path):
    digest = sha256()
    block = memoryview(bytearray(_BLOCK))
    with open(path, "rb") as file:
        left = file.seek(0, 2) - _DIGEST
        file.seek(0)
        while left > 0:
            n = file.readinto(block, left)
            if not n:
                break
            digest.update(block[:n])
            left -= n
        found = digest.digest()
        return found if file.read(_DIGEST) == found else b""


def locked() -> bool:
    """Whether the board was given keys and a profile that shuts the REPL (sentill.keys.renewal.FILE)."""
    try:
        with open("/recovery.bin", "rb") as file:
            return file.read(4)[3] > 0
    except (OSError, IndexError):
        return False


def run() -> None:
    """Run the node until it leaves the prompt to a person. On a locked board, or on trial, errors end in a reset.

    Once per start: where the firmware's own `_boot.py` has done so, nothing is left for main.py.
    """
    global _Slots, _walk, _hash, _ran
    if _ran:
        return
    _ran = True
    trial = False
    try:
        # Collecting during the start keeps what stays together: else the rest of a small heap ends in small pieces.
        gc.threshold(32768)
        slots = _Slots()
        slot, trial, keys, hardware = slots._pick()
        if keys or locked():
            if not slot:
                raise OSError(_ENOENT, "no slot, and only what is in one may run here")
        elif slot:
            sys.path.extend(path)
        else:
            sys.path[:] = path
        del _Slots, _walk, _hash  # nobody picks twice
        gc.collect()
        if trial:
            from machine import WDT

            WDT(timeout=_WDT_MS)  # ends a boot that hangs before the node arms its own
        import board

        from sentill import hal
        from sentill.node import node

        hardware = hardware or hal.make(board)
        if trial:
            hardware.wdt_start(_WDT_MS)
        if slots.archive:
            if hardware.in_place:  # here, where none of the functions runs
                from sentill.compat import borrow

                borrow(hardware.in_place).settle(sys.modules)
            slots.archive.held.clear()
        del slots
        gc.collect()
        began = False
        while True:
            try:
                if not began:
                    began = True
                    node.start(hardware)
                micropython.kbd_intr(-1)
                for _ in range(4):
                    pass  # an interrupt under way is raised here at the latest
                return
            except KeyboardInterrupt:
                # Of somebody whom the node has let in, and who may press twice. At the prompt it is the prompt's.
                micropython.kbd_intr(-1)
    except BaseException as error:
        sys.print_exception(error)
        if trial:
            try:
                with open("/slot.note", "w") as file:
                    file.write(repr(error)[:100])
            except OSError:
                pass  # it need not be known
        if trial or locked():
            from time import sleep_ms

            from machine import reset

            sleep_ms(300)  # what the last words need on the wire
            reset()
