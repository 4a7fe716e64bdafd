"""What one command makes and the next needs again: compiled files and what was found in sources. It may be deleted."""

import contextlib
import hashlib
import os
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

_HASH = 32


def kept(kind: str, source: Iterable[bytes], make: Callable[[], bytes]) -> bytes:
    """What `make` makes of `source`, from an earlier command where that kept it; `kind` tells what is made of it."""
    key = hashlib.sha256(b"\0".join(source)).hexdigest()
    path = _folder() / f"{key}.{kind}"
    with contextlib.suppress(OSError):
        found = path.read_bytes()
        if found[:_HASH] == hashlib.sha256(found[_HASH:]).digest():  # not cut short when this computer lost its power
            return found[_HASH:]
    made = make()
    # Without a place to keep it the next command makes it anew.
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f"{key}.{os.getpid()}.{threading.get_ident()}")
        beside.write_bytes(hashlib.sha256(made).digest() + made)
        os.replace(beside, path)
    return made


def _folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or (os.environ.get("LOCALAPPDATA") if os.name == "nt" else None)
    return (Path(base) if base else Path.home() / ".cache") / "sentill" / "made"
