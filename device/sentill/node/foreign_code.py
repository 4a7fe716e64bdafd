"""Code on the flash that is not the node's. Borrowed once per start of a board with keys, and before it gets keys.

MicroPython runs /boot.py before main.py, and imports from the root and /lib. On a board with keys only what is in the
slot, the start code and what is frozen may run: code anywhere else was planted, or waits for somebody to run it.
"""

import os

from sentill.compat import const
from sentill.errors import SentillError
from sentill.journal import chain

_START = ("main.py", "sentill_start.mpy")
_PLAIN = "sentill_start.py"  # in place of the .mpy, where the firmware loads none; beside it, it would run instead
_OURS = ("journal", "app", "rom")  # folders: blocks of the journal, the slot that runs, its copy in ROMFS
_MOST = const(8)
_DEEPEST = const(4)
_FOLDER = const(0x4000)
_LONGEST = const(1024)  # of a file that may be all comments, as the boot.py is that some firmware comes with


def look(root: str) -> list:
    """Paths of foreign code in the folder `root` (with its slash) and those below it; 8 at most. Raises OSError."""
    found: list = []
    _look(root, found, 0)
    return found


def refuse(node) -> None:
    """Raise SentillError when there is foreign code."""
    found = look(node.hal.root)
    if found:
        raise SentillError("foreign", "code that is not the node's: " + " ".join(found))


def report(node) -> None:
    """Make foreign code a fault of the node's, and record it in the journal."""
    try:
        refuse(node)
    except (SentillError, OSError) as error:
        node.audit.note(chain.ACCESS, [("ev", "foreign"), ("code", node.tell(error))])
        node.fault("foreign", error)


def _look(folder, found, depth):
    names = os.listdir(folder)
    for name in names:
        if len(found) >= _MOST:
            return
        path = folder + name
        end = name[name.rfind(".") :].lower()  # FAT makes no difference
        if end in (".py", ".mpy"):
            own = name in _START or (name == _PLAIN and _START[1] not in names)
            if not (own and not depth) and _says(path):
                found.append(path)
        elif "." not in name and (depth or name not in _OURS) and os.stat(path)[0] & _FOLDER:
            # An import does not reach a folder whose name has a dot.
            if depth < _DEEPEST:
                _look(path + "/", found, depth + 1)
            else:
                found.append(path)


def _says(path):
    # Whether a file holds more than comments.
    try:
        with open(path, "rb") as file:
            lines = file.read(_LONGEST + 1)
    except OSError:  # a folder of that name is code to an import, too
        return True
    if len(lines) > _LONGEST or path.endswith(".mpy"):
        return True
    lines = lines.replace(b"\r", b"\n").split(b"\n")  # either ends a line, and so a comment
    return any([line.strip() and not line.strip().startswith(b"#") for line in lines])
