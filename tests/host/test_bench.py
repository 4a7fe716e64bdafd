"""What all benchmarks share: results lack no key that others rely on, and a run of all notices what is wrong."""

import json
import sys
from pathlib import Path

import pytest

from tools.device_modules import ROOT

sys.path.insert(0, str(ROOT / "tools" / "bench"))

import _all  # noqa: E402
import _data  # noqa: E402


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(_data, "ROOT", tmp_path)
    monkeypatch.setattr(_all, "FOLDER", tmp_path)
    return tmp_path


def test_every_benchmark_has_keys() -> None:
    assert {path.stem for path in (ROOT / "tools" / "bench").glob("[!_]*.py")} == _data.KEYS.keys()


def test_a_missing_result_ends_the_run() -> None:
    with pytest.raises(SystemExit, match="decision: no result for alloc_bytes"):
        _data.write_results("decision", {"us": 1.0, "more": 2})
    assert not _data.results_path("decision").exists()


def test_what_cannot_be_measured_is_null_with_its_reason(capsys: pytest.CaptureFixture[str]) -> None:
    path = _data.write_results("decision", {"us": 1.0}, True, {"alloc_bytes": "no heap here", "us": "not said"})
    assert json.loads(path.read_text()) == {"us": 1.0, "alloc_bytes": None}
    assert capsys.readouterr().out == "null, no heap here: alloc_bytes\n"
    assert path == _data.results_path("decision", True) != _data.results_path("decision")


def test_a_run_of_all_tells_what_is_wrong(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def write(name: str, results: str) -> None:
        path = _data.results_path(name, True)
        (elsewhere / f"{name}.py").write_text(
            f"import pathlib\np = pathlib.Path({str(path)!r})\np.parent.mkdir(parents=True, exist_ok=True)\n{results}\n"
        )

    write("decision", """p.write_text('{"us": 1, "alloc_bytes": null}'); print("null, why: alloc_bytes")""")
    write("fraud", "p.write_text('{}')")
    write("tree", "print('what went wrong'); raise SystemExit(3)")
    write("deploy", "pass")
    assert [_all.run(name, True) for name in ("decision", "tree", "deploy")] == ["", "ended with 3", "no results"]
    assert _all.run("fraud", True).startswith("no result for forest_ap, ")
    printed = capsys.readouterr().out
    assert "null, why: alloc_bytes" in printed and "what went wrong" in printed
