"""Functions that run in place: their bytecode leaves the heap, where flash is mapped into memory as on an RP2040.

MicroPython copies bytecode out of files into the heap; only firmware with ROMFS runs it where it lies. But it is the
same bytes in both places, and it does not care where it is: names and constants are found through tables of its module.
So the pointer to it in a function's object is set to where the archive of the slot holds it, and the collector takes
the copy. An archive that runs is never written to.

Nothing is taken on trust. An object is touched only if its first word is the type of a function, and its fourth one
(py/objfun.h: base, context, child table, bytecode) points into RAM, at bytes that equal those in flash, all of them, as
many as the number before them there says (py/persistentcode.c). Where firmware keeps objects in another way nothing
matches, and everything stays as it is. A function over the end of a flash block, whose bytes do not lie together, stays
in the heap, and so do functions within functions, and native code, which is faster there.
"""

import machine
import micropython
import rp2
import uctypes

from sentill.compat import const

_FLASH = const(0x10000000)
_RAM = const(0x20000000)
_RAM_END = const(0x20084000)  # of the larger chip; a pointer beyond is none
_BLOCK = const(4096)
_COUNT = const(4)  # blocks of rp2.Flash: its ioctl
_PROBE = const(32)
_MB = const(0x100000)
_CONTEXT = const(4)  # where a function's object points to its module,
_CODE = const(12)  # and to its bytecode
_FIRST_WORD = const(8)  # of an open file, where littlefs may keep its size
_LAST_WORD = const(160)


def _generator():
    yield


class Places:
    """Where the bytes of an open littlefs file lie in memory.

    Its own blocks it must be: what is left of a file that was removed may read the same, until something else is
    written there. So the way is littlefs's own, from the last block back: block n > 0 of a file begins with the number
    of the one before it, and one more for each time that n can be halved ("CTZ skip-lists").
    """

    def __init__(self, file):
        device = rp2.Flash()
        count = device.ioctl(_COUNT, 0)
        start = _find_start(device, count * _BLOCK)
        size = file.seek(0, 2)
        self._ends = [0]  # of the file's blocks so far: the offset in the file of what is behind the next one
        while self._ends[-1] < size:
            self._ends.append(self._ends[-1] + _BLOCK - _head(len(self._ends) - 1))
        number = len(self._ends) - 1
        # Where in memory offset 0 of the file would be for each block, 0 where that is not known.
        self._bases = [0] * number
        place = _last(file, size)
        while number and start and 0 <= place < count:
            number -= 1
            address = start + place * _BLOCK
            self._bases[number] = address + _head(number) - self._ends[number]
            place = machine.mem32[address]
        seen = bytearray(_PROBE)
        file.seek(0)
        file.readinto(seen)
        if number or uctypes.bytearray_at(self._bases[0], _PROBE) != seen:
            self._bases = [0] * len(self._bases)

    def areas(self, at: int, size: int) -> list:
        """The part of the file from `at` on, `size` bytes, cut at the ends of blocks: addresses and sizes in turn."""
        found: list = []
        end = at + size
        number = at // _BLOCK
        while at < end and number < len(self._bases):
            until = self._ends[number + 1]
            if at < until:
                if until > end:
                    until = end
                if self._bases[number]:
                    found.append(self._bases[number] + at)
                    found.append(until - at)
                at = until
            number += 1
        return found


def _head(number):
    # How many bytes that are not the file's its block begins with.
    size = 4 if number else 0
    while number and not number & 1:
        number >>= 1
        size += 4
    return size


def _last(file, size):
    # The last block of an open file: in its object (extmod/vfs_lfsx_file.c, lfs2_file_t) the number is before the size.
    at = id(file)
    for at in range(at + _FIRST_WORD, at + _LAST_WORD, 4):
        if machine.mem32[at] == size:
            return machine.mem32[at - 4]
    return -1


def _find_start(device, size):
    # The file system is at the end of the flash, whose size firmware does not tell.
    seen = bytearray(_PROBE)
    device.readblocks(0, seen, 0)
    for megabytes in (2, 4, 8, 16, 1):
        start = _FLASH + megabytes * _MB - size
        if uctypes.bytearray_at(start, _PROBE) == seen:
            return start
    return 0


def settle(modules) -> int:
    """Let the functions of those of the `modules` (name -> module) that came out of the archive run in place.

    How many bytes of bytecode that are. None of these functions may be running, and no generator of them be half done:
    their code would be taken from under their feet.
    """
    total = 0
    places = None
    kinds = (type(_generator), type(settle))
    for name in list(modules):
        if not name.startswith("sentill.") or name == __name__:
            continue
        try:
            file, at, size = open("/app/" + name.replace(".", "/") + ".mpy").span()
        except (OSError, AttributeError):
            continue  # a package, or not from an archive that lies in a file
        found: list = []
        _gather(modules[name].__dict__, kinds, id(modules[name]), found)
        if found:
            found.sort()  # as they were loaded, which is as they lie in the file
            places = places or Places(file)
            total += _settle(found, places.areas(at, size))
    return total


def _gather(members, kinds, context, found):
    # Where in RAM the bytecode of this module's functions is, and their objects.
    memory = machine.mem32
    for value in members.values():
        kind = type(value)
        if kind in kinds:
            value = id(value)
            if memory[value + _CONTEXT] == context and _RAM <= memory[value + _CODE] < _RAM_END:
                found.append((memory[value + _CODE], value))
        elif kind is type:
            _gather(value.__dict__, kinds, context, found)
        elif kind is property:
            for at in (4, 8, 12):
                at = memory[id(value) + at]
                if _RAM <= at < _RAM_END and memory[at] in (id(kinds[0]), id(kinds[1])):
                    if memory[at + _CONTEXT] == context and _RAM <= memory[at + _CODE] < _RAM_END:
                        found.append((memory[at + _CODE], at))


def _settle(found, areas):
    # One function is behind the other as a rule, so the search goes on from there.
    total = size = last = 0
    for source, address in found:
        for start in (last, 0):
            for i in range(0, len(areas), 2):
                first = areas[i]
                end = first + areas[i + 1]
                if start < end and not size:
                    at = _find(start if start > first else first, end, source, first)
                    if at:
                        size = _size(at, first)
                        machine.mem32[address + _CODE] = at
                        last = at + size
            if size:
                break
        total += size
        size = 0
    return total


@micropython.viper
def _find(at: int, end: int, source: int, first: int) -> int:
    # Where from `at` on the bytecode that is at `source` is, all of it before `end`; 0 when it is not.
    code = ptr8(source)
    c = code[0]
    d = code[1]
    while at < end:
        if ptr8(at)[0] == c and ptr8(at)[1] == d and at > first:
            size = int(_size(at, first))
            if size > 1 and at + size <= end:
                n = 2
                while n < size and ptr8(at)[n] == code[n]:
                    n += 1
                if n == size:
                    return at
        at += 1
    return 0


@micropython.viper
def _size(at: int, first: int) -> int:
    # The number in front of it: seven bits a byte, the highest first; all bytes but the last have the top bit, which
    # the opcode at the end of the function before has not. Its lower two bits tell what this is: 0 for bytecode.
    at -= 1
    size = ptr8(at)[0]
    if size & 128:
        return 0
    shift = 7
    while at > first and ptr8(at - 1)[0] & 128 and shift < 21:
        at -= 1
        size |= (ptr8(at)[0] & 127) << shift
        shift += 7
    return 0 if size & 3 else size >> 3
