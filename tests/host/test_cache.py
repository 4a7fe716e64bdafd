"""What is made once and kept for the next command."""

from pathlib import Path

import pytest

from sentill_host.bundle import cache


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def make(*sources: bytes, kind: str = "mpy") -> tuple[bytes, int]:
    """What is made of the sources, and how many times it was."""
    calls = 0

    def join() -> bytes:
        nonlocal calls
        calls += 1
        return b"".join(sources)

    return cache.kept(kind, sources, join), calls


def test_what_was_made_is_made_once() -> None:
    assert make(b"a", b"b") == (b"ab", 1)
    assert make(b"a", b"b") == (b"ab", 0)
    assert make(b"ab") == (b"ab", 1), "sources are told apart"
    assert make(b"a", b"b", kind="names")[1] == 1


@pytest.mark.parametrize("cut", [0, 31, 33])
def test_what_was_cut_short_is_made_again(folder: Path, cut: int) -> None:
    made = make(b"source")
    (path,) = folder.rglob("*.mpy")
    path.write_bytes(path.read_bytes()[:cut])
    assert make(b"source") == made
    assert make(b"source")[1] == 0


def test_without_a_place_to_keep_it_it_is_made_each_time(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "file").write_bytes(b"")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "file"))
    assert make(b"source")[1] == 1
    assert make(b"source")[1] == 1
