"""Integers that refuse to leave the small integers of a 32-bit board, ±2^30: computing with them finds what would."""

LIMIT = 1 << 30


class Counted(int):
    """An int that refuses to leave the small integers of a 32-bit board."""

    def _checked(value):
        if value is NotImplemented:
            return value
        assert -LIMIT <= int(value) < LIMIT, f"intermediate {int(value)} needs the heap on a 32-bit board"
        return Counted(value)


def _wrap(name):
    plain = getattr(int, name)
    return lambda self, *args: Counted._checked(plain(self, *args))


for _name in (
    "add", "radd", "sub", "rsub", "mul", "rmul", "floordiv", "rfloordiv", "mod", "rmod", "lshift", "rlshift", "rshift",
    "rrshift", "and", "rand", "or", "ror", "xor", "rxor", "neg", "abs", "invert",
):  # fmt: skip
    setattr(Counted, f"__{_name}__", _wrap(f"__{_name}__"))
