"""The archive of a version: what ROMFS says of it, what the start code makes of it, and what a deploy sends of it."""

import hashlib
import json
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentill_host.board import catalogue
from sentill_host.bundle import agent
from sentill_host.bundle import archive as image
from sentill_host.bundle import build as bundle
from sentill_host.deploy import transfer
from sentill_host.errors import VerifyError
from tests.interpreters import DEVICE, TESTS, unix_command

UNIX64 = bundle.Firmware((1, 29, 0), 6 | 3 << 8 | 2 << 10)
SCRIPT = Path(__file__).with_name("archive_drive.py")
NAMES = st.text("abc", min_size=1, max_size=3)
FILES = st.dictionaries(
    st.lists(NAMES, min_size=1, max_size=4).map(lambda parts: "/".join(parts) + ".x"), st.binary(max_size=40)
)


def contents(archive: bytes) -> dict[str, bytes]:
    return {part.path: archive[part.at : part.at + part.size] for part in image.parts(archive)}


def drive(what: str, archive: bytes, tmp_path: Path, *arguments: str) -> dict:
    """What archive_drive.py says of an archive, inside the Unix port."""
    path = tmp_path / ("a.img" if what == "run" else "slot.img")
    path.write_bytes(archive)
    command = [*unix_command(), "-X", "heapsize=2M", str(SCRIPT), str(DEVICE), what, str(path), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    told: dict = json.loads(done.stdout.splitlines()[-1])
    return told


def hashes(files: dict[str, bytes]) -> dict[str, str]:
    return {path: hashlib.sha256(data).hexdigest() for path, data in files.items()}


@pytest.fixture(scope="module")
def version() -> dict[str, bytes]:
    made = bundle.build(catalogue.load("SIM"), UNIX64)
    return {entry.path: entry.data for entry in made.entries} | {"config.json": b"{}", "empty.bin": b""}


@given(FILES)
def test_an_archive_holds_what_was_put_in_and_says_so_by_its_hash(files: dict[str, bytes]) -> None:
    archive = image.build("sentill 2 version=1", files)
    assert contents(archive) == {"head.txt": b"sentill 2 version=1\n", **files}
    assert image.digest(archive) == hashlib.sha256(archive[:-32]).digest()
    assert archive == image.build("sentill 2 version=1", dict(reversed(files.items())))
    assert (len(archive) - 32) % 2 == 0


def test_micropythons_own_romfs_and_the_start_code_read_the_same(version: dict[str, bytes], tmp_path: Path) -> None:
    archive = image.build("sentill 2 version=1", version)
    wanted = hashes(contents(archive))
    assert drive("romfs", archive, tmp_path) == wanted
    assert drive("archive", archive, tmp_path) == wanted


def test_firmware_with_romfs_reads_in_place_what_is_the_same_and_nothing_else(
    version: dict[str, bytes], tmp_path: Path
) -> None:
    archive = image.build("sentill 2 version=1", version)
    told = drive("rom", archive, tmp_path)
    assert {name: what for name, (what, _) in told.items()} == {
        "same": "VfsRom", "damaged": "_Archive", "short": "_Archive", "blank": "_Archive", "none": "_Archive"
    }  # fmt: skip
    wanted = hashes(contents(archive))
    assert all(found == wanted for _, found in told.values())


@pytest.mark.parametrize("kind", ["memory", "blocks", "small", "none"])
def test_the_agent_copies_to_rom_where_there_is_some(kind: str, tmp_path: Path) -> None:
    """Of both kinds that MicroPython has; nothing where it does not fit, nothing again when it is there already."""
    agent_file = Path(agent.__file__).with_name("onboard") / "agent.py"
    command = [*unix_command(), "-X", "heapsize=8M", str(SCRIPT.with_name("rom_drive.py")), str(TESTS), str(agent_file)]
    path = tmp_path / "slot.img"
    path.write_bytes(image.build("sentill 2 version=1", {"a.mpy": b"a" * 10_000, "main.py": b"m"}))
    done = subprocess.run([*command, str(path), kind], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    fits = kind in ("memory", "blocks")
    assert told == {"same": fits, "again": 0, "writes": told["writes"], "root": "m", "pointer": "a"}
    assert (told["writes"] > 0) == fits


def test_code_is_imported_from_the_archive_in_place(version: dict[str, bytes], tmp_path: Path) -> None:
    archive = image.build("sentill 2 version=1", version)
    names = ("sentill.journal.chain", "sentill.pan", "sentill.risk.model", "board")
    told = drive("import", archive, tmp_path, *names)
    assert told["board"] == "/app/board.mpy"
    assert told["sentill.risk.model"] == "/app/sentill/risk/model.mpy"


def test_sources_are_imported_from_it_where_firmware_loads_no_bytecode(tmp_path: Path) -> None:
    files = {
        "sentill/__init__.py": b"X = 1\n",
        "sentill/a.py": b"from . import b, c\n",
        "sentill/b.py": b"Y = 2\n" + b"#" * 3000 + b"\n",
        "sentill/c.py": b"raise_ = 5",
        "z.py": b"this is no Python",
    }
    told = drive("import", image.build("sentill 2 version=1", files), tmp_path, "sentill.a")
    assert told["sentill.a"] == "/app/sentill/a.py"


def test_nothing_behind_a_files_end_can_be_read(tmp_path: Path) -> None:
    files = {"a.txt": b"one\ntwo\nthree", "b.txt": b"SECRET" * 100, "a.mpy": b"A" * 10, "b.mpy": b"B" * 10}
    drive("bounds", image.build("sentill 2 version=1", files), tmp_path)


def test_a_name_in_another_folder_or_a_part_of_one_is_not_found(tmp_path: Path) -> None:
    files = {
        f"{folder}{name}": f"{folder}{name}".encode()
        for folder in ("", "sentill/", "sentill/hal/", "m/")
        for name in ("x.mpy", "xx.mpy", "x.py")
    }
    files["m/only.mpy"] = b"1"
    files |= {f"sentill/{'n' * 80}{i}.mpy": b"%d" % i for i in range(40)}  # several windows of the index
    archive = image.build("sentill 2 version=1", files)
    paths = [
        f"/{folder}/{name}" for folder in ("sentill", "sentill/hal", "n", "m/x.mpy") for name in ("only.mpy", "y.mpy")
    ]
    told = drive("stat", archive, tmp_path, *paths, *(f"/{path}" for path in files), "/sentill", "/sentill/x", "/")
    assert [told[path] for path in paths] == [None] * len(paths)
    assert {path: told[f"/{path}"] for path in files} == {path: [0x8000, len(data)] for path, data in files.items()}
    assert (told["/sentill"], told["/sentill/x"], told["/"]) == ([0x4000, 0], None, [0x4000, 0])


FAKE = {
    "board.py": b"",
    "sentill/__init__.py": b"",
    "sentill/compat.py": b"from sys import modules\ndef borrow(room, name):\n"
    b"    __import__(f'sentill.{room}.{name}')\n    return modules[f'sentill.{room}.{name}']\n",
    "sentill/update/slots.py": b"def pick(root, verifier, digest):\n    return 'a', False\n",
    "sentill/update/verifier.py": b"def verifier(hardware):\n    return None\n",
}
HAL = "class HAL:\n    in_place = ''\ndef make(board):\n    {}\n    return HAL\n"
NODE = "def start(hardware):\n    {}\n"


@pytest.mark.parametrize(
    ("hal", "node", "resets"),
    [
        ("pass", "pass", False),
        # Whom the node lets in may press Ctrl-C twice.
        ("pass", "raise KeyboardInterrupt", False),
        ("pass", "raise RuntimeError", True),
        ("pass", "raise SystemExit", True),
        ("raise KeyboardInterrupt", "pass", True),
        ("raise MemoryError", "pass", True),
    ],
)
def test_a_locked_board_comes_to_its_prompt_only_by_its_node(hal: str, node: str, resets: bool, tmp_path: Path) -> None:
    files = FAKE | {"sentill/hal.py": HAL.format(hal).encode(), "sentill/node/node.py": NODE.format(node).encode()}
    told = drive("run", image.build("sentill 2 version=1", files), tmp_path)
    assert told["reset"] == resets
    if not resets:
        assert told["path"] == ["/app", ".frozen"], "and nothing else can be imported"


@pytest.mark.parametrize("name", ["é.mpy", "x" * 101, "", "a//b"])
def test_a_name_that_no_record_takes_is_refused(name: str) -> None:
    with pytest.raises((VerifyError, UnicodeEncodeError)):
        image.build("sentill 2 version=1", {name: b""})


def test_a_version_too_large_for_an_archive_is_refused() -> None:
    with pytest.raises(VerifyError, match="larger"):
        image.build("sentill 2 version=1", {"a": bytes(1 << 21)})


def carry_out(plan: bytes, sent: bytes, old: bytes) -> bytes:
    made = b""
    at = 0
    for i in range(0, len(plan), 8):
        place, size = (int.from_bytes(plan[j : j + 4], "little") for j in (i, i + 4))
        if place:
            made += old[place : place + size]
        else:
            made += sent[at : at + size]
            at += size
    assert at == len(sent)
    return made


def table(archive: bytes) -> bytes:
    """As the agent tells it."""
    found = b""
    for part in image.parts(archive):
        content = archive[part.at : part.at + part.size]
        found += hashlib.sha256(content).digest()[:8] + part.at.to_bytes(4, "little") + part.size.to_bytes(4, "little")
    return found


@given(FILES, FILES)
def test_an_archive_is_made_of_another_and_what_is_sent(old: dict[str, bytes], new: dict[str, bytes]) -> None:
    before, after = image.build("sentill 2 version=1", old), image.build("sentill 2 version=2", new)
    for known in (transfer.known_parts(table(before)), {}):
        plan, sent, copied = transfer.plan_for(after, known)
        assert carry_out(plan, sent, before) == after
        assert set(copied) <= set(new)
        assert {path for path in copied if known and new[path] in old.values()} == set()


def test_of_one_changed_file_little_more_than_itself_is_sent(version: dict[str, bytes]) -> None:
    before = image.build("sentill 2 version=1", version)
    after = image.build("sentill 2 version=1", version | {"sentill/pan.mpy": b"new" * 100})
    plan, sent, copied = transfer.plan_for(after, transfer.known_parts(table(before)))
    assert copied == ["sentill/pan.mpy"]
    index = after[12 : next(part.at for part in image.parts(after))]
    assert len(sent) < 300 + len(index) + 100
    assert len(plan) < 100
