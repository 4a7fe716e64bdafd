"""Chores that are easy to forget: generated files are current, versions agree, the wheel carries what it must."""

import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from sentill import __version__
from tools import make_package_json, size_report
from tools.device_modules import DEVICE, ROOT, modules


def test_generated_files_are_current() -> None:
    assert make_package_json.TARGET.read_text() == make_package_json.text(), "run `make generate`"


def test_package_json_names_files_that_exist() -> None:
    package = json.loads(make_package_json.TARGET.read_text())
    assert package["version"] == __version__
    for target, url in package["urls"]:
        assert (DEVICE / url).is_file(), url
        assert not target.startswith("/") and "://" not in url, (target, url)


def test_the_size_baseline_knows_every_module() -> None:
    assert json.loads(size_report.BASELINE.read_text()).keys() == modules().keys(), "run tools/size_report.py --update"


def test_size_cells_show_the_change() -> None:
    cell = size_report._cell
    assert [cell(5, 5), cell(7, 5), cell(4, 5)] == ["5", "7 (+2)", "4 (-1)"]
    assert [cell(3, None), cell(None, 3)] == ["3 (new)", "-"]


def test_changelog_has_the_version() -> None:
    assert re.search(rf"^## \[?{re.escape(__version__)}\]?", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)


def test_every_make_target_is_listed() -> None:
    listed = subprocess.run(["make", "-s", "help"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=30)
    for target in ("demo", "test", "lint", "bench", "clean"):
        assert re.search(rf"^{target} ", listed.stdout, re.MULTILINE), listed.stdout


def test_no_local_path_or_stray_artefact_is_tracked() -> None:
    tracked = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=30
    ).stdout.split("\0")
    for name in filter(None, tracked):
        path = ROOT / name
        assert path.suffix not in (".mpy", ".pyc", ".so", ".whl", ".pem", ".key"), name
        if path.is_file() and path.stat().st_size < 1 << 20 and b"\0" not in (data := path.read_bytes()):
            assert path == Path(__file__) or not re.search(rb"/home/[a-z]|/Users/[a-z]|PRIVATE KEY-", data), name


@pytest.fixture(scope="module")
def wheel_names(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "-w", str(folder), "."], cwd=ROOT, check=True, timeout=120)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_the_wheel_ships_host_device_and_boards(wheel_names: set[str]) -> None:
    wanted = {path.relative_to(DEVICE).as_posix() for path in modules().values()}
    host = ROOT / "host"
    wanted |= {path.relative_to(host).as_posix() for path in host.rglob("*.py")}
    data = "sentill_host/_data"
    wanted |= {f"{data}/boards/{p.relative_to(ROOT / 'boards').as_posix()}" for p in (ROOT / "boards").rglob("*.*")}
    wanted |= {f"{data}/device/main.py"}
    wanted |= {f"{data}/device/models/{path.name}" for path in (DEVICE / "models").glob("*.stm")}
    wanted = {name for name in wanted if "__pycache__" not in name}
    assert not wanted - wheel_names


def test_the_wheel_ships_no_tests_or_tools(wheel_names: set[str]) -> None:
    tops = {name.split("/")[0] for name in wheel_names if ".dist-info" not in name}
    assert tops == {"sentill", "sentill_host"}
