"""Boards as data and the files made for them."""

import dataclasses
import hashlib
import re

import numpy as np
import pytest

from sentill_host.board import catalogue
from sentill_host.bundle import archive as image
from sentill_host.bundle import build as bundle
from sentill_host.bundle import shorten_names
from sentill_host.errors import PlatformError, UsageError
from sentill_host.health.degradation import train
from tools import device_modules

UNIX64 = bundle.Firmware((1, 29, 0), 6 | 3 << 8 | 2 << 10)
RP2040 = bundle.Firmware((1, 28, 0), 6 | 3 << 8 | 4 << 10)


def test_the_interpreters_number_is_taken_apart():
    assert (UNIX64.mpy_version, UNIX64.mpy_sub, UNIX64.arch) == (6, 3, "x64")
    assert RP2040.arch == "armv6m"
    assert bundle.Firmware((1, 28, 0), 0).mpy_version == 0
    assert RP2040.text == "1.28.0"


def test_every_board_folder_has_what_a_deploy_needs():
    assert "SIM" in catalogue.all_boards()
    for board in catalogue.all_boards().values():
        assert board.id == board.directory.name
        assert board.pins.is_file(), board.pins


def test_boards_are_recognised_by_id_and_otherwise_by_their_clues():
    assert catalogue.recognise("SIM", "", "linux") is catalogue.load("sim")
    assert catalogue.recognise("NO_SUCH_BOARD", "something else", "stm32") is None
    with pytest.raises(UsageError, match="unknown board") as caught:
        catalogue.load("toaster")
    assert "SIM" in caught.value.hint


@pytest.mark.parametrize("board_id", ["RPI_PICO", "RPI_PICO_W"])
def test_a_slot_takes_no_more_flash_than_it_may(board_id):
    """40 blocks of 4 KB; a Pico W has 212 for two slots, the journal and all else."""
    made = bundle.build(catalogue.load(board_id), RP2040)
    archive = image.build(made.head, {entry.path: entry.data for entry in made.entries})
    assert 20 * 4096 < len(archive) <= 40 * 4096


@pytest.mark.parametrize("board_id", sorted(catalogue.all_boards()))
@pytest.mark.parametrize("firmware", [UNIX64, RP2040], ids=["x64", "armv6m"])
def test_a_bundle_is_complete_ordered_and_reproducible(board_id, firmware):
    board = catalogue.load(board_id)
    first = bundle.build(board, firmware)
    bundle.compile_file.cache_clear()
    second = bundle.build(board, firmware)
    assert first == second
    assert first.id == second.id
    paths = [entry.path for entry in first.entries]
    assert paths[-1] == "main.py"
    assert len(set(paths)) == len(paths)
    assert {"sentill_start.mpy", "board.mpy", "channels.jsonl", "agent.mpy"} < set(paths)
    package = catalogue.device_package()
    modules = {path.relative_to(package).as_posix() for path in package.rglob("*.py")}
    missing = {name for name in modules if f"sentill/{name.removesuffix('.py')}.mpy" not in paths}
    twins = {"wire/scan.py", "wire/values.py", "risk/tree_plain.py"}
    port = board.data["port"]
    others = {name for name in modules if name.startswith("hal/port_") and not re.match(rf"hal/port_{port}[_.]", name)}
    thumb = {name for name in modules if "asm_thumb" in (catalogue.device_package() / name).read_text()}
    of_thumb = {"mac_plain.py", "wire/scan_viper.py", "wire/values_viper.py", "risk/tree_viper.py"}
    of_thumb |= {"risk/features_plain.py"}
    unasked = {name for name in modules if name.startswith("policy/")} | {"transaction.py"}
    assert missing == twins | others | unasked | (thumb if firmware is UNIX64 else of_thumb)
    assert f"sentill/hal/port_{port}.mpy" in paths
    assert f'PORT = "{port}"' in board.pins.read_text()


def test_native_code_is_made_for_the_boards_processor_and_only_there():
    board = catalogue.load("SIM")
    viper = re.compile(r".*_viper\.(mpy|py)$")
    for firmware, number in ((UNIX64, 2), (RP2040, 4)):
        native = [entry for entry in bundle.build(board, firmware).entries if viper.match(entry.path)]
        assert native
        assert {entry.data[2] >> 2 & 0xF for entry in native} == {number}
        thumb = {entry.path for entry in bundle.build(board, firmware).entries} & {"sentill/risk/tree_thumb.mpy"}
        assert bool(thumb) == (firmware is RP2040), "instructions of ARM go to ARM only"
    plain = bundle.build(board, bundle.Firmware((1, 28, 0), 6 | 3 << 8))
    assert not [entry.path for entry in plain.entries if viper.match(entry.path)]


def test_what_is_left_out_is_asked_for_only_where_something_else_serves():
    """Of twins the native one is tried first; Model.path is the host's."""
    wanted = {
        ("risk.model", "risk.tree_plain"), ("risk.model", "risk.tree_viper"), ("risk.features", "risk.features_plain"),
        *((f"wire.{name}", f"wire.{part}") for name in ("reader",) for part in ("scan", "scan_viper")),
        *((name, f"wire.{part}") for name in ("wire.request_verdict", "wire.port", "journal.pull")
          for part in ("scan", "scan_viper", "values", "values_viper")),
        ("crypto", "mac_plain"),
    }  # fmt: skip
    board = catalogue.load("RPI_PICO")
    here = {entry.path for entry in bundle.build(board, RP2040).entries}
    known = device_modules.modules()
    present = {
        name for name, path in known.items() if f"{path.relative_to(device_modules.DEVICE).with_suffix('.mpy')}" in here
    }
    asked = {
        (name.removeprefix("sentill."), other.removeprefix("sentill."))
        for name in present
        for other in device_modules.imports(name, known[name]) & known.keys() - present
    }
    assert asked == wanted


def test_an_interpreter_of_another_format_gets_sources():
    other = bundle.build(catalogue.load("SIM"), bundle.Firmware((1, 18, 0), 5))
    assert not [entry.path for entry in other.entries if entry.path.endswith(".mpy")]
    # Another sub-version concerns native code only.
    sub = bundle.build(catalogue.load("SIM"), bundle.Firmware((1, 22, 0), 6 | 2 << 8 | 4 << 10))
    assert {entry.path.endswith(".mpy") for entry in sub.entries if "_viper" in entry.path} == {False}
    assert "sentill/wire/protocol.mpy" in [entry.path for entry in sub.entries]


def test_a_bundle_file_holds_the_bundle_and_is_the_same_each_time(tmp_path):
    made = bundle.build(catalogue.load("SIM"), UNIX64)
    one, two = tmp_path / "one", tmp_path / "two"
    assert bundle.write(made, one) == bundle.write(made, two) == hashlib.sha256(one.read_bytes()).hexdigest()
    assert bundle.read(one) == made
    assert made.fits(catalogue.load("SIM"), UNIX64)
    assert not made.fits(catalogue.load("SIM"), RP2040)
    assert not made.fits(catalogue.load("RPI_PICO"), UNIX64)


def test_what_is_no_bundle_is_refused(tmp_path):
    path = tmp_path / "x"
    made = bundle.build(catalogue.load("SIM"), UNIX64)
    bundle.write(made, path)
    whole = path.read_bytes()
    for damaged in (b"", whole[:-100], whole[:3000] + b"xxx" + whole[3003:]):
        path.write_bytes(damaged)
        with pytest.raises(UsageError, match="x"):
            bundle.read(path)
    bundle.write(dataclasses.replace(made, entries=(bundle.Entry("../up", b""),)), path)
    with pytest.raises(UsageError, match="no path"):
        bundle.read(path)
    with pytest.raises(UsageError):
        bundle.read(tmp_path / "absent")


@pytest.mark.parametrize("board_id", sorted(catalogue.all_boards()))
def test_usual_firmware_loads_what_is_compiled_for_it(board_id):
    firmware = bundle.usual_firmware(catalogue.load(board_id))
    made = bundle.build(catalogue.load(board_id), firmware)
    assert [entry.path for entry in made.entries if entry.path.endswith(".py")] == ["main.py"]


def test_the_compilers_words_reach_the_user():
    with pytest.raises(PlatformError, match=r"sentill/bad\.py.*SyntaxError"):
        bundle.compile_file("sentill/bad.py", b"def (:\n")


def test_models_of_ones_own_join_the_shipped_ones_or_replace_them(tmp_path):
    shipped = catalogue.device_data("models") / "rules.stm"
    index = train([np.outer(np.arange(60), [1, 2])], names=["motor", "vibration"])
    (tmp_path / "printer.stw").write_bytes(index)
    (tmp_path / "local.stm").write_bytes(shipped.read_bytes())
    models = bundle.read_models([tmp_path])
    made = {entry.path: entry.data for entry in bundle.build(catalogue.load("SIM"), UNIX64, models).entries}
    assert made["models/printer.stw"] == index
    assert made["models/local.stm"] == made["models/rules.stm"] == shipped.read_bytes()
    plain = {entry.path for entry in bundle.build(catalogue.load("SIM"), UNIX64).entries}
    assert set(made) - plain == {"models/printer.stw"}


def test_what_is_no_model_is_not_taken_along(tmp_path):
    for name, data in (("a.stm", b"STM1"), ("a.stw", b"STW1"), ("b.stw", b"")):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(UsageError, match="no model"):
            bundle.read_models([tmp_path / name])
    with pytest.raises(UsageError, match="No such file"):
        bundle.read_models([tmp_path / "gone.stm"])
    shipped = catalogue.device_data("models") / "rules.stm"
    with pytest.raises(UsageError, match="two models"):
        bundle.read_models([shipped, shipped.parent])


def names_in(code):
    """The names in a .mpy file, but for the few that are numbered the same in all firmware."""
    at = 4

    def number():
        nonlocal at
        value = 0
        while True:
            value = value << 7 | code[at] & 0x7F
            at += 1
            if code[at - 1] < 0x80:
                return value

    assert not code[2] & 0x40, "no more in the head than its four bytes"
    names, _ = number(), number()
    for _ in range(names):
        length = number()
        if not length & 1:
            yield code[at : at + (length >> 1)].decode()
            at += (length >> 1) + 1


def test_the_names_in_a_compiled_file_are_found():
    code = bundle.compile_file("a", b"def first(a, *, other=2):\n    return a.method + other\nclass Thing: pass\n")
    assert {"first", "method", "other", "Thing"} <= set(names_in(code))


def test_names_that_a_board_keeps_are_few():
    """Pools of 20, 40, 80, 160 and 320 names hold 620; one more takes a pool of 640, 4 KB in one piece.

    Counted are those of all modules, also of such as are only borrowed. A running node has up to 140 more: for each
    module that it loaded what it is called with its package, and its path; and texts that are no names.
    """
    made = bundle.build(catalogue.load("RPI_PICO"), RP2040)
    code = [entry.data for entry in made.entries if entry.path.endswith(".mpy") and entry.path != "agent.mpy"]
    kept = {name for data in code for name in names_in(data)} - shorten_names.firmware()
    kept = {name for name in kept if name.isidentifier()}
    print(len(kept), *sorted(kept))
    assert 100 < len(kept) <= 460
