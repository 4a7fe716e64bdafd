"""The control socket from the outside: one request, one reply."""

import json
import os
import socket
from pathlib import Path
from typing import Any

from sentill_host.errors import LinkError, UsageError
from sentill_host.virtual.supervisor import SOCKET

TIMEOUT_S = 30.0


def request(directory: Path, op: str, board: str | None = None, **arguments: Any) -> dict[str, Any]:
    """Ask the supervisor of `directory`; returns its reply without `ok`.

    Raises UsageError when it refuses, LinkError when it does not answer.
    """
    message = json.dumps({"op": op, "board": board, **arguments}).encode() + b"\n"
    try:
        # Through the directory's descriptor: the path of a Unix socket may be no longer than 107 bytes.
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(TIMEOUT_S)
                connection.connect(f"/proc/self/fd/{fd}/{SOCKET}")
                connection.sendall(message)
                with connection.makefile("rb") as stream:
                    line = stream.readline()
        finally:
            os.close(fd)
        reply: dict[str, Any] = json.loads(line)
    except (OSError, ValueError) as error:
        raise LinkError(f"no answer from the virtual boards in {directory}: {error}") from None
    if not reply.pop("ok", False):
        raise UsageError(reply.get("error", "refused"), reply.get("hint", ""))
    return reply
