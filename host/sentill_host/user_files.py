"""Files the user names: read and written so that a failure says which file it is and what is wrong with it."""

import contextlib
import errno
import os
from pathlib import Path

from sentill_host.errors import PlatformError, SentillHostError, UsageError


def failure(what: str, error: OSError) -> SentillHostError:
    """The error for a file that could not be written: a full or broken disk is this computer's, the rest the user's."""
    reason = f"{what}: {error.strerror or error}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return PlatformError(reason, "make room on the disk, then run it again")
    if error.errno in (errno.EROFS, errno.EIO):
        return PlatformError(reason, "name a place on another disk")
    return UsageError(reason, "name a place that you may write to")


def read_bytes(path: Path) -> bytes:
    """What is in the file at `path`. Raises UsageError."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None


def read_text(path: Path) -> str:
    """The text of the file at `path`, UTF-8 with or without a mark at its begin. Raises UsageError."""
    try:
        return read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UsageError(f"{path} is no text in UTF-8") from None


def make_folder(path: Path) -> None:
    """Make the folder at `path` where there is none. Raises UsageError, PlatformError."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise failure(f"cannot make the folder {path}", error) from None


def save(path: Path, content: str | bytes) -> None:
    """Write the file at `path` whole or not at all; folders above it are made. Raises UsageError, PlatformError.

    A symbolic link stays one, and what is no plain file (a device, a pipe) is written to, never replaced.
    """
    data = content.encode() if isinstance(content, str) else content
    target = Path(os.path.realpath(path))
    beside = target.with_name(f"{target.name}.new")
    try:
        if path.exists() and not path.is_file():  # before links are followed: a pipe at /dev/stdout has no real path
            path.write_bytes(data)
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            beside.write_bytes(data)
            os.replace(beside, target)
        except OSError:
            with contextlib.suppress(OSError):
                beside.unlink()
            raise
    except OSError as error:
        raise failure(f"cannot write {path}", error) from None
