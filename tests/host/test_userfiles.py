"""Files the user names: whole or not at all, and errors that say which."""

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from sentill_host import user_files
from sentill_host.errors import PlatformError, UsageError


def test_what_was_saved_is_read_back_and_replaces_what_was_there(tmp_path):
    path = tmp_path / "new" / "folder" / "file"
    for content in ("first", "zweiter \u00e4"):
        user_files.save(path, content)
        assert user_files.read_text(path) == content
    assert [entry.name for entry in path.parent.iterdir()] == ["file"]


def test_a_mark_at_the_begin_is_no_text(tmp_path):
    (tmp_path / "marked").write_bytes(b"\xef\xbb\xbf{}")
    assert user_files.read_text(tmp_path / "marked") == "{}"


def test_a_link_stays_one_and_a_pipe_is_written_to(tmp_path):
    (tmp_path / "link").symlink_to("target")
    user_files.save(tmp_path / "link", b"\x00")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_bytes() == b"\x00"
    os.mkfifo(tmp_path / "pipe")
    read = []
    reader = threading.Thread(target=lambda: read.append((tmp_path / "pipe").read_bytes()))
    reader.start()
    user_files.save(tmp_path / "pipe", b"through")
    reader.join(30)
    assert read == [b"through"]
    assert (tmp_path / "pipe").is_fifo()


def test_what_is_written_to_the_output_arrives_there():
    code = "from pathlib import Path; from sentill_host.user_files import save; save(Path('/dev/stdout'), b'through')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60)
    assert (done.stdout, done.stderr) == (b"through", b"")


def test_a_full_disk_is_the_computers_fault_and_a_wrong_place_the_users():
    full = user_files.failure("cannot write x", OSError(errno.ENOSPC, "No space left on device"))
    assert (full.exit_code, str(full)) == (5, "cannot write x: No space left on device")
    assert "make room" in full.hint
    assert user_files.failure("cannot write x", OSError(errno.EACCES, "Permission denied")).exit_code == 2
    with pytest.raises(PlatformError, match="/dev/full: No space left"):
        user_files.save(Path("/dev/full"), b"x" * 10_000)
    assert Path("/dev/full").is_char_device()


def test_failures_name_the_file_and_leave_nothing_behind(tmp_path):
    (tmp_path / "file").write_bytes(b"\xff")
    for act, words in (
        (lambda: user_files.read_text(tmp_path / "file"), "file is no text in UTF-8"),
        (lambda: user_files.read_text(tmp_path / "absent"), "cannot read .*absent: No such file"),
        (lambda: user_files.read_bytes(tmp_path), "Is a directory"),
        (lambda: user_files.save(tmp_path, "x"), "cannot write .*: Is a directory"),
        (lambda: user_files.save(tmp_path / "file" / "x", "x"), "cannot write .*file.x: "),
        (lambda: user_files.make_folder(tmp_path / "file" / "x"), "cannot make the folder .*file.x: "),
    ):
        with pytest.raises(UsageError, match=words):
            act()
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
