"""The format of .mpy files, as far as their names go, and where the code of their functions lies."""

from collections.abc import Iterator

from sentill_host.errors import VerifyError

_BYTECODE = 0
_NATIVE, _VIPER, _ASM = 1, 2, 3
_STR, _BYTES, _TUPLE = 5, 6, 10
_PLAIN = 4  # objects up to here have no length
_RODATA, _BSS, _RELOCATED = 0x20, 0x40, 0x10


def functions(code: bytes) -> Iterator[tuple[int, int]]:
    """Place and length of the bytecode of every function in a .mpy file but the outermost, which an import runs once.

    Functions in native code are left out. Raises VerifyError for what is no such file.
    """
    try:
        yield from _Reader(code).functions()
    except IndexError:
        raise VerifyError("a .mpy file that is damaged") from None


def names(code: bytes) -> Iterator[str]:
    """The names in a .mpy file, but for the few that are numbered the same in all firmware."""
    try:
        yield from (name.decode() for name in _Reader(code).names)
    except (IndexError, UnicodeDecodeError):
        raise VerifyError("a .mpy file that is damaged") from None


class _Reader:
    def __init__(self, code: bytes):
        self._code = code
        self._at = 4
        if self._code[2] & 0x40:
            self._number()  # of what the processor can do
        number, self._objects = self._number(), self._number()
        self.names = []
        for _ in range(number):
            length = self._number()
            if not length & 1:  # else it is one of the few
                self.names.append(code[self._at : self._at + (length >> 1)])
                self._at += (length >> 1) + 1

    def functions(self) -> Iterator[tuple[int, int]]:
        for _ in range(self._objects):
            self._object()
        found = list(self._raw_code())
        yield from found[1:]

    def _number(self) -> int:
        value = 0
        while True:
            digit = self._code[self._at]
            self._at += 1
            value = value << 7 | digit & 0x7F
            if digit < 0x80:
                return value

    def _object(self) -> None:
        kind = self._code[self._at]
        self._at += 1
        if kind <= _PLAIN:
            return
        length = self._number()
        if kind == _TUPLE:
            for _ in range(length):
                self._object()
        else:
            self._at += length + (kind in (_STR, _BYTES))

    def _raw_code(self) -> Iterator[tuple[int, int]]:
        word = self._number()
        kind, length = word & 3, word >> 3
        if kind == _BYTECODE:
            yield self._at, length
        self._at += length
        flags = 0
        if kind in (_VIPER, _ASM):
            flags = self._number()
        elif kind == _NATIVE:
            self._number()
        if kind == _ASM:
            self._number()
            self._number()
        if flags & (_RODATA | _BSS | _RELOCATED):
            raise VerifyError("native code that is linked")
        if word & 4:
            for _ in range(self._number()):
                yield from self._raw_code()
        if self._at > len(self._code):
            raise IndexError
